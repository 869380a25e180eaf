//! # Echo NATS
//!
//! The bus over a NATS server or cluster: several hosts share the work of their slots and come and go.
//!
//! [`NatsTransport`] keeps the contract of [`echo_bus::transport`]:
//!
//! * **Topics that do not last** are plain subjects, and a slot is a queue group on its patterns. A message is
//!   delivered at most once to a host that is killed, and retried, delayed and kept in the order of its key by the
//!   host that got it. An ordering key holds within each host, and not across hosts.
//! * **Durable topics** are streams of JetStream. A publish that has returned is on the server; a slot has a
//!   consumer that outlives its hosts and is shared by them; a message is acknowledged once it is handled and what
//!   it led to is published. An ordering key holds across all hosts, however they come and go: messages with a key
//!   are published into partitions, and one message of a partition is in hand at a time. So a message that waits
//!   for its retry holds back the keys of its partition, one in [`DurableOptions::partitions`].
//! * **Room.** NATS holds no publisher back ([`Features::back_pressure`](echo_bus::Features)). What is durable
//!   waits in its stream until a host has room for it. What is not waits at the host, up to a bound.
//! * **Effects.** What a handler published goes out before its message is acknowledged. Durable effects carry ids
//!   that follow from the message in hand, so a second delivery publishes them without effect.
//! * **State.** The managed state of slots is in a key-value bucket, a document for each ordering key, which says what it
//!   has taken in until that surely does not come again: so each message counts once, whichever hosts end ([`states`]).
//! * **Order.** A plain subscription gets messages with a key in their order, and messages without in theirs; on
//!   durable topics nothing is said of the two together.
//! * **Messages** stand on the wire as [`echo_bus::wire`] says, so any NATS client reads and writes them. Keyed
//!   messages of durable topics are on `_ECHO.K.<partition>.<topic>`.
//!
//! All hosts of a bus have to name the same durable topics: a stream that is there with other settings is an
//! error at the start.

mod confirm;
mod connection;
mod decode;
mod ending;
mod error;
mod feed;
mod held;
mod lag;
mod lane;
mod options;
mod outgoing;
mod pace;
mod pending;
mod publish;
mod pull;
mod receiver;
mod scope;
mod sieve;
mod slot;
mod states;
mod store;
mod stream;
mod streams;
mod subject;
mod subscribed;
mod transport;

pub use error::NatsError;
pub use options::{Credentials, DurableOptions, DurableTopics, NatsOptions, Storage, Tls};
pub use transport::NatsTransport;
