//! `dead.>`: messages that a slot gave up, and how the hosts are asked for them.
//!
//! Each host remembers letters of its own and answers for these: whoever asks several hosts gets several
//! answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BaseMessage, Pattern, Topic};

/// Asks which letters there are.
pub const LIST: &str = "system.dead.list";
/// Asks for one letter with its message.
pub const GET: &str = "system.dead.get";
/// Publishes the messages of letters again.
pub const REPLAY: &str = "system.dead.replay";
/// Forgets letters.
pub const DISCARD: &str = "system.dead.discard";

/// The most letters that one answer lists, or one request replays or discards.
pub const PAGE: usize = 200;

/// A message that a slot gave up, with all that is needed to bring it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// The slot that gave it up.
    pub slot: String,
    /// The topic that the message came on.
    pub topic: Topic,
    /// Why: the handler's reason, or what the bus saw.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u16,
    /// The message as it was published.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub message: BaseMessage,
}

/// The topic for what `slot` gives up of `topic`.
pub fn topic(slot: &str, topic: &Topic) -> String {
    format!("dead.{slot}.{topic}")
}

/// Which letters are meant; all that is given has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadSelection {
    /// These alone; without any, all.
    pub ids: Vec<Uuid>,
    /// Those of this slot.
    pub slot: Option<String>,
    /// Those whose message came on a topic that this pattern matches.
    pub topic: Option<Pattern>,
    /// Those that died before then: whatever a replay brings about comes after it.
    pub died_before: Option<DateTime<Utc>>,
}

/// Asks which letters there are, oldest first, a page of them at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadList {
    /// The one host that is to answer; without it, all do.
    pub host: Option<String>,
    /// Which letters.
    pub select: DeadSelection,
    /// Those after this one, the last of the page before.
    pub after: Option<Uuid>,
}

/// A letter in a list: all but its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadEntry {
    /// The letter's own id.
    pub id: Uuid,
    /// When the message was given up.
    pub died_at: DateTime<Utc>,
    /// The slot that gave it up.
    pub slot: String,
    /// The topic that it came on.
    pub topic: Topic,
    /// Why it was given up; a long reason is cut off.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u16,
    /// The id of the message.
    pub message_id: Uuid,
    /// When it was published again, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_at: Option<DateTime<Utc>>,
}

/// A page of a host's letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadPage {
    /// The letters, oldest first.
    pub letters: Vec<DeadEntry>,
    /// Whether there are more after the last.
    pub more: bool,
    /// How many letters the host had to forget for want of room.
    pub forgotten: u64,
    /// How many wait, on durable topics, until the host has room to look at them.
    pub waiting: usize,
}

/// Asks for one letter; the host that has it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadGet {
    /// The letter.
    pub id: Uuid,
}

/// One letter with its message; empty where the host does not have it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadFound {
    /// The letter.
    pub letter: Option<DeadLetter>,
    /// When it was published again, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_at: Option<DateTime<Utc>>,
}

/// Publishes the messages of letters again, each on the topic that it came on, for all who subscribe to it;
/// their attempts start over. A letter that was replayed is replayed again only where it is asked for by its
/// id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadReplay {
    /// The one host that is to do it; without it, all do, each with its own letters.
    pub host: Option<String>,
    /// Which letters.
    pub select: DeadSelection,
    /// Those after this one, the last of the page before.
    pub after: Option<Uuid>,
    /// Whether the messages get new ids. They do in any case on durable topics, which take a second message of
    /// an id for the first.
    pub new_id: bool,
}

/// A message that was published again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadReplayed {
    /// The letter.
    pub id: Uuid,
    /// The topic.
    pub topic: Topic,
    /// The id that the message has now.
    pub message_id: Uuid,
}

/// A letter with which something went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadFault {
    /// The letter.
    pub id: Uuid,
    /// What.
    pub reason: String,
}

/// What a host published again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadReplays {
    /// The messages.
    pub replayed: Vec<DeadReplayed>,
    /// The letters whose messages the bus did not take; they stay.
    pub failed: Vec<DeadFault>,
    /// The last letter that was looked at, where there are more.
    pub more_after: Option<Uuid>,
}

/// Forgets letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadDiscard {
    /// The one host that is to do it; without it, all do, each with its own letters.
    pub host: Option<String>,
    /// Which letters.
    pub select: DeadSelection,
}

/// What a host forgot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadDiscarded {
    /// How many letters.
    pub discarded: usize,
    /// Whether there are more.
    pub more: bool,
}
