//! Spans told on the bus, for plugins that watch them.
//!
//! A span is told on the thread that begins or ends it, so telling neither waits nor blocks: an event that finds a full
//! queue is lost, and counted. The spans of a trace are kept until none of it is open, bounded by [`MAX_TRACES`] and
//! [`MAX_SPANS`]. The bus is known once a host runs, and is not kept alive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use echo_bus::Transport;
use echo_sdk::contract::trace::{
    ENDED, SPAN_ENDED, SPAN_STARTED, SpanEnded, SpanStarted, TraceEnded,
};
use echo_sdk::{BaseMessage, PluginError, Topic};
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use crate::registry::HOST_SOURCE;

/// How many traces are kept at once; of further ones only the spans are told.
const MAX_TRACES: usize = 1024;

/// How many spans of one trace are kept; the rest is counted.
const MAX_SPANS: usize = 1000;

/// How topics begin that spans are told on.
const OWN: &str = "trace.";

/// Tells spans on a bus. Cheap to clone; all clones tell on the same one.
#[derive(Clone, Default)]
pub struct SpanEvents(Arc<State>);

#[derive(Default)]
struct State {
    bus: RwLock<Option<Weak<dyn Transport>>>,
    traces: Mutex<HashMap<TraceId, Kept>>,
    lost: AtomicU64,
}

/// What is known of a trace that has open spans.
#[derive(Default)]
struct Kept {
    open: usize,
    spans: Vec<SpanEnded>,
    left_out: u64,
}

impl SpanEvents {
    /// Tells spans on this bus from now on.
    pub(crate) fn tell_on(&self, bus: &Arc<dyn Transport>) {
        *self.0.bus.write() = Some(Arc::downgrade(bus));
    }

    /// How many events found no room.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Whether a topic is one of those that spans are told on.
    pub(super) fn are_on(topic: &Topic) -> bool {
        topic.as_str().starts_with(OWN)
    }

    fn tell<T: Serialize>(&self, topic: &str, trace: TraceId, event: &T) {
        let Some(bus) = self.0.bus.read().as_ref().and_then(Weak::upgrade) else { return };
        let told = Topic::new(topic).map_err(PluginError::from).and_then(|topic| {
            let key = trace.to_string();
            let message = BaseMessage::builder(HOST_SOURCE).key(&key).data(event).build()?;
            Ok(bus.try_publish(&topic, message)?)
        });
        if told.is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn opened(&self, trace: TraceId) {
        let mut traces = self.0.traces.lock();
        if traces.len() < MAX_TRACES || traces.contains_key(&trace) {
            traces.entry(trace).or_default().open += 1;
        }
    }

    /// Keeps a span; gives the trace when it was the last one open.
    fn closed(&self, trace: TraceId, span: SpanEnded) -> Option<TraceEnded> {
        let mut traces = self.0.traces.lock();
        let kept = traces.get_mut(&trace)?;
        kept.open = kept.open.saturating_sub(1);
        if kept.spans.len() < MAX_SPANS {
            kept.spans.push(span);
        } else {
            kept.left_out += 1;
        }
        if kept.open > 0 {
            return None;
        }
        let Kept { spans, left_out, .. } = traces.remove(&trace)?;
        Some(TraceEnded { trace_id: trace.to_string(), spans, left_out })
    }
}

impl SpanProcessor for SpanEvents {
    fn on_start(&self, span: &mut Span, _: &Context) {
        let Some(data) = span.exported_data() else { return };
        let trace = data.span_context.trace_id();
        self.opened(trace);
        self.tell(SPAN_STARTED, trace, &started(&data));
    }

    fn on_end(&self, data: SpanData) {
        let trace = data.span_context.trace_id();
        let span = ended(&data);
        self.tell(SPAN_ENDED, trace, &span);
        if let Some(ended) = self.closed(trace, span) {
            self.tell(ENDED, trace, &ended);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn started(data: &SpanData) -> SpanStarted {
    let parent = data.parent_span_id;
    SpanStarted {
        trace_id: data.span_context.trace_id().to_string(),
        span_id: data.span_context.span_id().to_string(),
        parent_span_id: (parent != SpanId::INVALID).then(|| parent.to_string()),
        name: data.name.clone().into_owned(),
        kind: kind(&data.span_kind).to_owned(),
        started_at: DateTime::<Utc>::from(data.start_time),
    }
}

fn ended(data: &SpanData) -> SpanEnded {
    let took = data.end_time.duration_since(data.start_time).unwrap_or_default();
    let attribute = |KeyValue { key, value, .. }: &KeyValue| (key.to_string(), value.to_string());
    let error = match &data.status {
        Status::Error { description } => Some(description.to_string()),
        Status::Ok | Status::Unset => None,
    };
    SpanEnded {
        span: started(data),
        duration_ms: took.as_secs_f64() * 1000.0,
        attributes: data.attributes.iter().map(attribute).collect(),
        error,
    }
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    }
}

impl std::fmt::Debug for SpanEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanEvents").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str) -> SpanEnded {
        let span = SpanStarted {
            trace_id: String::new(),
            span_id: String::new(),
            parent_span_id: None,
            name: name.to_owned(),
            kind: "internal".to_owned(),
            started_at: Utc::now(),
        };
        SpanEnded { span, duration_ms: 1.0, attributes: Default::default(), error: None }
    }

    #[test]
    fn a_trace_is_told_when_none_of_it_is_open_and_is_bounded() {
        let events = SpanEvents::default();
        let trace = TraceId::from(7);
        events.opened(trace);
        events.opened(trace);
        assert!(events.closed(trace, span("inner")).is_none());
        let told = events.closed(trace, span("outer")).unwrap();
        let names: Vec<&str> = told.spans.iter().map(|it| it.span.name.as_str()).collect();
        assert_eq!((names, told.left_out), (vec!["inner", "outer"], 0));
        assert!(events.0.traces.lock().is_empty());

        for _ in 0..MAX_SPANS + 2 {
            events.opened(trace);
        }
        let mut told = (0..MAX_SPANS + 2).filter_map(|_| events.closed(trace, span("x")));
        let told = told.next().unwrap();
        assert_eq!((told.spans.len(), told.left_out), (MAX_SPANS, 2));

        for number in 0..MAX_TRACES as u128 + 5 {
            events.opened(TraceId::from(number + 1));
        }
        assert_eq!(events.0.traces.lock().len(), MAX_TRACES);
        let beyond = TraceId::from(MAX_TRACES as u128 + 5);
        assert!(events.closed(beyond, span("x")).is_none());
    }
}
