//! Why a host is not on its NATS server's bus.

use std::path::PathBuf;

/// Why the transport could not be brought up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// An address is none of a NATS server.
    #[error("`{url}` is no address of a NATS server; write one such as `nats://127.0.0.1:4222`")]
    Address {
        /// The address, without what is secret in it.
        url: String,
    },
    /// Nobody answers.
    #[error("no NATS server answers at {urls}; start one there, or correct the address")]
    Unreachable {
        /// The addresses that were tried, without what is secret in them.
        urls: String,
        /// What the connection said.
        source: async_nats::ConnectError,
    },
    /// The server does not let the host in.
    #[error("the NATS server at {urls} refuses the {credentials}; check them against its users")]
    Refused {
        /// The addresses that were tried, without what is secret in them.
        urls: String,
        /// What the host showed.
        credentials: &'static str,
    },
    /// The encrypted connection does not come about.
    #[error("no encrypted connection to the NATS server at {urls}; check the certificates")]
    Tls {
        /// The addresses that were tried, without what is secret in them.
        urls: String,
        /// What the connection said.
        source: async_nats::ConnectError,
    },
    /// The credentials file cannot be used.
    #[error("the credentials file {} cannot be read; make one with `nsc generate creds`", path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Topics are to be durable on a server that keeps nothing.
    #[error(
        "the topics of stream `{stream}` cannot be durable: JetStream is not enabled on the NATS server; \
         start it with `--jetstream`"
    )]
    NoJetStream {
        /// The first stream that was to be made.
        stream: String,
    },
    /// The server does not say whether it keeps streams.
    #[error("the NATS server does not say whether JetStream is enabled ({reason}); see its log")]
    JetStream {
        /// What it said, or that it said nothing.
        reason: String,
    },
    /// A stream of this name exists and is another.
    #[error(
        "the stream `{stream}` exists with another {what}; change the configuration, or remove the stream \
         with `nats stream rm {stream}`"
    )]
    StreamDiffers {
        /// The stream.
        stream: String,
        /// What is different, and how.
        what: String,
    },
    /// Another stream keeps some of the topics already.
    #[error(
        "another stream keeps some of the topics of `{stream}` already; give them to one stream alone"
    )]
    StreamOverlap {
        /// The stream that could not be made.
        stream: String,
    },
    /// A stream cannot be made or looked at.
    #[error("the stream `{stream}` cannot be set up: {reason}")]
    Stream {
        /// The stream.
        stream: String,
        /// What the server said.
        reason: String,
    },
    /// A setting has no sense.
    #[error("the setting `{key}` of the NATS transport cannot be {value}; {rule}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        rule: &'static str,
    },
}
