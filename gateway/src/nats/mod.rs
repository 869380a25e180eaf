//! The NATS client protocol: to its clients the gateway looks like a NATS server.
//!
//! What one client publishes another gets as it was sent, header for header and byte for byte; plugins see
//! messages, and what they publish goes out as the messages' JSON (`echo_bus::wire`). Of what a server has
//! besides there is nothing: subjects below `$SYS` and `$JS` have no responders.
//!
//! * **Order.** As on the bus, for each connection: what it publishes in the order in which it sent it, and a
//!   subscription's messages in the order of their publication. An answer to `PING` comes after all that was
//!   said before it is done.
//! * **Back-pressure.** A slot that is full holds back those who publish to it: their sockets are not read
//!   meanwhile. A client that does not read holds back nobody: what it gets piles up as bytes, those who
//!   publish to it are slowed down a little ([`congestion`]), and past the bound it is cut off.
//! * **Ends.** A client that leaves, breaks the protocol or a limit takes nothing with it but its own
//!   subscriptions. At shutdown clients are told (`ldm`), may leave, and get what is on its way.
//!
//! [`parser`] reads, [`protocol`] writes; a [`connection`] is one task with a [`session`] for what comes in and an
//! [`output`] for what goes out.

#[doc(hidden)]
pub mod parser;

mod buffers;
mod congestion;
mod connection;
mod door;
mod groups;
mod inbound;
mod outbound;
mod output;
mod protocol;
mod publishing;
mod ready;
mod session;
mod topics;

pub(crate) use door::{DoorOptions, NatsDoor};
