//! The contract of every transport.
//!
//! * **Delivery.** A published message reaches each slot whose patterns match its topic at least once, while
//!   the host lives and its connection holds. The receivers of a slot share its messages. A slot gets a
//!   message once even if several of its patterns match.
//! * **Settlement.** A receiver holds one message at a time and settles it: done, or again after a delay.
//!   A receiver that is dropped with a message in hand gives it back, one attempt older.
//! * **Order.** As published, for each publisher, topic and slot with one receiver. Messages with an
//!   ordering key are handed out one at a time for each key, in the order of their publication, however many
//!   receivers there are; one that waits for its retry holds back its own key and no other. A plain
//!   subscription gets all of its messages in the order of their publication, and each before a handler
//!   that it goes to as well can act on it: what follows from a message comes after it.
//! * **Sides.** A slot's messages can be [divided](Slot::divide) between two sides, each with receivers of its own:
//!   all of the above holds over both of them, and while the share changes.
//! * **Back-pressure.** A slot's queue is bounded; what waits, what is in hand and what waits for a retry
//!   count. `publish` waits for room, `try_publish` says [`PublishError::Full`] and delivers to nobody. A
//!   slot can ask for the oldest or the newest message to be dropped instead, and counts each drop. On durable
//!   topics nobody is held back: what finds a blocking slot full waits in the log or the stream, whose own limits
//!   give publishers an error.
//! * **Cancellation.** A `publish` that is dropped before it returns has been delivered to all matching
//!   slots or to none.
//! * **State.** The managed state of a slot changes with the settlement of a message or not at all; see
//!   [`state`](crate::state).
//! * **Closing.** After `close`, publishing says [`PublishError::Closed`], and receivers end when they have
//!   nothing left.
//! * **Threads.** All of it may be used from any thread, within a tokio runtime.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use echo_sdk::{
    Asked, BaseMessage, BoxFuture, Offer, Overflow, Pattern, PublishError, Received, RequestError,
    Subscription, Topic, TopicError,
};

use crate::local::Rest;
use crate::state::{Change, CommitError, Document, Origin, States};
use crate::store::SharedStore;

/// What a transport can do beyond the contract; the conformance suite asks for what is declared here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Several messages of one commit become visible together or not at all.
    pub atomic_batches: bool,
    /// Durable topics outlive the host.
    pub durable: bool,
    /// A full slot holds its publishers back: `publish` waits for room, `try_publish` says
    /// [`PublishError::Full`]. Without it publishers and slots may be on different hosts that know nothing of each
    /// other's room: what finds a blocking slot full waits beside it up to a bound, then it is dropped and counted,
    /// and on durable topics it waits in its stream.
    pub back_pressure: bool,
}

/// Why the bus could not do what it was asked, publishing aside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The transport was made outside of a tokio runtime.
    #[error("the bus needs a tokio runtime; make it within one")]
    NoRuntime,
    /// A slot of this name is open already.
    #[error("a slot named `{0}` is open already")]
    SlotTaken(String),
    /// The slot is closed.
    #[error("the slot `{0}` is closed; open it again")]
    SlotClosed(String),
    /// The bus is closed.
    #[error("the bus is closed")]
    Closed,
    /// A pattern or a slot's name is malformed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// What carries the messages failed.
    #[error("the transport failed: {0}")]
    Transport(String),
}

/// The place of a plugin on the bus, as it is asked for.
#[derive(Debug, Clone)]
pub struct SlotOptions {
    /// The slot's name, which is the plugin's; unique on this host.
    pub name: String,
    /// What it subscribes to.
    pub patterns: Vec<Pattern>,
    /// How many messages it holds at most, those in hand included; at least 1.
    pub capacity: usize,
    /// What happens to a message that finds it full.
    pub overflow: Overflow,
}

/// A plain subscription, as it is asked for: its messages count as handled when they are taken.
#[derive(Debug, Clone, Copy)]
pub struct SubscribeOptions {
    /// How many messages wait at most.
    pub capacity: usize,
    /// What happens to a message that finds it full.
    pub overflow: Overflow,
}

impl Default for SubscribeOptions {
    /// Room for 65,536 messages, then the oldest is dropped and counted: a subscriber that does not keep
    /// up holds nobody back.
    fn default() -> Self {
        Self { capacity: 65_536, overflow: Overflow::DropOldest }
    }
}

/// What becomes of the message in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done: handled, forwarded, or dead and published as such.
    Done,
    /// It is delivered again, no earlier than after this time, one attempt older.
    Again(Duration),
}

/// The message in hand, lent to a handler.
pub struct Lent<'a> {
    /// The message, its attempt counted.
    pub received: &'a Received,
    /// How long it waited in the queue, where that was measured: a share of the messages is.
    pub waited: Option<Duration>,
    /// What the receiver took along beside it, if it keeps that from others.
    pub rest: Option<&'a mut Rest>,
}

impl fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("received", &self.received).finish_non_exhaustive()
    }
}

/// One worker's hand into a slot.
pub trait Receiver: Send {
    /// Takes the next message in hand; ready with `false` when the slot is closed and empty.
    ///
    /// With a message in hand already it is ready at once.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<bool>;

    /// The message in hand, its attempt counted.
    fn current(&self) -> Option<&Received>;

    /// The message in hand, for as long as a handler has it. Whoever has to wait for the handler lets others have
    /// the [rest](Lent::rest) first.
    fn lend(&mut self) -> Option<Lent<'_>>;

    /// Settles the message in hand; does nothing with empty hands.
    fn settle(&mut self, settlement: Settlement);

    /// Publishes a handler's effects and settles the message in hand as done: both or neither, where the
    /// transport can; else the effects first, so that nothing is lost, and each under an id of its own, so that
    /// a second time has no effect. Waits for room.
    ///
    /// On an error, and when it is dropped before it returns, the message is in hand as before.
    fn commit(&mut self, effects: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>>;

    /// [`commit`](Self::commit)s a single effect if that takes no waiting, and gives it back otherwise.
    fn offer(&mut self, topic: &Topic, message: BaseMessage) -> Offer {
        let _ = topic;
        Offer::Busy(message)
    }

    /// What the message in hand is to the slot's [`States`], over all of its deliveries; `None` with empty hands, and
    /// where they do not [remember](States::remembers).
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// Publishes a handler's effects, puts a changed document into the place of the one that was read for the
    /// message in hand, and settles that as done: all of it or nothing, and nothing of it twice. Waits for room.
    ///
    /// On an error, and when it is dropped before it returns, the message is in hand as before.
    fn commit_state(
        &mut self,
        effects: Vec<Received>,
        change: Change,
    ) -> BoxFuture<'_, Result<(), CommitError>>;

    /// Finishes a message that its document has taken in: publishes what of it is not, and settles it as done.
    /// Errors as [`commit`](Self::commit).
    fn settle_taken(&mut self, document: Document) -> BoxFuture<'_, Result<(), PublishError>> {
        drop(document);
        self.commit(Vec::new())
    }

    /// Publishes the dead letter of the message in hand past all bounds, and settles it as done. Errors as
    /// [`commit`](Self::commit).
    fn bury(&mut self, letter: Received) -> BoxFuture<'_, Result<(), PublishError>>;

    /// How many messages it may take from the shared queue at once: few where handling is slow, so that
    /// others are not kept waiting, many where it is fast. At least 1.
    fn set_batch(&mut self, limit: usize);

    /// Makes the room of settled messages available now. Call before waiting for anything else.
    fn flush(&mut self);
}

/// One of the two sides that a slot's messages can be [divided](Slot::divide) between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side that has all of them at first.
    #[default]
    First,
    /// The other one.
    Second,
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Into how many parts a slot's messages are split by their keys, or their ids where they have none.
pub const BUCKETS: u16 = 256;

/// What a slot has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotStats {
    /// Messages that it holds now: waiting, in hand, or waiting for a retry.
    pub held: usize,
    /// The most that it can hold.
    pub capacity: usize,
    /// Messages that it took in.
    pub accepted: u64,
    /// Messages that it dropped for want of room.
    pub dropped: u64,
    /// Messages that wait for their retry.
    pub delayed: usize,
}

/// A slot that is open.
pub trait Slot: Send + Sync {
    /// The slot's name.
    fn name(&self) -> &str;
    /// Another receiver, which shares the messages with those there are; of the first side.
    fn receiver(&self) -> Box<dyn Receiver> {
        self.receiver_of(Side::First)
    }
    /// Another receiver, which shares the messages of a side with those that side has.
    fn receiver_of(&self, side: Side) -> Box<dyn Receiver>;
    /// Has the slot match these patterns in place of those that it has. Publishes that begin after this resolves go by
    /// the new ones; a message on a topic that both match is neither lost nor doubled meanwhile. What the slot holds it
    /// keeps, and so it does what is kept for it of durable topics that it no longer matches.
    ///
    /// # Errors
    /// [`BusError::SlotClosed`], or what the transport says: then it may match the new patterns, the old ones or both, and
    /// is to be asked again.
    fn resubscribe(&self, patterns: Vec<Pattern>) -> BoxFuture<'_, Result<(), BusError>>;
    /// Divides the messages from now on: so many of [`BUCKETS`] are the second side's, more count as all of them, and
    /// the rest the first's. At first all are the first's.
    ///
    /// Messages of a key share a bucket, and those without one are spread evenly over all buckets by their ids; a larger
    /// number takes no bucket away from the second side. What waits goes to the side that it belongs to now, whether
    /// the other one has receivers that poll or none. What a receiver has in hand it settles, and until it then asks for
    /// the next, or is dropped, the keys that share a bucket with that wait.
    fn divide(&self, second: u16);
    /// What it holds and has counted.
    fn stats(&self) -> SlotStats;
    /// How many messages the slot is behind, in hand or not: those of durable topics that are kept for it until it
    /// acknowledges them, which hosts that share the slot have in common, or what it holds here if that is more.
    /// `None` where nobody can say just now.
    fn lag(&self) -> BoxFuture<'_, Option<usize>> {
        let held = self.stats().held;
        Box::pin(async move { Some(held) })
    }
    /// Whether a message waits that somebody could take now.
    fn has_ready(&self) -> bool;
    /// Whether a message waits that a receiver of this side could take now.
    fn has_ready_of(&self, side: Side) -> bool;
    /// Stops handing out messages; they wait.
    fn pause(&self);
    /// Hands out messages again.
    fn resume(&self);
    /// Takes no more messages in; receivers end when nothing is left.
    fn close(&self);
    /// Takes out what is left after [`close`](Self::close): what nobody handled.
    fn take_remaining(&self) -> Vec<Received>;
    /// Resolves once the slot holds nothing.
    fn idle(&self) -> BoxFuture<'_, ()>;
}

impl fmt::Debug for dyn Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("name", &self.name()).field("stats", &self.stats()).finish()
    }
}

/// A way for messages to travel. See the [module](self) for what each keeps.
pub trait Transport: Send + Sync {
    /// What it can do beyond the contract.
    fn features(&self) -> Features;

    /// Publishes if that takes no waiting, as most publishes on a bus within the process do, and gives the message
    /// back otherwise: [`publish`](Self::publish) it then.
    fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        let _ = topic;
        Offer::Busy(message)
    }

    /// Publishes without waiting.
    ///
    /// # Errors
    /// [`PublishError::Full`] when a blocking slot has no room; then nobody got the message.
    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError>;

    /// Publishes, waiting for room in every matching slot that blocks.
    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Publishes messages on one topic, one after another, which costs less than to [`publish`](Self::publish) each.
    ///
    /// When one is not taken, or the future is dropped, those before it are published and those after it are not.
    fn publish_batch<'a>(
        &'a self,
        topic: &'a Topic,
        messages: Vec<BaseMessage>,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            for message in messages {
                self.publish(topic, message).await?;
            }
            Ok(())
        })
    }

    /// Publishes several messages, waiting for room for all of them: all or none.
    fn publish_all(&self, batch: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Publishes an event of the host's past all bounds: it neither waits nor is dropped.
    ///
    /// # Errors
    /// [`PublishError::Closed`], or what the transport says.
    fn publish_unbounded(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError>;

    /// Publishes with a fresh reply topic and waits for the first answer.
    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>>;

    /// [`request`](Self::request)s, without a future of its own where the answer is there at once.
    fn ask<'a>(&'a self, topic: &'a Topic, message: BaseMessage, timeout: Duration) -> Asked<'a> {
        Asked::Waiting(self.request(topic, message, timeout))
    }

    /// Subscribes without a slot's name: every subscription gets every message.
    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
        options: SubscribeOptions,
    ) -> BoxFuture<'a, Result<Subscription, BusError>>;

    /// Opens a slot.
    fn open_slot(&self, options: SlotOptions) -> BoxFuture<'_, Result<Arc<dyn Slot>, BusError>>;

    /// Whether anybody subscribes to the topic now, as far as this host can tell.
    fn is_heard(&self, topic: &Topic) -> bool;

    /// What hosts of this bus share beside messages: values by key.
    fn store(&self) -> Arc<dyn SharedStore>;

    /// The managed state of the slot of this name, open or not.
    fn states(&self, slot: &str) -> Arc<dyn States>;

    /// Ends the bus: no more publishing, receivers and subscriptions end when they are empty.
    fn close(&self);

    /// Resolves once all that was published and settled is where it has to be. Call it after
    /// [`close`](Self::close).
    fn closed(&self) -> BoxFuture<'_, ()>;
}

/// Has a say in what is published, before anybody gets it.
pub trait Admission: Send + Sync {
    /// Refuses a message, or lets it pass.
    ///
    /// # Errors
    /// [`PublishError::Refused`], which the publisher gets.
    fn admit(&self, topic: &Topic, message: &BaseMessage) -> Result<(), PublishError>;
}
