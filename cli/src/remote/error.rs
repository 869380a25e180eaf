//! Why a running host, or another server, did not do what it was asked.

use std::time::Duration;

use async_nats::{ConnectError, ConnectErrorKind, ServerError};
use echo_bus::wire::WireError;
use echo_gateway::auth::state::StateError;
use echo_gateway::auth::token::TokenError;
use echo_sdk::{MessageError, Topic, TopicError};

use super::Target;
use crate::exit::Failure;

/// Why a bus elsewhere did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The address is none.
    #[error("ECHO_URL does not say where a bus is")]
    Url(#[from] echo_core::config::BusUrlError),
    /// A file that the server is to know this program by cannot be used.
    #[error("`{key}` cannot be used")]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The running hosts cannot be looked up.
    #[error(transparent)]
    State(#[from] StateError),
    /// As above.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The running host has no door for NATS clients.
    #[error(
        "the running host has no door for NATS clients; set `gateway.nats` of its configuration to an address"
    )]
    DoorOff,
    /// Nobody listens there.
    #[error(
        "no host answers at {at}; start one with `echo-core serve`, or set ECHO_URL to one that runs"
    )]
    Nobody {
        /// The address.
        at: String,
        /// What the system says.
        #[source]
        source: ConnectError,
    },
    /// The server does not let the program in.
    #[error(
        "{at} does not let this command in; set ECHO_URL to its address with the token, as `echo-core url` prints \
         it where the host runs"
    )]
    Refused {
        /// The address.
        at: String,
    },
    /// There is a server and the connection cannot be made.
    #[error("{at} cannot be connected to")]
    Connect {
        /// The address.
        at: String,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// The server refused something.
    #[error("{at} refused: {}", said(error))]
    Server {
        /// The address.
        at: String,
        /// What it said.
        error: ServerError,
    },
    /// The connection was lost.
    #[error(
        "the connection to {at} was lost; what was not confirmed before may have been lost with it"
    )]
    Lost {
        /// The address.
        at: String,
    },
    /// The server does not answer.
    #[error("{at} does not answer; what was published may not have arrived")]
    Silent {
        /// The address.
        at: String,
    },
    /// The message is larger than the server takes.
    #[error("the message of {len} bytes is larger than the server takes ({max} bytes)")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
        /// The largest size in bytes.
        max: usize,
    },
    /// Nobody subscribes to what was asked.
    #[error("nobody answers to `{topic}`")]
    NoResponders {
        /// What was asked.
        topic: Topic,
    },
    /// No host is on the bus.
    #[error("no host is on the bus at {at}; start one with `echo-core serve`")]
    NoHost {
        /// The address.
        at: String,
    },
    /// A host that answered before does not any more.
    #[error("the host {host} has ended, or does not answer any more")]
    HostGone {
        /// Its id.
        host: String,
    },
    /// The answer did not come in time.
    #[error("no answer from `{topic}` within {}", echo_sdk::duration::format(*patience))]
    NoAnswer {
        /// What was asked.
        topic: Topic,
        /// How long was waited.
        patience: Duration,
    },
    /// A message cannot cross the wire.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A message cannot be made or read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A topic is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A header is none.
    #[error("the header `{0}` cannot be sent; a header is one line of text")]
    Header(String),
    /// A host did not do what it was asked.
    #[error("the host refused: {0}")]
    Said(String),
}

impl RemoteError {
    /// What a failed connection means.
    pub(super) fn connect(target: &Target, error: ConnectError) -> Self {
        let at = target.to_string();
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => Self::Refused { at },
            ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::MaxReconnects => {
                Self::Nobody { at, source: error }
            }
            _ => Self::Connect { at, source: error },
        }
    }
}

/// What a server said, without the name that the library puts before it.
fn said(error: &ServerError) -> String {
    let text = error.to_string();
    text.strip_prefix("nats: ").unwrap_or(&text).to_owned()
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Url(_)
            | RemoteError::File { .. }
            | RemoteError::Message(_)
            | RemoteError::Topic(_)
            | RemoteError::Header(_)
            | RemoteError::TooLarge { .. } => Self::usage(error),
            _ => Self::surroundings(error),
        }
    }
}
