//! Plugins as shared libraries: what crosses the boundary, what is refused, and what is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

echo_core::record_threads!();

mod built_elsewhere;
mod calls;
mod changes;
mod crashed;
mod hosted;
mod kit;
mod records;
mod refused;
mod runtime;
mod transitions;
mod unloading;
mod verdicts;
mod watched;
