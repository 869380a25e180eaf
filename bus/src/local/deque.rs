//! The lock-free queues that a slot is made of, without memory before they are used.
//!
//! Each of them has room for 64 entries as soon as it is there, ten kilobytes for a subscription: most subscriptions
//! of idle clients never see a message.

use std::cell::OnceCell;
use std::sync::OnceLock;

use crossbeam::deque::{Injector, Steal, Stealer, Worker};

/// A queue that anybody pushes to and takes from.
#[derive(Debug)]
pub(super) struct Shared<T>(OnceLock<Box<Injector<T>>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Shared<T> {
    #[inline]
    pub(super) fn push(&self, item: T) {
        self.0.get_or_init(Box::default).push(item);
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.get().is_none_or(|queue| queue.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.0.get().map_or(0, |queue| queue.len())
    }

    /// Takes the oldest.
    #[inline]
    pub(super) fn steal(&self) -> Steal<T> {
        self.0.get().map_or(Steal::Empty, |queue| queue.steal())
    }

    /// Takes the oldest, however often others get in the way.
    pub(super) fn pop(&self) -> Option<T> {
        loop {
            match self.steal() {
                Steal::Success(item) => return Some(item),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    /// Takes the oldest, and at most `limit` with it into a queue of one's own.
    #[inline]
    pub(super) fn steal_batch_with_limit_and_pop(&self, own: &Worker<T>, limit: usize) -> Steal<T> {
        match self.0.get() {
            Some(queue) => queue.steal_batch_with_limit_and_pop(own, limit),
            None => Steal::Empty,
        }
    }
}

/// A receiver's own queue, from which others steal.
#[derive(Debug)]
pub(super) struct Own<T>(OnceCell<Worker<T>>);

impl<T> Default for Own<T> {
    fn default() -> Self {
        Self(OnceCell::new())
    }
}

impl<T> Own<T> {
    #[inline]
    pub(super) fn pop(&self) -> Option<T> {
        self.made()?.pop()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.made().is_none_or(Worker::is_empty)
    }

    /// The queue, if it was made.
    #[inline]
    pub(super) fn made(&self) -> Option<&Worker<T>> {
        self.0.get()
    }

    /// The queue; `register` makes it known to those who steal, when it is made.
    #[inline]
    pub(super) fn make(&self, register: impl FnOnce(Stealer<T>)) -> &Worker<T> {
        self.0.get_or_init(|| {
            let worker = Worker::new_fifo();
            register(worker.stealer());
            worker
        })
    }
}
