//! What the tests of single middleware have in common.

use std::sync::OnceLock;

use echo_sdk::{BaseMessage, Topic};
use serde_json::{Value, json};

use super::{Attempt, Outgoing};

/// The topic of each attempt.
pub(super) fn topic() -> &'static Topic {
    static TOPIC: OnceLock<Topic> = OnceLock::new();
    TOPIC.get_or_init(|| Topic::new("orders.placed").unwrap())
}

/// A message of these data.
pub(super) fn message(data: &Value) -> BaseMessage {
    BaseMessage::builder("test").data(data).build().unwrap()
}

/// A first attempt of five at a fresh message.
pub(super) fn attempt() -> Attempt<'static> {
    attempt_of(1, 5)
}

/// An attempt of so many.
pub(super) fn attempt_of(number: u16, max: u16) -> Attempt<'static> {
    attempt_at(message(&json!({"n": 1})).with_attempt(number), max)
}

/// An attempt at a message.
pub(super) fn attempt_at(message: BaseMessage, max: u16) -> Attempt<'static> {
    Attempt::new("slot", topic(), message, max)
}

/// A message on its way out.
pub(super) fn outgoing(message: BaseMessage, handled: Option<BaseMessage>) -> Outgoing<'static> {
    Outgoing { sender: "slot", topic: topic().clone(), message, handled, may_wait: true }
}
