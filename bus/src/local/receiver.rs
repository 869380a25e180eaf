//! One worker's hand into a local queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crossbeam::deque::Worker;
use echo_sdk::{BaseMessage, BoxFuture, MessageStream, PublishError, Received};

use super::LocalTransport;
use super::durable::Follows;
use super::feed::due_in;
use super::kept::Bound;
use super::lanes::LaneId;
use super::queue::{Entry, KEPT, Queue, Ticket};
use crate::transport::{Delivery, Receiver, Settlement, Transport};

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
    in_hand: Option<Delivery>,
    /// The message in hand as the log knows it, or 0; see [`Entry::queued_at`].
    kept: u64,
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
        let (in_hand, lane) = (None, None);
        let (kept, parked, settled, done) = (0, false, Vec::new(), 0);
        Self { id, queue, local, batch: 1, in_hand, kept, lane, parked, settled, done }
    }

    /// Takes the next message in hand, if there is one.
    fn take(&mut self) -> bool {
        if self.queue.is_paused() {
            return false;
        }
        let Some(entry) = self.next_of_lane().or_else(|| self.next_ticket()) else {
            return false;
        };
        let attempt = entry.message.attempt().saturating_add(1);
        self.kept = if entry.queued_at >= KEPT { entry.queued_at } else { 0 };
        self.in_hand = Some(Delivery {
            topic: entry.topic,
            message: entry.message.with_attempt(attempt),
            waited: self.queue.clock_duration(entry.queued_at),
        });
        true
    }

    fn next_of_lane(&mut self) -> Option<Entry> {
        let (lane, taken) = self.lane?;
        if taken >= TURN {
            self.lane = None;
            self.queue.call_out(lane);
            return None;
        }
        let entry = self.queue.lanes.take(lane);
        self.lane = entry.is_some().then_some((lane, taken + 1));
        entry
    }

    fn next_ticket(&mut self) -> Option<Entry> {
        loop {
            let ticket = match self.local.pop() {
                Some(ticket) => ticket,
                None => {
                    let ticket = self.queue.take(&self.local, self.id, self.batch)?;
                    self.pass_on();
                    ticket
                }
            };
            match ticket {
                Ticket::Message(entry) => return Some(entry),
                Ticket::Lane(lane) => {
                    if let Some(entry) = self.queue.lanes.take(lane) {
                        self.lane = Some((lane, 1));
                        return Some(entry);
                    }
                }
            }
        }
    }

    /// Wakes another receiver if there is more than this one has in hand.
    fn pass_on(&self) {
        if !self.local.is_empty() || !self.queue.ready_is_empty() {
            self.queue.idle.wake_one();
        }
    }

    /// Takes the message in hand along: whoever has it needs no second handle to it.
    fn take_along(&mut self) -> Option<Received> {
        let Delivery { topic, message, .. } = self.in_hand.take()?;
        self.count_done();
        Some(Received { topic, message })
    }

    /// Counts the message that was in hand as done; its room is given back with that of others.
    fn count_done(&mut self) {
        if let Some(sequence) = std::mem::take(&mut self.kept).checked_sub(KEPT) {
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

    fn retry(&mut self, delivery: Delivery, delay: Duration) {
        let Delivery { topic, message, .. } = delivery;
        let entry = Entry { topic, message, queued_at: std::mem::take(&mut self.kept) };
        if let Some(sequence) = entry.sequence() {
            let (attempts, due) = (entry.message.attempt(), due_in(delay));
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

    /// Whether the log has a part in this: it keeps the message in hand, or one of these.
    fn lasts(&self, bus: &LocalTransport, effects: &[Received]) -> bool {
        self.kept != 0 || effects.iter().any(|effect| bus.lasts(&effect.topic).is_some())
    }

    /// Publishes what follows from the message in hand, and settles it, in one record of the log. It is not
    /// waited for: before it lasts nobody has the messages, and if it does not, this one comes back.
    async fn commit_kept(
        &mut self,
        bus: &LocalTransport,
        effects: Vec<Received>,
        bound: Bound,
    ) -> Result<(), PublishError> {
        let follows = self.in_hand.as_ref().map(|Delivery { topic, message, .. }| {
            let (topic, message) = (topic.clone(), message.clone());
            let entry = Entry { topic, message, queued_at: self.kept };
            let slot = self.queue.kept.get().map(|kept| kept.slot.id());
            let kept = slot.zip(entry.sequence());
            Follows { queue: Arc::clone(&self.queue), entry, kept }
        });
        let _lasts_later = bus.keep(effects, bound, follows).await?;
        // It takes its room until then.
        (self.kept, self.in_hand) = (0, None);
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

    fn current(&self) -> Option<&Delivery> {
        self.in_hand.as_ref()
    }

    fn settle(&mut self, settlement: Settlement) {
        let Some(delivery) = self.in_hand.take() else {
            return;
        };
        match settlement {
            Settlement::Again(delay) => self.retry(delivery, delay),
            Settlement::Done => {
                self.settled.push(delivery.message);
                self.count_done();
            }
        }
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
    _slot: super::queue::LocalSlot,
}

impl LocalStream {
    pub(super) fn new(slot: super::queue::LocalSlot) -> Self {
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
        Poll::Ready(self.receiver.take_along())
    }
}
