//! The managed state of slots: values by slot and ordering key, which change with the settlement of a message.
//!
//! A [`Document`] is the state of one key in one slot, or of all its messages without a key. It is read before, or
//! while, a message is handled, and [`commit_state`](crate::Receiver::commit_state) puts a changed one into its
//! place, publishes the handler's effects and settles the message: all of it, or nothing of it.
//!
//! * **Who owns it.** The transport. A document outlives receivers, slots that are closed and plugins that are
//!   loaded anew; where messages last, it lasts as long and as surely as they do.
//! * **Order.** A document is read with all that was committed to it before. With an ordering key the handlings of a
//!   slot do not overlap, and each finds what the one before it left, on disk yet or not.
//! * **Lasting.** What builds on a document that is not kept is not kept either. A handler that changes nothing builds
//!   on what it read as well: its message is settled once that [lasts](Document::lasts).
//! * **Conflict.** Each change makes a new revision, and a commit names the one that its handler read. If that is no
//!   longer the latest the commit changes, publishes and settles nothing: whoever was quicker wins, and the
//!   handler runs again.
//! * **Taken.** A transport that cannot settle in one step with the state keeps in the document which messages it
//!   has taken in, until these surely do not come again. One that does come is not handled:
//!   [`settle_taken`](crate::Receiver::settle_taken) finishes what was begun.
//! * **Cancel.** A commit that is dropped has happened or not; the message comes again, and either it is taken, or
//!   nothing of it happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use echo_sdk::{BoxFuture, MAX_STATE, PublishError, Received, StateError};

/// The entries of a state: JSON by name. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries(Arc<BTreeMap<Box<str>, Arc<[u8]>>>);

impl Entries {
    /// An entry's JSON.
    pub fn get(&self, name: &str) -> Option<&Arc<[u8]>> {
        self.0.get(name)
    }

    /// Puts a value into an entry's place, or removes it.
    ///
    /// # Errors
    /// [`StateError::TooLarge`] when all of them would take more than [`MAX_STATE`] bytes; nothing is changed then.
    pub fn set(&mut self, name: &str, value: Option<Arc<[u8]>>) -> Result<(), StateError> {
        let Some(value) = value else {
            if self.0.contains_key(name) {
                Arc::make_mut(&mut self.0).remove(name);
            }
            return Ok(());
        };
        let before = self.0.get(name).map_or(0, |value| name.len() + value.len());
        let len = self.size() - before + name.len() + value.len();
        if len > MAX_STATE {
            return Err(StateError::TooLarge { len, max: MAX_STATE });
        }
        Arc::make_mut(&mut self.0).insert(name.into(), value);
        Ok(())
    }

    /// The bytes that names and values take.
    pub fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

/// What tells one message from all others that a slot gets, over all of its deliveries.
pub type Origin = u64;

/// A message that a document has taken in and that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The message.
    pub origin: Origin,
    /// The host that handled it.
    pub by: u64,
    /// What followed from it, packed: to be published, unless it is already.
    pub effects: Vec<Vec<u8>>,
}

/// The state of one key in one slot, as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The entries.
    pub entries: Entries,
    /// Which change made it; 0 where there is none yet.
    pub revision: u64,
    /// The messages that it has taken in and that may come again, oldest first.
    pub taken: Vec<Taken>,
    /// Some of those that it has taken in before and that are settled, oldest first: a host that was cut off for long
    /// may still have one in hand.
    pub done: Vec<Origin>,
    /// Whether it is sure to stay.
    pub lasting: Lasting,
}

/// Whether a document that was read is sure to stay: one that was changed a moment ago may be lost yet, where the disk
/// has no room for it. It tells no two documents apart.
#[derive(Debug, Clone, Default)]
pub struct Lasting(Option<echo_log::Durable>);

impl PartialEq for Lasting {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Lasting {}

impl Lasting {
    /// For what was handed to a log.
    pub(crate) fn of(durable: Option<&echo_log::Durable>) -> Self {
        Self(durable.filter(|durable| durable.now().is_none()).cloned())
    }

    /// What it depends on, if it is not sure.
    pub(crate) fn on(&self) -> Option<&echo_log::Durable> {
        self.0.as_ref()
    }
}

impl Document {
    /// What of a message is to be published, if it has taken that in.
    pub fn taken(&self, origin: Origin) -> Option<&[Vec<u8>]> {
        let taken = self.taken.iter().find(|taken| taken.origin == origin);
        let done = || self.done.contains(&origin).then_some(&[][..]);
        taken.map(|taken| &*taken.effects).or_else(done)
    }

    /// Waits until it is known whether it stays. One that does not never was, and whoever read it is to read again:
    /// a commit on it is a [conflict](CommitError::Conflict), anything else has to ask here.
    pub async fn lasts(&self) -> bool {
        match &self.lasting.0 {
            Some(durable) => durable.clone().await.is_ok(),
            None => true,
        }
    }
}

/// A document that is to be put into another's place.
#[derive(Debug, Clone)]
pub struct Change {
    /// As it was read.
    pub base: Document,
    /// The entries from now on.
    pub entries: Entries,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else was quicker: the handler is to run again.
    #[error("the state was changed meanwhile")]
    Conflict,
    /// The effects were not taken.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The state was not taken. Where the transport failed nobody knows whether it was, until it is read again.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<CommitError> for PublishError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Publish(error) => error,
            other => Self::Transport(other.to_string()),
        }
    }
}

/// The states of one slot, by ordering key.
pub trait States: Send + Sync {
    /// The document of a key, or without one that of all messages that have none.
    fn load<'a>(&'a self, key: Option<&'a str>) -> BoxFuture<'a, Result<Document, StateError>>;

    /// Puts a changed document into the place of the one that was read, without a message in hand. What it has taken in
    /// stays taken in. Resolves once the change lasts as long as a commit's does: several are best put at once.
    ///
    /// Where the transport failed, and when this is dropped before it resolves, it may have been put.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] when what was read is no longer the latest, or was not kept: it is to be read again.
    /// Else what keeps the state says why it did not take it.
    fn put<'a>(
        &'a self,
        key: Option<&'a str>,
        change: Change,
    ) -> BoxFuture<'a, Result<(), CommitError>>;

    /// The keys that have a document, in their order behind `after` and at most `limit` of them, and `None` first, for the
    /// messages without a key; none where there are no more. The last of one page is what the next comes behind.
    ///
    /// Each that has a document all the while is there once, and one whose document comes or goes meanwhile may be.
    /// A document whose entries were all removed counts for as long as it says what it has [taken](Document::taken) in.
    fn keys<'a>(
        &'a self,
        after: Option<&'a Option<String>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StateError>>;

    /// Whether documents say which messages they have taken in, since settling one is another step.
    fn remembers(&self) -> bool;
}

/// Packs a message with its topic, to be read back by [`unpack`].
pub fn pack(received: &Received) -> Vec<u8> {
    crate::local::stored::Writing::new(&received.topic, &received.message).parts().concat()
}

/// Reads back what [`pack`] has written; `None` when it did not, or in a later version.
pub fn unpack(bytes: &[u8]) -> Option<Received> {
    let (topic, message) = crate::local::stored::read(bytes)?;
    Some(Received { topic, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(len: usize) -> Option<Arc<[u8]>> {
        Some(vec![b'1'; len].into())
    }

    #[test]
    fn entries_are_bounded_together() {
        let mut entries = Entries::default();
        entries.set("a", json(MAX_STATE - 1)).unwrap();
        let refused = entries.set("b", json(1)).unwrap_err();
        assert_eq!(refused, StateError::TooLarge { len: MAX_STATE + 2, max: MAX_STATE });
        assert!(entries.get("b").is_none());
        entries.set("a", json(5)).unwrap();
        entries.set("b", json(1)).unwrap();
        assert_eq!(entries.size(), 8);
        entries.set("a", None).unwrap();
        entries.set("a", None).unwrap();
        assert_eq!(entries.iter().count(), 1);
        assert!(!entries.is_empty());
    }
}
