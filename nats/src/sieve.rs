//! What of the messages that come over plain subscriptions is meant for whoever subscribed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::Message;
use echo_sdk::{Pattern, Received};

use crate::streams::Streams;
use crate::{decode, subject};

/// Reads messages, and leaves out those that somebody else gets.
pub(crate) struct Sieve {
    pub(crate) patterns: Vec<Pattern>,
    /// Whether something comes that no pattern matches.
    pub(crate) is_strict: bool,
    /// For slots: what is durable comes from its stream.
    pub(crate) durable: Option<Arc<Streams>>,
    /// Messages that nobody gets.
    pub(crate) dropped: Arc<AtomicU64>,
}

impl Sieve {
    /// The message, if it is meant; `is_keyed` says that it came by a subscription to the partitions of keys.
    pub(crate) fn read(&self, message: &Message, is_keyed: bool) -> Option<Received> {
        let is_meant = is_keyed || subject::is_meant(&self.patterns, &message.subject);
        if message.status.is_some() || !is_meant {
            return None;
        }
        match decode::core(message) {
            Ok(received) => {
                let matches = |pattern: &Pattern| pattern.matches(&received.topic);
                if self.is_strict && !self.patterns.iter().any(matches) {
                    return None;
                }
                let elsewhere = self.durable.as_ref().is_some_and(|it| it.keep(&received.topic));
                (!elsewhere).then_some(received)
            }
            Err(error) => {
                let subject = &message.subject;
                tracing::error!(%subject, %error, "what came is no message and is dropped");
                self.drop_one();
                None
            }
        }
    }

    /// Counts a message that nobody gets.
    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
