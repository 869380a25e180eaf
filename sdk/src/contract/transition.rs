//! `system.plugin.transition.>`: a version of a plugin that takes another's place.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{TransitionSettings, TransitionStrategy};

/// Has another version of a plugin take its place.
pub const TRANSITION: &str = "system.plugin.transition";
/// Has the version before take its place again: ends a transition that goes on, or begins one back.
pub const ROLLBACK: &str = "system.plugin.rollback";

/// Asks for a transition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginTransition {
    /// The plugin, on each host that runs it.
    pub plugin: String,
    /// The new version's file, on the host's machine: within the folder that holds the one of enabled plugins. Without
    /// one it is the file that the plugin was loaded from, as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// How it is to go, over what the configuration and the new version's manifest say.
    #[serde(default, skip_serializing_if = "TransitionSettings::is_empty")]
    pub settings: TransitionSettings,
    /// Whether it waits for a transition of the same plugin that goes on; it is refused without that.
    #[serde(default)]
    pub queue: bool,
}

/// A transition was taken; what becomes of it is told by events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TransitionTaken {
    /// The transition, as its events name it.
    pub id: Uuid,
    /// The plugin.
    pub plugin: String,
    /// Whether it waits for another.
    pub queued: bool,
}

/// What has been done of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TransitionStep {
    /// It has begun; the new version is about to be loaded.
    Started,
    /// The new version is initialised, and takes up the state that there is.
    Prepared,
    /// The new version has handled copies of messages, and nothing speaks against it.
    Compared,
    /// The new version gets another part of the messages.
    Shifted,
    /// The new version gets all messages, the old one is ready to go on.
    Cut,
    /// The new version stays, the old one is gone.
    Committed,
    /// Something speaks against the new version; the old one goes on.
    RollingBack,
    /// The new version is gone.
    RolledBack,
    /// It did not come to a new version that handles messages; nothing has changed.
    Refused,
}

impl TransitionStep {
    /// The step as it stands in topics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Prepared => "prepared",
            Self::Compared => "compared",
            Self::Shifted => "shifted",
            Self::Cut => "cut",
            Self::Committed => "committed",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
        }
    }

    /// The topic on which it is told.
    pub fn topic(self) -> String {
        format!("{TRANSITION}.{}", self.as_str())
    }

    /// Whether nothing comes after it.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Committed | Self::RolledBack | Self::Refused)
    }
}

/// A step of a transition was done; published on `system.plugin.transition.<step>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TransitionEvent {
    /// The transition.
    pub id: Uuid,
    /// The plugin.
    pub plugin: String,
    /// The old version.
    pub from: String,
    /// The new version; nothing as long as its library was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How messages pass over.
    pub strategy: TransitionStrategy,
    /// What was done.
    pub step: TransitionStep,
    /// When.
    pub at: DateTime<Utc>,
    /// The percentage of the messages that the new version gets from now on.
    pub share: u8,
    /// Why, where something speaks against the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the old version has done since it began.
    pub old: VersionFigures,
    /// What the new version has done.
    pub new: VersionFigures,
    /// What came of comparing them, where that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// What a version has done within a transition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VersionFigures {
    /// Attempts at messages that have ended.
    pub attempts: u64,
    /// Those of them that ended in an error, a panic, the deadline or `Failed`.
    pub failed: u64,
    /// Those of them that ended in a panic.
    pub panicked: u64,
    /// Those of them that were answered with `RetryLater`.
    #[serde(default)]
    pub postponed: u64,
    /// What half of the attempts took at most, to within a fifth; nothing before the first.
    #[serde(default, with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub p50: Option<Duration>,
    /// What 99 of 100 attempts took at most, likewise.
    #[serde(default, with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub p99: Option<Duration>,
}

/// What came of having two versions handle the same messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Comparison {
    /// Messages that both have handled.
    pub compared: u64,
    /// Those for which they did something else.
    pub different: u64,
    /// Messages that could not be compared, since handling them needs an answer of somebody else.
    pub incomparable: u64,
    /// The first difference, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}
