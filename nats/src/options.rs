//! How a host reaches its NATS server, and what is to last there.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use echo_bus::Admission;
use echo_sdk::Pattern;

/// Settings of the NATS transport.
#[derive(Clone)]
pub struct NatsOptions {
    /// The servers of one cluster, such as `nats://127.0.0.1:4222`; user and password or a token may stand in
    /// the address.
    pub urls: Vec<String>,
    /// What the host calls itself at the server.
    pub name: String,
    /// How the host proves who it is, beside what stands in the address.
    pub credentials: Credentials,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// The largest message that is taken, in bytes; the server may take less.
    pub max_payload: usize,
    /// Has a say in what is published.
    pub admission: Option<Arc<dyn Admission>>,
    /// What outlives the hosts. Every host of a bus has to say the same.
    pub durable: DurableOptions,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the server may take to answer what is asked of it.
    pub request_timeout: Duration,
    /// How long a message for a durable topic is sent again until the server confirms it; past it the
    /// publisher gets an error.
    pub publish_timeout: Duration,
    /// How many durable messages may be on their way without their confirmation; more wait.
    pub max_outstanding: usize,
    /// How many messages of a topic that does not last wait beside a full slot or subscription that blocks;
    /// more are dropped and counted.
    pub backlog: usize,
}

impl Default for NatsOptions {
    /// The server of this machine without credentials, 8 MiB a message, nothing durable but the dead letters.
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".to_owned()],
            name: "echo-core".to_owned(),
            credentials: Credentials::None,
            tls: Tls::default(),
            max_payload: 8 * 1024 * 1024,
            admission: None,
            durable: DurableOptions::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(30),
            max_outstanding: 4096,
            backlog: 65_536,
        }
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses may hold a password.
        f.debug_struct("NatsOptions")
            .field("name", &self.name)
            .field("tls", &self.tls)
            .field("max_payload", &self.max_payload)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// How a host proves who it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all, or by what stands in the address.
    #[default]
    None,
    /// By name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// By a token.
    Token(String),
    /// By the seed of an NKey, which signs what the server asks to have signed.
    NKey(String),
    /// By a credentials file, as `nsc` writes them: a JWT and the seed that goes with it.
    File(PathBuf),
}

impl fmt::Debug for Credentials {
    /// The kind alone: nothing secret gets into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::NKey(_) => "NKey",
            Self::File(_) => "File",
        })
    }
}

/// Whether and how the connection is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Refuses a connection that is not encrypted; an address that begins with `tls://` does so as well.
    pub required: bool,
    /// Certificates of authorities that are trusted beside those of the system, in PEM.
    pub ca: Option<PathBuf>,
    /// The host's own certificate and key, in PEM, for servers that want one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What outlives the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableOptions {
    /// The durable topics. Dead letters are durable besides, wherever the server has JetStream.
    pub topics: Vec<DurableTopics>,
    /// Where the streams are kept.
    pub storage: Storage,
    /// How many servers of a cluster keep each message.
    pub replicas: usize,
    /// How old a message may become; forever without it.
    pub max_age: Option<Duration>,
    /// How large a stream may become, in bytes; past it publishers get an error.
    pub max_bytes: Option<u64>,
    /// How long a second message of the same id is recognised and dropped.
    pub duplicate_window: Duration,
    /// Over how many partitions the ordering keys are spread: as many keys can be at work at a time.
    pub partitions: u16,
    /// How long a message may be in a host's hands without a sign of life before another host gets it. Hosts
    /// give three signs in that time, however long the handling takes.
    pub ack_wait: Duration,
    /// How many messages a slot of this host takes from a stream ahead of its workers at most; its capacity bounds
    /// it too. A slot that is slow takes fewer.
    pub prefetch: usize,
    /// Whether a message counts as done only once the server has confirmed that it knows.
    pub confirm_acks: bool,
}

impl Default for DurableOptions {
    /// No topics beside the dead letters, files, one replica, forever, two minutes for duplicates, 16
    /// partitions, 30 seconds to acknowledge.
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            storage: Storage::File,
            replicas: 1,
            max_age: None,
            max_bytes: None,
            duplicate_window: Duration::from_secs(120),
            partitions: 16,
            ack_wait: Duration::from_secs(30),
            prefetch: 1024,
            confirm_acks: false,
        }
    }
}

/// Topics that share a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableTopics {
    /// The stream's name: letters, digits, `-` and `_`.
    pub stream: String,
    /// The topics that it keeps.
    pub patterns: Vec<Pattern>,
}

/// Where a stream is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    /// On the server's disk.
    #[default]
    File,
    /// In the server's memory: gone when the last replica's server ends.
    Memory,
}
