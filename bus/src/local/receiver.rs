//! One worker's hand into a local queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crossbeam::deque::Worker;
use echo_sdk::{BaseMessage, BoxFuture, MessageStream, Offer, PublishError, Received, Topic};

use super::LocalTransport;
use super::durable::Follows;
use super::feed::due_in;
use super::kept::Bound;
use super::lanes::LaneId;
use super::queue::{Batch, Entry, Queue, Ticket};
use crate::transport::{Receiver, Settlement, Transport};

/// How many messages of a lane, or from its own queue, a receiver takes before others have their turn.
const TURN: u32 = 32;

/// How many settled messages a receiver gathers before it makes their room available.
const RELEASE_AT: usize = 32;

pub(super) struct LocalReceiver {
    id: u64,
    queue: Arc<Queue>,
    /// Taken along from the shared queue; others may steal from it.
    local: Worker<Ticket>,
    batch: usize,
    /// Whether messages come in batches now: then one is enough to take at once.
    batched: bool,
    in_hand: Option<Entry>,
    /// The lane that this receiver owns, and how many of its messages it has taken in a row.
    lane: Option<(LaneId, u32)>,
    parked: bool,
    /// Messages that are done, kept so that they are let go, and their room given back, several at a time: each
    /// of these writes where publishers write as well.
    settled: Vec<BaseMessage>,
    /// How many messages are done whose room is not given back yet.
    done: usize,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl LocalReceiver {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let local = Worker::new_fifo();
        queue.add_stealer(id, local.stealer());
        let (in_hand, lane, settled) = (None, None, Vec::with_capacity(RELEASE_AT));
        let (batch, batched, parked, done) = (1, false, false, 0);
        Self { id, queue, local, batch, batched, in_hand, lane, parked, settled, done }
    }

    /// Takes the next message in hand, if there is one.
    fn take(&mut self) -> bool {
        if self.queue.is_paused() {
            return false;
        }
        self.take_of_lane();
        if self.in_hand.is_none() {
            self.take_ticket();
        }
        let Some(entry) = &mut self.in_hand else {
            return false;
        };
        let message = &mut entry.received.message;
        message.set_attempt(message.attempt().saturating_add(1));
        true
    }

    fn take_of_lane(&mut self) {
        let Some((lane, taken)) = self.lane else {
            return;
        };
        if taken >= TURN {
            self.lane = None;
            return self.queue.call_out(lane);
        }
        self.in_hand = self.queue.lanes.take(lane);
        self.lane = self.in_hand.is_some().then_some((lane, taken + 1));
    }

    fn take_ticket(&mut self) {
        while self.in_hand.is_none() {
            let ticket = match self.local.pop() {
                Some(ticket) => ticket,
                None => {
                    let limit = if self.batched { 1 } else { self.batch };
                    let Some(ticket) = self.queue.take(&self.local, self.id, limit) else {
                        return;
                    };
                    self.batched = matches!(ticket, Ticket::Batch(_));
                    self.pass_on();
                    ticket
                }
            };
            match ticket {
                Ticket::Message(entry) => self.in_hand = Some(entry),
                Ticket::Batch(batch) => self.unpack(batch),
                Ticket::Lane(lane) => {
                    self.in_hand = self.queue.lanes.take(lane);
                    self.lane = self.in_hand.is_some().then_some((lane, 1));
                }
            }
        }
    }

    /// Takes the messages of a batch along, before what was taken along behind it; others may steal them.
    fn unpack(&mut self, mut batch: Batch) {
        self.in_hand = batch.next();
        let behind: Vec<Ticket> = std::iter::from_fn(|| self.local.pop()).collect();
        batch.for_each(|entry| self.local.push(Ticket::Message(entry)));
        behind.into_iter().for_each(|ticket| self.local.push(ticket));
        self.pass_on();
    }

    /// Wakes another receiver if there is more than this one has in hand.
    fn pass_on(&self) {
        if !self.local.is_empty() || !self.queue.ready_is_empty() {
            self.queue.idle.wake_one();
        }
    }

    /// Gives the message in hand away: it is done.
    fn give(&mut self) -> Option<Received> {
        let entry = self.in_hand.take()?;
        self.count_done(entry.sequence());
        Some(entry.received)
    }

    /// Counts a message as done; its room is given back with that of others.
    fn count_done(&mut self, sequence: Option<u64>) {
        if let Some(sequence) = sequence {
            self.queue.settle_kept(sequence, echo_log::Settlement::Done);
        }
        self.done += 1;
        if self.done >= RELEASE_AT || self.local.is_empty() {
            self.flush();
        }
    }

    fn unpark(&mut self) {
        if std::mem::take(&mut self.parked) {
            self.queue.idle.unpark(self.id);
        }
    }

    fn retry(&mut self, entry: Entry, delay: Duration) {
        if let Some(sequence) = entry.sequence() {
            let (attempts, due) = (entry.received.message.attempt(), due_in(delay));
            self.queue.settle_kept(sequence, echo_log::Settlement::Again { attempts, due });
        }
        let keyed = entry.key().is_some();
        if delay.is_zero() {
            match self.lane {
                Some((lane, _)) if keyed => self.queue.lanes.put_back(lane, entry),
                _ => self.queue.requeue(entry),
            }
            return;
        }
        self.queue.delay(entry, delay);
    }

    /// The sequence in the log of the message in hand, if it is kept there.
    fn sequence(&self) -> Option<u64> {
        self.in_hand.as_ref().and_then(Entry::sequence)
    }

    /// Whether the log has a part in this: it keeps the message in hand, or one of these.
    fn lasts(&self, bus: &LocalTransport, effects: &[Received]) -> bool {
        self.sequence().is_some() || effects.iter().any(|effect| bus.lasts(&effect.topic).is_some())
    }

    /// Publishes what follows from the message in hand, and settles it, in one record of the log. It is not
    /// waited for: before it lasts nobody has the messages, and if it does not, this one comes back.
    async fn commit_kept(
        &mut self,
        bus: &LocalTransport,
        effects: Vec<Received>,
        bound: Bound,
    ) -> Result<(), PublishError> {
        let follows = self.in_hand.as_ref().map(|entry| {
            let Received { topic, message } = entry.received.clone();
            let slot = self.queue.kept.get().map(|kept| kept.slot.id());
            let kept = slot.zip(entry.sequence());
            let entry = Entry::new(topic, message, entry.queued_at);
            Follows { queue: Arc::clone(&self.queue), entry, kept }
        });
        let _lasts_later = bus.keep(effects, bound, follows).await?;
        // It takes its room until then.
        self.in_hand = None;
        Ok(())
    }
}

impl Receiver for LocalReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.in_hand.is_some() {
            return Poll::Ready(true);
        }
        if self.parked {
            // Woken, or polled for another reason: either way no longer idle until it finds nothing.
            self.unpark();
        }
        if self.take() {
            return Poll::Ready(true);
        }
        self.flush();
        self.queue.idle.park(self.id, cx.waker());
        self.parked = true;
        // What came between the first look and parking woke nobody.
        if self.take() {
            self.unpark();
            // While this one counted as woken, nobody else was.
            self.pass_on();
            return Poll::Ready(true);
        }
        if self.queue.is_over() {
            self.unpark();
            return Poll::Ready(false);
        }
        Poll::Pending
    }

    fn current(&self) -> Option<&Received> {
        self.in_hand.as_ref().map(|entry| &entry.received)
    }

    fn waited(&self) -> Option<Duration> {
        self.in_hand.as_ref().and_then(|entry| self.queue.clock_duration(entry.queued_at))
    }

    fn settle(&mut self, settlement: Settlement) {
        let Some(entry) = self.in_hand.take() else {
            return;
        };
        match settlement {
            Settlement::Again(delay) => self.retry(entry, delay),
            Settlement::Done => {
                let sequence = entry.sequence();
                self.settled.push(entry.received.message);
                self.count_done(sequence);
            }
        }
    }

    fn offer(&mut self, topic: &Topic, message: BaseMessage) -> Offer {
        let bus = match self.queue.bus() {
            Ok(bus) => bus,
            Err(error) => return Offer::Refused(error),
        };
        if self.sequence().is_some() || bus.lasts(topic).is_some() {
            return Offer::Busy(message);
        }
        let offer = bus.offer(topic, message);
        if matches!(offer, Offer::Taken) {
            self.settle(Settlement::Done);
        }
        offer
    }

    fn commit(&mut self, effects: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            // What this receiver has settled may be the very room that it is about to wait for.
            self.flush();
            let bus = self.queue.bus()?;
            if self.lasts(&bus, &effects) {
                return self.commit_kept(&bus, effects, Bound::Wait).await;
            }
            bus.publish_all(effects).await?;
            self.settle(Settlement::Done);
            Ok(())
        })
    }

    fn bury(&mut self, letter: Received) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let bus = self.queue.bus()?;
            if self.lasts(&bus, std::slice::from_ref(&letter)) {
                return self.commit_kept(&bus, vec![letter], Bound::Past).await;
            }
            bus.publish_unbounded(&letter.topic, letter.message)?;
            self.settle(Settlement::Done);
            Ok(())
        })
    }

    fn set_batch(&mut self, limit: usize) {
        self.batch = limit.max(1);
    }

    fn flush(&mut self) {
        self.settled.clear();
        self.queue.release(std::mem::take(&mut self.done));
    }
}

impl Drop for LocalReceiver {
    fn drop(&mut self) {
        self.settle(Settlement::Again(Duration::ZERO));
        self.flush();
        if let Some((lane, _)) = self.lane.take() {
            self.queue.call_out(lane);
        }
        self.queue.remove_stealer(self.id);
        self.queue.give_back(std::iter::from_fn(|| self.local.pop()));
        self.unpark();
        // If it was woken for work that it now leaves to others, somebody else must come.
        self.queue.idle.wake_one();
    }
}

/// A plain subscription: what is taken is handled.
pub(super) struct LocalStream {
    receiver: LocalReceiver,
    /// Leaves the routes when the subscription is dropped.
    _slot: super::slot::LocalSlot,
}

impl LocalStream {
    pub(super) fn new(slot: super::slot::LocalSlot) -> Self {
        let mut receiver = LocalReceiver::new(Arc::clone(&slot.queue));
        receiver.set_batch(TURN as usize);
        Self { receiver, _slot: slot }
    }
}

impl MessageStream for LocalStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        if !ready!(self.receiver.poll_recv(cx)) {
            return Poll::Ready(None);
        }
        Poll::Ready(self.receiver.give())
    }
}
