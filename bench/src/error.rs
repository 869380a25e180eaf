//! Why a measurement ended.

use std::io;
use std::time::Duration;

use echo_core::HostError;
use echo_sdk::{ManifestError, MessageError, PublishError, RequestError, TopicError};

/// Why a measurement ended without its figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// No case has this name.
    #[error("there is no case `{name}`; there are {known}")]
    UnknownCase {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// None of the sides that were asked for is part of the case.
    #[error("none of the peers asked for is part of `{case}`; it has {known}")]
    UnknownPeer {
        /// The case.
        case: &'static str,
        /// The sides that it has.
        known: String,
    },
    /// A result could not be written, or the system not be asked.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A host did not start.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A manifest is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A message could not be made.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A message was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A request went without an answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A topic or pattern is malformed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Telemetry could not be set up.
    #[error(transparent)]
    Telemetry(#[from] echo_core::telemetry::TelemetryError),
    /// A plugin library could not be built or loaded, or did not do its work.
    #[error("{0}")]
    Library(String),
    /// The log under durable topics failed.
    #[error("the log failed: {0}")]
    Log(String),
    /// A peer did not do what it was asked.
    #[error("{peer} {fault}")]
    Peer {
        /// The peer.
        peer: &'static str,
        /// What it did, as the rest of the sentence.
        fault: String,
    },
    /// A round did not end.
    #[error("{peer} did not finish a round of {messages} messages within {}", echo_sdk::duration::format(*.patience))]
    Stuck {
        /// Who.
        peer: &'static str,
        /// How many messages the round had.
        messages: u64,
        /// How long was waited.
        patience: Duration,
    },
    /// The medians miss bars.
    #[error("{0} of the bars are missed; the lines above say which")]
    Missed(usize),
}

impl BenchError {
    /// What the log says.
    pub(crate) fn log(error: impl std::fmt::Display) -> Self {
        Self::Log(error.to_string())
    }

    /// A peer's fault.
    pub(crate) fn peer(peer: &'static str, fault: impl std::fmt::Display) -> Self {
        Self::Peer { peer, fault: format!("failed: {fault}") }
    }
}
