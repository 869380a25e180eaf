//! A host on its way up: which plugins run, in which order, and what happens to those that cannot.
//!
//! A plugin that is linked in and cannot run ends the start. A library that cannot run is refused, and so
//! is what depends on it; the host goes on without them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use echo_bus::{BusError, Slot, SlotOptions, Transport};
use echo_sdk::contract::system::{HOST_READY, HostEvent, PLUGIN_REFUSED, PluginRefused};
use echo_sdk::{Overflow, Pattern, PluginError};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::candidate::Candidate;
use super::making::Parts;
use super::{DeadLetters, Host, HostError, Refused, Shared, failed};
use super::{answers, dead, lag};
use crate::actor::context::Intake;
use crate::config::{BusUrl, Config, PluginSetup};
use crate::middleware::Layer;
use crate::pool::{INTERVAL, shares};
use crate::registry::{
    Managed, Node, OrderError, PluginRegistry, RegistryError, announce, initialisation_order, node,
};
use crate::schema::Schemas;
use crate::telemetry::Exports;

pub(super) struct Starting {
    parts: Parts,
    refused: Vec<Refused>,
}

/// A candidate with what the configuration and its manifest come to.
struct Prepared {
    candidate: Candidate,
    setup: PluginSetup,
    node: Node,
}

impl Starting {
    pub(super) fn new(
        config: Config,
        exports: Exports,
        transport: Arc<dyn Transport>,
        mut middleware: Vec<Layer>,
        schemas: Arc<Schemas>,
    ) -> Self {
        middleware.extend(config.middleware.iter().map(|settings| settings.layer(&schemas)));
        let durable = dead::are_durable(&config.bus, &*transport);
        let (dead_letters, refused) = (Arc::new(DeadLetters::new(durable)), Vec::new());
        let parts = Parts { config, exports, transport, dead_letters, middleware, schemas };
        Self { parts, refused }
    }

    pub(super) fn config(&self) -> &Config {
        &self.parts.config
    }

    /// Goes on without a library.
    pub(super) fn refuse(&mut self, refused: Refused) {
        tracing::warn!(file = refused.file, reason = refused.reason, "a plugin was refused");
        let event = PluginRefused { file: refused.file.clone(), reason: refused.reason.clone() };
        announce(&*self.parts.transport, PLUGIN_REFUSED, &event);
        self.refused.push(refused);
    }

    /// Ends the start for a plugin that is linked in, goes on without one from a library.
    fn refuse_or_fail(&mut self, candidate: &Candidate, error: HostError) -> Result<(), HostError> {
        let Some(file) = candidate.file() else { return Err(error) };
        self.refuse(Refused { file: file.display().to_string(), reason: error.to_string() });
        Ok(())
    }

    /// Brings the host up.
    pub(super) async fn run(mut self, candidates: Vec<Candidate>) -> Result<Host, HostError> {
        let prepared = self.prepare(candidates)?;
        let (prepared, order) = self.order(prepared)?;
        let plugins = self.make_all(prepared, order).await?;
        let mut registry = PluginRegistry::default();
        plugins.iter().try_for_each(|plugin| registry.add(Arc::clone(plugin)))?;
        self.initialise(&plugins).await?;
        let questions = answers::questions(&*self.parts.transport).await?;
        let letter_slot = self.open_letter_slot().await?;
        let names = plugins.iter().map(|plugin| plugin.name().to_owned()).collect();
        announce(&*self.parts.transport, HOST_READY, &HostEvent { plugins: names });
        let shared = Arc::new(Shared {
            id: Uuid::now_v7().simple().to_string(),
            alone: self.parts.config.bus.url == BusUrl::Local,
            parts: self.parts,
            registry: RwLock::new(registry),
            changes: tokio::sync::Mutex::default(),
            transitions: Mutex::default(),
            intake: Arc::<Intake>::default(),
            letter_slot,
            refused: self.refused,
        });
        let shows_metrics = shared.parts.exports.metrics();
        let mut tasks = vec![
            tokio::spawn(scale_pools(Arc::downgrade(&shared))),
            tokio::spawn(answers::answer(Arc::downgrade(&shared), questions)),
        ];
        if shows_metrics {
            tasks.push(tokio::spawn(lag::show(Arc::downgrade(&shared))));
        }
        if let Some(slot) = &shared.letter_slot {
            let letters = Arc::clone(&shared.parts.dead_letters);
            tasks.push(tokio::spawn(letters.collect(Arc::clone(slot))));
        }
        Ok(Host { shared, tasks })
    }

    /// Opens the slot that durable dead letters are taken from, where they are.
    async fn open_letter_slot(&self) -> Result<Option<Arc<dyn Slot>>, HostError> {
        if !self.parts.dead_letters.is_durable() {
            return Ok(None);
        }
        let options = SlotOptions {
            name: dead::SLOT.to_owned(),
            patterns: vec![Pattern::new(dead::PATTERN).map_err(BusError::from)?],
            capacity: dead::CAPACITY,
            overflow: Overflow::Block,
        };
        Ok(Some(self.parts.transport.open_slot(options).await?))
    }

    fn prepare(
        &mut self,
        candidates: Vec<Candidate>,
    ) -> Result<BTreeMap<String, Prepared>, HostError> {
        let mut prepared: BTreeMap<String, Prepared> = BTreeMap::new();
        for candidate in candidates {
            let name = candidate.name().to_owned();
            let checked =
                match (self.parts.config.plugin_setup(&candidate.manifest), prepared.get(&name)) {
                    (Ok(setup), None) => node(&candidate.manifest).map(|node| (setup, node)),
                    (Ok(_), Some(_)) => Err(RegistryError::Duplicate(name.clone())),
                    (Err(error), _) => {
                        self.refuse_or_fail(&candidate, error.into())?;
                        continue;
                    }
                };
            match checked {
                Ok((setup, node)) if setup.enabled => {
                    prepared.insert(name, Prepared { candidate, setup, node });
                }
                Ok(_disabled) => {}
                Err(error) => self.refuse_or_fail(&candidate, error.into())?,
            }
        }
        Ok(prepared)
    }

    /// The order of initialisation; libraries that stand in its way are refused.
    fn order(
        &mut self,
        mut prepared: BTreeMap<String, Prepared>,
    ) -> Result<(BTreeMap<String, Prepared>, Vec<String>), HostError> {
        loop {
            let nodes = prepared.iter().map(|(name, p)| (name.clone(), p.node.clone())).collect();
            let error = match initialisation_order(&nodes) {
                Ok(order) => return Ok((prepared, order)),
                Err(error) => error,
            };
            let is_library = |name: &&str| {
                prepared.get(*name).is_some_and(|prepared| prepared.candidate.file().is_some())
            };
            let culprit = error.plugins().into_iter().find(is_library).map(str::to_owned);
            match culprit.and_then(|name| prepared.remove(&name)) {
                Some(culprit) => self.refuse_or_fail(&culprit.candidate, error.into())?,
                None => return Err(error.into()),
            }
        }
    }

    async fn make_all(
        &mut self,
        mut prepared: BTreeMap<String, Prepared>,
        order: Vec<String>,
    ) -> Result<Vec<Arc<Managed>>, HostError> {
        let mut plugins = Vec::new();
        let mut made: BTreeSet<String> = BTreeSet::new();
        for name in order {
            let Some(Prepared { candidate, setup, node }) = prepared.remove(&name) else {
                continue;
            };
            if let Some(missing) = node.dependencies.keys().find(|needed| !made.contains(*needed)) {
                let (plugin, dependency) = (name, missing.clone());
                let error = OrderError::Unknown { plugin, dependency };
                self.refuse_or_fail(&candidate, error.into())?;
                continue;
            }
            let (manifest, origin) = (candidate.manifest.clone(), candidate.origin());
            let file = candidate.file().map(|file| file.display().to_string());
            match (self.parts.register(candidate, setup).await, file) {
                (Ok(plugin), _) => {
                    made.insert(name);
                    plugins.push(plugin);
                }
                (Err(error), Some(file)) => {
                    self.refuse(Refused { file, reason: error.to_string() });
                }
                (Err(error), None) => {
                    tracing::error!(plugin = manifest.name, ?origin, %error, "a plugin cannot be made");
                    return Err(error);
                }
            }
        }
        Ok(plugins)
    }

    async fn initialise(&mut self, plugins: &[Arc<Managed>]) -> Result<(), HostError> {
        let mut running: Vec<&Arc<Managed>> = Vec::new();
        for plugin in plugins {
            let version = plugin.current();
            let needed = version.manifest.dependencies.keys();
            let missing = needed.into_iter().find(|name| running.iter().all(|r| r.name() != *name));
            let error = match missing {
                Some(missing) => {
                    let text = format!("`{missing}`, which it depends on, does not run");
                    plugin.fail(&text);
                    PluginError::ProcessingError(text)
                }
                None => match plugin.start(self.parts.config.plugins.start_timeout).await {
                    Ok(()) => {
                        running.push(plugin);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            let error = failed(plugin.name(), "initialised")(error);
            let Some(file) = version.file() else {
                for started in running.into_iter().rev() {
                    started.stop().await;
                }
                return Err(error);
            };
            self.refuse(Refused { file: file.display().to_string(), reason: error.to_string() });
        }
        Ok(())
    }
}

/// Looks at all pools once an interval, until the host is gone.
async fn scale_pools(shared: std::sync::Weak<Shared>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let plugins = shared.registry.read().in_order();
        let each =
            plugins.iter().map(|plugin| plugin.versions().into_iter().map(move |it| (plugin, it)));
        let pools: Vec<_> = each.flatten().collect();
        let seen: Vec<_> = pools.iter().map(|(_, version)| version.pool.look()).collect();
        let cores = pools.iter().map(|(_, version)| version.pool.cores()).max().unwrap_or(1) as f64;
        for ((plugin, version), (seen, share)) in
            pools.iter().zip(seen.iter().zip(shares(cores, &seen)))
        {
            if let Some(change) = version.pool.scale(*seen, share) {
                plugin.tell_scaled(seen.workers, change);
            }
        }
        for plugin in &plugins {
            let own = pools.iter().zip(&seen).filter(|((other, _), _)| Arc::ptr_eq(other, plugin));
            plugin.show(own.map(|(_, seen)| seen.taken).sum());
        }
    }
}
