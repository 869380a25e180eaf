//! Suites as files: what is found, what is read, and what is said of what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod discover;
mod faults;
mod files;
mod kit;
mod rendering;
