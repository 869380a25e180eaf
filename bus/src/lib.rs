//! # Echo bus
//!
//! Carries messages between plugins. [`transport`] is the contract that every transport keeps, in sentences;
//! [`LocalTransport`] keeps it within one process. [`routing`] finds the slots that a topic goes to,
//! [`RetryPolicy`] says when a failed message is tried again.
//!
//! A *slot* is the place that a plugin holds on the bus: its patterns and its queue. Workers take messages
//! from it with a [`Receiver`] and settle each one.

pub mod helping;
pub mod routing;
pub mod state;
pub mod store;
pub mod transport;
pub mod wire;

mod give_way;
mod local;
mod retry;

pub use echo_log::{OpenError, Options as LogOptions, Recovery, SyncPolicy};
pub use give_way::give_way;
pub use local::{DurableLog, DurableOptions, LocalOptions, LocalTransport, Rest};
pub use retry::RetryPolicy;
pub use transport::{
    Admission, BUCKETS, BusError, Features, Lent, Receiver, Settlement, Side, Slot, SlotOptions,
    SlotStats, SubscribeOptions, Transport,
};
