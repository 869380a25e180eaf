//! Whoever waits for a worker's answer may do its work meanwhile.
//!
//! A request that finds a worker idle would wake it, wait until some thread takes it up, and be woken itself: two
//! ways through the scheduler, and often another core, for a handler that takes less than either. So a wake-up that
//! comes of a request is [put aside](put_aside) by the worker, and whoever asks polls the worker in its place, on the
//! thread that it asks on. Algorithms without locks know the method as helping. The worker stays what it is, with all
//! its accounts; only the thread that polls it differs, as it does whenever a runtime moves a task.
//!
//! A helper polls once. What the worker has to do after that its own task does. A wake-up that was put aside and is
//! not used, because publishing panicked, is passed on.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// How deep helpers may be within each other: a handler that makes a request may help in its turn, on the same stack.
const MAX_DEPTH: u32 = 4;

/// Work that is done in polls, by whoever comes.
pub trait Help: Send + Sync {
    /// Polls the work once, on this thread.
    fn help(self: Arc<Self>);
    /// Has it polled by its own task: nobody helps.
    fn wake(self: Arc<Self>);
}

enum Aside {
    /// Nobody who wakes somebody here would do their work.
    Shut,
    Open,
    Taken(Arc<dyn Help>),
}

thread_local! {
    static ASIDE: RefCell<Aside> = const { RefCell::new(Aside::Shut) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Leaves a wake-up to whoever causes it, if they would help; says whether it did.
pub fn put_aside<H: Help + 'static>(work: &Arc<H>) -> bool {
    ASIDE.with_borrow_mut(|aside| {
        let is_wanted = matches!(aside, Aside::Open);
        if is_wanted {
            *aside = Aside::Taken(Arc::<H>::clone(work));
        }
        is_wanted
    })
}

/// Does what wakes somebody, then helps the first of those who put that aside.
pub(crate) fn after<R>(wakes: impl FnOnce() -> R) -> R {
    if DEPTH.get() >= MAX_DEPTH {
        return wakes();
    }
    let open = Open::new();
    let result = wakes();
    if let Some(work) = open.take() {
        let _deeper = Deeper::new();
        work.help();
    }
    result
}

/// For as long as it lives, the first wake-up is put aside.
struct Open;

impl Open {
    fn new() -> Self {
        ASIDE.set(Aside::Open);
        Self
    }

    fn take(&self) -> Option<Arc<dyn Help>> {
        match ASIDE.replace(Aside::Shut) {
            Aside::Taken(work) => Some(work),
            Aside::Shut | Aside::Open => None,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(work) = self.take() {
            work.wake();
        }
    }
}

/// Counts how deep helpers are within each other.
struct Deeper;

impl Deeper {
    fn new() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Work {
        helped: AtomicU32,
        woken: AtomicU32,
        deeper: Option<Arc<Work>>,
    }

    impl Work {
        fn told(self: &Arc<Self>) {
            if !put_aside(self) {
                self.woken.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn counts(&self) -> (u32, u32) {
            (self.helped.load(Ordering::Relaxed), self.woken.load(Ordering::Relaxed))
        }
    }

    impl Help for Work {
        fn help(self: Arc<Self>) {
            self.helped.fetch_add(1, Ordering::Relaxed);
            if let Some(deeper) = &self.deeper {
                after(|| deeper.told());
            }
        }

        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_first_is_helped_and_others_are_woken() {
        let (one, other) = (Arc::<Work>::default(), Arc::<Work>::default());
        after(|| (one.told(), other.told()));
        assert_eq!((one.counts(), other.counts()), ((1, 0), (0, 1)));
        assert_eq!(after(|| 5), 5);
        one.told();
        assert_eq!(one.counts(), (1, 1), "nobody asks any more");
    }

    #[test]
    fn whoever_panics_passes_the_wake_up_on() {
        let work = Arc::<Work>::default();
        let panicking = AssertUnwindSafe(|| {
            after(|| {
                work.told();
                panic!("publishing");
            })
        });
        assert!(catch_unwind(panicking).is_err());
        assert_eq!(work.counts(), (0, 1));
        work.told();
        assert_eq!(work.counts(), (0, 2));
    }

    #[test]
    fn helpers_within_helpers_have_a_bound() {
        let chain = (0..10).fold(Vec::<Arc<Work>>::new(), |mut chain, _| {
            let deeper = chain.last().cloned();
            chain.push(Arc::new(Work { deeper, ..Work::default() }));
            chain
        });
        let first = chain.last().unwrap();
        after(|| first.told());
        let counts: Vec<(u32, u32)> = chain.iter().rev().map(|work| work.counts()).collect();
        assert_eq!(counts[..6], [(1, 0), (1, 0), (1, 0), (1, 0), (0, 1), (0, 0)]);
        assert_eq!(DEPTH.get(), 0);
    }
}
