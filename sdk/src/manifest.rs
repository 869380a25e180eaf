//! The manifest: what a plugin says of itself before it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Example, Pattern, StateKind, Topic, TransitionSettings};

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is no JSON, lacks a field, has one too many, or one of the wrong form.
    #[error("the manifest is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A field's value cannot be worked with.
    #[error("the manifest's `{field}` {fault}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it, as the rest of the sentence.
        fault: String,
    },
}

/// What a plugin is for; the registry indexes by it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PluginType {
    /// Runs suites and brings services up and down.
    Orchestration,
    /// Provides types of services.
    Service,
    /// Makes tests from what it sees.
    Intelligence,
    /// Makes things fail.
    Chaos,
    /// Measures.
    Performance,
    /// Mends what fails.
    SelfHealing,
    /// Anything else.
    #[default]
    Custom,
}

/// What happens to a message that finds its queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Overflow {
    /// The publisher waits.
    #[default]
    Block,
    /// The oldest message that nobody works on is dropped, and counted.
    DropOldest,
    /// The new message is dropped, and counted.
    DropNewest,
}

/// How a plugin's handler spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HandlerKind {
    /// It awaits what it waits for; workers are tasks.
    #[default]
    Async,
    /// It blocks its thread; each worker is a thread of its own.
    Blocking,
}

/// The worker pool that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerPoolConfig {
    /// The workers that are always there; at least 1.
    pub min_workers: usize,
    /// The workers that there are at most.
    pub max_workers: usize,
    /// How many messages may wait or be in hand before the queue is full.
    pub queue_size: usize,
    /// Whether the pool grows and shrinks between the two; otherwise it stays at `min_workers`.
    pub adaptive_scaling: bool,
    /// How much of the workers' time may be taken (0 to 1) before the pool thinks about growing.
    pub scaling_threshold: f64,
    /// How long a shutdown waits for messages in hand.
    #[serde(with = "crate::duration")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub shutdown_timeout: Duration,
    /// Whether the handler awaits or blocks.
    pub handler: HandlerKind,
    /// How long one handling may take; without one it may take forever.
    #[serde(with = "crate::duration::option")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub deadline: Option<Duration>,
    /// How often a message is tried before it is dead.
    pub max_attempts: u16,
    /// What happens to a message that finds the queue full.
    pub overflow: Overflow,
}

impl Default for WorkerPoolConfig {
    fn default() -> Self {
        Self {
            min_workers: 1,
            max_workers: 8,
            queue_size: 1024,
            adaptive_scaling: true,
            scaling_threshold: 0.7,
            shutdown_timeout: Duration::from_secs(5),
            handler: HandlerKind::Async,
            deadline: Some(Duration::from_secs(30)),
            max_attempts: 5,
            overflow: Overflow::Block,
        }
    }
}

impl WorkerPoolConfig {
    /// Checks that the values fit together.
    ///
    /// # Errors
    /// [`ManifestError::Field`] that names the value which does not.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let fault = |field, fault: String| Err(ManifestError::Field { field, fault });
        if self.min_workers == 0 {
            return fault(
                "worker_pool.min_workers",
                "is 0; a plugin needs at least 1 worker".into(),
            );
        }
        if self.max_workers < self.min_workers {
            let (max, min) = (self.max_workers, self.min_workers);
            return fault("worker_pool.max_workers", format!("is {max}, below min_workers, {min}"));
        }
        if self.queue_size == 0 {
            return fault(
                "worker_pool.queue_size",
                "is 0; a queue holds at least 1 message".into(),
            );
        }
        if !(self.scaling_threshold > 0.0 && self.scaling_threshold <= 1.0) {
            let value = self.scaling_threshold;
            return fault(
                "worker_pool.scaling_threshold",
                format!("is {value}; it is a share of the workers' time, above 0 and at most 1"),
            );
        }
        if self.max_attempts == 0 {
            return fault(
                "worker_pool.max_attempts",
                "is 0; a message is tried at least once".into(),
            );
        }
        Ok(())
    }
}

/// A type of service that a plugin provides for suites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceTypeInfo {
    /// The value of `type` in a suite.
    #[serde(rename = "type")]
    pub service_type: String,
    /// One sentence on what it starts.
    pub description: String,
    /// What has to be there, each as `echo-core services` shows it: "a Docker or Podman engine".
    #[serde(default)]
    pub requires: Vec<String>,
    /// The JSON Schema of its keys in a suite, those that every service has aside.
    pub config_schema: Value,
}

/// `manifest.json`: a plugin's name, version, subscriptions and defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Manifest {
    /// The plugin's name: letters, digits, `-` and `_`, one token of a topic.
    pub name: String,
    /// Its version, as semver has it.
    pub version: String,
    /// One sentence on what it does.
    pub description: String,
    /// The symbol of the library at which the host enters.
    #[serde(default = "default_entry_point")]
    pub entry_point: String,
    /// What the plugin is for.
    #[serde(rename = "type", default)]
    pub plugin_type: PluginType,
    /// The patterns whose messages it handles.
    #[serde(default)]
    pub subscriptions: Vec<Pattern>,
    /// Its configuration with the default of each key; the host's settings go over it.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The JSON Schema of the configuration. A host holds the defaults and its settings against it before it makes the
    /// plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
    /// The plugins that must run before it, by name, each with the versions that it works with.
    #[serde(default)]
    pub dependencies: BTreeMap<String, String>,
    /// The worker pool that it asks for.
    #[serde(default)]
    pub worker_pool: WorkerPoolConfig,
    /// Whether it has managed state: `none`, `keyed`, or `shared`.
    #[serde(default, skip_serializing_if = "is_none")]
    pub state: StateKind,
    /// How this version takes the place of another; a host's settings go over it.
    #[serde(default, skip_serializing_if = "TransitionSettings::is_empty")]
    pub transition: TransitionSettings,
    /// The types of services that it provides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceTypeInfo>,
    /// What it answers to which message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

fn is_none(state: &StateKind) -> bool {
    *state == StateKind::None
}

fn default_entry_point() -> String {
    "create_plugin".to_owned()
}

impl Manifest {
    /// Reads and checks a `manifest.json`.
    ///
    /// # Errors
    /// [`ManifestError`] that names the field at fault.
    pub fn from_json(json: &str) -> Result<Self, ManifestError> {
        Self::with_subscriptions(json, &[])
    }

    /// The same for a plugin that subscribes to more than its `manifest.json` says: to the topics of its
    /// [hooks](crate::hooks).
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and when a pattern is malformed.
    pub fn with_subscriptions(json: &str, patterns: &[&str]) -> Result<Self, ManifestError> {
        let mut manifest: Self = serde_json::from_str(json)?;
        for pattern in patterns {
            let pattern = Pattern::new(pattern).map_err(|error| {
                let fault = format!("cannot hold a hook's: {error}");
                ManifestError::Field { field: "subscriptions", fault }
            })?;
            if !manifest.subscriptions.contains(&pattern) {
                manifest.subscriptions.push(pattern);
            }
        }
        manifest.validate()?;
        Ok(manifest)
    }

    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// [`ManifestError::Field`] that names the field at fault.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let fault = |field, fault: String| Err(ManifestError::Field { field, fault });
        if !is_name(&self.name) {
            let name = &self.name;
            return fault("name", format!("is `{name}`; use letters, digits, `-` and `_`"));
        }
        if self.version.split('.').count() < 3 {
            let version = &self.version;
            return fault(
                "version",
                format!("is `{version}`; write three numbers, such as `1.0.0`"),
            );
        }
        let symbol = self.entry_point.as_bytes();
        let symbol_char = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if symbol.is_empty() || !symbol.iter().all(symbol_char) {
            let entry = &self.entry_point;
            return fault("entry_point", format!("is `{entry}`, which is no symbol name"));
        }
        if self.dependencies.contains_key(&self.name) {
            return fault("dependencies", format!("name the plugin itself, `{}`", self.name));
        }
        if self.config_schema.as_ref().is_some_and(|schema| !schema.is_object()) {
            return fault("config_schema", "is no object; write a JSON Schema".into());
        }
        self.transition.validate().or_else(|error| fault("transition", error.fault()))?;
        for example in &self.examples {
            self.check_example(example).or_else(|why| fault("examples", why))?;
        }
        self.worker_pool.validate()
    }

    /// What is wrong with an example: the rest of a sentence.
    fn check_example(&self, example: &Example) -> Result<(), String> {
        let Example { description, topic, expect_topic, expect_data, .. } = example;
        let told = |why: String| format!("hold \"{description}\", {why}");
        let parsed =
            Topic::new(topic).map_err(|error| told(format!("whose topic is none: {error}")))?;
        if !self.subscriptions.iter().any(|pattern| pattern.matches(&parsed)) {
            return Err(told(format!("whose topic, `{topic}`, the plugin does not subscribe to")));
        }
        if expect_data.is_some() && expect_topic.is_none() {
            return Err(told("which has `expect_data` and no `expect_topic`".into()));
        }
        Ok(())
    }
}

/// Whether a text can name a plugin, a service or a suite: it is one token of a topic, safe in a path.
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(extra: &str) -> Result<Manifest, ManifestError> {
        Manifest::from_json(&format!(
            r#"{{"name":"x","version":"1.0.0","description":"d"{extra}}}"#
        ))
    }

    #[test]
    fn the_least_manifest_has_name_version_and_description() {
        let least = manifest("").unwrap();
        assert_eq!(least.entry_point, "create_plugin");
        assert_eq!(least.worker_pool, WorkerPoolConfig::default());
        assert!(Manifest::from_json("{}").is_err());
    }

    #[test]
    fn a_fault_is_named_with_its_field() {
        for (extra, word) in [
            (r#","subscription":[]"#, "subscription"),
            (r#","subscriptions":["a..b"]"#, "a..b"),
            (r#","worker_pool":{"min_workers":0}"#, "min_workers"),
            (r#","worker_pool":{"min_workers":9}"#, "max_workers"),
            (r#","worker_pool":{"scaling_threshold":1.5}"#, "scaling_threshold"),
            (r#","worker_pool":{"deadline":"soon"}"#, "soon"),
            (r#","entry_point":"a b""#, "entry_point"),
            (r#","dependencies":{"x":"*"}"#, "dependencies"),
            (r#","config_schema":true"#, "config_schema"),
            (r#","transition":{"steps":[7]}"#, "`transition` has `steps`"),
            (r#","examples":[{"description":"d","topic":"a.b","data":1}]"#, "`a.b`"),
        ] {
            let error = manifest(extra).unwrap_err().to_string();
            assert!(error.contains(word), "{extra}: {error}");
        }
    }
}
