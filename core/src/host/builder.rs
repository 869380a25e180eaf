//! Putting a host together and starting it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use echo_bus::{LocalOptions, LocalTransport, RetryPolicy, SlotOptions, Transport};
use echo_sdk::contract::system::{HOST_READY, HostEvent};
use echo_sdk::{Manifest, Plugin, PluginContext, PluginError};
use parking_lot::RwLock;
use tokio::runtime::Handle;

use super::{Host, HostError, Refused, Shared, failed};
use crate::actor::context::{Intake, PluginTransport};
use crate::actor::{Actor, Counters, Delivering, SlotRuntime, contained};
use crate::config::{Config, PluginSetup};
use crate::host::DeadLetters;
use crate::pool::INTERVAL;
use crate::registry::{
    Managed, Node, Origin, PluginRegistry, RegistryError, announce, initialisation_order, node,
};
use crate::telemetry::{Exports, HostTelemetry, SlotMetrics};

type Make = Box<dyn FnOnce(PluginContext) -> Result<Arc<dyn Actor>, PluginError> + Send>;

/// A plugin that is to run.
struct Candidate {
    manifest: Manifest,
    origin: Origin,
    make: Make,
}

/// Puts a host together; ends with [`start`](Self::start).
#[derive(Default)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct HostBuilder {
    config: Config,
    exports: Exports,
    enabled_dir: Option<PathBuf>,
    candidates: Vec<Candidate>,
}

impl HostBuilder {
    /// The configuration; the defaults without one.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where logs, traces and metrics go; nowhere without it.
    pub fn telemetry(mut self, exports: Exports) -> Self {
        self.exports = exports;
        self
    }

    /// Loads the plugin libraries of this folder as well.
    pub fn enabled_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.enabled_dir = Some(dir.into());
        self
    }

    /// Adds a plugin that is linked into the host.
    pub fn plugin<P: Plugin>(
        mut self,
        manifest: Manifest,
        constructor: impl Fn(PluginContext) -> Result<P, PluginError> + Send + Sync + 'static,
    ) -> Self {
        let make: Make = Box::new(move |context| {
            let plugin = contained(|| constructor(context))?;
            Ok(Arc::new(plugin) as Arc<dyn Actor>)
        });
        self.candidates.push(Candidate { manifest, origin: Origin::BuiltIn, make });
        self
    }

    /// Makes all plugins, opens their slots, and initialises them, dependencies first.
    ///
    /// A library that cannot be taken is refused and the host goes on without it; see
    /// [`Host::refused`].
    ///
    /// # Errors
    /// [`HostError`] when the bus cannot be brought up, or a plugin that is linked in cannot run.
    pub async fn start(self) -> Result<Host, HostError> {
        let bus = LocalTransport::new(LocalOptions { max_payload: self.config.bus.max_payload })?;
        let starting = Starting {
            transport: Arc::new(bus),
            config: self.config,
            exports: self.exports,
            dead_letters: Arc::default(),
        };
        let plugins = starting.register(self.candidates).await?;
        starting.initialise(&plugins).await?;
        Ok(starting.into_host(plugins, Vec::new())?)
    }
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.candidates.iter().map(|c| &c.manifest.name).collect();
        f.debug_struct("HostBuilder").field("plugins", &names).finish_non_exhaustive()
    }
}

/// A host on its way up.
struct Starting {
    config: Config,
    exports: Exports,
    transport: Arc<dyn Transport>,
    dead_letters: Arc<DeadLetters>,
}

impl Starting {
    /// Makes the plugins and opens their slots, in the order of their initialisation.
    async fn register(&self, candidates: Vec<Candidate>) -> Result<Vec<Arc<Managed>>, HostError> {
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        let mut by_name: BTreeMap<String, (Candidate, PluginSetup)> = BTreeMap::new();
        for candidate in candidates {
            let setup = self.config.plugin_setup(&candidate.manifest)?;
            if !setup.enabled {
                continue;
            }
            let name = candidate.manifest.name.clone();
            let node = node(&candidate.manifest)?;
            if nodes.insert(name.clone(), node).is_some() {
                return Err(RegistryError::Duplicate(name).into());
            }
            by_name.insert(name, (candidate, setup));
        }
        let mut plugins = Vec::new();
        for name in initialisation_order(&nodes)? {
            if let Some((candidate, setup)) = by_name.remove(&name) {
                plugins.push(self.make(candidate, setup).await?);
            }
        }
        Ok(plugins)
    }

    async fn make(
        &self,
        candidate: Candidate,
        setup: PluginSetup,
    ) -> Result<Arc<Managed>, HostError> {
        let Candidate { manifest, origin, make } = candidate;
        let PluginSetup { config, worker_pool, .. } = setup;
        let name = manifest.name.clone();
        let telemetry = HostTelemetry::new(name.as_str(), self.exports.clone());
        let context = PluginContext::new(
            name.as_str(),
            manifest.version.as_str(),
            config,
            Arc::new(PluginTransport(Arc::clone(&self.transport))),
            Arc::new(telemetry.clone()),
        );
        let actor = make(context).map_err(failed(&name, "made"))?;
        let slot = self
            .transport
            .open_slot(SlotOptions {
                name: name.clone(),
                patterns: manifest.subscriptions.clone(),
                capacity: worker_pool.queue_size,
                overflow: worker_pool.overflow,
            })
            .await?;
        let delivery = &self.config.delivery;
        let slot = Arc::new(SlotRuntime {
            transport: Arc::clone(&self.transport),
            slot,
            delivering: Delivering {
                max_attempts: worker_pool.max_attempts,
                max_hops: delivery.max_hops,
                retry: RetryPolicy {
                    base: delivery.retry_base_delay,
                    max: delivery.retry_max_delay,
                },
                deadline: worker_pool.deadline,
                commit_patience: self.config.bus.commit_patience,
            },
            telemetry,
            metrics: SlotMetrics::new(&name),
            counters: Counters::default(),
            dead_letters: Arc::clone(&self.dead_letters),
        });
        let runtime = Handle::current();
        Ok(Arc::new(Managed::new(manifest, origin, worker_pool, actor, runtime, slot)))
    }

    async fn initialise(&self, plugins: &[Arc<Managed>]) -> Result<(), HostError> {
        for (place, plugin) in plugins.iter().enumerate() {
            if let Err(error) = plugin.start().await {
                for started in plugins.iter().take(place).rev() {
                    started.stop().await;
                }
                return Err(failed(plugin.name(), "initialised")(error));
            }
        }
        Ok(())
    }

    fn into_host(
        self,
        plugins: Vec<Arc<Managed>>,
        refused: Vec<Refused>,
    ) -> Result<Host, RegistryError> {
        let mut registry = PluginRegistry::default();
        let names = plugins.iter().map(|plugin| plugin.name().to_owned()).collect();
        plugins.into_iter().try_for_each(|plugin| registry.add(plugin))?;
        announce(&*self.transport, HOST_READY, &HostEvent { plugins: names });
        let shared = Arc::new(Shared {
            config: self.config,
            transport: self.transport,
            registry: RwLock::new(registry),
            exports: self.exports,
            intake: Arc::<Intake>::default(),
            dead_letters: self.dead_letters,
            refused,
        });
        let scaling = tokio::spawn(scale_pools(Arc::downgrade(&shared)));
        Ok(Host { shared, scaling })
    }
}

/// Looks at all pools once an interval, until the host is gone.
async fn scale_pools(shared: std::sync::Weak<Shared>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let plugins = shared.registry.read().in_order();
        let looks: Vec<_> = plugins.iter().map(|plugin| plugin.look()).collect();
        let busy: f64 = looks.iter().map(|(seen, _)| seen.busy_cores()).sum();
        let cores = looks.iter().map(|(_, cores)| *cores).max().unwrap_or(1);
        let saturated = busy >= SATURATED * cores as f64;
        for (plugin, (seen, _)) in plugins.iter().zip(looks) {
            plugin.scale(seen, saturated);
        }
    }
}

/// The share of the cores' time that counts as all of it.
const SATURATED: f64 = 0.85;
