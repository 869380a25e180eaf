//! The transport on a server of each test's own: what it does there, seen by the server and by other clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod access;
mod hosts;
mod listening;
mod publishing;
#[path = "../../../tests/src/server.rs"]
mod server;
mod settling;
mod store;
mod streams;
mod support;
mod wire;
