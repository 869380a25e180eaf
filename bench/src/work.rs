//! The messages that all sides carry.

use std::time::Duration;

use echo_sdk::{BaseMessage, MessageError, TraceContext};
use serde::Deserialize;

/// Where the messages of most cases go.
pub(crate) const TOPIC: &str = "bench.work";

/// How many workers share a queue.
pub(crate) const WORKERS: usize = 8;

/// How many readers or publishers there are on the many side of a fan.
pub(crate) const FAN: usize = 8;

/// How many messages a queue holds.
pub(crate) const QUEUE: usize = 4096;

/// How many messages a publisher hands over at once, where it does not publish each by itself.
pub(crate) const BATCH: u64 = 64;

/// How many publishes wait for their confirmation at once, where they are confirmed.
pub(crate) const OUTSTANDING: usize = 256;

/// How long a request waits for its answer, far longer than any takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The data of every message: 128 bytes of JSON.
pub(crate) const DATA: &[u8; 128] = br#"{"number":4219570,"unit":"ms","suite":"checkout","test":"the cart keeps its goods","passed":true,"tags":["slow","db","nightly"]}"#;

/// What a handler reads of the data: one field, as a type.
#[derive(Debug, Deserialize)]
pub(crate) struct Reading {
    pub(crate) number: u64,
}

/// How a message comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Making {
    /// Once, before the round; what is published is another handle to it. Nobody reads it.
    Prebuilt,
    /// For each publish: id, timestamp, and the data from its bytes. A handler reads one field as a type.
    Fresh,
}

/// Where in a trace the messages are made, as a sender that traces says.
fn trace() -> TraceContext {
    TraceContext { trace_id: [7; 16], span_id: [9; 8], flags: 1, tracestate: None }
}

/// One of our own messages, with all that every message has and its place in a trace.
pub(crate) fn message() -> Result<BaseMessage, MessageError> {
    BaseMessage::builder("bench").data_json(DATA).trace_context(trace()).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_holds_what_handlers_read() {
        let reading: Reading = message().unwrap().json().unwrap();
        assert_eq!(reading.number, 4_219_570);
    }
}
