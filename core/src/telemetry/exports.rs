//! What leaves the process, as a value that hosts pass on.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::SpanEvents;

/// What is recorded at all. Cheap to clone; by default nothing is.
#[derive(Debug, Clone, Default)]
pub struct Exports {
    tracer: Option<SdkTracer>,
    span_events: Option<SpanEvents>,
    metrics: bool,
}

impl Exports {
    /// Records spans with `provider`, whoever exports them.
    #[must_use]
    pub fn with_spans(mut self, provider: &SdkTracerProvider) -> Self {
        self.tracer = Some(provider.tracer("echo-core"));
        self
    }

    /// Records the plugins' own metrics with the recorder of the [`metrics`] facade.
    ///
    /// The host's metrics ([`SlotMetrics`](super::SlotMetrics)) are registered with the facade either way;
    /// only how far slots are behind is not asked of the bus without.
    #[must_use]
    pub fn with_metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Tells the spans on the bus of the host; `events` is among the processors of the provider that records them.
    #[must_use]
    pub fn with_span_events(mut self, events: SpanEvents) -> Self {
        self.span_events = Some(events);
        self
    }

    /// What tells spans on the bus, if something does.
    #[inline]
    pub(crate) fn span_events(&self) -> Option<&SpanEvents> {
        self.span_events.as_ref()
    }

    /// Whether spans are recorded.
    pub fn spans(&self) -> bool {
        self.tracer.is_some()
    }

    /// Whether the plugins' own metrics are recorded.
    pub fn metrics(&self) -> bool {
        self.metrics
    }

    #[inline]
    pub(super) fn tracer(&self) -> Option<&SdkTracer> {
        self.tracer.as_ref()
    }
}
