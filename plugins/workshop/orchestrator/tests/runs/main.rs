//! The orchestrator against scripted services, over a bus that records every message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod bus;
mod ending;
mod failures;
mod messages;
mod order;
mod refusals;
