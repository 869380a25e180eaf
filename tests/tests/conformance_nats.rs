//! The NATS transport keeps the delivery contract.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::{Arc, Mutex};

use echo_bus::Transport;
use echo_nats::{DurableOptions, DurableTopics, NatsOptions, NatsTransport};
use echo_sdk::{BoxFuture, Pattern};
use echo_tests::conformance::{DURABLE, Ground, Joining};
use echo_tests::server::NatsServer;

/// A NATS server of its own.
struct Nats(Mutex<NatsServer>);

impl Ground for Nats {
    fn new() -> Self {
        Self(Mutex::new(NatsServer::start()))
    }

    fn name(&self) -> &'static str {
        "nats"
    }

    fn is_in_process(&self) -> bool {
        false
    }

    fn connects_hosts(&self) -> bool {
        true
    }

    fn join(&self, joining: Joining) -> BoxFuture<'_, Arc<dyn Transport>> {
        Box::pin(async move {
            let durable = DurableTopics {
                stream: "DURABLE".into(),
                patterns: vec![Pattern::new(DURABLE).unwrap()],
            };
            let mut options = NatsOptions {
                urls: vec![self.0.lock().unwrap().url()],
                durable: DurableOptions { topics: vec![durable], ..DurableOptions::default() },
                ..NatsOptions::default()
            };
            options.max_payload = joining.max_payload.unwrap_or(options.max_payload);
            Arc::new(NatsTransport::connect(options).await.unwrap()) as Arc<dyn Transport>
        })
    }
}

echo_tests::conformance!(Nats, declares: [durable, hosts], lacks: [pressure, batches]);
