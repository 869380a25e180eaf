//! What a receiver took along.

use std::fmt;
use std::sync::Arc;

use echo_sdk::BaseMessage;

use super::deque::Own;
use super::gate::Look;
use super::queue::{Batch, Queue, Ticket};
use super::side::SideQueue;
use crate::transport::Side;

/// How many settled messages a receiver gathers before it makes their room available.
const RELEASE_AT: usize = 32;

/// What a receiver of a queue within the process took along beside the message in hand.
pub struct Rest {
    /// The receiver's number.
    pub(super) id: u64,
    pub(super) queue: Arc<Queue>,
    pub(super) side: Side,
    /// How the queue's gate stands while all of it is this side's.
    pub(super) whole: Look,
    /// Taken along from the shared queue; others may steal from it.
    pub(super) local: Own<Ticket>,
    /// The rest of a batch, which nobody can steal from: it is kept only where handling is fast, and until a handler
    /// waits for something.
    pub(super) behind: Option<Batch>,
    /// Messages that are done, kept so that they are let go, and their room given back, several at a time: each
    /// of these writes where publishers write as well.
    pub(super) settled: Vec<BaseMessage>,
    /// How many messages are done whose room is not given back yet.
    done: usize,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Rest {
    pub(super) fn new(id: u64, queue: Arc<Queue>, side: Side) -> Self {
        let (local, settled, whole) = (Own::default(), Vec::new(), Look::whole(side));
        Self { id, queue, side, whole, local, behind: None, settled, done: 0 }
    }

    /// The side of the queue that it is of.
    #[inline]
    pub(super) fn here(&self) -> &SideQueue {
        self.queue.side(self.side)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.behind.is_none() && self.local.is_empty()
    }

    /// The next message of the batch.
    #[inline]
    pub(super) fn next_behind(&mut self) -> Option<BaseMessage> {
        let batch = self.behind.as_mut()?;
        let message = batch.next_message();
        if batch.is_empty() {
            self.behind = None;
        }
        message
    }

    /// How many tickets may be taken at once: what is taken along of a divided queue may be the other side's.
    #[inline]
    pub(super) fn limit(&self, limit: usize) -> usize {
        if self.queue.gate.look() == self.whole { limit } else { 1 }
    }

    /// Whether a ticket that was taken is this side's. Where the share has changed, what was taken along with it goes where
    /// it belongs.
    #[inline]
    pub(super) fn keeps(&self, ticket: &Ticket) -> bool {
        self.queue.gate.look().is_whole(self.side) || self.sort_out(Some(ticket))
    }

    #[cold]
    fn sort_out(&self, ticket: Option<&Ticket>) -> bool {
        std::iter::from_fn(|| self.local.pop()).for_each(|ticket| self.queue.place(ticket));
        ticket.is_some_and(|ticket| self.queue.is_of(self.side, ticket))
    }

    /// Lets others steal the messages of a batch, which come before what was taken along already.
    pub(super) fn unpack(&mut self, batch: Batch) {
        let local = self.here().own(&self.local, self.id);
        let later: Vec<Ticket> = std::iter::from_fn(|| local.pop()).collect();
        batch.for_each(|entry| local.push(Ticket::Message(entry)));
        later.into_iter().for_each(|ticket| local.push(ticket));
        self.pass_on();
        // Whoever changed the share before did not find them here.
        if !self.queue.gate.look().is_whole(self.side) {
            self.sort_out(None);
        }
    }

    /// Wakes another receiver if there is more than this one keeps. Where it took something along, this puts the
    /// sequentially consistent fence that has to stand before its next look at the share.
    #[inline]
    pub(super) fn pass_on(&self) {
        let here = self.here();
        if !self.local.is_empty() || !here.ready.is_empty() {
            here.idle.wake_one();
        }
    }

    /// Counts a message as done; its room is given back with that of others.
    #[inline]
    pub(super) fn count_done(&mut self) {
        self.done += 1;
        if self.done >= RELEASE_AT || self.is_empty() {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        BaseMessage::let_go(self.settled.drain(..));
        self.queue.release(std::mem::take(&mut self.done));
    }

    /// Lets other receivers have it: the message in hand takes long. What is settled makes room.
    pub fn share(&mut self) {
        if let Some(batch) = self.behind.take() {
            self.unpack(batch);
        }
        self.flush();
    }
}
