//! Loading and unloading while the host runs.
//!
//! One change at a time, so what a plugin depends on stays while it is made, and the registry holds no plugin that is
//! half there. A plugin joins the registry once it runs. Unloading ends the slot's intake first and lets the plugin
//! handle what waits; what it leaves is told. What was published on a durable topic stays for the slot, by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use echo_sdk::contract::system::PluginStatus;
use echo_sdk::{Manifest, PluginError};
use tokio::sync::MutexGuard;

use super::candidate::{Candidate, Source, read};
use super::shutdown::{Unfinished, unfinished};
use super::{Host, HostError, Shared, failed};
use crate::registry::{
    Ended, Gone, Managed, PluginEntry, RegistryError, initialisation_order, node,
};

/// How the unloading of a plugin went.
#[derive(Debug)]
pub struct Unloaded {
    /// The plugin.
    pub plugin: String,
    /// Messages that it did not come to.
    pub unfinished: Vec<Unfinished>,
    /// What went wrong, a sentence each.
    pub faults: Vec<String>,
    /// Whether its library is out of memory.
    pub is_out_of_memory: bool,
}

impl Host {
    /// Loads a plugin library, which runs when this returns.
    ///
    /// # Errors
    /// [`HostError`] when the library cannot be taken, its name is taken, what it depends on does not run, or it does
    /// not start. Then it is out of memory again, or told as [quarantined](crate::library::quarantined).
    pub async fn load(&self, library: &Path) -> Result<PluginEntry, HostError> {
        self.shared.load(library).await
    }

    /// Unloads a plugin that was loaded from a library, and with `cascade` first those that depend on it, which were
    /// too. Each takes no more messages, handles what waits within its `shutdown_timeout`, and shuts down.
    ///
    /// # Errors
    /// [`HostError::NoSuchPlugin`], [`HostError::BuiltIn`], or [`HostError::Needed`]; nothing is unloaded then.
    pub async fn unload(&self, plugin: &str, cascade: bool) -> Result<Vec<Unloaded>, HostError> {
        self.shared.unload(plugin, cascade).await
    }
}

impl Shared {
    pub(super) async fn load(&self, library: &Path) -> Result<PluginEntry, HostError> {
        let _one_change = self.change().await?;
        let path = library.to_owned();
        let (manifest, path) = read_apart(path).await?;
        let setup = self.parts.config.plugin_setup(&manifest)?;
        self.check_needs(&manifest)?;
        let candidate = Candidate { manifest, source: Source::Library(path) };
        let plugin = self.parts.register(candidate, setup).await?;
        if let Err(error) = plugin.start(self.parts.config.plugins.start_timeout).await {
            let error = failed(plugin.name(), "initialised")(error);
            plugin.stop().await;
            if let Some(fault) = forget(plugin).await.fault() {
                tracing::warn!(%error, fault, "a library that did not start stays");
            }
            return Err(error);
        }
        let entry = plugin.entry();
        self.registry.write().add(plugin)?;
        Ok(entry)
    }

    /// Begins a change, which a host that ends waits for.
    pub(super) async fn change(&self) -> Result<MutexGuard<'_, ()>, HostError> {
        let change = self.changes.lock().await;
        if self.intake.is_stopped() { Err(HostError::Ending) } else { Ok(change) }
    }

    /// Whether a plugin may join: nobody has its name, and what it depends on is there and runs.
    fn check_needs(&self, manifest: &Manifest) -> Result<(), HostError> {
        let plugins = self.registry.read().in_order();
        if plugins.iter().any(|plugin| plugin.name() == manifest.name) {
            return Err(RegistryError::Duplicate(manifest.name.clone()).into());
        }
        let runs = |plugin: &&Arc<Managed>| {
            matches!(plugin.status(), PluginStatus::Running | PluginStatus::Paused)
        };
        let mut nodes = BTreeMap::new();
        for plugin in plugins.iter().filter(runs) {
            // What it depends on runs, or did when it was taken in.
            let mut known = node(&plugin.current().manifest)?;
            known.dependencies.clear();
            nodes.insert(plugin.name().to_owned(), known);
        }
        nodes.insert(manifest.name.clone(), node(manifest)?);
        initialisation_order(&nodes)?;
        Ok(())
    }

    pub(super) async fn unload(
        &self,
        plugin: &str,
        cascade: bool,
    ) -> Result<Vec<Unloaded>, HostError> {
        let _one_change = self.change().await?;
        let leaving = {
            let registry = self.registry.read();
            let found = registry.get(plugin);
            let found = found.ok_or_else(|| HostError::NoSuchPlugin(plugin.to_owned()))?;
            let mut leaving = registry.dependents(plugin);
            if !cascade && !leaving.is_empty() {
                let dependents = leaving.iter().rev().map(|it| it.name().to_owned()).collect();
                return Err(HostError::Needed { plugin: plugin.to_owned(), dependents });
            }
            leaving.push(found);
            leaving
        };
        if let Some(stays) = leaving.iter().find(|it| it.current().file().is_none()) {
            return Err(HostError::BuiltIn(stays.name().to_owned()));
        }
        if let Some(changing) = leaving.iter().position(|it| !it.begin_to_leave()) {
            let (ready, others) = leaving.split_at(changing);
            ready.iter().for_each(|it| it.stay());
            let name = others.first().map_or(plugin, |it| it.name());
            return Err(HostError::Changing(name.to_owned()));
        }
        let mut unloaded = Vec::with_capacity(leaving.len());
        for plugin in leaving {
            let _alone = Arc::clone(plugin.changing()).write_owned().await;
            let name = plugin.name().to_owned();
            drop(plugin);
            let Some(plugin) = self.registry.write().remove(&name) else { continue };
            plugin.run_empty().await;
            let ended = plugin.stop().await;
            unloaded.push(report(name, ended, &forget(plugin).await));
        }
        Ok(unloaded)
    }
}

/// Reads a library's manifest where blocking is allowed.
pub(super) async fn read_apart(path: PathBuf) -> Result<(Manifest, PathBuf), HostError> {
    let shown = path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || Ok((read(&path)?, path)));
    reading.await.unwrap_or_else(|error| {
        let error = PluginError::ProcessingError(format!("its reading was cut off: {error}"));
        Err(failed(&shown, "read")(error))
    })
}

/// Lets go of a plugin that has ended.
pub(super) async fn forget(plugin: Arc<Managed>) -> Gone {
    plugin.leave();
    let version = plugin.current();
    drop(plugin);
    version.forget().await
}

fn report(plugin: String, ended: Ended, gone: &Gone) -> Unloaded {
    let mut faults = ended.faults(&plugin);
    let left = gone.fault();
    let is_out_of_memory = left.is_none();
    faults.extend(left);
    let unfinished = unfinished(&plugin, ended.unfinished);
    Unloaded { plugin, unfinished, faults, is_out_of_memory }
}
