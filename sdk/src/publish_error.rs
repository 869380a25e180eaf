//! Why a message was not published, or a request went without an answer.

use std::time::Duration;

use crate::{MessageError, Topic, TopicError};

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A subscriber's queue is full; only `try_publish` says so, `publish` waits.
    #[error("the queue of `{slot}` is full; publish with waiting, or raise its queue_size")]
    Full {
        /// The slot whose queue is full.
        slot: String,
    },
    /// The bus is shut down.
    #[error("the bus is closed")]
    Closed,
    /// The message is larger than the bus takes.
    #[error("the message of {len} bytes is larger than the bus takes ({max} bytes)")]
    TooLarge {
        /// The message's size in bytes.
        len: usize,
        /// The largest size that the bus takes, in bytes.
        max: usize,
    },
    /// The topic is malformed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The message could not be made.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The host does not take the message, for instance because its data breaks the schema that it names.
    #[error("the message was refused: {0}")]
    Refused(String),
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Transport(String),
}

/// Why a request went without an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody subscribes to the topic.
    #[error("nobody answers to `{topic}`")]
    NoResponders {
        /// The topic that was asked.
        topic: Topic,
    },
    /// The answer did not come in time.
    #[error("no answer from `{topic}` within {}", crate::duration::format(*timeout))]
    TimedOut {
        /// The topic that was asked.
        topic: Topic,
        /// How long was waited.
        timeout: Duration,
    },
    /// The request could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
