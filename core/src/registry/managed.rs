//! One plugin through its life.

mod shown;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use echo_bus::{Slot, Transport};
use echo_sdk::contract::host::SlotInfo;
use echo_sdk::contract::system::{POOL_SCALED, PluginEvent, PluginStatus, PoolScaled};
use echo_sdk::{BaseMessage, Health, PluginError, StateSnapshot, Topic};
use metrics::Gauge;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::RwLockReadGuard;
use uuid::Uuid;

use super::{Ended, PluginEntry, PluginMetrics, PluginResources, Version};
use crate::actor::Operation;
use crate::pool::Change;
use crate::telemetry::SlotMetrics;
use crate::transition::Ongoing;

/// The name under which the host publishes events about itself.
pub(crate) const HOST_SOURCE: &str = "host";

/// A plugin, its slot, and the version of it that handles the slot's messages.
///
/// A plugin is changed by one at a time: whoever puts another version in its place, or unloads it, holds
/// [`changing`](Self::changing) alone, whoever tells it to do something holds it with others.
pub(crate) struct Managed {
    name: String,
    transport: Arc<dyn Transport>,
    slot: Arc<dyn Slot>,
    metrics: SlotMetrics,
    /// The version that is told to do things, and the one beside it while that is on trial.
    versions: RwLock<Versions>,
    state: Mutex<State>,
    changing: Arc<tokio::sync::RwLock<()>>,
    /// The transitions that go on or wait, in the order in which they were begun; nothing once the plugin leaves.
    transitions: Mutex<Option<Vec<Ongoing>>>,
}

struct Versions {
    current: Arc<Version>,
    beside: Option<Arc<Version>>,
}

#[derive(Debug, Clone)]
struct State {
    status: PluginStatus,
    since: DateTime<Utc>,
    reason: Option<String>,
}

/// Why a plugin did not do what it was told.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Another version is about to take its place.
    Changing,
    /// It cannot, or does not want to.
    Plugin(PluginError),
}

impl From<PluginError> for Refusal {
    fn from(error: PluginError) -> Self {
        Self::Plugin(error)
    }
}

impl Managed {
    /// A plugin with its first version, its slot open; nothing of it runs yet.
    pub(crate) fn new(first: Arc<Version>) -> Self {
        let slot = &first.slot;
        let state = State { status: PluginStatus::Registered, since: Utc::now(), reason: None };
        let managed = Self {
            name: first.manifest.name.clone(),
            transport: Arc::clone(&slot.transport),
            slot: Arc::clone(&slot.slot),
            metrics: slot.metrics.clone(),
            versions: RwLock::new(Versions { current: first, beside: None }),
            state: Mutex::new(state),
            changing: Arc::default(),
            transitions: Mutex::new(Some(Vec::new())),
        };
        managed.tell(None, PluginStatus::Registered, None);
        managed
    }

    /// The version that handles the plugin's messages, or most of them.
    pub(crate) fn current(&self) -> Arc<Version> {
        Arc::clone(&self.versions.read().current)
    }

    /// All versions: the current one, then the one beside it.
    pub(crate) fn versions(&self) -> Vec<Arc<Version>> {
        let versions = self.versions.read();
        std::iter::once(&versions.current).chain(&versions.beside).cloned().collect()
    }

    /// Has another version stand beside the current one, or none any more.
    pub(crate) fn put_beside(&self, version: Option<Arc<Version>>) {
        self.versions.write().beside = version;
    }

    /// Has the version that stands beside the current one take its place, and gives back the one before.
    pub(crate) fn replace(&self) -> Option<Arc<Version>> {
        let mut versions = self.versions.write();
        let next = versions.beside.take()?;
        Some(std::mem::replace(&mut versions.current, next))
    }

    /// Held by those who change which version there is.
    pub(crate) fn changing(&self) -> &Arc<tokio::sync::RwLock<()>> {
        &self.changing
    }

    /// Begins a transition, which waits its turn where it may; says whether it does, if it was taken.
    pub(crate) fn begin(&self, transition: &Ongoing, may_wait: bool) -> Option<bool> {
        let mut transitions = self.transitions.lock();
        let transitions = transitions.as_mut()?;
        let waits = !transitions.is_empty();
        if waits && !may_wait {
            return None;
        }
        transitions.push(transition.clone());
        Some(waits)
    }

    /// A transition is through.
    pub(crate) fn end(&self, transition: Uuid) {
        let mut transitions = self.transitions.lock();
        transitions.iter_mut().for_each(|all| all.retain(|other| other.id != transition));
    }

    /// The transitions that go on or wait, in the order in which they were begun.
    pub(crate) fn transitions(&self) -> Vec<Ongoing> {
        self.transitions.lock().clone().unwrap_or_default()
    }

    /// The plugin is about to leave, and takes no transition any more; says whether it may, since none goes on.
    pub(crate) fn begin_to_leave(&self) -> bool {
        let mut transitions = self.transitions.lock();
        let may_leave = transitions.as_ref().is_some_and(Vec::is_empty);
        if may_leave {
            *transitions = None;
        }
        may_leave
    }

    /// The plugin stays after all.
    pub(crate) fn stay(&self) {
        self.transitions.lock().get_or_insert_default();
    }

    /// Keeps other versions away while the plugin is told to do something.
    fn stays(&self) -> Result<RwLockReadGuard<'_, ()>, Refusal> {
        self.changing.try_read().map_err(|_| Refusal::Changing)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn status(&self) -> PluginStatus {
        self.state.lock().status
    }

    /// Initialises the plugin, which may take so long, and starts its workers.
    pub(crate) async fn start(&self, patience: Duration) -> Result<(), PluginError> {
        self.enter(PluginStatus::Initializing, None);
        let version = self.current();
        match version.init(patience).await {
            Ok(()) => {
                version.pool.start();
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
        self.slot.close();
        self.enter(PluginStatus::Failed, Some(reason.to_owned()));
    }

    /// Lets messages wait, then tells the plugin.
    pub(crate) async fn pause(&self) -> Result<(), Refusal> {
        let _stays = self.stays()?;
        self.slot.pause();
        if let Err(error) = self.current().operate(Operation::Pause).await {
            self.slot.resume();
            return Err(error.into());
        }
        self.enter(PluginStatus::Paused, None);
        Ok(())
    }

    /// Tells the plugin, then lets messages flow again.
    pub(crate) async fn resume(&self) -> Result<(), Refusal> {
        let _stays = self.stays()?;
        self.current().operate(Operation::Resume).await?;
        self.slot.resume();
        self.enter(PluginStatus::Running, None);
        Ok(())
    }

    /// Has the plugin forget what it remembers, with no message in hand.
    pub(crate) async fn reset(&self) -> Result<(), Refusal> {
        let _stays = self.stays()?;
        let version = self.current();
        version.stop_workers().await;
        let reset = version.operate(Operation::Reset).await;
        version.pool.start();
        Ok(reset?)
    }

    /// What the plugin remembers, with no message in hand.
    pub(crate) async fn export_state(&self) -> Result<Option<StateSnapshot>, Refusal> {
        let _stays = self.stays()?;
        let version = self.current();
        version.stop_workers().await;
        let exported = version.export_state().await;
        version.pool.start();
        Ok(exported?)
    }

    /// Has the plugin take a state over, with no message in hand; one of an earlier form is taken up first.
    pub(crate) async fn import_state(&self, state: StateSnapshot) -> Result<(), Refusal> {
        let _stays = self.stays()?;
        let version = self.current();
        let state = version.take_up(state).await?;
        version.stop_workers().await;
        let imported = version.import_state(state).await;
        version.pool.start();
        Ok(imported?)
    }

    /// Takes no more messages and handles those that wait, as long as its end may take.
    pub(crate) async fn run_empty(&self) {
        if self.status() == PluginStatus::Running {
            self.enter(PluginStatus::Draining, None);
            self.slot.close();
            let patience = self.current().pool_config.shutdown_timeout;
            // What is left past the time is told.
            let _ = tokio::time::timeout(patience, self.idle()).await;
        }
    }

    /// Ends the plugin: no more messages, those in hand finished, then its `shutdown`.
    pub(crate) async fn stop(&self) -> Ended {
        let version = self.current();
        let ran = !matches!(self.status(), PluginStatus::Registered | PluginStatus::Failed);
        if self.status() != PluginStatus::Draining {
            self.enter(PluginStatus::Draining, None);
        }
        self.slot.close();
        let workers = version.stop_workers().await;
        let error = if ran { version.shut_down().await.err() } else { None };
        let unfinished = self.slot.take_remaining();
        self.enter(PluginStatus::Stopped, error.as_ref().map(ToString::to_string));
        Ended { workers, unfinished, error }
    }

    /// How the plugin says it is.
    pub(crate) async fn health(&self) -> Health {
        self.current().health().await
    }

    /// The plugin's own figures.
    pub(crate) async fn own_metrics(&self) -> Value {
        self.current().own_metrics().await
    }

    /// How many messages the plugin's slot has taken in.
    pub(crate) fn accepted(&self) -> u64 {
        self.slot.stats().accepted
    }

    /// Resolves once nothing is left in the plugin's slot.
    pub(crate) async fn idle(&self) {
        self.slot.idle().await;
    }

    /// Tells what the slot holds, and how many messages are in hand.
    pub(crate) fn show(&self, taken: usize) {
        let stats = self.slot.stats();
        self.metrics.queue_depth.set(stats.held as f64);
        self.metrics.queue_capacity.set(stats.capacity as f64);
        self.metrics.delayed.set(stats.delayed as f64);
        self.metrics.dropped.absolute(stats.dropped);
        self.metrics.in_flight.set(taken as f64);
        self.metrics.workers.set(self.workers() as f64);
    }

    fn workers(&self) -> usize {
        self.versions().iter().map(|version| version.pool.size()).sum()
    }

    /// Tells that a pool has grown or shrunk.
    pub(crate) fn tell_scaled(&self, from: usize, change: Change) {
        let Change { workers, reason } = change;
        tracing::debug!(plugin = self.name(), from, to = workers, reason, "pool");
        let event = PoolScaled { plugin: self.name.clone(), from, to: workers, reason };
        announce(&*self.transport, POOL_SCALED, &event);
    }

    pub(crate) fn entry(&self) -> PluginEntry {
        let State { status, since, reason } = self.state.lock().clone();
        let stats = self.slot.stats();
        let version = self.current();
        let (manifest, counters) = (&version.manifest, &version.slot.counters);
        PluginEntry {
            name: self.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            plugin_type: manifest.plugin_type,
            origin: version.origin.clone(),
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
                workers: self.workers(),
                queue_depth: stats.held,
                queue_capacity: stats.capacity,
                delayed: stats.delayed,
            },
        }
    }

    /// The slot on the bus; it keeps nothing of the plugin in memory.
    pub(crate) fn slot(&self) -> &Arc<dyn Slot> {
        &self.slot
    }

    /// Where the slot's lag is told.
    pub(crate) fn lag_gauge(&self) -> &Gauge {
        &self.metrics.lag
    }

    /// The slot as hosts tell of it; its lag is the bus's to know.
    pub(crate) fn slot_info(&self) -> SlotInfo {
        let stats = self.slot.stats();
        let version = self.current();
        let (manifest, counters) = (&version.manifest, &version.slot.counters);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SlotInfo {
            slot: self.name.clone(),
            version: manifest.version.clone(),
            status: self.status(),
            patterns: manifest.subscriptions.clone(),
            workers: self.workers(),
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
        self.metrics.set_status(before, status);
        let event = PluginEvent {
            plugin: self.name.clone(),
            version: self.current().manifest.version.clone(),
            status,
            since: self.state.lock().since,
            reason,
        };
        announce(&*self.transport, &status.topic(), &event);
    }

    /// The plugin is gone from the registry.
    pub(crate) fn leave(&self) {
        self.enter(PluginStatus::Unloaded, None);
    }
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
