//! Which of a connection's subscriptions have something.
//!
//! A connection may have many subscriptions of which few have messages at a time, so each has a waker of its own
//! that puts its number on a list and wakes the connection. A number is on the list once at most: its flag is
//! taken back before the subscription is looked at, so what comes during the look puts it on the list again.
//!
//! Whoever publishes many messages at once holds the wake-ups back meanwhile ([`Hush`]), so that those who get
//! them find all of them there, rather than waking for each and reaching for the same memory as the publisher.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

thread_local! {
    /// The connections that this thread is to wake when it is through; nothing while it wakes them at once.
    static HELD: RefCell<Option<Vec<Arc<ReadyList>>>> = const { RefCell::new(None) };
}

/// Holds back this thread's wake-ups until it is dropped. It cannot be held across a wait.
pub(super) struct Hush(PhantomData<*const ()>);

impl Hush {
    pub(super) fn new() -> Self {
        HELD.set(Some(Vec::new()));
        Self(PhantomData)
    }
}

impl Drop for Hush {
    fn drop(&mut self) {
        let held = HELD.take();
        held.iter().flatten().for_each(|list| list.connection.wake());
    }
}

/// The list of one connection.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    numbers: Mutex<Vec<usize>>,
    connection: AtomicWaker,
}

/// What wakes a connection for one of its subscriptions.
#[derive(Debug)]
pub(super) struct Bell {
    number: usize,
    is_listed: AtomicBool,
    list: Arc<ReadyList>,
}

impl ReadyList {
    /// Has `waker` called whenever a number comes onto the list.
    pub(super) fn register(&self, waker: &Waker) {
        self.connection.register(waker);
    }

    /// Wakes the connection, or has it woken when the thread is through with what it does.
    fn wake(self: &Arc<Self>) {
        let is_held = HELD.with_borrow_mut(|held| {
            held.as_mut().map(|held| held.push(Arc::clone(self))).is_some()
        });
        if !is_held {
            self.connection.wake();
        }
    }

    /// Takes all numbers off the list; `into` has to be empty.
    pub(super) fn take(&self, into: &mut Vec<usize>) {
        std::mem::swap(&mut *self.numbers.lock(), into);
    }
}

impl Bell {
    pub(super) fn new(number: usize, list: &Arc<ReadyList>) -> Arc<Self> {
        let is_listed = AtomicBool::new(false);
        Arc::new(Self { number, is_listed, list: Arc::clone(list) })
    }

    /// Puts the subscription on the list.
    pub(super) fn ring(&self) {
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            self.list.numbers.lock().push(self.number);
            self.list.wake();
        }
    }

    /// Call before looking at the subscription.
    pub(super) fn answer(&self) {
        self.is_listed.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_connection_is_woken_when_the_thread_is_through() {
        let (list, count) = (Arc::new(ReadyList::default()), Arc::new(Count::default()));
        list.register(&Waker::from(Arc::clone(&count)));
        let bells = [Bell::new(1, &list), Bell::new(2, &list)];
        let hush = Hush::new();
        bells.iter().for_each(|bell| bell.ring());
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        drop(hush);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "once for both");
        list.register(&Waker::from(Arc::clone(&count)));
        bells[0].answer();
        bells[0].ring();
        assert_eq!(count.0.load(Ordering::SeqCst), 2, "at once");
    }

    #[test]
    fn a_number_is_listed_once_until_it_is_looked_at() {
        let list = Arc::new(ReadyList::default());
        let bells = [Bell::new(1, &list), Bell::new(2, &list)];
        let listed = || {
            let mut numbers = Vec::new();
            list.take(&mut numbers);
            numbers
        };
        bells.iter().for_each(|bell| bell.ring());
        bells.iter().for_each(|bell| bell.ring());
        assert_eq!(listed(), [1, 2]);
        bells[0].ring();
        assert!(listed().is_empty(), "not looked at yet");
        bells[0].answer();
        bells[0].ring();
        assert_eq!(listed(), [1]);
    }
}
