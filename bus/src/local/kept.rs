//! What the transport and its queues do for messages that the log keeps.

use std::sync::{Arc, Weak};
use std::time::Duration;

use echo_log::{LogError, Settlement};
use echo_sdk::{BaseMessage, Pattern, PublishError, Received, Topic};
use tokio::sync::oneshot;

use super::LocalTransport;
use super::delays::Wait;
use super::durable::{Batch, Durable, Follows, Tell, failed, refused, told};
use super::feed::LogSlot;
use super::queue::{Entry, KEPT, Queue, Reservation};
use super::reserved::Reserved;
use super::shelf::{NotPut, Put};
use crate::state::CommitError;
use crate::transport::BusError;

/// What a publish does where a queue that blocks has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Wait,
    /// Goes past it.
    Past,
}

/// A queue's place in the log.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) slot: Arc<LogSlot>,
    pub(super) durable: Weak<Durable>,
}

impl Kept {
    /// Says what the slot makes of a message. Without the bus it is as if it had said nothing.
    pub(super) fn settle(&self, sequence: u64, settlement: Settlement) {
        if let Some(durable) = self.durable.upgrade() {
            durable.log.settle(self.slot.id(), sequence, settlement);
        }
    }

    /// How many messages the log keeps for the slot.
    pub(super) fn lag(&self) -> usize {
        self.durable.upgrade().map_or(0, |durable| durable.log.lag(self.slot.id()))
    }
}

impl LocalTransport {
    /// Reserves room for a batch in every queue that gets messages of it past the log, without waiting.
    pub(super) fn reserve_all_now(
        &self,
        batch: &[Received],
        unbounded: bool,
    ) -> Result<Vec<(Reserved, Vec<usize>)>, PublishError> {
        let mut reserved = Vec::new();
        for (place, received) in batch.iter().enumerate() {
            self.check(&received.topic, &received.message)?;
            let lasts = self.lasts(&received.topic).is_some();
            for queue in self.0.router.find(&received.topic).iter() {
                if lasts && queue.kept.get().is_some() {
                    continue;
                }
                let room = queue.reserve_now(unbounded);
                let room = room.ok_or_else(|| PublishError::Full { slot: queue.name().into() })?;
                reserved.push((room, vec![place]));
            }
        }
        Ok(reserved)
    }

    /// The log that keeps a topic, if it is durable.
    pub(super) fn lasts(&self, topic: &Topic) -> Option<&Arc<Durable>> {
        self.0.durable.as_ref().filter(|durable| durable.holds(topic))
    }

    /// Hands a batch to the log, with the settlement of the message that it follows from. Resolves when the log
    /// has it, and a document that changes with it is put; whoever is to be told is told when it lasts and is handed round.
    ///
    /// Dropped before it resolves, nothing is published.
    pub(super) async fn keep(
        &self,
        messages: Vec<Received>,
        bound: Bound,
        follows: Option<Follows>,
        put: Option<Put>,
        told: Option<Tell>,
    ) -> Result<(), CommitError> {
        let durable = self.0.durable.as_ref().ok_or(PublishError::Closed)?;
        let rooms = match bound {
            Bound::Wait => self.reserve_all(&messages).await?,
            Bound::Past => self.reserve_all_now(&messages, true)?,
        };
        let waits_for_room = bound == Bound::Wait && follows.is_some();
        let mut batch = Batch { messages, rooms, follows, put, told };
        Ok(durable.hand_over_in_turn(&mut batch, waits_for_room).await?)
    }

    /// Hands a message to the log if that takes no waiting; whether it lasts is not waited for.
    pub(super) fn keep_now(
        &self,
        durable: &Durable,
        topic: &Topic,
        message: BaseMessage,
        unbounded: bool,
    ) -> Result<(), PublishError> {
        let messages = vec![Received { topic: topic.clone(), message }];
        let rooms = self.reserve_all_now(&messages, unbounded)?;
        let mut batch = Batch { messages, rooms, ..Batch::default() };
        match durable.hand_over(&mut batch) {
            Ok(()) => Ok(()),
            Err(NotPut::Log(LogError::Busy)) => {
                Err(PublishError::Full { slot: "bus.durable".into() })
            }
            Err(error) => Err(CommitError::from(error).into()),
        }
    }

    /// Publishes a batch of which something lasts; resolves when that does, and is handed round.
    pub(super) async fn publish_kept(&self, messages: Vec<Received>) -> Result<(), PublishError> {
        let (tell, told) = oneshot::channel();
        self.keep(messages, Bound::Wait, None, None, Some(tell)).await?;
        told.await.unwrap_or(Err(LogError::Closed)).map_err(refused)
    }

    /// Makes the log know a slot, if it is one for the log.
    pub(super) fn register_kept(
        &self,
        queue: &Queue,
        patterns: &[Pattern],
    ) -> Result<(), BusError> {
        let durable = self.0.durable.as_ref().filter(|it| it.wants(queue.name(), patterns));
        if let Some(durable) = durable {
            let kept = durable.register(queue.name(), patterns).map_err(failed)?;
            // One that has its place in the log keeps it.
            let _ = queue.kept.set(kept);
        }
        Ok(())
    }

    /// Resolves once what was registered lasts.
    pub(super) async fn flush_kept(&self) -> Result<(), BusError> {
        match &self.0.durable {
            Some(durable) => durable.log.flush().await.map_err(failed),
            None => Ok(()),
        }
    }

    /// What waits in the log for a slot that was registered comes into its queue from here on.
    pub(super) async fn bring_kept(&self, queue: &Arc<Queue>) -> Result<(), BusError> {
        if let (Some(durable), Some(kept)) = (&self.0.durable, queue.kept.get()) {
            self.flush_kept().await?;
            kept.slot.open(queue, durable, &self.0.runtime);
        }
        Ok(())
    }

    /// Resolves once all that was said to the log lasts.
    pub(super) async fn end_kept(&self) {
        if let Some(durable) = &self.0.durable
            && let Err(error) = durable.log.flush().await
        {
            tracing::error!(error = told(&error), "the log could not be ended well");
        }
    }
}

impl Queue {
    /// Reserves room for one message without waiting, past the bound if need be when `unbounded`; `None` when
    /// there is none.
    pub(super) fn reserve_now(self: &Arc<Self>, unbounded: bool) -> Option<Reserved> {
        let reservation = match (unbounded, self.room.is_closed()) {
            (true, false) => {
                self.room.take_past_bound(1);
                Reservation::Reserved
            }
            (true, true) => Reservation::Closed,
            (false, _) => self.reserve(),
        };
        let count = match reservation {
            Reservation::Reserved => 1,
            Reservation::Drop | Reservation::Closed => 0,
            Reservation::Full => return None,
        };
        Some(Reserved { queue: Arc::clone(self), messages: count, room: count })
    }

    /// Waits for room for one message, whatever the slot does with those that find none; `false` once it is closed.
    pub(super) async fn wait_for_room(&self) -> bool {
        self.room.reserve(1).await
    }

    /// Adds a message that the log keeps, for which room was reserved.
    pub(super) fn push_kept(&self, topic: Topic, message: BaseMessage, sequence: u64) {
        self.enqueue(Entry::new(topic, message, KEPT | sequence));
    }

    /// The same, for one that waits for its retry.
    pub(super) fn delay_kept(
        self: &Arc<Self>,
        topic: Topic,
        message: BaseMessage,
        sequence: u64,
        delay: Duration,
    ) {
        self.delay(Entry::new(topic, message, KEPT | sequence), delay);
    }

    /// Tells the log what the slot makes of a message.
    pub(super) fn settle_kept(&self, sequence: u64, settlement: Settlement) {
        if let Some(kept) = self.kept.get() {
            kept.settle(sequence, settlement);
        }
    }

    /// Lets a message wait for its retry, and its key with it.
    pub(super) fn delay(self: &Arc<Self>, entry: Entry, delay: Duration) {
        self.count_delayed(true);
        let wait = if entry.key().is_some() {
            let message = entry.received.message.clone();
            self.lanes.hold_back(entry);
            Wait::Key(message)
        } else {
            Wait::Message(entry)
        };
        self.delays.add(self, delay, wait);
    }

    /// Takes messages back in their order, which still have their room: what they were settled with was not kept.
    pub(super) fn take_back(&self, entries: Vec<Entry>) {
        let (keyed, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.key().is_some());
        others.into_iter().for_each(|entry| self.requeue(entry));
        let lanes = self.lanes.push_front(keyed);
        lanes.into_iter().for_each(|lane| self.call_out(lane));
    }
}
