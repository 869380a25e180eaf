//! `system.>`: the host and its plugins.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What is enabled, or was, is not what runs: a library was not taken, or one that is not enabled any more stays.
pub const PLUGIN_REFUSED: &str = "system.plugin.refused";
/// A library could not be taken out of memory.
pub const PLUGIN_QUARANTINED: &str = "system.plugin.quarantined";
/// A worker pool has grown or shrunk.
pub const POOL_SCALED: &str = "system.pool.scaled";
/// All plugins run.
pub const HOST_READY: &str = "system.host.ready";
/// The host takes no more and drains.
pub const HOST_STOPPING: &str = "system.host.stopping";

/// Where a plugin is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PluginStatus {
    /// Known to the registry; nothing of it has run but its constructor.
    Registered,
    /// Its `init` is running.
    Initializing,
    /// It handles messages.
    Running,
    /// Its messages wait.
    Paused,
    /// It takes no more messages and finishes those in hand.
    Draining,
    /// Its `shutdown` has returned.
    Stopped,
    /// Its `init` failed, or it cannot go on.
    Failed,
    /// It is gone from the registry.
    Unloaded,
}

impl PluginStatus {
    /// The status as it stands in topics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Initializing => "initializing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Unloaded => "unloaded",
        }
    }

    /// The topic on which coming into this status is told.
    pub fn topic(self) -> String {
        format!("system.plugin.{}", self.as_str())
    }
}

/// A plugin has come into a status; published on `system.plugin.<status>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginEvent {
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The status that it has now.
    pub status: PluginStatus,
    /// When it came into it.
    pub since: DateTime<Utc>,
    /// Why, where something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is enabled, or was, is not what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginRefused {
    /// The file that is enabled, or was.
    pub file: String,
    /// Why: one sentence.
    pub reason: String,
}

/// A library could not be taken out of memory, and stays there until its host ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginQuarantined {
    /// The plugin.
    pub plugin: String,
    /// The file that had been loaded.
    pub file: String,
    /// The SHA-256 of the file as it had been loaded, in hexadecimal digits.
    pub hash: String,
    /// Why: one sentence.
    pub reason: String,
}

/// A worker pool has grown or shrunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolScaled {
    /// The plugin.
    pub plugin: String,
    /// The workers before.
    pub from: usize,
    /// The workers now.
    pub to: usize,
    /// What the pool saw: "messages wait 80ms, workers are busy 95 %, of it 2 % computing".
    pub reason: String,
}

/// The host has come into a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostEvent {
    /// The plugins that run.
    pub plugins: Vec<String>,
}
