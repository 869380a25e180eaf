//! Which plugins run, and how.

use std::path::PathBuf;
use std::time::Duration;

use echo_sdk::{HandlerKind, Overflow, PluginType, TransitionSettings, WorkerPoolConfig, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::MiddlewareSettings;

/// Which plugins run, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// Whether plugin libraries are loaded; the plugins that are built in run either way.
    pub enabled: bool,
    /// The folder whose plugin libraries are loaded, seen from the working folder.
    pub dir: PathBuf,
    /// Whether a host that stays follows what becomes of that folder.
    pub watch: bool,
    /// How long a plugin may take to be made, and how long to initialise; past that it is given up.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub start_timeout: Duration,
    /// The worker pool of plugins that do not ask for another.
    pub worker_pool: PoolSettings,
    /// How another version takes a plugin's place, where its manifest does not say otherwise.
    pub transition: TransitionSettings,
    /// Settings of single plugins, and libraries from elsewhere.
    pub register: Vec<PluginSettings>,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: PathBuf::from("plugins/enabled"),
            watch: true,
            start_timeout: Duration::from_secs(30),
            worker_pool: PoolSettings::default(),
            transition: TransitionSettings::default(),
            register: Vec::new(),
        }
    }
}

/// What is set about one plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginSettings {
    /// The plugin's name.
    pub id: String,
    /// What the plugin is for; when given, its manifest must say the same.
    #[serde(rename = "type", default)]
    pub plugin_type: Option<PluginType>,
    /// Its library, seen from the working folder; without one it is built in or stands in `plugins.dir`.
    #[serde(default)]
    pub library: Option<PathBuf>,
    /// Whether it runs.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Its configuration, over the defaults of its manifest: tables are merged key by key, anything else
    /// is replaced.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Its worker pool, over what its manifest asks for.
    #[serde(default)]
    pub worker_pool: PoolSettings,
    /// How another version of it takes its place, over what that version's manifest says.
    #[serde(default)]
    pub transition: TransitionSettings,
    /// What stands around its handler and what it publishes, within that of the whole host; the outermost first.
    #[serde(default)]
    pub middleware: Vec<MiddlewareSettings>,
}

fn enabled() -> bool {
    true
}

/// A worker pool as far as it is set; see [`WorkerPoolConfig`] for what each key means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSettings {
    /// The workers that are always there.
    #[schemars(range(min = 1))]
    pub min_workers: Option<usize>,
    /// The workers that there are at most.
    #[schemars(range(min = 1))]
    pub max_workers: Option<usize>,
    /// How many messages may wait or be in hand before the queue is full.
    #[schemars(range(min = 1))]
    pub queue_size: Option<usize>,
    /// Whether the pool grows and shrinks between the two.
    pub adaptive_scaling: Option<bool>,
    /// How much of the workers' time may be taken (0 to 1) before the pool thinks about growing.
    #[schemars(range(max = 1.0))]
    pub scaling_threshold: Option<f64>,
    /// How long a shutdown waits for messages in hand.
    #[serde(with = "duration::option")]
    #[schemars(schema_with = "duration::schema")]
    pub shutdown_timeout: Option<Duration>,
    /// Whether the handler awaits or blocks.
    pub handler: Option<HandlerKind>,
    /// How long one handling may take.
    #[serde(with = "duration::option")]
    #[schemars(schema_with = "duration::schema")]
    pub deadline: Option<Duration>,
    /// How often a message is tried before it is dead; for all plugins, set `delivery.max_attempts`.
    #[schemars(range(min = 1))]
    pub max_attempts: Option<u16>,
    /// What happens to a message that finds the queue full.
    pub overflow: Option<Overflow>,
}

impl PoolSettings {
    /// These settings where they are set, `asked` elsewhere.
    pub fn over(&self, asked: WorkerPoolConfig) -> WorkerPoolConfig {
        WorkerPoolConfig {
            min_workers: self.min_workers.unwrap_or(asked.min_workers),
            max_workers: self.max_workers.unwrap_or(asked.max_workers),
            queue_size: self.queue_size.unwrap_or(asked.queue_size),
            adaptive_scaling: self.adaptive_scaling.unwrap_or(asked.adaptive_scaling),
            scaling_threshold: self.scaling_threshold.unwrap_or(asked.scaling_threshold),
            shutdown_timeout: self.shutdown_timeout.unwrap_or(asked.shutdown_timeout),
            handler: self.handler.unwrap_or(asked.handler),
            deadline: self.deadline.or(asked.deadline),
            max_attempts: self.max_attempts.unwrap_or(asked.max_attempts),
            overflow: self.overflow.unwrap_or(asked.overflow),
        }
    }

    /// What `asked` asks for otherwise than a manifest that asks for nothing.
    pub(super) fn asked_by(asked: &WorkerPoolConfig) -> Self {
        fn other<T: Clone + PartialEq>(asked: &T, default: &T) -> Option<T> {
            (asked != default).then(|| asked.clone())
        }
        let default = WorkerPoolConfig::default();
        Self {
            min_workers: other(&asked.min_workers, &default.min_workers),
            max_workers: other(&asked.max_workers, &default.max_workers),
            queue_size: other(&asked.queue_size, &default.queue_size),
            adaptive_scaling: other(&asked.adaptive_scaling, &default.adaptive_scaling),
            scaling_threshold: other(&asked.scaling_threshold, &default.scaling_threshold),
            shutdown_timeout: other(&asked.shutdown_timeout, &default.shutdown_timeout),
            handler: other(&asked.handler, &default.handler),
            deadline: other(&asked.deadline, &default.deadline).flatten(),
            max_attempts: other(&asked.max_attempts, &default.max_attempts),
            overflow: other(&asked.overflow, &default.overflow),
        }
    }
}
