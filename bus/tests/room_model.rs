//! Every interleaving of those who take room, wait for it, give it back and go away, by the model checker loom: room
//! that stays free beside somebody who waits is a deadlock, which loom finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

#[path = "../src/local/room.rs"]
#[allow(dead_code, reason = "the model needs a part of it")]
mod room;

use room::Room;

/// The parts that loom controls.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    #[derive(Debug)]
    pub(super) struct Padded<T>(T);

    impl<T> Padded<T> {
        pub(super) fn new(value: T) -> Self {
            Self(value)
        }
    }

    impl<T> std::ops::Deref for Padded<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn who_waits_gets_the_room_that_comes_free() {
    model(|| {
        let room = Arc::new(Room::new(1));
        assert!(room.try_reserve(1));
        let settling = {
            let room = Arc::clone(&room);
            thread::spawn(move || room.settle(1))
        };
        assert!(block_on(room.reserve(1)), "not closed");
        settling.join().unwrap();
        assert_eq!((room.held(), room.accepted()), (1, 2));
    });
}

#[test]
fn two_who_wait_both_get_their_turn() {
    model(|| {
        let room = Arc::new(Room::new(1));
        assert!(room.try_reserve(1));
        let other = {
            let room = Arc::clone(&room);
            thread::spawn(move || {
                assert!(block_on(room.reserve(1)));
                room.settle(1);
            })
        };
        room.settle(1);
        assert!(block_on(room.reserve(1)));
        room.settle(1);
        other.join().unwrap();
        assert_eq!((room.held(), room.accepted()), (0, 3));
    });
}

#[test]
fn room_granted_to_one_who_went_away_comes_back() {
    model(|| {
        let room = Arc::new(Room::new(1));
        assert!(room.try_reserve(1));
        let leaving = {
            let room = Arc::clone(&room);
            thread::spawn(move || {
                let waker = std::task::Waker::noop();
                let mut wait = Box::pin(room.reserve(1));
                let polled = wait.as_mut().poll(&mut std::task::Context::from_waker(waker));
                let taken = u64::from(polled.is_ready());
                drop(wait);
                room.settle(taken);
            })
        };
        room.settle(1);
        assert!(block_on(room.reserve(1)));
        leaving.join().unwrap();
        assert_eq!(room.held(), 1);
    });
}

#[test]
fn closing_ends_every_wait() {
    model(|| {
        let room = Arc::new(Room::new(1));
        assert!(room.try_reserve(1));
        let closing = {
            let room = Arc::clone(&room);
            thread::spawn(move || room.close())
        };
        assert!(!block_on(room.reserve(1)), "nothing was settled");
        closing.join().unwrap();
        assert_eq!(room.held(), 1);
    });
}
