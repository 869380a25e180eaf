//! Spans sent to a collector over OTLP, protobuf in plain HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tokio::runtime::Handle;

use super::{SpanEvents, TelemetryError};
use crate::config::TelemetryConfig;

/// How long one request to the collector may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How many spans wait for the next request before further ones are lost.
const QUEUE_SIZE: usize = 32 * 1024;

/// The most of an answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Where spans go, by the standard's environment variables or else the configuration.
pub(super) fn endpoint(
    config: &TelemetryConfig,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let below = |base: String| format!("{}/v1/traces", base.trim_end_matches('/'));
    environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| environment("OTEL_EXPORTER_OTLP_ENDPOINT").map(below))
        .or_else(|| config.otlp_endpoint.clone().map(below))
}

/// What records spans, and sends them to a collector where there is one.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) provider: SdkTracerProvider,
    collector: Option<Collector>,
}

/// Where spans go, and whether it takes them.
#[derive(Debug)]
struct Collector {
    endpoint: String,
    failing: Arc<AtomicBool>,
}

impl Spans {
    /// Sends spans to a collector from the runtime's threads, and tells them on the bus.
    pub(super) fn to(
        collector: Option<(String, &Handle)>,
        events: Option<&SpanEvents>,
        config: &TelemetryConfig,
    ) -> Result<Self, TelemetryError> {
        let ratio = Sampler::TraceIdRatioBased(config.sample_ratio);
        let mut provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource(config));
        if let Some(events) = events {
            provider = provider.with_span_processor(events.clone());
        }
        let Some((endpoint, runtime)) = collector else {
            return Ok(Self { provider: provider.build(), collector: None });
        };
        let failing = Arc::new(AtomicBool::new(false));
        let sender = Sender {
            endpoint: endpoint.clone(),
            runtime: runtime.clone(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            failing: failing.clone(),
        };
        let provider = provider.with_span_processor(batches(&endpoint, sender)?).build();
        Ok(Self { provider, collector: Some(Collector { endpoint, failing }) })
    }

    /// Sends what is left, waiting at most for `patience`.
    pub(super) fn end(&self, patience: Duration) -> Result<(), TelemetryError> {
        let flushed = self.provider.shutdown_with_timeout(patience);
        let Some(Collector { endpoint, failing }) = &self.collector else { return Ok(()) };
        let reason = match flushed {
            Err(error) => error.to_string(),
            Ok(()) if failing.load(Ordering::Relaxed) => "it does not take them".to_owned(),
            Ok(()) => return Ok(()),
        };
        Err(TelemetryError::Flush { endpoint: endpoint.clone(), reason })
    }
}

fn batches(endpoint: &str, sender: Sender) -> Result<BatchSpanProcessor, TelemetryError> {
    let refused = |reason| TelemetryError::Otlp { endpoint: endpoint.to_owned(), reason };
    if !endpoint.starts_with("http://") {
        return Err(refused(
            "it has to begin with http://; for TLS put a collector in between".into(),
        ));
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(sender)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(|error| refused(error.to_string()))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SIZE)
        .with_scheduled_delay(Duration::from_secs(1))
        .build();
    Ok(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
}

fn resource(config: &TelemetryConfig) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    // The builder has read the standard's variables; only a name that they leave open is set.
    if std::env::var_os("OTEL_SERVICE_NAME").is_some() {
        resource.build()
    } else {
        resource.with_service_name(config.service_name.clone()).build()
    }
}

/// Sends requests from a runtime's threads, because the exporter calls from a thread of its own.
#[derive(Debug)]
struct Sender {
    endpoint: String,
    runtime: Handle,
    client: Client<HttpConnector, Full<Bytes>>,
    failing: Arc<AtomicBool>,
}

impl Sender {
    /// Says once that spans do not arrive, and once that they do again.
    fn note(&self, failure: Option<String>) {
        let failed = failure.is_some();
        if self.failing.swap(failed, Ordering::Relaxed) == failed {
            return;
        }
        let endpoint = &self.endpoint;
        match failure {
            Some(reason) => tracing::warn!("spans do not reach {endpoint}: {reason}"),
            None => tracing::info!("spans reach {endpoint} again"),
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = self.runtime.spawn(send(self.client.clone(), request));
        let result = sending.await.unwrap_or_else(|stopped| Err(stopped.into()));
        self.note(match &result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(with_causes(error.as_ref())),
        });
        result
    }
}

async fn send(
    client: Client<HttpConnector, Full<Bytes>>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let answer = async {
        let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    tokio::time::timeout(REQUEST_TIMEOUT, answer).await?
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::telemetry::{Exports, HostTelemetry};
    use echo_sdk::Telemetry as _;

    #[test]
    fn the_standards_variables_go_over_the_file() {
        let endpoint = |file: Option<&str>, environment: &[(&str, &str)]| {
            let config = TelemetryConfig {
                otlp_endpoint: file.map(str::to_owned),
                ..TelemetryConfig::default()
            };
            let environment: HashMap<_, _> = environment.iter().copied().collect();
            super::endpoint(&config, |name| environment.get(name).map(|&value| value.to_owned()))
        };
        let (base, traces) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(Some("http://a/"), &[]).unwrap(), "http://a/v1/traces");
        assert_eq!(
            endpoint(Some("http://a"), &[(base, "http://b")]).unwrap(),
            "http://b/v1/traces"
        );
        let both = [(base, "http://b"), (traces, "http://c/mine")];
        assert_eq!(endpoint(None, &both).unwrap(), "http://c/mine");
    }

    #[test]
    fn spans_that_nobody_takes_are_told_in_bounded_time() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let endpoint = format!("http://{free}/v1/traces");
        let config = TelemetryConfig::default();
        let spans = Spans::to(Some((endpoint, runtime.handle())), None, &config).unwrap();
        let exports = Exports::default().with_spans(&spans.provider);
        drop(HostTelemetry::new("worker", exports).start_span("lost", None, &[]));
        let error = spans.end(Duration::from_secs(5)).unwrap_err().to_string();
        assert!(error.contains(&free.to_string()) && error.contains("does not take"), "{error}");
    }
}
