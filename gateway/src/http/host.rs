//! What a host says of itself: `/metrics`, `/healthz`, `/v1/plugins`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use echo_core::{Host, PluginEntry};
use echo_sdk::contract::system::PluginStatus;
use echo_sdk::{BoxFuture, Health};
use futures_util::future::join_all;
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::{self, Body};
use super::problem::Problem;
use super::routes::Call;

/// How long a plugin may take to say how it is.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// A host, as far as the door shows it.
pub trait HostView: Send + Sync {
    /// The metrics in Prometheus' text format; `None` when none are kept.
    fn metrics(&self) -> Option<String>;

    /// The plugins and how they are; `None` when the host is ending.
    fn plugins(&self) -> BoxFuture<'_, Option<Vec<PluginView>>>;
}

/// A plugin and how it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginView {
    /// What the registry knows of it.
    #[serde(flatten)]
    pub entry: PluginEntry,
    /// How it says it is; one that says nothing in time does not work.
    pub health: Health,
}

impl PluginView {
    /// How it is: what it says, or worse, what the host sees of it.
    fn judged(&self) -> Judgement {
        match (self.entry.status, &self.health) {
            (PluginStatus::Failed, _) | (_, Health::Unhealthy(_)) => Judgement::Unhealthy,
            (_, Health::Degraded(_)) => Judgement::Degraded,
            _ => Judgement::Healthy,
        }
    }
}

/// A running host and its metrics. It does not keep the host from ending.
pub struct HostReport {
    host: Weak<Host>,
    metrics: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl HostReport {
    /// Shows a host, and what `metrics` gives: the text of its exporter, such as
    /// [`TelemetryGuard::prometheus_text`](echo_core::telemetry::TelemetryGuard::prometheus_text).
    pub fn new(
        host: &Arc<Host>,
        metrics: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { host: Arc::downgrade(host), metrics: Box::new(metrics) }
    }
}

impl HostView for HostReport {
    fn metrics(&self) -> Option<String> {
        (self.metrics)()
    }

    fn plugins(&self) -> BoxFuture<'_, Option<Vec<PluginView>>> {
        Box::pin(async {
            let entries = self.host.upgrade()?.plugins();
            let views = entries.into_iter().map(|entry| async {
                let health = self.health(&entry.name).await;
                PluginView { entry, health }
            });
            Some(join_all(views).await)
        })
    }
}

impl HostReport {
    async fn health(&self, plugin: &str) -> Health {
        let Some(host) = self.host.upgrade() else { return Health::Unchecked };
        match tokio::time::timeout(HEALTH_PATIENCE, host.health(plugin)).await {
            Ok(Ok(health)) => health,
            Ok(Err(error)) => Health::Unhealthy(error.to_string()),
            Err(_) => Health::Unhealthy("it did not say how it is within 5 seconds".to_owned()),
        }
    }
}

impl std::fmt::Debug for HostReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostReport")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Judgement {
    Healthy,
    Degraded,
    Unhealthy,
}

/// How the host is: as well as the worst of its plugins.
#[derive(Serialize)]
struct HealthReport<'a> {
    status: Judgement,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugins: Option<Vec<PluginHealth<'a>>>,
}

#[derive(Serialize)]
struct PluginHealth<'a> {
    name: &'a str,
    status: PluginStatus,
    health: &'a Health,
}

/// Answers whether the host works. Everybody may know, and those who may come in, how each plugin is.
pub(super) async fn health(call: Call) -> Result<Response<Body>, Problem> {
    let views = plugins_of(&call).await?;
    let status = views.iter().map(PluginView::judged).max().unwrap_or(Judgement::Healthy);
    let plugins = call.is_known.then(|| {
        let health = views.iter().map(|PluginView { entry, health }| PluginHealth {
            name: &entry.name,
            status: entry.status,
            health,
        });
        health.collect()
    });
    let code = match status {
        Judgement::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    body::json(code, "application/json", &HealthReport { status, plugins })
}

/// Lists the plugins.
pub(super) async fn plugins(call: Call) -> Result<Response<Body>, Problem> {
    let views = plugins_of(&call).await?;
    body::json(StatusCode::OK, "application/json", &views)
}

async fn plugins_of(call: &Call) -> Result<Vec<PluginView>, Problem> {
    let ending = || Problem::unavailable("closed", "the host is shutting down");
    if call.door().closing.is_cancelled() {
        return Err(ending());
    }
    call.door().host.plugins().await.ok_or_else(ending)
}

/// Gives the metrics out.
pub(super) fn metrics(call: &Call) -> Result<Response<Body>, Problem> {
    let text = call.door().host.metrics().ok_or_else(|| {
        let detail = "this host keeps no metrics; give `telemetry.prometheus` an address";
        Problem::new(StatusCode::NOT_FOUND, "no-metrics", detail)
    })?;
    Ok(body::answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}
