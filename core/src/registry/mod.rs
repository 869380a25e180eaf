//! The plugins that a host knows: by name, and in the order in which they are initialised.

mod managed;
mod order;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use echo_sdk::contract::system::PluginStatus;
use echo_sdk::{Manifest, ManifestError, PluginType};
use semver::VersionReq;
use serde::Serialize;
use std::path::PathBuf;

pub(crate) use managed::{HOST_SOURCE, Managed, Refusal, announce};
pub use order::{Node, OrderError, initialisation_order};
pub(crate) use version::{Ended, Gone, Version};

/// Why a plugin was not taken into the registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Another plugin has the name.
    #[error("a plugin named `{0}` is registered already; give this one another name")]
    Duplicate(String),
    /// Its manifest has a fault.
    #[error("plugin `{plugin}`: {source}")]
    Manifest {
        /// The plugin.
        plugin: String,
        /// The fault.
        source: ManifestError,
    },
    /// Its version, or that of a dependency, is no semver.
    #[error("plugin `{plugin}`: `{text}` is no version that semver knows: {fault}")]
    Version {
        /// The plugin.
        plugin: String,
        /// The text.
        text: String,
        /// What is wrong with it.
        fault: String,
    },
}

/// Where a plugin comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "path")]
pub enum Origin {
    /// Linked into the host.
    BuiltIn,
    /// A library, at this path.
    Library(PathBuf),
}

/// What a plugin has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PluginMetrics {
    /// Messages handed to it, retries included.
    pub delivered: u64,
    /// Messages that it handled.
    pub acknowledged: u64,
    /// Messages that it forwarded.
    pub forwarded: u64,
    /// Attempts after which a message was delivered again.
    pub retried: u64,
    /// Attempts that ended in an error, a panic, the deadline or `Failed`.
    pub failed: u64,
    /// Messages that it gave up.
    pub dead: u64,
    /// Messages that its handlers published.
    pub published: u64,
    /// Messages that its queue dropped for want of room.
    pub dropped: u64,
}

/// What a plugin takes up now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PluginResources {
    /// Its workers.
    pub workers: usize,
    /// Messages in its slot: waiting, in hand, or waiting for a retry.
    pub queue_depth: usize,
    /// The most that its slot holds.
    pub queue_capacity: usize,
    /// Messages that wait for a retry.
    pub delayed: usize,
}

/// A plugin as the registry shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginEntry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does.
    pub description: String,
    /// What it is for.
    pub plugin_type: PluginType,
    /// Where it comes from.
    pub origin: Origin,
    /// Where it is in its life.
    pub status: PluginStatus,
    /// Since when.
    pub last_status_change: DateTime<Utc>,
    /// Why, where something went wrong.
    pub reason: Option<String>,
    /// What it has done.
    pub metrics: PluginMetrics,
    /// What it takes up.
    pub resources: PluginResources,
}

/// The plugins, by name.
#[derive(Default)]
pub(crate) struct PluginRegistry {
    plugins: BTreeMap<String, Arc<Managed>>,
    /// Initialised in this order; shut down in reverse.
    order: Vec<String>,
}

impl PluginRegistry {
    pub(crate) fn add(&mut self, plugin: Arc<Managed>) -> Result<(), RegistryError> {
        let name = plugin.name().to_owned();
        if self.plugins.contains_key(&name) {
            return Err(RegistryError::Duplicate(name));
        }
        self.order.push(name.clone());
        self.plugins.insert(name, plugin);
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Managed>> {
        self.plugins.get(name).cloned()
    }

    pub(crate) fn of_type(&self, plugin_type: PluginType) -> Vec<Arc<Managed>> {
        let of_type = |it: &Arc<Managed>| it.current().manifest.plugin_type == plugin_type;
        self.in_order().into_iter().filter(of_type).collect()
    }

    /// The plugins in the order in which they were initialised.
    pub(crate) fn in_order(&self) -> Vec<Arc<Managed>> {
        self.order.iter().filter_map(|name| self.get(name)).collect()
    }

    /// Those that depend on a plugin, directly or through others; the last initialised first.
    pub(crate) fn dependents(&self, name: &str) -> Vec<Arc<Managed>> {
        let mut names = BTreeSet::from([name.to_owned()]);
        let mut dependents = Vec::new();
        for plugin in self.in_order() {
            if plugin.current().manifest.dependencies.keys().any(|needed| names.contains(needed)) {
                names.insert(plugin.name().to_owned());
                dependents.push(plugin);
            }
        }
        dependents.reverse();
        dependents
    }

    /// Takes a plugin out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<Managed>> {
        let plugin = self.plugins.remove(name)?;
        self.order.retain(|other| other != name);
        Some(plugin)
    }

    /// Takes out all plugins, the last initialised first.
    pub(crate) fn drain(&mut self) -> Vec<Arc<Managed>> {
        let plugins = self.in_order();
        *self = Self::default();
        plugins.into_iter().rev().collect()
    }
}

/// What the order of initialisation depends on, read from a manifest.
pub(crate) fn node(manifest: &Manifest) -> Result<Node, RegistryError> {
    let plugin = || manifest.name.clone();
    manifest.validate().map_err(|source| RegistryError::Manifest { plugin: plugin(), source })?;
    let fault = |text: &str, error: semver::Error| RegistryError::Version {
        plugin: plugin(),
        text: text.to_owned(),
        fault: error.to_string(),
    };
    let version = semver::Version::parse(&manifest.version)
        .map_err(|error| fault(&manifest.version, error))?;
    let mut dependencies = BTreeMap::new();
    for (name, wanted) in &manifest.dependencies {
        let wanted = VersionReq::parse(wanted).map_err(|error| fault(wanted, error))?;
        dependencies.insert(name.clone(), wanted);
    }
    Ok(Node { version, dependencies })
}
