//! Every interleaving of a share that changes with whoever puts tickets somewhere and whoever takes them along, by the
//! model checker loom: in the end no ticket is on the wrong side.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::VecDeque;

use loom::sync::Arc;
use loom::thread;

#[path = "../src/local/gate.rs"]
#[allow(dead_code, reason = "the model needs a part of it")]
mod gate;

use echo_bus::Side;
use gate::{Gate, Look};

/// Where the gate looks for what it needs of the crate.
mod transport {
    pub(crate) use echo_bus::Side;
}

/// The parts that loom controls.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

type Tickets = sync::Mutex<VecDeque<u8>>;

/// A queue as simple as can be, with the real gate. A ticket is its bucket.
#[derive(Default)]
struct Queue {
    gate: Gate,
    ready: [Tickets; 2],
    /// What a receiver of the first side took along.
    own: Tickets,
}

impl Queue {
    fn place(&self, ticket: u8) {
        let look = self.gate.look();
        self.put(look, ticket);
        self.gate.look_again(look, |look| self.bring_over(look));
    }

    fn put(&self, look: Look, ticket: u8) {
        self.ready[look.side(ticket) as usize].lock().push_back(ticket);
        // As whoever wakes a receiver does.
        sync::fence(sync::Ordering::SeqCst);
    }

    fn bring_over(&self, look: Look) {
        for tickets in [&self.ready[0], &self.ready[1], &self.own] {
            let len = tickets.lock().len();
            for _ in 0..len {
                let ticket = tickets.lock().pop_front();
                ticket.into_iter().for_each(|ticket| self.put(look, ticket));
            }
        }
    }

    fn divide(&self, second: u16) {
        self.gate.divide(second, |look| self.bring_over(look));
    }

    /// A receiver of the first side, which takes a ticket and one more with it; gives the one that it handles.
    fn receive(&self) -> Option<u8> {
        let takes_along = self.gate.look() == Look::whole(Side::First);
        let ticket = {
            let mut ready = self.ready[0].lock();
            let ticket = ready.pop_front()?;
            let more = if takes_along { ready.pop_front() } else { None };
            self.own.lock().extend(more);
            ticket
        };
        sync::fence(sync::Ordering::SeqCst);
        if self.gate.look().is_whole(Side::First) {
            return Some(ticket);
        }
        while let Some(other) = {
            let mut own = self.own.lock();
            own.pop_front()
        } {
            self.place(other);
        }
        if self.gate.look().side(ticket) == Side::First {
            return Some(ticket);
        }
        self.place(ticket);
        None
    }

    /// What is where, sorted.
    fn all(&self) -> [Vec<u8>; 3] {
        [&self.ready[0], &self.ready[1], &self.own].map(|tickets| {
            let mut all: Vec<u8> = tickets.lock().iter().copied().collect();
            all.sort_unstable();
            all
        })
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn what_is_put_while_the_share_changes_is_brought_over() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let publisher = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || [10, 200].into_iter().for_each(|ticket| queue.place(ticket)))
        };
        queue.divide(100);
        publisher.join().unwrap();
        assert_eq!(queue.all(), [vec![200], vec![10], vec![]]);
    });
}

#[test]
fn a_share_that_changes_back_leaves_nothing_behind() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let publishers = [1, 2].map(|ticket| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.place(ticket))
        });
        queue.divide(256);
        queue.divide(0);
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        assert_eq!(queue.all(), [vec![1, 2], vec![], vec![]]);
    });
}

#[test]
fn what_is_taken_along_while_the_share_changes_is_given_away_or_found() {
    model(|| {
        let queue = Arc::new(Queue::default());
        [1, 2, 3].into_iter().for_each(|ticket| queue.place(ticket));
        let receiver = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.receive())
        };
        queue.divide(256);
        let handled = receiver.join().unwrap();
        // The receiver never looks again.
        let left = [1, 2, 3].into_iter().filter(|ticket| Some(*ticket) != handled).collect();
        assert_eq!(queue.all(), [vec![], left, vec![]]);
    });
}

/// Queues that order nothing by themselves: as many tickets of the first bucket as each side has.
#[derive(Default)]
struct Counts {
    gate: Gate,
    ready: [sync::AtomicUsize; 2],
}

impl Counts {
    fn put(&self, look: Look, tickets: usize) {
        let ready = &self.ready[look.side(0) as usize];
        ready.fetch_add(tickets, sync::Ordering::Relaxed);
        sync::fence(sync::Ordering::SeqCst);
    }

    fn bring_over(&self, look: Look) {
        for ready in &self.ready {
            if ready.load(sync::Ordering::Relaxed) > 0 {
                self.put(look, ready.swap(0, sync::Ordering::Relaxed));
            }
        }
    }
}

#[test]
fn the_fences_are_enough() {
    model(|| {
        let queue = Arc::new(Counts::default());
        let publisher = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let look = queue.gate.look();
                queue.put(look, 1);
                queue.gate.look_again(look, |look| queue.bring_over(look));
            })
        };
        queue.gate.divide(256, |look| queue.bring_over(look));
        publisher.join().unwrap();
        assert_eq!(queue.ready.each_ref().map(|it| it.load(sync::Ordering::Relaxed)), [0, 1]);
    });
}
