//! A worker that is polled by its own task, and for a moment by whoever waits for it.
//!
//! The task awaits [`Working`], which ends when the worker does; whoever drops it ends the worker with it. The waker
//! that the worker is polled with wakes the task, unless the thread that wakes offers to [help](echo_bus::helping).
//!
//! * **Order.** One polls at a time. Who comes meanwhile goes away, and whoever polls has the task look once more.
//! * **Panic.** A worker that panics while it is helped panics in its own task.
//! * **Cut off.** Resolves once nobody polls the worker any more and it is dropped, so what it held is free.
//! * **Drop.** A worker whose task is dropped while somebody helps ends with that poll.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use echo_bus::helping::{self, Help};
use echo_sdk::BoxFuture;
use futures_util::task::{ArcWake, AtomicWaker, waker_ref};
use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};

use super::turns::Turns;
use super::worker::WorkerStats;
use crate::current;

/// What is left of a worker.
enum Work {
    Going(BoxFuture<'static, ()>),
    Panicked(Box<dyn std::any::Any + Send>),
    Over,
}

/// A worker, as it is shared by its task and those who help.
struct Helped {
    work: Mutex<Work>,
    turns: Turns,
    /// Of the worker's own task.
    task: AtomicWaker,
    /// The task is gone, so whoever polls last ends the worker.
    is_left: AtomicBool,
    /// Where the task runs, if others may help: nobody does from elsewhere, since a handler may use what its runtime
    /// offers.
    runtime: Option<Id>,
    stats: Arc<WorkerStats>,
}

impl Helped {
    /// Polls the worker, if it is nobody else's turn; says whether the worker goes on. What a helper may do is said and
    /// taken back within its turn: said at any other time, it would hold for whoever polls then.
    fn poll(self: &Arc<Self>, helps: bool) -> bool {
        if !self.turns.begin() {
            return true;
        }
        self.stats.set_help(helps);
        let is_going = self.work.lock().poll(&mut Context::from_waker(&waker_ref(self)));
        if self.turns.end() {
            if self.is_left.load(Ordering::Acquire) {
                drop(self.take());
            }
            self.task.wake();
        }
        is_going
    }

    /// Takes what is left, if it is nobody's turn.
    fn take(&self) -> Option<Work> {
        if !self.turns.begin() {
            return None;
        }
        let work = std::mem::replace(&mut *self.work.lock(), Work::Over);
        self.turns.end();
        Some(work)
    }
}

impl Work {
    /// Polls the worker; says whether it goes on.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Going(going) = self else { return false };
        match catch_unwind(AssertUnwindSafe(|| going.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return true,
            Ok(Poll::Ready(())) => *self = Self::Over,
            Err(payload) => *self = Self::Panicked(payload),
        }
        false
    }
}

impl ArcWake for Helped {
    fn wake_by_ref(this: &Arc<Self>) {
        if !this.stats.may_be_helped() || !helping::put_aside(this) {
            this.task.wake();
        }
    }
}

impl Help for Helped {
    fn help(self: Arc<Self>) {
        let here = Handle::try_current().ok().map(|here| here.id());
        if here.is_none() || here != self.runtime {
            return self.task.wake();
        }
        let is_going = current::without(|| self.poll(true));
        if !is_going {
            self.task.wake();
        }
    }

    fn wake(self: Arc<Self>) {
        self.task.wake();
    }
}

/// A worker in its own task.
pub(crate) struct Working(Arc<Helped>);

impl Working {
    /// Has `work` polled, which shows of itself what is in `stats`; by others as well, if they are on `runtime`.
    pub(crate) fn new(
        work: BoxFuture<'static, ()>,
        stats: Arc<WorkerStats>,
        runtime: Option<&Handle>,
    ) -> Self {
        Self(Arc::new(Helped {
            work: Mutex::new(Work::Going(work)),
            turns: Turns::default(),
            task: AtomicWaker::new(),
            is_left: AtomicBool::new(false),
            runtime: runtime.map(Handle::id),
            stats,
        }))
    }

    /// Ends the worker where it is; what it holds is dropped when this resolves.
    pub(crate) async fn cut_off(self) {
        poll_fn(|cx| {
            self.0.task.register(cx.waker());
            self.0.take().map_or(Poll::Pending, |_| Poll::Ready(()))
        })
        .await;
    }
}

impl Future for Working {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.task.register(cx.waker());
        if self.0.poll(false) {
            return Poll::Pending;
        }
        match self.0.take() {
            None => Poll::Pending,
            Some(Work::Panicked(payload)) => resume_unwind(payload),
            Some(Work::Going(_) | Work::Over) => Poll::Ready(()),
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.is_left.store(true, Ordering::Release);
        drop(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use super::*;

    /// How often the worker is polled by its own task.
    const POLLS: usize = 200_000;

    /// Those who come to help while a worker's own task polls it do not keep it from its work.
    #[test]
    fn a_helper_who_comes_in_between_takes_nothing_from_the_task() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stats = Arc::<WorkerStats>::default();
        let (seen, own) = (Arc::clone(&stats), std::thread::current().id());
        let work = poll_fn(move |_| {
            // Of two messages a helper takes one, and the task both.
            let went_on = [seen.may_go_on(), seen.may_go_on()];
            assert_eq!(went_on, [true, is(own)]);
            Poll::Pending
        });
        let mut working = Working::new(Box::pin(work), stats, Some(runtime.handle()));
        let helped = Arc::clone(&working.0);
        let is_over = Arc::<AtomicBool>::default();
        let (handle, over) = (runtime.handle().clone(), Arc::clone(&is_over));
        let helper = std::thread::spawn(move || {
            let _here = handle.enter();
            while !over.load(Ordering::Relaxed) {
                Arc::clone(&helped).help();
            }
        });
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let polled = (0..POLLS).all(|_| Pin::new(&mut working).poll(cx).is_pending());
        is_over.store(true, Ordering::Relaxed);
        helper.join().unwrap();
        assert!(polled, "the worker panicked: it was kept from a message");
    }

    fn is(thread: ThreadId) -> bool {
        std::thread::current().id() == thread
    }
}
