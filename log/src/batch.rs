//! What goes to disk together, and how those who wait for it learn of it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::LogError;

/// How a batch ended, for all who have something in it: one allocation for all of them, one wake each.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    result: OnceLock<Result<(), LogError>>,
    wakers: Mutex<Wakers>,
}

/// Those who wait. Places that somebody left are used again: a batch that waits for room may wait for long.
#[derive(Debug, Default)]
struct Wakers {
    all: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    fn put(&mut self, place: Option<usize>, waker: &Waker) -> usize {
        let place = place.or_else(|| self.free.pop()).unwrap_or(self.all.len());
        match self.all.get_mut(place) {
            Some(Some(known)) => known.clone_from(waker),
            Some(empty) => *empty = Some(waker.clone()),
            None => self.all.push(Some(waker.clone())),
        }
        place
    }

    fn take(&mut self, place: usize) -> Option<Waker> {
        let taken = self.all.get_mut(place)?.take();
        self.free.extend(taken.is_some().then_some(place));
        taken
    }
}

impl Batch {
    /// Tells everybody who waits. Only the first result counts.
    pub(crate) fn complete(&self, result: Result<(), LogError>) {
        let wakers = {
            let mut wakers = self.wakers.lock();
            let _ = self.result.set(result);
            std::mem::take(&mut *wakers)
        };
        // Outside of the lock: waking runs code of others.
        wakers.all.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Resolves once what was handed over is on disk, as far as the [`SyncPolicy`](crate::SyncPolicy) asks.
///
/// Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "nothing is promised until this has resolved"]
pub struct Durable {
    batch: Arc<Batch>,
    /// Our place among the batch's wakers.
    place: Option<usize>,
}

impl Durable {
    pub(crate) fn of(batch: &Arc<Batch>) -> Self {
        Self { batch: Arc::clone(batch), place: None }
    }

    /// How it ended, if it has.
    pub fn now(&self) -> Option<Result<(), LogError>> {
        self.batch.result.get().cloned()
    }

    /// Whether it is of this batch.
    pub(crate) fn is_of(&self, batch: &Arc<Batch>) -> bool {
        Arc::ptr_eq(&self.batch, batch)
    }

    /// For what needs no disk.
    pub(crate) fn done(result: Result<(), LogError>) -> Self {
        let batch = Arc::<Batch>::default();
        batch.complete(result);
        Self { batch, place: None }
    }
}

impl Clone for Durable {
    /// Another one who waits for the same.
    fn clone(&self) -> Self {
        Self::of(&self.batch)
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        let Some(place) = self.place.filter(|_| self.batch.result.get().is_none()) else { return };
        let left = self.batch.wakers.lock().take(place);
        // Outside of the lock: it may be the last that holds a task.
        drop(left);
    }
}

impl Future for Durable {
    type Output = Result<(), LogError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(result) = this.batch.result.get() {
            return Poll::Ready(result.clone());
        }
        let mut wakers = this.batch.wakers.lock();
        // It may have ended while we came to the lock, under which it ends.
        if let Some(result) = this.batch.result.get() {
            return Poll::Ready(result.clone());
        }
        this.place = Some(wakers.put(this.place, cx.waker()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(durable: &mut Durable, waker: &Arc<Count>) -> Poll<Result<(), LogError>> {
        pin!(durable).poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
    }

    #[test]
    fn all_who_wait_are_woken_once_and_clones_wait_for_themselves() {
        let batch = Arc::<Batch>::default();
        let mut one = Durable::of(&batch);
        let wakers: [Arc<Count>; 3] = Default::default();
        assert!(poll(&mut one, &wakers[0]).is_pending());
        let mut other = one.clone();
        assert!(poll(&mut other, &wakers[1]).is_pending());
        // It has moved to another task.
        assert!(poll(&mut one, &wakers[2]).is_pending());
        batch.complete(Ok(()));
        let woken = wakers.map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1, 1]);
        assert!(matches!(other.now(), Some(Ok(()))));
    }

    #[test]
    fn those_who_wait_no_more_are_let_go_of() {
        let batch = Arc::<Batch>::default();
        let mut stays = Durable::of(&batch);
        let (kept, left) = <(Arc<Count>, Arc<Count>)>::default();
        assert!(poll(&mut stays, &kept).is_pending());
        for _ in 0..100 {
            let mut leaves = Durable::of(&batch);
            assert!(poll(&mut leaves, &left).is_pending());
        }
        assert_eq!((Arc::strong_count(&left), batch.wakers.lock().all.len()), (1, 2));
        batch.complete(Ok(()));
        drop(stays);
        assert_eq!((kept.0.load(Ordering::Relaxed), left.0.load(Ordering::Relaxed)), (1, 0));
    }
}
