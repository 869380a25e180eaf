//! Metrics for Prometheus to scrape: `GET /metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::TelemetryError;

/// The bounds of histograms in seconds: from a queue that is empty to a handler that waits for a container.
const SECONDS: [f64; 16] =
    [1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// How often values that nobody scraped are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long accepting pauses when the process is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A recorder whose handle renders Prometheus' text format.
///
/// Metrics that end in `_seconds` are histograms with buckets, other distributions are summaries.
pub fn recorder() -> PrometheusRecorder {
    let seconds = Matcher::Suffix("_seconds".into());
    match PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS) {
        Ok(builder) => builder.build_recorder(),
        // Only an empty list of buckets is refused.
        Err(_) => PrometheusBuilder::new().build_recorder(),
    }
}

/// Serves the metrics on `address` from the runtime's threads, as long as it lives; gives the address.
pub(super) fn serve(
    address: SocketAddr,
    metrics: PrometheusHandle,
    runtime: &Handle,
) -> Result<SocketAddr, TelemetryError> {
    let refused = |source| TelemetryError::Prometheus { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let listener = {
        let _within = runtime.enter();
        TcpListener::from_std(listener).map_err(refused)?
    };
    runtime.spawn(accept(listener, metrics));
    Ok(bound)
}

/// Puts values into their buckets now and then, whether somebody scrapes or not.
pub(super) async fn keep_up(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn accept(listener: TcpListener, metrics: PrometheusHandle) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, metrics.clone()))),
            Err(error) => {
                tracing::warn!("a scrape of the metrics was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, metrics: PrometheusHandle) {
    let service = service_fn(|request| std::future::ready(answer(&request, &metrics)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a scrape of the metrics broke off: {error}");
    }
}

fn answer(
    request: &Request<Incoming>,
    metrics: &PrometheusHandle,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, metrics.render()),
        ("/metrics", _) => {
            (StatusCode::METHOD_NOT_ALLOWED, "the metrics are read with GET\n".into())
        }
        _ => (StatusCode::NOT_FOUND, "the metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let format =
        hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    Ok(response)
}
