//! Logs, traces and metrics of a host and of its plugins.
//!
//! [`init`] sets up what the configuration asks for, once for the process, and gives a [`TelemetryGuard`] that
//! sends what is left when the process ends. Its [`Exports`] go into the host, which makes one
//! [`HostTelemetry`] for each plugin and one [`SlotMetrics`] for each slot from them. Around each message
//! stands a [`Handling`]; whatever the handler makes while [`with_trace`] runs it belongs to that message's
//! trace.
//!
//! Nothing of it has to be there: without a guard, [`Exports::default`] records nothing, costs a branch, and
//! trace contexts travel from message to message all the same.
//!
//! `docs/contracts/telemetry.md` lists the metrics, spans and attributes; a test holds it to [`METRICS`].

mod exports;
mod handling;
mod init;
mod logs;
mod metrics;
mod otlp;
mod plugin;
mod prometheus;
mod scope;
mod span;
mod span_events;

pub(crate) use self::metrics::count_quarantine;
pub(crate) use self::metrics::topic_metrics;
pub use self::metrics::{METRICS, MetricInfo, MetricKind, SlotMetrics, describe};
pub use exports::Exports;
pub use handling::{Handling, Outcome};
pub use init::{TelemetryError, TelemetryGuard, init};
pub use logs::subscriber;
pub use plugin::HostTelemetry;
pub use prometheus::recorder;
pub use scope::{TraceScope, with_trace};
pub use span_events::SpanEvents;
