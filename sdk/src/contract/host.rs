//! What hosts answer about themselves. Every host that hears a question answers it, unless it names another.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::system::PluginStatus;
use crate::Pattern;

/// Asks for the slots, what they subscribe to and what they have counted.
pub const TOPICS: &str = "system.topics.list";
/// Lets a plugin's messages wait.
pub const PAUSE: &str = "system.plugin.pause";
/// Lets them flow again.
pub const RESUME: &str = "system.plugin.resume";
/// Has a plugin forget what it remembers.
pub const RESET: &str = "system.plugin.reset";

/// A host's answer, with the host that gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer<T> {
    /// The host: an id that it has until it ends.
    pub host: String,
    /// Whether nobody else can answer, since the bus is within this host.
    pub alone: bool,
    /// What it says.
    #[serde(flatten)]
    pub said: Said<T>,
}

/// What a host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Said<T> {
    /// What was asked for.
    Ok(T),
    /// Why it cannot be had: one sentence.
    Error(String),
}

/// Asks for the slots of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TopicsQuestion {
    /// The one host that is to answer; without it, all do.
    pub host: Option<String>,
}

/// The slots of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TopicsReply {
    /// When they were looked at.
    pub at: DateTime<Utc>,
    /// The slots, in the order in which their plugins were initialised.
    pub slots: Vec<SlotInfo>,
}

/// A slot and its plugin. What is counted is counted since the plugin was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotInfo {
    /// Its name, which is the plugin's.
    pub slot: String,
    /// The plugin's version.
    pub version: String,
    /// Where the plugin is in its life.
    pub status: PluginStatus,
    /// What it subscribes to.
    pub patterns: Vec<Pattern>,
    /// Its workers.
    pub workers: usize,
    /// Messages that it holds now: waiting, in hand, or waiting for a retry.
    pub depth: usize,
    /// The most that it holds.
    pub capacity: usize,
    /// Messages that wait for a retry.
    pub delayed: usize,
    /// Messages that it took in.
    pub accepted: u64,
    /// Messages that were handled, forwarded ones included.
    pub acknowledged: u64,
    /// Attempts after which a message was delivered again.
    pub retried: u64,
    /// Messages that it gave up.
    pub dead: u64,
    /// Messages that it dropped for want of room.
    pub dropped: u64,
}

/// Asks a plugin to do something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginOrder {
    /// The plugin, on each host that runs it.
    pub plugin: String,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginOrdered {
    /// The plugin.
    pub plugin: String,
    /// Where it is in its life now.
    pub status: PluginStatus,
}
