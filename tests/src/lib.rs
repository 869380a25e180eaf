//! What the end-to-end tests share.
//!
//! [`conformance`] holds every transport to the delivery contract, [`scripted`] is a plugin whose handler is a
//! closure, [`server`] brings up a NATS server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

pub mod conformance;
pub mod scripted;
pub mod server;
