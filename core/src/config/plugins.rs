//! Which plugins run, and how.

use std::path::PathBuf;
use std::time::Duration;

use echo_sdk::{
    HandlerKind, Manifest, ManifestError, Overflow, PluginType, WorkerPoolConfig, duration,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Config, MiddlewareSettings};

/// Which plugins run, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// Whether plugin libraries are loaded; the plugins that are built in run either way.
    pub enabled: bool,
    /// The folder whose plugin libraries are loaded, seen from the working folder.
    pub dir: PathBuf,
    /// The worker pool of plugins that do not ask for another.
    pub worker_pool: PoolSettings,
    /// Settings of single plugins, and libraries from elsewhere.
    pub register: Vec<PluginSettings>,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: PathBuf::from("plugins/enabled"),
            worker_pool: PoolSettings::default(),
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
    fn asked_by(asked: &WorkerPoolConfig) -> Self {
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

/// One plugin as it is to run: its manifest under the host's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginSetup {
    /// Whether it runs at all.
    pub enabled: bool,
    /// Its configuration.
    pub config: Map<String, Value>,
    /// Its worker pool.
    pub worker_pool: WorkerPoolConfig,
    /// Its own middleware.
    pub middleware: Vec<MiddlewareSettings>,
}

/// Settings that do not fit the plugin that they are for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginSettingsError {
    /// The settings say another type than the manifest.
    #[error(
        "`plugins.register` says that `{plugin}` is of type `{set}`, its manifest says `{manifest}`; remove `type` or name another plugin"
    )]
    Type {
        /// The plugin.
        plugin: String,
        /// The type in the settings.
        set: String,
        /// The type in the manifest.
        manifest: String,
    },
    /// The settings hold a key that the manifest does not.
    #[error("`plugins.register` sets `config.{key}` of `{plugin}`, which has no such key; {known}")]
    UnknownKey {
        /// The plugin.
        plugin: String,
        /// The key.
        key: String,
        /// What it has: the rest of the sentence.
        known: String,
    },
    /// The worker pool that settings and manifest make together cannot work.
    #[error(
        "the manifest of `{plugin}` under the settings of `plugins` has a worker pool whose {fault}"
    )]
    WorkerPool {
        /// The plugin.
        plugin: String,
        /// What is wrong with it: the rest of the sentence.
        fault: String,
    },
}

impl Config {
    /// The settings of one plugin, if there are any.
    pub fn plugin_settings(&self, plugin: &str) -> Option<&PluginSettings> {
        self.plugins.register.iter().find(|settings| settings.id == plugin)
    }

    /// How a plugin is to run.
    ///
    /// Its worker pool takes each value from the first of these that sets it: the plugin's
    /// `[[plugins.register]]`, its manifest (where it asks for anything but the SDK's default),
    /// `[plugins.worker_pool]` and `[delivery]`, the SDK's default.
    ///
    /// # Errors
    /// [`PluginSettingsError`] when settings and manifest contradict each other.
    pub fn plugin_setup(&self, manifest: &Manifest) -> Result<PluginSetup, PluginSettingsError> {
        let settings = self.plugin_settings(&manifest.name);
        let none = PoolSettings::default();
        let worker_pool = self.worker_pool(manifest, settings.map_or(&none, |s| &s.worker_pool))?;
        let mut config = manifest.config.clone();
        if let Some(settings) = settings {
            settings.check(manifest)?;
            merge(&mut config, &settings.config);
        }
        let enabled = settings.is_none_or(|settings| settings.enabled);
        let middleware = settings.map(|settings| settings.middleware.clone()).unwrap_or_default();
        Ok(PluginSetup { enabled, config, worker_pool, middleware })
    }

    fn worker_pool(
        &self,
        manifest: &Manifest,
        settings: &PoolSettings,
    ) -> Result<WorkerPoolConfig, PluginSettingsError> {
        let base = WorkerPoolConfig {
            max_attempts: self.delivery.max_attempts,
            ..WorkerPoolConfig::default()
        };
        let asked = &manifest.worker_pool;
        let mut pool = PoolSettings::asked_by(asked).over(self.plugins.worker_pool.over(base));
        if asked.deadline.is_none() {
            // A plugin that wants no deadline has handlers that take as long as a whole run.
            pool.deadline = None;
        }
        let pool = settings.over(pool);
        match pool_fault(&pool) {
            Some(fault) => {
                Err(PluginSettingsError::WorkerPool { plugin: manifest.name.clone(), fault })
            }
            None => Ok(pool),
        }
    }
}

/// What is wrong with a worker pool, if anything: a key and what it is.
pub(super) fn pool_fault(pool: &WorkerPoolConfig) -> Option<String> {
    pool.validate().err().map(|error| match error {
        ManifestError::Field { field, fault } => {
            format!("`{}` {fault}", field.trim_start_matches("worker_pool."))
        }
        other => other.to_string(),
    })
}

impl PluginSettings {
    fn check(&self, manifest: &Manifest) -> Result<(), PluginSettingsError> {
        match self.plugin_type {
            Some(set) if set != manifest.plugin_type => {
                return Err(PluginSettingsError::Type {
                    plugin: self.id.clone(),
                    set: word(set),
                    manifest: word(manifest.plugin_type),
                });
            }
            _ => {}
        }
        match self.config.keys().find(|key| !manifest.config.contains_key(*key)) {
            Some(key) => Err(PluginSettingsError::UnknownKey {
                plugin: self.id.clone(),
                key: key.clone(),
                known: known(key, manifest),
            }),
            None => Ok(()),
        }
    }
}

fn known(key: &str, manifest: &Manifest) -> String {
    let keys = || manifest.config.keys().map(String::as_str);
    match echo_toml::nearest(key, keys()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if manifest.config.is_empty() => "it has none at all".to_owned(),
        None => format!("it has {}", echo_toml::list(keys(), "and")),
    }
}

/// The type as it stands in files.
fn word(plugin_type: PluginType) -> String {
    match serde_json::to_value(plugin_type) {
        Ok(Value::String(word)) => word,
        _ => format!("{plugin_type:?}"),
    }
}

/// Puts `over` over `base`: tables key by key, anything else replaced.
fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}
