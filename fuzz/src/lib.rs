//! What holds of every reader of outside input, whatever the input: it does not panic, and what it takes comes
//! back as it was. One function for each target of `fuzz_targets`; `corpus` holds inputs to begin with.
//!
//! Parsers that are private to their crates are compiled into this one from where they stand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fuzzer looks for panics"
)]

mod files;
mod gateway;
mod library;
mod log;
mod message;
mod pattern;
mod search;

pub use files::{config, manifest, suite_file};
pub use gateway::gateway_parser;
pub use library::library;
pub use log::log_segment;
pub use message::{message_json, wire_read};
pub use pattern::pattern;
pub use search::search;
