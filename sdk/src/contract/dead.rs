//! `dead.>`: messages that a slot gave up.

use serde::{Deserialize, Serialize};

use crate::{BaseMessage, Topic};

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
