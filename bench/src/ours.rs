//! Our own side: a host with all that a host does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use echo_core::config::TelemetryConfig;
use echo_core::telemetry::{self, Exports, TelemetryError, TelemetryGuard};
use echo_core::{Config, Host};
use echo_sdk::{
    BaseMessage, HandlerKind, Manifest, MessageError, Plugin, PluginContext, PluginError, Topic,
};
use serde_json::json;

use crate::BenchError;
use crate::harness::{ONE_BY_ONE, OURS};
use crate::work::{QUEUE, WORKERS};

/// A plugin's slot in a host that is measured.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) subscriptions: &'a [&'a str],
    pub(crate) workers: usize,
    /// The most workers of a pool that adapts; without it the pool stays as it is.
    pub(crate) most: Option<usize>,
    pub(crate) handler: HandlerKind,
    pub(crate) queue: usize,
}

impl Default for Place<'_> {
    fn default() -> Self {
        let subscriptions = &[crate::work::TOPIC];
        let handler = HandlerKind::default();
        Self { name: "bench", subscriptions, workers: WORKERS, most: None, handler, queue: QUEUE }
    }
}

impl Place<'_> {
    /// The manifest of a plugin that asks for the deadline, the retries and the dead letters that every
    /// plugin has, and for its pool.
    pub(crate) fn manifest(&self) -> Result<Manifest, BenchError> {
        let manifest = json!({
            "name": self.name,
            "version": "1.0.0",
            "description": "is measured",
            "subscriptions": self.subscriptions,
            "worker_pool": {
                "min_workers": self.workers,
                "max_workers": self.most.unwrap_or(self.workers),
                "queue_size": self.queue,
                "adaptive_scaling": self.most.is_some(),
                "handler": self.handler,
            },
        });
        Ok(Manifest::from_json(&manifest.to_string())?)
    }
}

/// Starts a host of one plugin, with metrics recorded.
pub(crate) async fn host<P: Plugin>(
    place: Place<'_>,
    plugin: impl Fn(PluginContext) -> Result<P, PluginError> + Send + Sync + 'static,
) -> Result<Arc<Host>, BenchError> {
    host_with(Config::default(), place, plugin).await
}

/// The same with settings of the case's own.
pub(crate) async fn host_with<P: Plugin>(
    config: Config,
    place: Place<'_>,
    plugin: impl Fn(PluginContext) -> Result<P, PluginError> + Send + Sync + 'static,
) -> Result<Arc<Host>, BenchError> {
    let builder = Host::builder().config(config).telemetry(exports()?);
    Ok(Arc::new(builder.plugin(place.manifest()?, plugin).start().await?))
}

/// The name of our own side that hands over so many messages at once.
pub(crate) fn name(batch: u64) -> &'static str {
    if batch == 1 { ONE_BY_ONE } else { OURS }
}

/// Publishes so many messages, `batch` of them handed over at once.
pub(crate) async fn publish(
    client: &PluginContext,
    topic: &Topic,
    messages: u64,
    batch: u64,
    make: impl Fn() -> Result<BaseMessage, MessageError>,
) -> Result<(), BenchError> {
    if batch == 1 {
        for _ in 0..messages {
            client.publish(topic, make()?).await?;
        }
        return Ok(());
    }
    let mut left = messages;
    while left > 0 {
        let count = left.min(batch);
        let mut messages = Vec::with_capacity(count as usize);
        for _ in 0..count {
            messages.push(make()?);
        }
        client.publish_batch(topic, messages).await?;
        left -= count;
    }
    Ok(())
}

/// Metrics go to a recorder that Prometheus could scrape, as in a host that serves. Where the process has set
/// telemetry up already, they go where it said.
pub(crate) fn exports() -> Result<Exports, TelemetryError> {
    static GUARD: Mutex<Option<TelemetryGuard>> = Mutex::new(None);
    let mut known = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(guard) = &*known {
        return Ok(guard.exports());
    }
    let config = TelemetryConfig {
        prometheus: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        ..TelemetryConfig::default()
    };
    match telemetry::init(&config) {
        Ok(guard) => Ok(known.insert(guard).exports()),
        Err(TelemetryError::AlreadySetUp) => Ok(Exports::default().with_metrics()),
        Err(error) => Err(error),
    }
}
