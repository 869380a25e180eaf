//! The span around the handling of one message.

use std::time::Duration;

use echo_sdk::{BaseMessage, PluginError, ProcessingStatus, Topic};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind, Status};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use super::scope::TraceScope;
use super::{HostTelemetry, SpanEvents, span};

/// How a span's name begins: OpenTelemetry's word for what a handler does, and a space.
const NAME_START: &str = "process ";

/// What became of a message in a handler's hands.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The handler answered.
    Answered(&'a ProcessingStatus),
    /// The handler failed or panicked.
    Error(&'a PluginError),
    /// The handler was stopped at its deadline.
    TimedOut(Duration),
}

impl Outcome<'_> {
    /// The outcome as it stands in the span's `echo.status`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Answered(ProcessingStatus::Acknowledged) => "acknowledged",
            Self::Answered(ProcessingStatus::RetryLater(_)) => "retry_later",
            Self::Answered(ProcessingStatus::Failed(_)) => "failed",
            Self::Answered(ProcessingStatus::Forward(..)) => "forwarded",
            Self::Error(PluginError::Panicked(_)) => "panicked",
            Self::Error(_) => "error",
            Self::TimedOut(_) => "timed_out",
        }
    }

    /// Why the handling counts as failed, if it does.
    fn failure(&self) -> Option<String> {
        match self {
            Self::Answered(ProcessingStatus::Failed(reason)) => Some(reason.clone()),
            Self::Answered(_) => None,
            Self::Error(error) => Some(error.to_string()),
            Self::TimedOut(deadline) => {
                let deadline = echo_sdk::duration::format(*deadline);
                Some(format!("the handler took longer than its deadline, {deadline}"))
            }
        }
    }
}

/// One message in one handler's hands.
///
/// Dropped without [`end`](Self::end), the
/// handling counts as abandoned: its worker was cut off.
#[derive(Debug)]
#[must_use = "a handling that is dropped counts as abandoned"]
pub struct Handling {
    span: Option<Box<Span>>,
}

impl Handling {
    /// Begins: starts the span, below the place that the message was made at. Gives the place that the handler
    /// works at as well.
    pub fn begin(
        telemetry: &HostTelemetry,
        topic: &Topic,
        message: &BaseMessage,
    ) -> (Self, TraceScope) {
        let mut place = None;
        let handling = Self::begin_at(telemetry, topic, message, &mut place);
        (handling, place.unwrap_or_else(|| message.trace_context().into()))
    }

    /// The same; says which `place` it is only where it is not the message's own.
    #[inline]
    pub(crate) fn begin_at(
        telemetry: &HostTelemetry,
        topic: &Topic,
        message: &BaseMessage,
        place: &mut Option<TraceScope>,
    ) -> Self {
        let Some(tracer) = telemetry.exports().tracer() else {
            return Self { span: None };
        };
        if telemetry.exports().span_events().is_some() && SpanEvents::are_on(topic) {
            // A span for what is told of a span would be told in turn, without end; so nobody records what follows.
            *place = Some(Some(span::fresh_context()).into());
            return Self { span: None };
        }
        let span = Self::begin_span(tracer, telemetry, topic, message);
        *place = Some(span::context_of(&span).into());
        Self { span: Some(span) }
    }

    #[inline(never)]
    fn begin_span(
        tracer: &SdkTracer,
        telemetry: &HostTelemetry,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Box<Span> {
        let parent = message.trace_context();
        let name = format!("{NAME_START}{topic}");
        let mut span = span::start(tracer, name, SpanKind::Consumer, parent.as_ref());
        if span.is_recording() {
            span.set_attributes(attributes(telemetry, topic, message));
        }
        Box::new(span)
    }

    /// Whether a span is recorded of it.
    #[inline]
    pub fn is_recorded(&self) -> bool {
        self.span.is_some()
    }

    /// Ends with what became of the message.
    #[inline]
    pub fn end(mut self, outcome: Outcome<'_>) {
        if let Some(span) = self.span.take() {
            Self::end_span(*span, outcome);
        }
    }

    fn end_span(mut span: Span, outcome: Outcome<'_>) {
        if !span.is_recording() {
            return;
        }
        span.set_attribute(KeyValue::new("echo.status", outcome.as_str()));
        if let Outcome::Answered(ProcessingStatus::Forward(topic, _)) = outcome {
            span.set_attribute(KeyValue::new("echo.forward.topic", topic.as_str().to_owned()));
        }
        if let Some(reason) = outcome.failure() {
            span.set_attribute(KeyValue::new("error.type", outcome.as_str()));
            span.set_status(Status::error(reason));
        }
    }
}

impl Drop for Handling {
    #[inline]
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.set_attribute(KeyValue::new("echo.status", "abandoned"));
            span.set_attribute(KeyValue::new("error.type", "abandoned"));
            span.set_status(Status::error("the worker was cut off before the handler answered"));
        }
    }
}

fn attributes(
    telemetry: &HostTelemetry,
    topic: &Topic,
    message: &BaseMessage,
) -> impl IntoIterator<Item = KeyValue> {
    let operation = NAME_START.trim_end();
    let size = i64::try_from(message.data_bytes().len()).unwrap_or(i64::MAX);
    [
        KeyValue::new("messaging.system", "echo-core"),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.destination.name", topic.as_str().to_owned()),
        KeyValue::new("messaging.consumer.group.name", telemetry.plugin()),
        KeyValue::new("messaging.message.id", message.id().to_string()),
        KeyValue::new("messaging.message.body.size", size),
        KeyValue::new("echo.source", message.source().to_owned()),
        KeyValue::new("echo.attempt", i64::from(message.attempt())),
        KeyValue::new("echo.hops", i64::from(message.hops())),
    ]
}
