//! Spans that plugins start, and how trace contexts translate to OpenTelemetry's.

use std::sync::Arc;

use echo_sdk::{Attribute, SpanHandle, TraceContext};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, Span};

/// Starts a span below `parent`, or the first one of a trace.
pub(super) fn start(
    tracer: &SdkTracer,
    name: String,
    kind: SpanKind,
    parent: Option<&TraceContext>,
) -> Span {
    let context = match parent {
        Some(parent) => Context::new().with_remote_span_context(to_otel(parent)),
        None => Context::new(),
    };
    tracer.span_builder(name).with_kind(kind).start_with_context(tracer, &context)
}

/// Where a span stands, as messages carry it.
pub(super) fn context_of(span: &Span) -> Option<TraceContext> {
    let context = span.span_context();
    let tracestate = context.trace_state().header();
    context.is_valid().then(|| TraceContext {
        trace_id: context.trace_id().to_bytes(),
        span_id: context.span_id().to_bytes(),
        flags: context.trace_flags().to_u8(),
        tracestate: (!tracestate.is_empty()).then_some(tracestate),
    })
}

/// The first place of a trace that nobody records.
pub(super) fn fresh_context() -> TraceContext {
    let ids = RandomIdGenerator::default();
    TraceContext {
        trace_id: ids.new_trace_id().to_bytes(),
        span_id: ids.new_span_id().to_bytes(),
        flags: 0,
        tracestate: None,
    }
}

fn to_otel(context: &TraceContext) -> SpanContext {
    let tracestate = context.tracestate.as_deref().unwrap_or_default();
    SpanContext::new(
        TraceId::from_bytes(context.trace_id),
        SpanId::from_bytes(context.span_id),
        TraceFlags::new(context.flags),
        true,
        // A state that others cannot read is left out; the trace goes on without it.
        tracestate.parse().unwrap_or_default(),
    )
}

/// A span that is recorded.
pub(super) struct Recorded(Span);

impl Recorded {
    pub(super) fn new(mut span: Span, plugin: &Arc<str>, attributes: &[Attribute<'_>]) -> Self {
        if span.is_recording() {
            span.set_attribute(KeyValue::new("echo.plugin", plugin.clone()));
            span.set_attributes(attributes.iter().map(|(key, value)| key_value(key, value)));
        }
        Self(span)
    }
}

impl SpanHandle for Recorded {
    fn set_attribute(&mut self, key: &str, value: &str) {
        self.0.set_attribute(key_value(key, value));
    }

    fn set_error(&mut self, reason: &str) {
        self.0.set_status(Status::error(reason.to_owned()));
    }

    fn context(&self) -> Option<TraceContext> {
        context_of(&self.0)
    }
}

fn key_value(key: &str, value: &str) -> KeyValue {
    KeyValue::new(key.to_owned(), value.to_owned())
}

/// A span that nobody records: it passes on the place that it was started at.
pub(super) struct PassedOn(pub(super) TraceContext);

impl SpanHandle for PassedOn {
    fn set_attribute(&mut self, _: &str, _: &str) {}

    fn set_error(&mut self, _: &str) {}

    fn context(&self) -> Option<TraceContext> {
        Some(self.0.clone())
    }
}
