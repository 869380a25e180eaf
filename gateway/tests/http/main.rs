//! The HTTP door, as a client sees it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod access;
mod host;
mod publish;
mod socket;
mod streams;
mod support;
mod tls;
mod wire;
