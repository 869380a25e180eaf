//! Every interleaving of publishers, receivers and the wake-ups between them, by the model checker loom: a
//! wake-up that is lost is a deadlock, which loom finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::VecDeque;
use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

use loom::sync::{Arc, Notify};

#[path = "../src/local/idle.rs"]
#[allow(dead_code, reason = "the model needs a part of it")]
mod idle;

/// The parts that loom controls.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering, fence};

    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

/// A queue as simple as can be, with the real list of idle receivers.
#[derive(Default)]
struct Queue {
    ready: sync::Mutex<VecDeque<u32>>,
    idle: idle::Idle,
}

impl Queue {
    fn push(&self, item: u32) {
        self.ready.lock().push_back(item);
        self.idle.wake_one();
    }

    /// Takes an item as a receiver does: what is left wakes the next.
    fn take(&self) -> Option<u32> {
        let (item, left) = {
            let mut ready = self.ready.lock();
            (ready.pop_front(), !ready.is_empty())
        };
        if item.is_some() && left {
            self.idle.wake_one();
        }
        item
    }

    /// Waits for an item: looks, parks, looks again, sleeps.
    fn receive(&self, me: u64) -> u32 {
        let sleeper = StdArc::new(Sleeper(Notify::new()));
        let waker = Waker::from(StdArc::clone(&sleeper));
        loop {
            if let Some(item) = self.take() {
                return item;
            }
            self.idle.park(me, &waker);
            if let Some(item) = self.take() {
                self.idle.unpark(me);
                // While this one counted as woken, nobody else was.
                let left = !self.ready.lock().is_empty();
                if left {
                    self.idle.wake_one();
                }
                return item;
            }
            sleeper.0.wait();
            self.idle.unpark(me);
        }
    }
}

struct Sleeper(Notify);

impl Wake for Sleeper {
    fn wake(self: StdArc<Self>) {
        self.0.notify();
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn every_message_finds_a_receiver() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let receivers: Vec<_> = (0..2)
            .map(|me| {
                let queue = Arc::clone(&queue);
                loom::thread::spawn(move || queue.receive(me))
            })
            .collect();
        queue.push(1);
        queue.push(2);
        let mut items: Vec<_> = receivers.into_iter().map(|r| r.join().unwrap()).collect();
        items.sort_unstable();
        assert_eq!(items, [1, 2]);
    });
}

#[test]
fn two_publishers_wake_a_receiver_that_parks_between_them() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let receiver = {
            let queue = Arc::clone(&queue);
            loom::thread::spawn(move || queue.receive(1) + queue.receive(1))
        };
        let other = {
            let queue = Arc::clone(&queue);
            loom::thread::spawn(move || queue.push(1))
        };
        queue.push(2);
        other.join().unwrap();
        assert_eq!(receiver.join().unwrap(), 3);
    });
}
