//! `trace.>`: the spans that a host records, told on the bus where `telemetry.span_events` of its configuration says so.
//!
//! Telling is best effort: an event that finds a full queue is not told. What handlers of these topics do is not recorded,
//! nor is what follows from it, for else each event would bring about the next.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A span has begun.
pub const SPAN_STARTED: &str = "trace.span.started";
/// A span has ended.
pub const SPAN_ENDED: &str = "trace.span.ended";
/// No span of a trace is open any more.
pub const ENDED: &str = "trace.ended";

/// A span has begun. What it is about comes with its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SpanStarted {
    /// The trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// The span, 16 hexadecimal digits.
    pub span_id: String,
    /// The span that it is below of; nothing for the first of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<String>,
    /// Its name.
    pub name: String,
    /// What it is for, as OpenTelemetry has it: `consumer` for the handling of a message, `internal` for a plugin's own.
    pub kind: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
}

/// A span has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SpanEnded {
    /// The span as it began.
    #[serde(flatten)]
    pub span: SpanStarted,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// What it is about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Why it failed, if it did; empty where it did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// No span of a trace is open on the host any more. Where more of the trace follows, this comes again with what followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TraceEnded {
    /// The trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// The spans that have ended since it began or was last told, in the order of their ends.
    pub spans: Vec<SpanEnded>,
    /// How many more there were than are told.
    pub left_out: u64,
}
