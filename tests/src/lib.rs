//! What the end-to-end tests share.
//!
//! [`conformance`] holds every transport to the delivery contract, [`killed`] is a host that a test kills, [`scripted`]
//! is a plugin whose handler is a closure, [`server`] brings up a NATS server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

pub mod conformance;
pub mod killed;
pub mod scripted;
pub mod server;

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Waits until something holds, looking again and again.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_secs(30), looking).await.is_ok(), "in time: {what}");
}
