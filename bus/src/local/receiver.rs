//! One worker's hand into a local queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use echo_sdk::{BaseMessage, BoxFuture, MessageStream, Offer, PublishError, Received, Topic};

use super::LocalTransport;
use super::durable::Follows;
use super::feed::due_in;
use super::kept::Bound;
use super::lanes::LaneId;
use super::queue::{Batch, Entry, Queue, Ticket};
use super::rest::Rest;
use crate::state::{Change, CommitError};
use crate::transport::{Lent, Receiver, Settlement, Side, Transport};

/// How many messages of a lane, or from its own queue, a receiver takes before others have their turn.
const TURN: u32 = 32;

/// How often a receiver looks for another batch before it idles; about a microsecond.
const LOOK_OUT: u32 = 100;

pub(super) struct LocalReceiver {
    /// The next message. While a batch is [behind](Rest::behind) it, it is of that batch.
    in_hand: Option<Entry>,
    /// Whether the message in hand was handed out, and its attempt counted.
    handed_out: bool,
    rest: Rest,
    /// How many messages to take at once.
    batch: usize,
    /// Whether messages come in batches now: then one is enough to take at once.
    batched: bool,
    /// The lane that this receiver owns, and how many of its messages it has taken in a row.
    lane: Option<(LaneId, u32)>,
    parked: bool,
    /// Whether it was woken for the next message: then that is most likely the only one.
    woken: bool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl LocalReceiver {
    pub(super) fn new(queue: Arc<Queue>, side: Side) -> Self {
        let rest = Rest::new(NEXT_ID.fetch_add(1, Ordering::Relaxed), queue, side);
        let (in_hand, handed_out, lane) = (None, false, None);
        let (batch, batched, parked, woken) = (1, false, false, false);
        Self { in_hand, handed_out, rest, batch, batched, lane, parked, woken }
    }

    /// Hands the next message out, if there is one.
    fn take(&mut self) -> bool {
        let look = self.rest.queue.gate.look();
        if look != self.rest.whole {
            if look.is_paused() {
                return false;
            }
            self.leave();
        }
        if self.in_hand.is_none() {
            self.in_hand = self.rest.behind.as_mut().and_then(Iterator::next);
        }
        if self.in_hand.is_none() {
            self.take_of_lane();
        }
        if self.in_hand.is_none() {
            self.take_ticket();
        }
        let Some(entry) = &mut self.in_hand else {
            return false;
        };
        let message = &mut entry.received.message;
        message.set_attempt(message.attempt().saturating_add(1));
        self.handed_out = true;
        true
    }

    /// Gives away what this receiver keeps to itself of a queue that is not, or no longer, all its side's.
    #[cold]
    fn leave(&mut self) {
        let Rest { queue, side, behind, .. } = &mut self.rest;
        let next = self.in_hand.take().map(Ticket::Message).into_iter();
        queue.give_back(next.chain(behind.take().map(Ticket::Batch)));
        if let Some((lane, _)) =
            self.lane.take_if(|(lane, _)| !queue.is_of(*side, &Ticket::Lane(*lane)))
        {
            queue.call_out(lane);
        }
    }

    fn take_of_lane(&mut self) {
        let Some((lane, taken)) = self.lane else {
            return;
        };
        if taken >= TURN {
            self.lane = None;
            return self.rest.queue.call_out(lane);
        }
        self.in_hand = self.rest.queue.lanes.take(lane);
        self.lane = self.in_hand.is_some().then_some((lane, taken + 1));
    }

    fn take_ticket(&mut self) {
        while self.in_hand.is_none() {
            let ticket = match self.rest.local.pop() {
                Some(ticket) => ticket,
                None => {
                    let is_one = std::mem::take(&mut self.woken) || self.batched;
                    let limit = if is_one { 1 } else { self.batch };
                    let limit = self.rest.limit(limit);
                    let Rest { local, id, .. } = &self.rest;
                    let Some(ticket) = self.rest.here().take(local, *id, limit) else {
                        return;
                    };
                    self.batched = matches!(ticket, Ticket::Batch(_));
                    self.rest.pass_on();
                    ticket
                }
            };
            if !self.rest.keeps(&ticket) {
                self.rest.queue.place(ticket);
                continue;
            }
            match ticket {
                Ticket::Message(entry) => self.in_hand = Some(entry),
                Ticket::Batch(batch) => self.take_batch(batch),
                Ticket::Lane(lane) => {
                    self.in_hand = self.rest.queue.lanes.take(lane);
                    self.lane = self.in_hand.is_some().then_some((lane, 1));
                }
            }
        }
    }

    /// Looks out for the next batch for a moment, where they have come one after another: a publisher that is about
    /// to hand over the next one need not pay for a wake-up then.
    fn await_batch(&mut self) -> bool {
        if !std::mem::take(&mut self.batched) {
            return false;
        }
        (0..LOOK_OUT).any(|_| {
            std::hint::spin_loop();
            !self.rest.here().ready.is_empty()
        })
    }

    /// Takes a batch along: for itself where it is handled soon, else for whoever comes first.
    fn take_batch(&mut self, mut batch: Batch) {
        let is_soon_done = batch.len() <= self.batch;
        self.in_hand = batch.next();
        if batch.is_empty() {
            return;
        }
        if is_soon_done {
            self.rest.behind = Some(batch);
        } else {
            self.rest.unpack(batch);
        }
    }

    /// Takes the message in hand out of it, if it was handed out.
    fn empty_hand(&mut self) -> Option<Entry> {
        if std::mem::take(&mut self.handed_out) { self.in_hand.take() } else { None }
    }

    fn handed_out(&self) -> Option<&Entry> {
        self.in_hand.as_ref().filter(|_| self.handed_out)
    }

    /// Gives the message in hand away: it is done.
    fn give(&mut self) -> Option<Received> {
        let entry = self.empty_hand()?;
        self.settle_kept(&entry);
        self.rest.count_done();
        Some(entry.received)
    }

    fn settle_kept(&self, entry: &Entry) {
        if let Some(sequence) = entry.sequence() {
            self.rest.queue.settle_kept(sequence, echo_log::Settlement::Done);
        }
    }

    /// Settles the message in hand as done.
    fn finish(&mut self) {
        if self.handed_out
            && let Some(entry) = &mut self.in_hand
            && let Some(next) = self.rest.next_behind()
        {
            self.handed_out = false;
            entry.queued_at = 0;
            let done = std::mem::replace(&mut entry.received.message, next);
            self.rest.settled.push(done);
            return self.rest.count_done();
        }
        if let Some(entry) = self.empty_hand() {
            self.settle_kept(&entry);
            self.rest.settled.push(entry.received.message);
            self.rest.count_done();
        }
    }

    fn unpark(&mut self) {
        if std::mem::take(&mut self.parked) {
            self.rest.here().idle.unpark(self.rest.id);
        }
    }

    fn retry(&mut self, entry: Entry, delay: Duration) {
        let queue = &self.rest.queue;
        if let Some(sequence) = entry.sequence() {
            let (attempts, due) = (entry.received.message.attempt(), due_in(delay));
            queue.settle_kept(sequence, echo_log::Settlement::Again { attempts, due });
        }
        let keyed = entry.key().is_some();
        if delay.is_zero() {
            match self.lane {
                Some((lane, _)) if keyed => queue.lanes.put_back(lane, entry),
                _ => queue.requeue(entry),
            }
            return;
        }
        queue.delay(entry, delay);
    }

    /// The sequence in the log of the message in hand, if it is kept there.
    fn sequence(&self) -> Option<u64> {
        self.handed_out().and_then(Entry::sequence)
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
        let follows = self.follows();
        bus.keep(effects, bound, follows, None, None).await?;
        // It takes its room until then.
        self.empty_hand();
        Ok(())
    }

    /// The message in hand as what goes into the log follows from it.
    fn follows(&self) -> Option<Follows> {
        let queue = &self.rest.queue;
        self.handed_out().map(|entry| {
            let Received { topic, message } = entry.received.clone();
            let slot = queue.kept.get().map(|kept| kept.slot.id());
            let kept = slot.zip(entry.sequence());
            let entry = Entry::new(topic, message, entry.queued_at);
            Follows { queue: Arc::clone(queue), entry, kept }
        })
    }
}

impl Receiver for LocalReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.handed_out {
            return Poll::Ready(true);
        }
        if self.parked {
            // Woken, or polled for another reason: either way no longer idle until it finds nothing.
            self.unpark();
            self.woken = true;
        }
        if self.take() {
            return Poll::Ready(true);
        }
        self.flush();
        if self.await_batch() && self.take() {
            return Poll::Ready(true);
        }
        self.rest.queue.room.grant_all();
        self.rest.here().idle.park(self.rest.id, cx.waker());
        self.parked = true;
        // What came between the first look and parking woke nobody.
        if self.take() {
            self.unpark();
            // While this one counted as woken, nobody else was.
            self.rest.pass_on();
            return Poll::Ready(true);
        }
        if self.rest.queue.is_over() {
            self.unpark();
            return Poll::Ready(false);
        }
        Poll::Pending
    }

    fn current(&self) -> Option<&Received> {
        self.handed_out().map(|entry| &entry.received)
    }

    fn lend(&mut self) -> Option<Lent<'_>> {
        let entry = self.in_hand.as_ref().filter(|_| self.handed_out)?;
        let waited = self.rest.queue.clock_duration(entry.queued_at);
        Some(Lent { received: &entry.received, waited, rest: Some(&mut self.rest) })
    }

    fn settle(&mut self, settlement: Settlement) {
        match settlement {
            Settlement::Done => self.finish(),
            Settlement::Again(delay) => {
                if let Some(entry) = self.empty_hand() {
                    self.retry(entry, delay);
                }
            }
        }
    }

    fn offer(&mut self, topic: &Topic, message: BaseMessage) -> Offer {
        let bus = match self.rest.queue.bus() {
            Ok(bus) => bus,
            Err(error) => return Offer::Refused(error),
        };
        if self.sequence().is_some() || bus.lasts(topic).is_some() {
            return Offer::Busy(message);
        }
        let offer = bus.offer(topic, message);
        if matches!(offer, Offer::Taken) {
            self.finish();
        }
        offer
    }

    fn commit(&mut self, effects: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            // What this receiver has settled may be the very room that it is about to wait for.
            self.rest.share();
            let bus = self.rest.queue.bus()?;
            if self.lasts(&bus, &effects) {
                return self.commit_kept(&bus, effects, Bound::Wait).await;
            }
            bus.publish_all(effects).await?;
            self.finish();
            Ok(())
        })
    }

    fn commit_state(
        &mut self,
        effects: Vec<Received>,
        change: Change,
    ) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            self.rest.share();
            let bus = self.rest.queue.bus()?;
            let key = self.current().and_then(|received| received.message.key());
            let put = bus.put(self.rest.queue.name(), key, change);
            if bus.keeps() {
                bus.keep(effects, Bound::Wait, self.follows(), Some(put), None).await?;
                self.empty_hand();
            } else {
                bus.deliver_with(effects, put).await?;
                self.finish();
            }
            Ok(())
        })
    }

    fn bury(&mut self, letter: Received) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let bus = self.rest.queue.bus()?;
            if self.lasts(&bus, std::slice::from_ref(&letter)) {
                return self.commit_kept(&bus, vec![letter], Bound::Past).await;
            }
            bus.publish_unbounded(&letter.topic, letter.message)?;
            self.finish();
            Ok(())
        })
    }

    fn set_batch(&mut self, limit: usize) {
        self.batch = limit.max(1);
    }

    fn flush(&mut self) {
        self.rest.flush();
    }
}

impl Drop for LocalReceiver {
    fn drop(&mut self) {
        self.settle(Settlement::Again(Duration::ZERO));
        self.flush();
        let Rest { id, queue, side, local, behind, .. } = &mut self.rest;
        if let Some((lane, _)) = self.lane.take() {
            queue.call_out(lane);
        }
        queue.side(*side).remove_stealer(*id);
        let next = self.in_hand.take().into_iter().chain(behind.take().into_iter().flatten());
        queue.give_back(next.map(Ticket::Message).chain(std::iter::from_fn(|| local.pop())));
        self.unpark();
        // If it was woken for work that it now leaves to others, somebody else must come.
        self.rest.here().idle.wake_one();
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
        let mut receiver = LocalReceiver::new(Arc::clone(&slot.queue), Side::First);
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
