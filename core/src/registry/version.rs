//! One version of a plugin: made, initialised, at work, ended. Two of them may stand behind one slot for a while.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use echo_bus::{BusError, Transport};
use echo_sdk::contract::system::{PLUGIN_QUARANTINED, PluginQuarantined};
use echo_sdk::{
    BoxFuture, HandlerKind, Health, Manifest, PluginError, Received, StateSnapshot,
    WorkerPoolConfig,
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{Origin, announce};
use crate::actor::{Actor, Operation, Rehearsal, SlotRuntime, on_runtime};
use crate::library::{LoadedLibrary, UnloadOutcome, UnloadReport};
use crate::pool::{Stopped, WorkerPool};

/// A version of a plugin with its workers.
pub(crate) struct Version {
    pub(crate) manifest: Manifest,
    pub(crate) origin: Origin,
    pub(crate) pool_config: WorkerPoolConfig,
    actor: Arc<dyn Actor>,
    runtime: Handle,
    /// What its workers share; the slot itself outlives it.
    pub(crate) slot: Arc<SlotRuntime>,
    pub(crate) pool: WorkerPool,
    /// Goes last: nothing of the plugin may be left when it is unloaded.
    pub(crate) library: Option<LoadedLibrary>,
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

impl Version {
    /// A version that has been made; nothing of it runs yet.
    pub(crate) fn new(
        manifest: Manifest,
        origin: Origin,
        pool_config: WorkerPoolConfig,
        (actor, runtime): (Arc<dyn Actor>, Handle),
        slot: Arc<SlotRuntime>,
        library: Option<LoadedLibrary>,
    ) -> Self {
        let pool = WorkerPool::new(
            pool_config.clone(),
            runtime.clone(),
            Arc::clone(&actor),
            Arc::clone(&slot),
        );
        Self { manifest, origin, pool_config, actor, runtime, slot, pool, library }
    }

    /// The file that it was loaded from, if it was.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::BuiltIn => None,
            Origin::Library(path) => Some(path),
        }
    }

    /// Initialises it, which may take so long; its workers are not started.
    pub(crate) async fn init(&self, patience: Duration) -> Result<(), PluginError> {
        let init = tokio::time::timeout(patience, self.operate(Operation::Init)).await;
        // The host has survived it, whatever came of it.
        self.library.iter().for_each(LoadedLibrary::settled);
        init.unwrap_or_else(|_| Err(late("init", patience)))
    }

    pub(crate) async fn operate(&self, operation: Operation) -> Result<(), PluginError> {
        on_runtime(&self.runtime, Arc::clone(&self.actor).run(operation)).await?
    }

    /// Has it clean up after itself.
    pub(crate) async fn shut_down(&self) -> Result<(), PluginError> {
        self.within("shutdown", Arc::clone(&self.actor).run(Operation::Shutdown)).await
    }

    /// What it remembers. Its workers have to be stopped.
    pub(crate) async fn export_state(&self) -> Result<Option<StateSnapshot>, PluginError> {
        self.within("export_state", Arc::clone(&self.actor).export_state()).await
    }

    /// The form of its state.
    pub(crate) fn schema(&self) -> u32 {
        self.slot.forms.own()
    }

    /// Takes a state to its own form and proves the way; takes nothing over.
    pub(crate) async fn take_up(&self, state: StateSnapshot) -> Result<StateSnapshot, PluginError> {
        self.within("state_up", Arc::clone(&self.actor).take_up(state)).await
    }

    /// Takes a state to another form; takes nothing over.
    pub(crate) async fn convert_state(
        &self,
        state: StateSnapshot,
        to: u32,
    ) -> Result<StateSnapshot, PluginError> {
        self.within("convert_state", Arc::clone(&self.actor).convert(state, to)).await
    }

    /// Brings all of its documents down to the form that it [stores](crate::state::Forms::store_in) now. It does so where
    /// the plugin's own code runs: no thread has to be woken for each.
    pub(crate) async fn take_documents_down(&self) -> Result<u64, PluginError> {
        let Some(states) = self.slot.states.clone() else { return Ok(0) };
        let forms = Arc::clone(&self.slot.forms);
        on_runtime(&self.runtime, Box::pin(async move { forms.sweep(&*states).await })).await?
    }

    /// Takes so many of the documents that there are up to its own form and down again, to see whether it can.
    pub(crate) async fn check_documents(&self, limit: usize) -> Result<usize, PluginError> {
        let Some(states) = self.slot.states.clone() else { return Ok(0) };
        let forms = Arc::clone(&self.slot.forms);
        on_runtime(&self.runtime, Box::pin(async move { forms.check(&*states, limit).await }))
            .await?
    }

    /// Takes a state of its own form over. Its workers have to be stopped.
    pub(crate) async fn import_state(&self, state: StateSnapshot) -> Result<(), PluginError> {
        self.within("import_state", Arc::clone(&self.actor).import_state(state)).await
    }

    /// Waits for an operation as long as the plugin's end may take.
    async fn within<T: Send + 'static>(
        &self,
        what: &str,
        operation: BoxFuture<'static, Result<T, PluginError>>,
    ) -> Result<T, PluginError> {
        let patience = self.pool_config.shutdown_timeout;
        let done = tokio::time::timeout(patience, on_runtime(&self.runtime, operation)).await;
        done.unwrap_or_else(|_| Err(late(what, patience)))?
    }

    /// Has it handle copies of messages, on its own threads, of which nothing follows; until this resolves.
    pub(crate) fn rehearse(
        &self,
        rehearsal: Rehearsal,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let rehearsing = Arc::clone(&self.actor).rehearse(rehearsal);
        let rehearsing = async move {
            tokio::select! {
                biased;
                () = until => {}
                () = rehearsing => {}
            }
        };
        match self.pool_config.handler {
            HandlerKind::Async => self.runtime.spawn(rehearsing),
            HandlerKind::Blocking => {
                let runtime = self.runtime.clone();
                self.runtime.spawn_blocking(move || runtime.block_on(rehearsing))
            }
        }
    }

    /// Whether it subscribes to the same as another version.
    pub(crate) fn subscribes_as(&self, other: &Self) -> bool {
        let patterns = |version: &Self| -> BTreeSet<String> {
            version.manifest.subscriptions.iter().map(ToString::to_string).collect()
        };
        patterns(self) == patterns(other)
    }

    /// Has the slot get what it subscribes to.
    pub(crate) async fn subscribe(&self) -> Result<(), BusError> {
        self.slot.slot.resubscribe(self.manifest.subscriptions.clone()).await
    }

    /// How it says it is.
    pub(crate) async fn health(&self) -> Health {
        let health = on_runtime(&self.runtime, Arc::clone(&self.actor).health()).await;
        health.unwrap_or_else(|error| Health::Unhealthy(error.to_string()))
    }

    /// Its own figures.
    pub(crate) async fn own_metrics(&self) -> Value {
        let metrics = on_runtime(&self.runtime, Arc::clone(&self.actor).metrics()).await;
        metrics.unwrap_or_else(|error| Value::String(error.to_string()))
    }

    /// Ends its workers, finding none of them at work again after that.
    pub(crate) async fn stop_workers(&self) -> Stopped {
        self.pool.stop(self.pool_config.shutdown_timeout).await
    }

    /// Lets go of it once it has ended and nobody looks at it any more, and unloads its library, if it has one.
    pub(crate) async fn forget(self: Arc<Self>) -> Gone {
        let alone = async {
            while Arc::strong_count(&self) > 1 {
                tokio::time::sleep(HELD_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(HELD_PATIENCE, alone).await;
        let (name, is_library) = (self.manifest.name.clone(), self.library.is_some());
        let transport = Arc::clone(&self.slot.transport);
        let report = match Arc::into_inner(self) {
            Some(Self { library, actor, pool, slot, .. }) => {
                drop((pool, slot, actor));
                unload(library).await
            }
            None => None,
        };
        match report {
            Some(report) => {
                tell_quarantined(&*transport, &report);
                Gone::Library(report)
            }
            None if is_library => Gone::Held(name),
            None => Gone::BuiltIn,
        }
    }
}

/// How long somebody who looks at a version just now is waited for.
const HELD_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether they are done.
const HELD_LOOK: Duration = Duration::from_millis(1);

/// What became of a version that was let go of.
pub(crate) enum Gone {
    /// It was linked into the host.
    BuiltIn,
    Library(UnloadReport),
    /// Somebody in the host still holds the version of this plugin, so its library stays in memory.
    Held(String),
}

impl Gone {
    /// What is left of it, in a sentence.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::Library(report) => {
                let stays = matches!(report.outcome, UnloadOutcome::Quarantined(_));
                stays.then(|| report.to_string())
            }
            Self::Held(plugin) => Some(format!(
                "the library of `{plugin}` stays in memory, since somebody in the host still holds the plugin"
            )),
            Self::BuiltIn => None,
        }
    }
}

/// Unloads a library where blocking is allowed.
async fn unload(library: Option<LoadedLibrary>) -> Option<UnloadReport> {
    let library = library?;
    tokio::task::spawn_blocking(move || library.unload()).await.ok()
}

fn tell_quarantined(transport: &dyn Transport, report: &UnloadReport) {
    if matches!(report.outcome, UnloadOutcome::Quarantined(_)) {
        let event = PluginQuarantined {
            plugin: report.plugin.clone(),
            file: report.path.display().to_string(),
            hash: report.hash.clone(),
            reason: report.to_string(),
        };
        announce(transport, PLUGIN_QUARANTINED, &event);
    }
}

/// What a plugin is told to have failed with that does not return.
fn late(what: &str, patience: Duration) -> PluginError {
    let patience = echo_sdk::duration::format(patience);
    PluginError::ProcessingError(format!("its {what} took longer than {patience}"))
}
