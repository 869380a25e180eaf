//! What hosts answer about themselves. Every host that hears a question answers it, unless it names another.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de};

use serde_json::Value;

use super::system::PluginStatus;
use crate::{Health, Manifest, Pattern, WorkerPoolConfig};

/// Asks for the slots, what they subscribe to and what they have counted.
pub const TOPICS: &str = "system.topics.list";
/// Asks for all that there is to say of a plugin.
pub const SHOW: &str = "system.plugin.show";
/// Loads a plugin library of the folder of plugins.
pub const LOAD: &str = "system.plugin.load";
/// Unloads a plugin that was loaded from a library.
pub const UNLOAD: &str = "system.plugin.unload";
/// Lets a plugin's messages wait.
pub const PAUSE: &str = "system.plugin.pause";
/// Lets them flow again.
pub const RESUME: &str = "system.plugin.resume";
/// Has a plugin forget what it remembers.
pub const RESET: &str = "system.plugin.reset";

/// A host's answer, with the host that gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "AnswerOf{T}"))]
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

/// By hand, since what serde flattens cannot hold data that is kept as its text, as a message's is.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Answer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Flat<T> {
            host: String,
            alone: bool,
            ok: Option<T>,
            error: Option<String>,
        }
        let Flat { host, alone, ok, error } = Flat::deserialize(deserializer)?;
        let said = match (ok, error) {
            (Some(ok), None) => Said::Ok(ok),
            (None, Some(error)) => Said::Error(error),
            _ => return Err(de::Error::custom("an answer holds one of `ok` and `error`")),
        };
        Ok(Self { host, alone, said })
    }
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
    /// Messages that it is behind: those of durable topics that it has not acknowledged, on all hosts that share it, or
    /// its depth if that is more; nothing where the host could not find out.
    #[serde(default)]
    pub lag: Option<usize>,
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

/// Asks for a library to be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginLoad {
    /// The file, on the host's machine: within the folder that holds the one of enabled plugins.
    pub library: String,
}

/// Asks for a plugin to be unloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginUnload {
    /// The plugin, on each host that runs it.
    pub plugin: String,
    /// Whether those that depend on it are unloaded first; it stays without that, if there are any.
    #[serde(default)]
    pub cascade: bool,
}

/// Plugins that were unloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginsUnloaded {
    /// Their names, in the order in which they went.
    pub plugins: Vec<String>,
    /// How many messages they did not come to.
    pub unfinished: usize,
    /// What went wrong, a sentence each.
    pub faults: Vec<String>,
}

/// A plugin, as the host that runs it sees it. What it is set to is not told: that may hold secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginShown {
    /// The slot with what it holds and has counted.
    pub slot: SlotInfo,
    /// Since when the plugin is in its status.
    pub since: DateTime<Utc>,
    /// Why it is, where something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it was loaded from; nothing where it is linked into the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<LibraryInfo>,
    /// The worker pool that it has, its manifest's under the host's settings.
    pub pool: WorkerPoolConfig,
    /// How it says it is.
    pub health: Health,
    /// Figures of its own.
    #[serde(default)]
    pub metrics: Value,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// A library that a plugin was loaded from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LibraryInfo {
    /// The file, as the host names it.
    pub file: String,
    /// The SHA-256 of the file as it was loaded, in hexadecimal digits.
    pub hash: String,
    /// The version of the boundary that it was built for: `1.1`.
    pub abi: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::dead::{DeadFound, DeadLetter};
    use crate::{BaseMessage, Topic};

    #[test]
    fn an_answer_reads_back_with_the_message_in_it() {
        let message = BaseMessage::builder("me").data_json(b"{\"a\": 1}").build().unwrap();
        let letter = DeadLetter {
            slot: "s".to_owned(),
            topic: Topic::new("a.b").unwrap(),
            reason: "r".to_owned(),
            attempts: 1,
            message,
        };
        let found = DeadFound { letter: Some(letter), replayed_at: None };
        let error = Said::Error("no".to_owned());
        for said in [Said::Ok(found), error] {
            let answer = Answer { host: "h".to_owned(), alone: true, said };
            let text = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer<DeadFound>>(&text).unwrap(), answer);
        }
        for text in
            [r#"{"host":"h","alone":true}"#, r#"{"host":"h","alone":true,"ok":{},"error":""}"#]
        {
            assert!(serde_json::from_str::<Answer<DeadFound>>(text).is_err(), "{text}");
        }
    }
}
