//! The local transport keeps the delivery contract.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;

use echo_bus::{LocalOptions, LocalTransport, Transport};
use echo_sdk::BoxFuture;
use echo_tests::conformance::{Ground, Joining};

/// A bus within this process.
struct Local;

impl Ground for Local {
    fn new() -> Self {
        Self
    }

    fn name(&self) -> &'static str {
        "local"
    }

    fn is_in_process(&self) -> bool {
        true
    }

    fn connects_hosts(&self) -> bool {
        false
    }

    fn join(&self, joining: Joining) -> BoxFuture<'_, Arc<dyn Transport>> {
        Box::pin(async move {
            let mut options = LocalOptions::default();
            options.max_payload = joining.max_payload.unwrap_or(options.max_payload);
            Arc::new(LocalTransport::new(options).unwrap()) as Arc<dyn Transport>
        })
    }
}

echo_tests::conformance!(Local, declares: [pressure, batches], lacks: [durable, hosts]);
