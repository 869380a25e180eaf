//! The queue of one slot.
//!
//! A queue can be divided between two sides ([`divide`](super::divide)); most never are, and the first has all of it.
//!
//! Publishers reserve [`Room`], push to an unbounded lock-free queue and wake a receiver if one
//! idles. Receivers take batches into a queue of their own, from which idle receivers steal, so one slow
//! message does not hold up those that were taken with it. Where handling takes microseconds a receiver keeps what
//! was published together to itself, and shares the rest as soon as a handler waits for something. Room is given back
//! when a message is settled, in batches too.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam::deque::Steal;
use echo_sdk::{BaseMessage, Overflow, PublishError, Received, Topic};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::LocalTransport;
use super::delays::Delays;
use super::divide::bucket;
use super::gate::Gate;
use super::kept::Kept;
use super::lanes::{LaneId, Lanes};
use super::reader::Reader;
use super::reserved::Reserved;
use super::room::Room;
use super::side::SideQueue;
use crate::routing::Target;

/// A message in a queue; one cache line.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) received: Received,
    /// When it was queued, in nanoseconds of the queue's own clock; 0 where that was not measured. From [`KEPT`]
    /// on its sequence in the log, for one that is kept there.
    pub(super) queued_at: u64,
}

/// Added to the sequence of a message that the log keeps, to tell it from a time.
pub(super) const KEPT: u64 = 1 << 63;

impl Entry {
    #[inline]
    pub(super) fn new(topic: Topic, message: BaseMessage, queued_at: u64) -> Self {
        Self { received: Received { topic, message }, queued_at }
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.received.message.key()
    }

    /// Its sequence in the log, if it is kept there.
    pub(super) fn sequence(&self) -> Option<u64> {
        self.queued_at.checked_sub(KEPT)
    }
}

/// Messages on one topic, without a key, that were published together.
#[derive(Debug)]
pub(super) struct Batch {
    topic: Topic,
    messages: std::vec::IntoIter<BaseMessage>,
    /// As in [`Entry`], of the first.
    queued_at: u64,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.len() == 0
    }

    /// The next message, for whoever knows the topic.
    #[inline]
    pub(super) fn next_message(&mut self) -> Option<BaseMessage> {
        self.messages.next()
    }
}

impl Iterator for Batch {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let message = self.messages.next()?;
        Some(Entry::new(self.topic.clone(), message, std::mem::take(&mut self.queued_at)))
    }
}

/// What stands in the ready queue.
#[derive(Debug)]
pub(super) enum Ticket {
    Message(Entry),
    Batch(Batch),
    /// A lane has messages; whoever holds this owns the lane.
    Lane(LaneId),
}

/// How a reservation of room went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    Reserved,
    /// The message is to be dropped, and was counted.
    Drop,
    Full,
    /// The slot is closed: it is as if it did not match.
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue {
    id: u64,
    name: Arc<str>,
    reader: Reader,
    pub(super) capacity: usize,
    overflow: Overflow,
    epoch: Instant,
    pub(super) room: Room,
    pub(super) gate: Gate,
    pub(super) first: SideQueue,
    /// Made when somebody asks for it.
    pub(super) second: OnceLock<Box<SideQueue>>,
    pub(super) lanes: Lanes,
    pub(super) delays: Arc<Delays>,
    /// Where effects are published.
    bus: Weak<super::Inner>,
    /// Its place in the log, when it gets messages of durable topics.
    pub(super) kept: OnceLock<Kept>,
    pub(super) delayed: AtomicUsize,
    dropped: AtomicU64,
    /// How many wait for the queue to be empty.
    pub(super) watchers: AtomicUsize,
    pub(super) emptied: Notify,
}

impl Target for Queue {
    fn id(&self) -> u64 {
        self.id
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How long a publisher waits at most beside room that is too little to be woken for.
const ENOUGH_WAITED: Duration = Duration::from_millis(1);

/// A larger capacity is as good as none.
const MAX_CAPACITY: usize = 1 << 48;

impl Queue {
    pub(super) fn new(
        name: &str,
        capacity: usize,
        overflow: Overflow,
        reader: Reader,
        delays: Arc<Delays>,
        bus: Weak<super::Inner>,
    ) -> Arc<Self> {
        let capacity = capacity.clamp(1, MAX_CAPACITY);
        Arc::new(Self {
            id: reader.first_id() | NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            reader,
            capacity,
            overflow,
            epoch: Instant::now(),
            room: Room::new(capacity),
            gate: Gate::default(),
            first: SideQueue::default(),
            second: OnceLock::new(),
            lanes: Lanes::default(),
            delays,
            bus,
            kept: OnceLock::new(),
            delayed: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            watchers: AtomicUsize::new(0),
            emptied: Notify::new(),
        })
    }

    /// The transport; closed once the last of its handles is gone.
    pub(super) fn bus(&self) -> Result<LocalTransport, PublishError> {
        self.bus.upgrade().map(LocalTransport).ok_or(PublishError::Closed)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Nanoseconds since the queue was made, never 0.
    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn clock_duration(&self, since: u64) -> Option<std::time::Duration> {
        let is_time = (1..KEPT).contains(&since);
        is_time.then(|| std::time::Duration::from_nanos(self.clock().saturating_sub(since)))
    }

    /// Reserves room for one message without waiting.
    #[inline]
    pub(super) fn reserve(&self) -> Reservation {
        if self.room.try_reserve(1) {
            return Reservation::Reserved;
        }
        if self.room.is_closed() {
            return Reservation::Closed;
        }
        match self.overflow {
            Overflow::Block => Reservation::Full,
            Overflow::DropNewest => self.count_drop(),
            Overflow::DropOldest if self.drop_oldest() => Reservation::Reserved,
            Overflow::DropOldest => self.count_drop(),
        }
    }

    /// Waits for room for several messages, in turn with others who wait; gives how many of them are to
    /// be pushed. More than the whole queue holds wait for the whole queue.
    pub(super) async fn reserve_many(self: &Arc<Self>, wanted: usize) -> Reserved {
        let mut reserved = Reserved { queue: Arc::clone(self), messages: 0, room: 0 };
        if self.overflow == Overflow::Block {
            let room = wanted.min(self.capacity);
            if self.reserve_in_turn(room as u64).await {
                (reserved.messages, reserved.room) = (wanted, room);
            }
        } else {
            let is_reserved = |_: &usize| self.reserve() == Reservation::Reserved;
            let places = (0..wanted).filter(is_reserved).count();
            (reserved.messages, reserved.room) = (places, places);
        }
        reserved
    }

    async fn reserve_in_turn(&self, room: u64) -> bool {
        if self.room.try_reserve(room) {
            return true;
        }
        let mut reserving = pin!(self.room.reserve(room));
        loop {
            match tokio::time::timeout(ENOUGH_WAITED, reserving.as_mut()).await {
                Ok(reserved) => return reserved,
                Err(_) => self.room.grant_all(),
            }
        }
    }

    /// Gives reserved room back.
    pub(super) fn unreserve(&self, count: usize) {
        self.room.unreserve(count as u64);
        self.after_settling();
    }

    /// Adds a message for which room was reserved.
    #[inline]
    pub(super) fn push(&self, topic: &Topic, mut message: BaseMessage, measured: bool) {
        let queued_at = if measured { self.clock() } else { 0 };
        // A message that is published again starts over in each slot.
        message.set_attempt(0);
        self.enqueue(Entry::new(topic.clone(), message, queued_at));
    }

    /// Whether several messages may be pushed at once.
    pub(super) fn takes_batches(&self) -> bool {
        self.overflow == Overflow::Block
    }

    /// Adds messages for which room was reserved.
    pub(super) fn push_batch(&self, topic: &Topic, mut messages: Vec<BaseMessage>) {
        let keeps_keys = self.reader == Reader::Workers;
        if keeps_keys && messages.iter().any(|message| message.key().is_some()) {
            return messages.into_iter().for_each(|message| self.push(topic, message, false));
        }
        messages.iter_mut().for_each(|message| message.set_attempt(0));
        let (topic, messages) = (topic.clone(), messages.into_iter());
        self.place(Ticket::Batch(Batch { topic, messages, queued_at: self.clock() }));
    }

    /// Adds a message past the bound.
    pub(super) fn push_unbounded(&self, topic: &Topic, message: BaseMessage) {
        if !self.room.is_closed() {
            self.room.take_past_bound(1);
            self.push(topic, message, false);
        }
    }

    #[inline]
    pub(super) fn enqueue(&self, entry: Entry) {
        let look = self.gate.look();
        let side = if self.reader == Reader::Workers && entry.key().is_some() {
            let Some(lane) = self.lanes.push(entry) else {
                // Whoever has its ticket comes to it.
                return;
            };
            let side = self.side_at(look, || lane.bucket());
            side.ready.push(Ticket::Lane(lane));
            side
        } else {
            let side = self.side_at(look, || bucket(entry.received.message.id()));
            side.ready.push(Ticket::Message(entry));
            side
        };
        side.idle.wake_one();
        self.look_again(look);
    }

    /// Puts a lane's ticket back into the ready queue.
    pub(super) fn call_out(&self, lane: LaneId) {
        self.place(Ticket::Lane(lane));
    }

    /// Puts tickets of a receiver that goes away back.
    pub(super) fn give_back(&self, tickets: impl Iterator<Item = Ticket>) {
        tickets.for_each(|ticket| self.place(ticket));
    }

    /// Puts a message that waited for its retry, or was in the hand of a dropped receiver, back.
    #[cold]
    pub(super) fn requeue(&self, mut entry: Entry) {
        if entry.sequence().is_none() {
            entry.queued_at = 0;
        }
        self.place(Ticket::Message(entry));
    }

    /// Counts a message that waits for its retry, or no longer does.
    pub(super) fn count_delayed(&self, waits: bool) {
        if waits {
            self.delayed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.delayed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Makes the room of `settled` messages available.
    pub(super) fn release(&self, settled: usize) {
        if settled == 0 {
            return;
        }
        self.room.settle(settled as u64);
        self.after_settling();
    }

    fn after_settling(&self) {
        // Whoever waits for an empty queue counted themselves before they looked at what is held.
        let closed = self.room.is_closed();
        if (closed || self.watchers.load(Ordering::Relaxed) > 0) && self.room.held() == 0 {
            self.emptied.notify_waiters();
            if closed {
                self.wake_all();
            }
        }
    }

    fn count_drop(&self) -> Reservation {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        Reservation::Drop
    }

    /// Drops the oldest message that nobody has in hand; its room passes to the new one.
    fn drop_oldest(&self) -> bool {
        loop {
            // Which side has the oldest nobody can say; the one that has more has fallen behind.
            let Some(side) = self.sides().max_by_key(|side| side.ready.len()) else {
                return false;
            };
            let dropped = match side.ready.steal() {
                Steal::Success(Ticket::Message(entry)) => Some(entry),
                Steal::Success(Ticket::Batch(mut batch)) => {
                    let oldest = batch.next();
                    batch.for_each(|entry| self.place(Ticket::Message(entry)));
                    oldest
                }
                Steal::Success(Ticket::Lane(lane)) => {
                    let entry = self.lanes.drop_oldest(lane);
                    self.place(Ticket::Lane(lane));
                    entry
                }
                Steal::Retry => continue,
                Steal::Empty => self.sides().find_map(SideQueue::steal_from_any),
            };
            let Some(dropped) = dropped else {
                return false;
            };
            if let Some(sequence) = dropped.sequence() {
                self.settle_kept(sequence, echo_log::Settlement::Done);
            }
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.room.take_past_bound(1);
            self.room.settle(1);
            return true;
        }
    }

    /// Takes nothing more in; receivers end when nothing is left.
    pub(super) fn close(&self) {
        self.room.close();
        self.wake_all();
    }

    /// Whether receivers have nothing more to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.room.is_closed() && self.room.held() == 0
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
