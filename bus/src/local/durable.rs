//! Durable topics: their messages are in a log before anybody has them.
//!
//! A publish is one record of the log, together with the other messages of its batch and with the settlement that
//! they follow from. It is confirmed, and handed round, once that record lasts; what comes meanwhile shares the next
//! sync. It is handed round in the order of the log by a task of the bus ([`line`](super::line)), which then tells the
//! publisher: plain subscriptions first, then the slots that the record names. A slot that is not open, or whose queue is full, is left out; its messages wait in the log, and its
//! feeder ([`feed`](super::feed)) brings them when the slot opens or has room. So a slow slot holds up neither
//! publishers nor other slots, and memory stays bounded by the queues; what bounds the log are its own limits, and
//! past those publishers get an error.
//!
//! * **Cancel.** A publish that is dropped before the log has its record publishes nothing; later it publishes all.
//! * **Failure.** Where the log did not keep a record, nobody gets its messages, and the message whose handling
//!   they followed from goes back into its queue.
//! * **Kill.** What the log has comes back, in its order, with its attempts and due times: nothing that was
//!   confirmed is lost, and what was settled in the log does not come back.
//! * **Threads.** Records are handed to the log, and put in line to be handed round, under one lock that is never
//!   held across a wait or while messages are handed round. Routes that threads remember may outlive the bus, so queues hold the log weakly: the log
//!   is closed with the last handle of the transport.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use echo_log::{Log, LogError, Message, OpenError, Receipt, Recovery, SlotId, Transaction};
use echo_sdk::{Pattern, PublishError, Received, Topic};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::feed::LogSlot;
use super::inbox;
use super::kept::Kept;
use super::line::{Handed, InLine, Line, Route, Waiting};
use super::queue::{Entry, Queue};
use super::reserved::Reserved;
use super::shelf::{NotPut, Put};
use super::stored::{self, Writing};
use crate::routing::Router;
use crate::transport::BusError;

/// Which topics last, and the log that keeps them.
#[derive(Debug, Clone)]
pub struct DurableOptions {
    /// Patterns of the topics. Those of answers to requests (`_INBOX.>`) never last.
    pub topics: Vec<Pattern>,
    /// Where the log is; made if it is not there.
    pub dir: PathBuf,
    /// How it is kept.
    pub log: echo_log::Options,
}

/// The log under durable topics, for [`LocalTransport::durable`](super::LocalTransport::durable).
#[derive(Debug)]
pub struct DurableLog {
    topics: Arc<[Pattern]>,
    log: Log,
}

impl DurableLog {
    /// Opens the log and reads back what it holds. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, cannot be read or written, or has no room.
    pub fn open(options: DurableOptions) -> Result<(Self, Recovery), OpenError> {
        let (log, recovery) = Log::open(&options.dir, options.log)?;
        Ok((Self { topics: options.topics.into(), log }, recovery))
    }

    /// Forgets a slot that is gone for good, and all that waits for it; says whether there was one.
    ///
    /// # Errors
    /// [`BusError::Transport`] when that could not be written.
    pub async fn forget(&self, name: &str) -> Result<bool, BusError> {
        let slots = self.log.slots();
        let Some(slot) = slots.iter().find(|slot| *slot.name == *name) else {
            return Ok(false);
        };
        let forgotten = async { self.log.forget(slot.id)?.await };
        forgotten.await.map(|()| true).map_err(failed)
    }
}

/// Durable topics of a transport.
#[derive(Debug)]
pub(super) struct Durable {
    topics: Arc<[Pattern]>,
    pub(super) log: Log,
    /// The slots that the log knows, open or not, by what they subscribe to.
    router: Router<LogSlot>,
    slots: Mutex<BTreeMap<Arc<str>, Arc<LogSlot>>>,
    line: Arc<Line>,
}

impl Durable {
    pub(super) fn new(opened: DurableLog, line: Arc<Line>) -> Arc<Self> {
        let DurableLog { topics, log } = opened;
        let (router, last) = (Router::default(), log.last_sequence());
        let mut slots = BTreeMap::new();
        for known in log.slots() {
            let about = String::from_utf8_lossy(&known.about);
            let patterns = about.lines().filter_map(|line| Pattern::new(line).ok()).collect();
            let slot = LogSlot::new(known.id, patterns, last);
            router.add(&slot.patterns(), &slot);
            slots.insert(known.name, slot);
        }
        Arc::new(Self { topics, log, router, slots: Mutex::new(slots), line })
    }

    /// Whether a topic lasts.
    pub(super) fn holds(&self, topic: &Topic) -> bool {
        !topic.as_str().starts_with(inbox::PREFIX)
            && self.topics.iter().any(|durable| durable.matches(topic))
    }

    /// Whether a slot is one for the log: it subscribes to something that lasts, or the log knows it.
    pub(super) fn wants(&self, name: &str, patterns: &[Pattern]) -> bool {
        let lasts = |pattern: &Pattern| self.topics.iter().any(|durable| meet(durable, pattern));
        patterns.iter().any(lasts) || self.slots.lock().contains_key(name)
    }

    /// Makes a slot known to the log, as what it subscribes to now; that lasts once the log is flushed.
    pub(super) fn register(
        self: &Arc<Self>,
        name: &str,
        patterns: &[Pattern],
    ) -> Result<Kept, LogError> {
        let texts: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
        let mut slots = self.slots.lock();
        let (id, _lasts_later) = self.log.register(name, texts.join("\n").as_bytes())?;
        let slot = slots.entry(name.into()).or_insert_with(|| LogSlot::new(id, Vec::new(), 0));
        let before = slot.replace_patterns(patterns);
        self.router.replace(&before, patterns, slot);
        Ok(Kept { slot: Arc::clone(slot), durable: Arc::downgrade(self) })
    }

    /// Hands a batch to the log. Nothing of it is kept where that fails, and it can be tried again when that was
    /// [`LogError::Busy`]; else all of it is handed round once it lasts.
    pub(super) fn hand_over(&self, batch: &mut Batch) -> Result<(), NotPut> {
        let mut lasting: SmallVec<[Option<Route>; 1]> = SmallVec::new();
        for Received { topic, .. } in &batch.messages {
            lasting.push(self.holds(topic).then(|| self.route(topic)));
        }
        let (line, receipt) = self.record(batch, &lasting)?;
        let mut placed = receipt.placed.into_iter();
        let messages = std::mem::take(&mut batch.messages).into_iter().zip(lasting);
        let messages = messages.map(|(received, route)| Handed {
            received,
            placed: route.as_ref().and_then(|_| placed.next()),
            route: route.unwrap_or_default(),
        });
        line.push(Waiting {
            durable: receipt.durable,
            messages: messages.collect(),
            rooms: std::mem::take(&mut batch.rooms),
            follows: batch.follows.take(),
            told: batch.told.take(),
        });
        Ok(())
    }

    /// The same, waiting while the log is busy, and for room where `waits_for_room`: for what settles a message there
    /// is some before there is for others, unless the disk is full.
    pub(super) async fn hand_over_in_turn(
        &self,
        batch: &mut Batch,
        waits_for_room: bool,
    ) -> Result<(), NotPut> {
        loop {
            match self.hand_over(batch) {
                // What became of that batch does not matter here.
                Err(NotPut::Log(LogError::Busy)) => drop(self.log.turn().await),
                Err(NotPut::Log(LogError::Quota { .. } | LogError::NoSpace { .. }))
                    if waits_for_room =>
                {
                    drop(self.log.room_to_settle().await);
                }
                done => return done,
            }
        }
    }

    /// Hands the log what lasts of a batch, which is what has a route; gives the line with it, so that messages are
    /// in line as they are in the log.
    fn record(
        &self,
        batch: &Batch,
        routes: &[Option<Route>],
    ) -> Result<(InLine<'_>, Receipt), NotPut> {
        let done = batch.follows.as_ref().and_then(|follows| follows.kept);
        let follows = done.map_or(0, |(_, sequence)| sequence);
        let lasting = batch.messages.iter().zip(routes);
        let lasting: SmallVec<[(&Received, &Route); 1]> =
            lasting.filter_map(|(received, route)| Some((received, route.as_ref()?))).collect();
        let slots: SmallVec<[SmallVec<[SlotId; 4]>; 1]> =
            lasting.iter().map(|(_, route)| route.iter().map(|slot| slot.id()).collect()).collect();
        let writings: SmallVec<[Writing<'_>; 1]> =
            lasting.iter().map(|(it, _)| Writing::new(&it.topic, &it.message)).collect();
        let parts: SmallVec<[_; 1]> = writings.iter().map(Writing::parts).collect();
        let messages: SmallVec<[Message<'_>; 1]> = lasting
            .iter()
            .zip(&slots)
            .zip(&parts)
            .map(|(((it, _), slots), body)| {
                let id = stored::identity(&it.topic, &it.message, follows);
                Message { id, slots, body }
            })
            .collect();
        let line = self.line.lock()?;
        let (messages, done) = (&*messages, done.as_slice());
        let receipt = match &batch.put {
            Some(put) => put.with(|state, after| {
                self.log.try_commit(&Transaction { messages, done, state, after })
            })?,
            None => {
                let transaction = Transaction { messages, done, ..Transaction::default() };
                self.log.try_commit(&transaction)?
            }
        };
        Ok((line, receipt))
    }

    fn route(&self, topic: &Topic) -> Route {
        self.router.with_route(topic, |slots| slots.iter().cloned().collect())
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.slots.get_mut().values().for_each(|slot| slot.end());
    }
}

/// What is to be handed to the log as one record.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<Received>,
    /// Room for those who get messages past the log: subscriptions, and all of a topic that does not last. By
    /// queue, with the places of their messages in the batch.
    pub(super) rooms: Vec<(Reserved, Vec<usize>)>,
    pub(super) follows: Option<Follows>,
    /// The state that changes with it.
    pub(super) put: Option<Put>,
    /// Whoever waits until it is handed round.
    pub(super) told: Option<Tell>,
}

/// Tells a publisher how it ended.
pub(super) type Tell = oneshot::Sender<Result<(), LogError>>;

/// The message whose handling a batch follows from, and which is settled with it.
#[derive(Debug)]
pub(super) struct Follows {
    pub(super) queue: Arc<Queue>,
    pub(super) entry: Entry,
    /// What the log knows it by, if it does.
    pub(super) kept: Option<(SlotId, u64)>,
}

/// What a publisher gets told.
pub(super) fn refused(error: LogError) -> PublishError {
    match error {
        LogError::Closed => PublishError::Closed,
        LogError::TooLarge { len, max } => PublishError::TooLarge { len, max },
        other => PublishError::Transport(told(&other)),
    }
}

/// What whoever opens a slot gets told.
pub(super) fn failed(error: LogError) -> BusError {
    BusError::Transport(told(&error))
}

/// An error with what the disk said.
pub(super) fn told(error: &LogError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether there is a topic that both patterns match.
fn meet(one: &Pattern, other: &Pattern) -> bool {
    let (mut one, mut other) = (one.tokens(), other.tokens());
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    #[test]
    fn patterns_meet_where_a_topic_matches_both() {
        let meets = |one: &str, other: &str| {
            let (one, other) = (Pattern::new(one).unwrap(), Pattern::new(other).unwrap());
            assert_eq!(meet(&one, &other), meet(&other, &one), "{one} {other}");
            meet(&one, &other)
        };
        for (one, other) in
            [("a", "a"), ("a.*", "*.b"), (">", "a.b"), ("a.>", "*.b.c"), ("a.>", "a.*"), ("*", ">")]
        {
            assert!(meets(one, other), "{one} {other}");
        }
        for (one, other) in
            [("a", "b"), ("a.>", "a"), ("a.*", "a"), ("a.*", "b.*"), ("a.b", "a.b.c")]
        {
            assert!(!meets(one, other), "{one} {other}");
        }
    }
}
