//! A host: one process that runs plugins on a bus.

mod answers;
mod builder;
mod candidate;
mod dead;
#[cfg(test)]
mod forms_tests;
mod lag;
mod loading;
mod local_bus;
mod making;
#[cfg(test)]
mod shadow_tests;
mod shutdown;
mod starting;
mod transitions;
mod watching;

use std::fmt;
use std::sync::Arc;

use echo_bus::{BusError, OpenError, Slot, SubscribeOptions, Transport};
use echo_sdk::contract::dead::DeadLetter;
use echo_sdk::{
    Health, Overflow, Pattern, PluginContext, PluginError, PluginType, StateSnapshot, Subscription,
    TransitionSettingsError,
};
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tokio::task::{JoinHandle, JoinSet};

use crate::actor::context::{ClientTransport, Intake};
use crate::config::{Config, PluginSettingsError};
use crate::library::LibraryError;
use crate::middleware::tool_transport;
use crate::registry::{Managed, OrderError, PluginEntry, PluginRegistry, Refusal, RegistryError};
use crate::schema::{LoadError, Schemas};
use crate::telemetry::HostTelemetry;

pub use builder::HostBuilder;
pub(crate) use dead::DeadLetters;
pub use loading::Unloaded;
use making::Parts;
pub use shutdown::{ShutdownReport, Unfinished};
pub use transitions::Transitioning;

/// Why a host did not start, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The bus could not be brought up, or a slot not opened.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A plugin was not taken into the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The plugins' dependencies give no order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The configuration does not fit a plugin.
    #[error(transparent)]
    Settings(#[from] PluginSettingsError),
    /// A plugin could not be made or initialised.
    #[error("plugin `{plugin}` could not be {step}: {source}")]
    Plugin {
        /// The plugin.
        plugin: String,
        /// What was being done to it, as a participle.
        step: &'static str,
        /// What it said.
        source: PluginError,
    },
    /// A plugin library could not be loaded.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The log under the durable topics could not be opened.
    #[error(transparent)]
    Durable(#[from] OpenError),
    /// The folder of schemas could not be loaded.
    #[error(transparent)]
    Schemas(#[from] LoadError),
    /// A plugin that others need is not unloaded by itself.
    #[error(
        "plugin `{plugin}` stays, since {} on it; unload {} first, or all of them with `--cascade`",
        depend(.dependents), them(.dependents)
    )]
    Needed {
        /// The plugin.
        plugin: String,
        /// Those that depend on it, directly or through others.
        dependents: Vec<String>,
    },
    /// A plugin that is linked into the host cannot be made again, so it stays.
    #[error("plugin `{0}` is a part of the host and stays; `plugin pause` lets its messages wait")]
    BuiltIn(String),
    /// Another version of the plugin is about to take its place.
    #[error(
        "another version of plugin `{0}` is about to take its place; wait for it, or end it with `plugin rollback`"
    )]
    Changing(String),
    /// There is no version that a plugin could be rolled back to.
    #[error(
        "plugin `{0}` has no version before the one that runs, nor one that is about to take its place; \
         `plugin transition` names one"
    )]
    NothingBefore(String),
    /// A plugin that does not run has no place that another version could take.
    #[error("plugin `{0}` does not run, so no other version can take its place; load that instead")]
    NotRunning(String),
    /// The library that was to take a plugin's place is of another plugin.
    #[error("the library is of plugin `{found}`, which cannot take the place of `{plugin}`")]
    OtherPlugin {
        /// The plugin.
        plugin: String,
        /// The plugin that the library is of.
        found: String,
    },
    /// A transition cannot go as it was ordered.
    #[error("plugin `{plugin}`: {source}")]
    TransitionSettings {
        /// The plugin.
        plugin: String,
        /// What is wrong.
        source: TransitionSettingsError,
    },
    /// A plugin was loaded or unloaded while the host ended.
    #[error("the host ends, so its plugins stay as they are")]
    Ending,
    /// No plugin has this name.
    #[error("there is no plugin `{0}`; `plugin list` shows those there are")]
    NoSuchPlugin(String),
}

/// A plugin library that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The file, or the name that it would have had.
    pub file: String,
    /// Why: one sentence.
    pub reason: String,
}

/// A running host.
pub struct Host {
    shared: Arc<Shared>,
    /// What goes on beside the plugins; ends with the host.
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Names the host among those on its bus, until it ends.
    id: String,
    /// Whether the bus is within this host.
    alone: bool,
    parts: Parts,
    registry: RwLock<PluginRegistry>,
    /// Held by whoever loads or unloads: one at a time, so that what a plugin depends on stays while it is made.
    changes: tokio::sync::Mutex<()>,
    /// The transitions that go on.
    transitions: Mutex<JoinSet<()>>,
    intake: Arc<Intake>,
    /// Where durable dead letters come from.
    letter_slot: Option<Arc<dyn Slot>>,
    refused: Vec<Refused>,
}

impl Host {
    /// Starts putting a host together.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// A context for a tool that is no plugin: it publishes, requests and subscribes at once, under this
    /// name, until the host stops its intake.
    pub fn client(&self, name: &str) -> PluginContext {
        let transport = ClientTransport {
            transport: Arc::clone(&self.shared.parts.transport),
            intake: Arc::clone(&self.shared.intake),
            queue_size: self.shared.parts.config.bus.queue_size,
        };
        let telemetry = HostTelemetry::new(name, self.shared.parts.exports.clone());
        let version = env!("CARGO_PKG_VERSION");
        let transport = tool_transport(&self.shared.parts.middleware, name, Arc::new(transport));
        PluginContext::new(name, version, Map::new(), transport, Arc::new(telemetry))
    }

    /// The bus that the host runs on, for what stands beside it, such as a gateway. Nothing keeps it from
    /// publishing when the host stops its intake: end it before.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.shared.parts.transport
    }

    /// Subscribes to all of a pattern's messages: publishers wait for this subscriber when it is more than
    /// `capacity` messages behind, so keep reading.
    ///
    /// # Errors
    /// [`HostError::Bus`] when the bus is closed.
    pub async fn watch(
        &self,
        pattern: &Pattern,
        capacity: usize,
    ) -> Result<Subscription, HostError> {
        let options = SubscribeOptions { capacity, overflow: Overflow::Block };
        Ok(self.shared.parts.transport.subscribe(pattern, options).await?)
    }

    /// The plugins, in the order in which they were initialised.
    pub fn plugins(&self) -> Vec<PluginEntry> {
        self.shared.registry.read().in_order().iter().map(|plugin| plugin.entry()).collect()
    }

    /// One plugin.
    ///
    /// # Errors
    /// [`HostError::NoSuchPlugin`].
    pub fn plugin(&self, name: &str) -> Result<PluginEntry, HostError> {
        self.shared.managed(name).map(|plugin| plugin.entry())
    }

    /// The plugins of a type.
    pub fn plugins_of_type(&self, plugin_type: PluginType) -> Vec<PluginEntry> {
        self.shared.registry.read().of_type(plugin_type).iter().map(|p| p.entry()).collect()
    }

    /// The libraries that were found and not taken.
    pub fn refused(&self) -> &[Refused] {
        &self.shared.refused
    }

    /// The configuration that the host runs with.
    pub fn config(&self) -> &Config {
        &self.shared.parts.config
    }

    /// The registry of schemas that the host's messages are checked against.
    pub fn schemas(&self) -> &Arc<Schemas> {
        &self.shared.parts.schemas
    }

    /// The dead letters that the host remembers, oldest first, and how many it had to forget.
    pub fn dead_letters(&self) -> (Vec<DeadLetter>, u64) {
        self.shared.parts.dead_letters.list()
    }

    /// Pauses a plugin: its messages wait in its queue.
    ///
    /// # Errors
    /// [`HostError::NoSuchPlugin`], or [`HostError::Plugin`] when the plugin refuses.
    pub async fn pause(&self, plugin: &str) -> Result<(), HostError> {
        self.shared.pause(plugin).await
    }

    /// Lets a paused plugin's messages flow again.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, plugin: &str) -> Result<(), HostError> {
        self.shared.resume(plugin).await
    }

    /// Has a plugin forget what it remembers; it handles no message meanwhile.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn reset(&self, plugin: &str) -> Result<(), HostError> {
        self.shared.reset(plugin).await
    }

    /// What a plugin remembers, in its own form, if it hands anything over. It handles no message meanwhile.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn export_state(&self, plugin: &str) -> Result<Option<StateSnapshot>, HostError> {
        self.shared.managed(plugin)?.export_state().await.map_err(refused(plugin, "exported"))
    }

    /// Has a plugin take over what this or an earlier version of it exported. A state of an earlier form is
    /// taken to the plugin's own first, and refused where the way back gives another. The plugin handles no message
    /// while it takes the state over.
    ///
    /// # Errors
    /// As [`pause`](Self::pause); nothing has changed when the state could not be taken to the plugin's form.
    pub async fn import_state(&self, plugin: &str, state: StateSnapshot) -> Result<(), HostError> {
        let imported = self.shared.managed(plugin)?.import_state(state).await;
        imported.map_err(refused(plugin, "given its state"))
    }

    /// How a plugin says it is.
    ///
    /// # Errors
    /// [`HostError::NoSuchPlugin`].
    pub async fn health(&self, plugin: &str) -> Result<Health, HostError> {
        Ok(self.shared.managed(plugin)?.health().await)
    }

    /// A plugin's own figures.
    ///
    /// # Errors
    /// [`HostError::NoSuchPlugin`].
    pub async fn plugin_metrics(&self, plugin: &str) -> Result<Value, HostError> {
        Ok(self.shared.managed(plugin)?.own_metrics().await)
    }
}

impl Shared {
    fn managed(&self, name: &str) -> Result<Arc<Managed>, HostError> {
        let plugin = self.registry.read().get(name);
        plugin.ok_or_else(|| HostError::NoSuchPlugin(name.to_owned()))
    }

    async fn pause(&self, plugin: &str) -> Result<(), HostError> {
        self.managed(plugin)?.pause().await.map_err(refused(plugin, "paused"))
    }

    async fn resume(&self, plugin: &str) -> Result<(), HostError> {
        self.managed(plugin)?.resume().await.map_err(refused(plugin, "resumed"))
    }

    async fn reset(&self, plugin: &str) -> Result<(), HostError> {
        self.managed(plugin)?.reset().await.map_err(refused(plugin, "reset"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end_tasks();
        self.shared.transitions.lock().abort_all();
        self.shared.parts.transport.close();
    }
}

fn failed(plugin: &str, step: &'static str) -> impl FnOnce(PluginError) -> HostError {
    let plugin = plugin.to_owned();
    move |source| HostError::Plugin { plugin, step, source }
}

fn refused(plugin: &str, step: &'static str) -> impl FnOnce(Refusal) -> HostError {
    let plugin = plugin.to_owned();
    move |refusal| match refusal {
        Refusal::Changing => HostError::Changing(plugin),
        Refusal::Plugin(source) => HostError::Plugin { plugin, step, source },
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("plugins", &self.plugins().len()).finish_non_exhaustive()
    }
}

/// "`a` and `b` depend", "`a` depends".
fn depend(names: &[String]) -> String {
    let verb = if names.len() == 1 { "depends" } else { "depend" };
    format!("{} {verb}", echo_toml::list(names, "and"))
}

/// "it", "them".
fn them(names: &[String]) -> &'static str {
    if names.len() == 1 { "it" } else { "them" }
}
