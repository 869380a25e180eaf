//! Ending a host.

use std::sync::Arc;

use echo_sdk::contract::system::{HOST_STOPPING, HostEvent, PluginStatus};
use echo_sdk::{Received, Topic};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Host;
use super::loading::forget;
use crate::registry::{Ended, Managed, announce};

/// A message that a shutdown left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The slot that had it.
    pub slot: String,
    /// The topic that it came on.
    pub topic: Topic,
    /// Its id.
    pub id: Uuid,
}

/// How a shutdown went, and what it could not finish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Messages that nobody handled in time.
    pub unfinished: Vec<Unfinished>,
    /// What went wrong with which plugin.
    pub faults: Vec<String>,
}

impl ShutdownReport {
    /// Whether everything was finished and nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.unfinished.is_empty() && self.faults.is_empty()
    }

    fn add(&mut self, plugin: &Managed, ended: Ended) {
        self.faults.extend(ended.faults(plugin.name()));
        self.unfinished.extend(unfinished(plugin.name(), ended.unfinished));
    }
}

/// Messages that a slot was left with.
pub(super) fn unfinished(slot: &str, left: Vec<Received>) -> Vec<Unfinished> {
    let unfinished = left.into_iter().map(|Received { topic, message }| Unfinished {
        slot: slot.to_owned(),
        topic,
        id: message.id(),
    });
    unfinished.collect()
}

impl Host {
    /// Waits until no plugin has anything left to do.
    pub async fn idle(&self) {
        let plugins = self.shared.registry.read().in_order();
        drain(&plugins).await;
    }

    /// Ends the host: stops the intake, lets the queues run empty within `shutdown.timeout`, then shuts the
    /// plugins down, dependents first. What it could not finish, it says.
    pub async fn shutdown(self) -> ShutdownReport {
        let shared = Arc::clone(&self.shared);
        shared.intake.stop();
        let names = self.plugins().into_iter().map(|plugin| plugin.name).collect();
        announce(&*shared.parts.transport, HOST_STOPPING, &HostEvent { plugins: names });
        shared.end_transitions().await;
        let plugins = shared.registry.read().in_order();
        let drained = drain(&plugins);
        // Past the time the plugins are stopped all the same; what they leave is in the report.
        let _ = tokio::time::timeout(shared.parts.config.shutdown.timeout, drained).await;
        drop(plugins);
        // Whoever loads or unloads just now is waited for, and nobody begins to after that. An order for it is carried out
        // by one of the tasks, so these end after it.
        let _no_change = shared.changes.lock().await;
        self.end_tasks();
        let mut report = ShutdownReport::default();
        let plugins = shared.registry.write().drain();
        for plugin in plugins {
            let ended = plugin.stop().await;
            report.add(&plugin, ended);
            report.faults.extend(forget(plugin).await.fault());
        }
        if let Some(letters) = &shared.letter_slot {
            letters.close();
        }
        shared.parts.dead_letters.let_go();
        shared.parts.transport.close();
        shared.parts.transport.closed().await;
        report
    }

    /// Ends what goes on beside the plugins.
    pub(super) fn end_tasks(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Waits until no plugin has anything left.
///
/// One that runs empty may have given another something to do. A message that is handed on is in the next
/// slot before it leaves the one before. So when no slot has taken anything in between the first look and the
/// last, and each was empty at some time between, all are.
async fn drain(plugins: &[Arc<Managed>]) {
    loop {
        let running = || plugins.iter().filter(|plugin| plugin.status() == PluginStatus::Running);
        let accepted = || running().map(|plugin| plugin.accepted()).sum::<u64>();
        let before = accepted();
        for plugin in running() {
            plugin.idle().await;
        }
        if accepted() == before {
            return;
        }
    }
}
