//! One plugin through its life.

mod shown;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use echo_bus::{Slot, Transport};
use echo_sdk::contract::host::SlotInfo;
use echo_sdk::contract::system::{
    PLUGIN_QUARANTINED, POOL_SCALED, PluginEvent, PluginQuarantined, PluginStatus, PoolScaled,
};
use echo_sdk::{
    BaseMessage, Health, Manifest, PluginError, Received, StateSnapshot, Topic, WorkerPoolConfig,
};
use metrics::Gauge;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;

use super::{Origin, PluginEntry, PluginMetrics, PluginResources};
use crate::actor::{Actor, Operation, SlotRuntime, on_runtime};
use crate::library::{LoadedLibrary, UnloadOutcome, UnloadReport};
use crate::pool::{Change, Seen, Stopped, WorkerPool};

/// The name under which the host publishes events about itself.
pub(crate) const HOST_SOURCE: &str = "host";

/// A plugin, its slot and its workers.
pub(crate) struct Managed {
    manifest: Manifest,
    origin: Origin,
    pool_config: WorkerPoolConfig,
    actor: Arc<dyn Actor>,
    runtime: Handle,
    slot: Arc<SlotRuntime>,
    pool: WorkerPool,
    state: Mutex<State>,
    /// Goes last: nothing of the plugin may be left when it is unloaded.
    library: Option<LoadedLibrary>,
}

#[derive(Debug, Clone)]
struct State {
    status: PluginStatus,
    since: DateTime<Utc>,
    reason: Option<String>,
}

/// How a plugin's end went.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) workers: Stopped,
    /// Messages that nobody handled.
    pub(crate) unfinished: Vec<Received>,
    /// What its `shutdown` said, if it failed.
    pub(crate) error: Option<PluginError>,
}

impl Ended {
    /// What went wrong, a sentence each.
    pub(crate) fn faults(&self, plugin: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if self.workers.cut_off > 0 {
            let count = self.workers.cut_off;
            faults.push(format!("{count} handlers of `{plugin}` were cut off"));
        }
        if self.workers.stuck > 0 {
            let count = self.workers.stuck;
            faults.push(format!("{count} handlers of `{plugin}` block their threads and go on"));
        }
        if let Some(error) = &self.error {
            faults.push(format!("`{plugin}` did not shut down well: {error}"));
        }
        faults
    }
}

impl Managed {
    /// A plugin that has been made, with its slot open; nothing of it runs yet.
    pub(crate) fn new(
        manifest: Manifest,
        origin: Origin,
        pool_config: WorkerPoolConfig,
        actor: Arc<dyn Actor>,
        runtime: Handle,
        slot: Arc<SlotRuntime>,
    ) -> Self {
        let pool = WorkerPool::new(
            pool_config.clone(),
            runtime.clone(),
            Arc::clone(&actor),
            Arc::clone(&slot),
        );
        let state = State { status: PluginStatus::Registered, since: Utc::now(), reason: None };
        let managed = Self {
            manifest,
            origin,
            pool_config,
            actor,
            runtime,
            slot,
            pool,
            state: Mutex::new(state),
            library: None,
        };
        managed.tell(None, PluginStatus::Registered, None);
        managed
    }

    /// Ties the library that the plugin lives in to it.
    pub(crate) fn with_library(self, library: Option<LoadedLibrary>) -> Self {
        Self { library, ..self }
    }

    /// The file that the plugin was loaded from, if it was.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::BuiltIn => None,
            Origin::Library(path) => Some(path),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.manifest.name
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn status(&self) -> PluginStatus {
        self.state.lock().status
    }

    /// Initialises the plugin, which may take so long, and starts its workers.
    pub(crate) async fn start(&self, patience: Duration) -> Result<(), PluginError> {
        self.enter(PluginStatus::Initializing, None);
        let init = tokio::time::timeout(patience, self.operate(Operation::Init)).await;
        // The host has survived it, whatever came of it.
        self.library.iter().for_each(LoadedLibrary::settled);
        match init.unwrap_or_else(|_| Err(late("init", patience))) {
            Ok(()) => {
                self.pool.start();
                self.enter(PluginStatus::Running, None);
                Ok(())
            }
            Err(error) => {
                self.fail(&error.to_string());
                Err(error)
            }
        }
    }

    /// Marks the plugin as failed; its slot takes no more messages.
    pub(crate) fn fail(&self, reason: &str) {
        self.slot.slot.close();
        self.enter(PluginStatus::Failed, Some(reason.to_owned()));
    }

    /// Lets messages wait, then tells the plugin.
    pub(crate) async fn pause(&self) -> Result<(), PluginError> {
        self.slot.slot.pause();
        if let Err(error) = self.operate(Operation::Pause).await {
            self.slot.slot.resume();
            return Err(error);
        }
        self.enter(PluginStatus::Paused, None);
        Ok(())
    }

    /// Tells the plugin, then lets messages flow again.
    pub(crate) async fn resume(&self) -> Result<(), PluginError> {
        self.operate(Operation::Resume).await?;
        self.slot.slot.resume();
        self.enter(PluginStatus::Running, None);
        Ok(())
    }

    /// Has the plugin forget what it remembers, with no message in hand.
    pub(crate) async fn reset(&self) -> Result<(), PluginError> {
        self.pool.stop(self.pool_config.shutdown_timeout).await;
        let reset = self.operate(Operation::Reset).await;
        self.pool.start();
        reset
    }

    /// What the plugin remembers, with no message in hand.
    pub(crate) async fn export_state(&self) -> Result<Option<StateSnapshot>, PluginError> {
        self.pool.stop(self.pool_config.shutdown_timeout).await;
        let exporting = Arc::clone(&self.actor).export_state();
        let exported = on_runtime(&self.runtime, exporting).await;
        self.pool.start();
        exported?
    }

    /// Has the plugin take a state over, with no message in hand; one of an earlier form is taken up first.
    pub(crate) async fn import_state(&self, state: StateSnapshot) -> Result<(), PluginError> {
        let taking_up = Arc::clone(&self.actor).take_up(state);
        let state = on_runtime(&self.runtime, taking_up).await??;
        self.pool.stop(self.pool_config.shutdown_timeout).await;
        let imported = on_runtime(&self.runtime, Arc::clone(&self.actor).import_state(state)).await;
        self.pool.start();
        imported?
    }

    /// Takes no more messages and handles those that wait, as long as its end may take.
    pub(crate) async fn run_empty(&self) {
        if self.status() == PluginStatus::Running {
            self.enter(PluginStatus::Draining, None);
            self.slot.slot.close();
            // What is left past the time is told.
            let _ = tokio::time::timeout(self.pool_config.shutdown_timeout, self.idle()).await;
        }
    }

    /// Ends the plugin: no more messages, those in hand finished, then its `shutdown`.
    pub(crate) async fn stop(&self) -> Ended {
        let patience = self.pool_config.shutdown_timeout;
        let ran = !matches!(self.status(), PluginStatus::Registered | PluginStatus::Failed);
        if self.status() != PluginStatus::Draining {
            self.enter(PluginStatus::Draining, None);
        }
        self.slot.slot.close();
        let workers = self.pool.stop(patience).await;
        let error = if ran { self.shut_down(patience).await.err() } else { None };
        let unfinished = self.slot.slot.take_remaining();
        self.enter(PluginStatus::Stopped, error.as_ref().map(ToString::to_string));
        Ended { workers, unfinished, error }
    }

    async fn shut_down(&self, patience: Duration) -> Result<(), PluginError> {
        let shutdown = self.operate(Operation::Shutdown);
        let ended = tokio::time::timeout(patience, shutdown).await;
        ended.unwrap_or_else(|_| Err(late("shutdown", patience)))
    }

    async fn operate(&self, operation: Operation) -> Result<(), PluginError> {
        on_runtime(&self.runtime, Arc::clone(&self.actor).run(operation)).await?
    }

    /// How the plugin says it is.
    pub(crate) async fn health(&self) -> Health {
        let health = on_runtime(&self.runtime, Arc::clone(&self.actor).health()).await;
        health.unwrap_or_else(|error| Health::Unhealthy(error.to_string()))
    }

    /// The plugin's own figures.
    pub(crate) async fn own_metrics(&self) -> Value {
        let metrics = on_runtime(&self.runtime, Arc::clone(&self.actor).metrics()).await;
        metrics.unwrap_or_else(|error| Value::String(error.to_string()))
    }

    /// How many messages the plugin's slot has taken in.
    pub(crate) fn accepted(&self) -> u64 {
        self.slot.slot.stats().accepted
    }

    /// Resolves once nothing is left in the plugin's slot.
    pub(crate) async fn idle(&self) {
        self.slot.slot.idle().await;
    }

    /// Looks at the pool and the slot, once an interval; gives what the pool did and the cores it can use.
    pub(crate) fn look(&self) -> (Seen, usize) {
        let stats = self.slot.slot.stats();
        self.slot.metrics.queue_depth.set(stats.held as f64);
        self.slot.metrics.queue_capacity.set(stats.capacity as f64);
        self.slot.metrics.delayed.set(stats.delayed as f64);
        self.slot.metrics.dropped.absolute(stats.dropped);
        let seen = self.pool.look();
        self.slot.metrics.in_flight.set(seen.taken as f64);
        (seen, self.pool.cores())
    }

    /// Changes the pool's size where that helps, and tells of it; it may keep so many cores busy.
    pub(crate) fn scale(&self, seen: Seen, cores: f64) {
        let Some(Change { workers, reason }) = self.pool.scale(seen, cores) else {
            return;
        };
        tracing::debug!(plugin = self.name(), from = seen.workers, to = workers, reason, "pool");
        let plugin = self.name().to_owned();
        let event = PoolScaled { plugin, from: seen.workers, to: workers, reason };
        announce(&*self.slot.transport, POOL_SCALED, &event);
    }

    pub(crate) fn entry(&self) -> PluginEntry {
        let State { status, since, reason } = self.state.lock().clone();
        let stats = self.slot.slot.stats();
        let counters = &self.slot.counters;
        PluginEntry {
            name: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            description: self.manifest.description.clone(),
            plugin_type: self.manifest.plugin_type,
            origin: self.origin.clone(),
            status,
            last_status_change: since,
            reason,
            metrics: PluginMetrics {
                delivered: counters.delivered.load(Ordering::Relaxed),
                acknowledged: counters.acknowledged.load(Ordering::Relaxed),
                forwarded: counters.forwarded.load(Ordering::Relaxed),
                retried: counters.retried.load(Ordering::Relaxed),
                failed: counters.failed.load(Ordering::Relaxed),
                dead: counters.dead.load(Ordering::Relaxed),
                published: counters.published.load(Ordering::Relaxed),
                dropped: stats.dropped,
            },
            resources: PluginResources {
                workers: self.pool.size(),
                queue_depth: stats.held,
                queue_capacity: stats.capacity,
                delayed: stats.delayed,
            },
        }
    }

    /// The slot on the bus; it keeps nothing of the plugin in memory.
    pub(crate) fn slot(&self) -> &Arc<dyn Slot> {
        &self.slot.slot
    }

    /// Where the slot's lag is told.
    pub(crate) fn lag_gauge(&self) -> &Gauge {
        &self.slot.metrics.lag
    }

    /// The slot as hosts tell of it; its lag is the bus's to know.
    pub(crate) fn slot_info(&self) -> SlotInfo {
        let stats = self.slot.slot.stats();
        let counters = &self.slot.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SlotInfo {
            slot: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            status: self.status(),
            patterns: self.manifest.subscriptions.clone(),
            workers: self.pool.size(),
            depth: stats.held,
            capacity: stats.capacity,
            lag: None,
            delayed: stats.delayed,
            accepted: stats.accepted,
            acknowledged: count(&counters.acknowledged) + count(&counters.forwarded),
            retried: count(&counters.retried),
            dead: count(&counters.dead),
            dropped: stats.dropped,
        }
    }

    fn enter(&self, status: PluginStatus, reason: Option<String>) {
        let before = {
            let mut state = self.state.lock();
            let before = state.status;
            *state = State { status, since: Utc::now(), reason: reason.clone() };
            before
        };
        self.tell(Some(before), status, reason);
    }

    fn tell(&self, before: Option<PluginStatus>, status: PluginStatus, reason: Option<String>) {
        self.slot.metrics.set_status(before, status);
        let event = PluginEvent {
            plugin: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            status,
            since: self.state.lock().since,
            reason,
        };
        announce(&*self.slot.transport, &status.topic(), &event);
    }

    /// Lets go of the plugin once it has ended, and unloads its library.
    pub(crate) async fn forget(self: Arc<Self>) -> Option<UnloadReport> {
        self.enter(PluginStatus::Unloaded, None);
        // Another holder is somebody who looks at the registry just now; the library then stays in memory.
        let Self { library, actor, pool, slot, .. } = Arc::into_inner(self)?;
        let transport = Arc::clone(&slot.transport);
        drop((pool, slot, actor));
        let library = library?;
        let report = tokio::task::spawn_blocking(move || library.unload()).await.ok()?;
        if matches!(report.outcome, UnloadOutcome::Quarantined(_)) {
            let event = PluginQuarantined {
                plugin: report.plugin.clone(),
                file: report.path.display().to_string(),
                hash: report.hash.clone(),
                reason: report.to_string(),
            };
            announce(&*transport, PLUGIN_QUARANTINED, &event);
        }
        Some(report)
    }
}

/// What a plugin is told to have failed with that does not return.
fn late(what: &str, patience: Duration) -> PluginError {
    let patience = echo_sdk::duration::format(patience);
    PluginError::ProcessingError(format!("its {what} took longer than {patience}"))
}

/// Publishes an event of the host's. Events neither wait nor fail what they tell of.
pub(crate) fn announce<T: Serialize>(transport: &dyn Transport, topic: &str, event: &T) {
    let published = Topic::new(topic).map_err(PluginError::from).and_then(|topic| {
        let message = BaseMessage::builder(HOST_SOURCE).data(event).build()?;
        Ok(transport.publish_unbounded(&topic, message)?)
    });
    if let Err(error) = published {
        tracing::debug!(topic, %error, "an event was not published");
    }
}
