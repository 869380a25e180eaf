//! What one side of a queue hands out, and to whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use crossbeam::deque::{Steal, Stealer, Worker};
use parking_lot::Mutex;

use super::deque::{Own, Shared};
use super::idle::Idle;
use super::queue::{Entry, Ticket};

#[derive(Debug, Default)]
pub(super) struct SideQueue {
    pub(super) ready: Shared<Ticket>,
    pub(super) idle: Idle,
    stealers: ArcSwap<Vec<(u64, Stealer<Ticket>)>>,
    /// How many there are, so that whoever is the only one need not look.
    stealer_count: AtomicUsize,
    stealers_change: Mutex<()>,
}

impl SideQueue {
    /// Whether somebody could take something now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.stealers.load().iter().any(|(_, other)| !other.is_empty())
    }

    /// Takes a ticket: from the shared queue, along with some more for `local`, or else from another
    /// receiver.
    pub(super) fn take(&self, local: &Own<Ticket>, me: u64, batch: usize) -> Option<Ticket> {
        loop {
            let steal = match local.made() {
                _ if batch <= 1 => self.ready.steal(),
                // One that never had anything has no queue of its own.
                None if self.ready.is_empty() => Steal::Empty,
                _ => self.ready.steal_batch_with_limit_and_pop(self.own(local, me), batch),
            };
            match steal {
                Steal::Success(ticket) => return Some(ticket),
                Steal::Retry => {}
                Steal::Empty => break,
            }
        }
        self.steal_from_others(local, me)
    }

    fn steal_from_others(&self, local: &Own<Ticket>, me: u64) -> Option<Ticket> {
        let own = usize::from(local.made().is_some());
        if self.stealer_count.load(Ordering::Relaxed) <= own {
            return None;
        }
        let stealers = self.stealers.load();
        let others = stealers.iter().filter(|(owner, other)| *owner != me && !other.is_empty());
        for (_, stealer) in others {
            loop {
                match stealer.steal_batch_and_pop(self.own(local, me)) {
                    Steal::Success(ticket) => return Some(ticket),
                    Steal::Retry => {}
                    Steal::Empty => break,
                }
            }
        }
        None
    }

    /// A receiver's own queue, from which others can steal.
    pub(super) fn own<'a>(&self, local: &'a Own<Ticket>, me: u64) -> &'a Worker<Ticket> {
        local.make(|stealer| self.add_stealer(me, stealer))
    }

    fn add_stealer(&self, owner: u64, stealer: Stealer<Ticket>) {
        let _one_change = self.stealers_change.lock();
        let mut stealers = Vec::clone(&self.stealers.load());
        stealers.push((owner, stealer));
        self.stealer_count.store(stealers.len(), Ordering::Relaxed);
        self.stealers.store(Arc::new(stealers));
    }

    pub(super) fn remove_stealer(&self, owner: u64) {
        let _one_change = self.stealers_change.lock();
        let mut stealers = Vec::clone(&self.stealers.load());
        stealers.retain(|(other, _)| *other != owner);
        self.stealer_count.store(stealers.len(), Ordering::Relaxed);
        self.stealers.store(Arc::new(stealers));
    }

    /// The oldest message that some receiver took along and has not come to yet.
    pub(super) fn steal_from_any(&self) -> Option<Entry> {
        for (_, stealer) in self.stealers.load().iter() {
            match stealer.steal() {
                Steal::Success(Ticket::Message(entry)) => return Some(entry),
                Steal::Success(ticket) => self.ready.push(ticket),
                Steal::Empty | Steal::Retry => {}
            }
        }
        None
    }

    /// Takes out each ticket that was here when this began, unless somebody else does, and hands it to `then`.
    pub(super) fn sweep(&self, mut then: impl FnMut(Ticket)) {
        for _ in 0..self.ready.len() {
            self.ready.pop().into_iter().for_each(&mut then);
        }
        for (_, stealer) in self.stealers.load().iter() {
            for _ in 0..stealer.len() {
                let stolen =
                    std::iter::repeat_with(|| stealer.steal()).find(|steal| !steal.is_retry());
                stolen.and_then(Steal::success).into_iter().for_each(&mut then);
            }
        }
    }
}
