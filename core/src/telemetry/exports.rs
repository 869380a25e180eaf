//! What leaves the process, as a value that hosts pass on.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// What is recorded at all. Cheap to clone; by default nothing is.
#[derive(Debug, Clone, Default)]
pub struct Exports {
    tracer: Option<SdkTracer>,
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
