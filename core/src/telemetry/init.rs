//! Setting telemetry up, once for the process, and ending it.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::Subscriber;

use super::otlp::Spans;
use super::{Exports, SpanEvents, describe, otlp, prometheus, subscriber};
use crate::config::TelemetryConfig;

/// How long the end of the process waits for the last spans to be sent.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// Why telemetry was not set up, or not all of it was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The log filter cannot be read.
    #[error(
        "`telemetry.log` is `{filter}`, which is no filter ({reason}); write such as \"warn\" or \"info,plugin=debug\""
    )]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logs or metrics are set up in this process already.
    #[error(
        "telemetry is set up in this process already; call `telemetry::init` once, before any other"
    )]
    AlreadySetUp,
    /// Spans cannot go where they should.
    #[error("spans cannot be sent to `{endpoint}`: {reason}")]
    Otlp {
        /// The collector's address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The address for Prometheus cannot be listened on.
    #[error(
        "cannot listen on {address} for Prometheus; set `telemetry.prometheus` to an address that is free"
    )]
    Prometheus {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread that exports was not started.
    #[error("the thread that exports telemetry did not start")]
    Thread(#[source] io::Error),
    /// The last spans were not sent.
    #[error("the last spans did not reach `{endpoint}`: {reason}")]
    Flush {
        /// The collector's address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The end of telemetry was cut off, because the runtime that it was called on ended.
    #[error("the end of telemetry was cut off")]
    CutOff,
}

/// Sets telemetry up for the process: log lines to standard error, and the exporters that are configured.
///
/// # Errors
/// [`TelemetryError`] when a setting cannot be worked with, or telemetry is set up already.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = subscriber(config, io::stderr, colour)?;
    TelemetryGuard::set_up(config, logs)
}

/// What was set up. Sends what is left when it is dropped, or better, at [`shutdown`](Self::shutdown).
#[derive(Debug)]
#[must_use = "telemetry ends when its guard is dropped"]
pub struct TelemetryGuard {
    exports: Exports,
    spans: Option<Spans>,
    metrics: Option<PrometheusHandle>,
    /// Where Prometheus scrapes them, if it does.
    scraped_at: Option<SocketAddr>,
    /// Exporters run on a thread of their own, so that they work whatever the host does.
    runtime: Option<Runtime>,
}

impl TelemetryGuard {
    /// As [`init`], with log lines written by `logs`: see [`subscriber`].
    ///
    /// # Errors
    /// As [`init`].
    pub fn set_up(
        config: &TelemetryConfig,
        logs: impl Subscriber + Send + Sync + 'static,
    ) -> Result<Self, TelemetryError> {
        Self::start(config, logs, config.prometheus.is_some())
    }

    /// As [`set_up`](Self::set_up), and keeps metrics in any case, for a host that gives them out itself:
    /// [`prometheus_renderer`](Self::prometheus_renderer).
    ///
    /// # Errors
    /// As [`init`].
    pub fn set_up_with_metrics(
        config: &TelemetryConfig,
        logs: impl Subscriber + Send + Sync + 'static,
    ) -> Result<Self, TelemetryError> {
        Self::start(config, logs, true)
    }

    fn start(
        config: &TelemetryConfig,
        logs: impl Subscriber + Send + Sync + 'static,
        with_metrics: bool,
    ) -> Result<Self, TelemetryError> {
        // What can be refused comes first; what cannot be taken back, the globals, last.
        let mut guard = Self {
            exports: Exports::default(),
            spans: None,
            metrics: None,
            scraped_at: None,
            runtime: None,
        };
        let recorder = guard.start_exporters(config, with_metrics)?;
        tracing::subscriber::set_global_default(logs).map_err(|_| TelemetryError::AlreadySetUp)?;
        if let Some(recorder) = recorder {
            metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::AlreadySetUp)?;
            describe();
        }
        Ok(guard)
    }

    fn start_exporters(
        &mut self,
        config: &TelemetryConfig,
        with_metrics: bool,
    ) -> Result<Option<PrometheusRecorder>, TelemetryError> {
        let endpoint = otlp::endpoint(config, |name| std::env::var(name).ok());
        let events = config.span_events.then(SpanEvents::default);
        if endpoint.is_none() && !with_metrics {
            self.record_spans(None, events, config)?;
            return Ok(None);
        }
        let runtime = runtime().map_err(TelemetryError::Thread)?;
        let handle = runtime.handle().clone();
        self.runtime = Some(runtime);
        self.record_spans(endpoint.map(|endpoint| (endpoint, &handle)), events, config)?;
        if !with_metrics {
            return Ok(None);
        }
        let runtime = &handle;
        let recorder = prometheus::recorder();
        let metrics = recorder.handle();
        if let Some(address) = config.prometheus {
            self.scraped_at = Some(prometheus::serve(address, metrics.clone(), runtime)?);
        }
        runtime.spawn(prometheus::keep_up(metrics.clone()));
        self.metrics = Some(metrics);
        self.exports = std::mem::take(&mut self.exports).with_metrics();
        Ok(Some(recorder))
    }

    /// Records spans where somebody wants them.
    fn record_spans(
        &mut self,
        collector: Option<(String, &Handle)>,
        events: Option<SpanEvents>,
        config: &TelemetryConfig,
    ) -> Result<(), TelemetryError> {
        if collector.is_none() && events.is_none() {
            return Ok(());
        }
        let spans = self.spans.insert(Spans::to(collector, events.as_ref(), config)?);
        self.exports = std::mem::take(&mut self.exports).with_spans(&spans.provider);
        if let Some(events) = events {
            self.exports = std::mem::take(&mut self.exports).with_span_events(events);
        }
        Ok(())
    }

    /// What the host passes on to whatever records.
    pub fn exports(&self) -> Exports {
        self.exports.clone()
    }

    /// Where Prometheus scrapes, if it does: the address that was bound, for a configured port of 0.
    pub fn prometheus_address(&self) -> Option<SocketAddr> {
        self.scraped_at
    }

    /// The metrics as Prometheus reads them, if they are recorded.
    pub fn prometheus_text(&self) -> Option<String> {
        self.metrics.as_ref().map(PrometheusHandle::render)
    }

    /// What gives the metrics as [`prometheus_text`](Self::prometheus_text) does, for what outlives a borrow.
    pub fn prometheus_renderer(&self) -> impl Fn() -> Option<String> + Send + Sync + use<> {
        let metrics = self.metrics.clone();
        move || metrics.as_ref().map(PrometheusHandle::render)
    }

    /// Sends what is left and ends the exporters, within five seconds each; nothing listens any more afterwards.
    ///
    /// # Errors
    /// [`TelemetryError::Flush`] when the last spans did not reach the collector.
    pub async fn shutdown(mut self) -> Result<(), TelemetryError> {
        // Waiting for the exporter's thread must not hold up this one's other tasks.
        let wait = |runtime: Runtime| runtime.shutdown_timeout(FLUSH_PATIENCE);
        let ended = tokio::task::spawn_blocking(move || self.end(wait)).await;
        ended.unwrap_or(Err(TelemetryError::CutOff))
    }

    fn end(&mut self, end_runtime: impl FnOnce(Runtime)) -> Result<(), TelemetryError> {
        let flushed = self.spans.take().map_or(Ok(()), |spans| spans.end(FLUSH_PATIENCE));
        if let Some(runtime) = self.runtime.take() {
            end_runtime(runtime);
        }
        flushed
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Err(error) = self.end(Runtime::shutdown_background) {
            tracing::warn!("{error}");
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("echo-telemetry")
        .enable_io()
        .enable_time()
        .build()
}
