//! Receivers that found nothing to do, and who wakes them.
//!
//! A publisher wakes at most one receiver, and none while another is on its way: the woken one, once it
//! has found work, wakes the next if there is more. So a busy queue costs its publishers no wake-up at all
//! and an idle one a single wake-up, however many receivers wait.
//!
//! No wake-up is lost. A receiver parks and then looks at the queue again; a publisher adds to the queue
//! and then looks for parked receivers; both put a sequentially consistent fence between the two, so at
//! least one of them sees the other. A receiver that was woken and is dropped before it looked passes the
//! wake-up on. `tests/idle_model.rs` tries every interleaving of this.

use std::task::Waker;

use super::sync::{AtomicUsize, Mutex, Ordering, fence};

#[derive(Debug, Default)]
pub(super) struct Idle {
    /// How many are parked: lets publishers skip the lock.
    parked: AtomicUsize,
    /// How many are woken and have not looked yet: while there is one, nobody else is woken.
    woken: AtomicUsize,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    parked: Vec<(u64, Waker)>,
    woken: Vec<u64>,
}

impl Idle {
    /// Wakes one receiver, unless none is parked or one is on its way. Call after adding work.
    pub(super) fn wake_one(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) == 0 || self.woken.load(Ordering::Relaxed) > 0 {
            return;
        }
        let waker = {
            let mut lists = self.lists.lock();
            if !lists.woken.is_empty() {
                return;
            }
            let Some((receiver, waker)) = lists.parked.pop() else {
                return;
            };
            lists.woken.push(receiver);
            self.publish_counts(&lists);
            waker
        };
        waker.wake();
    }

    /// Wakes everybody: the queue was closed or resumed.
    pub(super) fn wake_all(&self) {
        let wakers: Vec<Waker> = {
            let mut lists = self.lists.lock();
            let (receivers, wakers): (Vec<u64>, Vec<Waker>) = lists.parked.drain(..).unzip();
            lists.woken.extend(receivers);
            self.publish_counts(&lists);
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Parks a receiver, or renews its waker. The caller looks at the queue once more afterwards.
    pub(super) fn park(&self, receiver: u64, waker: &Waker) {
        {
            let mut lists = self.lists.lock();
            lists.woken.retain(|other| *other != receiver);
            match lists.parked.iter_mut().find(|(other, _)| *other == receiver) {
                Some((_, known)) => known.clone_from(waker),
                None => lists.parked.push((receiver, waker.clone())),
            }
            self.publish_counts(&lists);
        }
        fence(Ordering::SeqCst);
    }

    /// Takes a receiver off both lists; says whether it had been woken.
    pub(super) fn unpark(&self, receiver: u64) -> bool {
        let mut lists = self.lists.lock();
        let woken_before = lists.woken.len();
        lists.woken.retain(|other| *other != receiver);
        lists.parked.retain(|(other, _)| *other != receiver);
        self.publish_counts(&lists);
        lists.woken.len() < woken_before
    }

    fn publish_counts(&self, lists: &Lists) {
        self.parked.store(lists.parked.len(), Ordering::Relaxed);
        self.woken.store(lists.woken.len(), Ordering::Relaxed);
    }
}
