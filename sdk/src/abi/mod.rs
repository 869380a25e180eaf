//! The boundary between a host and a plugin library: C, and nothing but C, crosses it.
//!
//! A plugin author needs one line of this module, [`export_plugin!`](crate::export_plugin); the rest is what
//! that line expands to, and what a host answers it with. Host and plugin are built apart, by compilers that
//! may differ, each with its own allocator and its own standard library, so these rules hold:
//!
//! - Every struct starts with its `size` and grows at its end only. Whoever reads a field that came later
//!   looks at `size` first; [`MINOR`] counts those additions, [`MAJOR`] everything else.
//! - Lent bytes are pointer and length and last as long as the call. Owned parts name the function that frees
//!   them, so that the side that made a thing frees it.
//! - A message crosses as its block: see `message::raw`, whose layout is part of this contract. The host
//!   copies what a plugin made, since the plugin's memory ends with the plugin.
//! - A future crosses as start, poll and drop. A plugin's future lies in a buffer of the host's; a host's
//!   future is a [`Poller`] that the plugin holds. Either is polled with a [`ThinWaker`].
//! - Whatever is asked is answered with one [`Answer`]. Tags, lengths and texts in it are checked.
//! - No panic crosses: each entry catches it and answers with its text.
//!
//! Reading order: `bytes`, `message`, `answer`, `waker`, `crossing`, `table`; then the plugin's side, `shim`
//! and `remote`, and the macro in `export`. The host's side is the host's.

mod answer;
mod bytes;
mod crossing;
mod export;
mod guard;
mod handover;
mod message;
mod reactor;
mod remote;
mod shim;
mod state;
mod table;
mod telemetry;
#[cfg(test)]
mod tests;
mod waker;

pub use answer::Answer;
pub use bytes::{Bytes, Fault, OwnedBytes};
pub use crossing::{PENDING, Poller, READY, exchange, respond};
pub use export::{Export, Note, contains};
pub use guard::guarded;
pub use message::{MessageView, OwnedMessage};
pub use table::{
    Attribute, Call, Declaration, HostCall, HostOp, HostTable, Measurement, Metric, Op,
    PluginTable, Seat, SpanStart, StateCall,
};
pub use telemetry::{Trace, attributes, lend_attributes};
pub use waker::ThinWaker;

/// What a declaration starts with, behind its size.
pub const MAGIC: [u8; 8] = *b"EchoCore";

/// The version of the boundary: libraries and hosts of different ones cannot meet.
pub const MAJOR: u32 = 1;

/// How many additions the boundary has seen; when two meet, the lower number counts.
///
/// | | |
/// |---|---|
/// | 1 | managed state: [`HostCall::value`], three of [`HostOp`], answers 12, 74 and 75 |
/// | 2 | handing state over: [`Call::state`], three of [`Op`], answer 13, the form in the answer of `create`; [`Seat::patience_nanos`] |
pub const MINOR: u32 = 2;
