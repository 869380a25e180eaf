//! Every interleaving of a worker's own task and those who help, by the model checker loom: work that nobody looks at
//! is a deadlock, which loom finds.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Notify};

#[path = "../src/actor/turns.rs"]
mod turns;

/// The parts that loom controls.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU8, Ordering};
}

use sync::Ordering;

struct Worker {
    turns: turns::Turns,
    task: Notify,
    waiting: AtomicU32,
    done: AtomicU32,
    polled_by: AtomicU32,
}

impl Worker {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            turns: turns::Turns::default(),
            task: Notify::new(),
            waiting: AtomicU32::new(0),
            done: AtomicU32::new(0),
            polled_by: AtomicU32::new(0),
        })
    }

    /// Does what is there, if it is nobody else's turn.
    fn poll(&self) {
        if !self.turns.begin() {
            return;
        }
        assert_eq!(self.polled_by.fetch_add(1, Ordering::AcqRel), 0, "two poll at once");
        self.done.fetch_add(self.waiting.swap(0, Ordering::AcqRel), Ordering::AcqRel);
        self.polled_by.fetch_sub(1, Ordering::AcqRel);
        if self.turns.end() {
            self.task.notify();
        }
    }

    fn ask(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }
}

/// Asks for something, and polls for it.
fn helper(worker: &Arc<Worker>) -> loom::thread::JoinHandle<()> {
    let worker = Arc::clone(worker);
    loom::thread::spawn(move || {
        worker.ask();
        worker.poll();
    })
}

/// What is not done yet the worker's own task was told of.
fn rest_is_told(worker: &Worker, asked: u32) {
    if worker.done.load(Ordering::Acquire) < asked {
        worker.task.wait();
        worker.poll();
    }
    assert_eq!(worker.done.load(Ordering::Acquire), asked);
}

#[test]
fn two_who_help_at_once_forget_nothing() {
    loom::model(|| {
        let worker = Worker::new();
        let helpers = [helper(&worker), helper(&worker)];
        helpers.into_iter().for_each(|helper| helper.join().unwrap());
        rest_is_told(&worker, 2);
    });
}

#[test]
fn one_who_helps_while_the_worker_is_polled_forgets_nothing() {
    loom::model(|| {
        let worker = Worker::new();
        let helper = helper(&worker);
        // Its own task polls for a reason of its own, just then.
        worker.poll();
        helper.join().unwrap();
        rest_is_told(&worker, 1);
    });
}
