//! Containers on a real engine, started, entered and removed through the service kit's topics.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that finds its surroundings otherwise has failed"
)]

mod cleanup;
mod exec;
mod life;
mod network;
mod settings;
mod support;
mod volumes;
