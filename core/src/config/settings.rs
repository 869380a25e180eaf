//! One plugin as it is to run: its manifest under the host's settings, checked before there is a plugin.
//!
//! What does not fit is told with its line, where the settings stand in a file. The plugin's configuration is judged by
//! the schema of its manifest, as a whole: a default that breaks the schema is told just as a setting is.

use echo_sdk::{Manifest, ManifestError, PluginType, TransitionSettings, WorkerPoolConfig};
use echo_toml::{Document, Fault, Faults, Schema, SchemaError};
use serde_json::{Map, Value, json};

use super::{Config, MiddlewareSettings, PluginSettings, PoolSettings};

/// One plugin as it is to run.
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
    /// How this version takes the place of another.
    pub transition: TransitionSettings,
}

/// Settings that do not fit the plugin that they are for.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum PluginSettingsError {
    /// The settings stand in a file, which has faults.
    #[error("the settings of `{plugin}` do not fit it: {}", told(faults))]
    File {
        /// The plugin.
        plugin: String,
        /// What is wrong, and where.
        faults: Box<Faults>,
    },
    /// The settings come from elsewhere, or are the manifest's own.
    #[error("the settings of `{plugin}` do not fit it: {fault}")]
    Values {
        /// The plugin.
        plugin: String,
        /// What is wrong: one sentence.
        fault: String,
    },
    /// The manifest's schema of the configuration is none.
    #[error("the manifest of `{plugin}` has a `config_schema` that cannot be used: {source}")]
    Schema {
        /// The plugin.
        plugin: String,
        /// What is wrong with it.
        source: SchemaError,
    },
}

/// The faults with their places, in one line.
fn told(faults: &Faults) -> String {
    let told = faults.iter().map(|fault| {
        let Fault { line, column, message, help, .. } = fault;
        let help = help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{}:{line}:{column}: {message}{help}", faults.file())
    });
    told.collect::<Vec<_>>().join(", and ")
}

impl Config {
    /// The settings of one plugin, if there are any.
    pub fn plugin_settings(&self, plugin: &str) -> Option<&PluginSettings> {
        self.place_of(plugin).map(|(_, settings)| settings)
    }

    fn place_of(&self, plugin: &str) -> Option<(usize, &PluginSettings)> {
        self.plugins.register.iter().enumerate().find(|(_, settings)| settings.id == plugin)
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
        let place = self.place_of(&manifest.name);
        let settings = place.map(|(_, settings)| settings);
        let mut config = manifest.config.clone();
        if let Some(settings) = settings {
            merge(&mut config, &settings.config);
        }
        let pool = settings.map(|settings| &settings.worker_pool);
        let worker_pool = self.worker_pool(manifest, pool);
        self.check_plugin(manifest, place, &config, &worker_pool)?;
        let enabled = settings.is_none_or(|settings| settings.enabled);
        let middleware = settings.map(|settings| settings.middleware.clone()).unwrap_or_default();
        let transition = settings.map(|settings| settings.transition.clone()).unwrap_or_default();
        let transition =
            transition.over(manifest.transition.clone()).over(self.plugins.transition.clone());
        Ok(PluginSetup { enabled, config, worker_pool, middleware, transition })
    }

    fn worker_pool(
        &self,
        manifest: &Manifest,
        settings: Option<&PoolSettings>,
    ) -> WorkerPoolConfig {
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
        match settings {
            Some(settings) => settings.over(pool),
            None => pool,
        }
    }

    fn check_plugin(
        &self,
        manifest: &Manifest,
        place: Option<(usize, &PluginSettings)>,
        config: &Map<String, Value>,
        pool: &WorkerPoolConfig,
    ) -> Result<(), PluginSettingsError> {
        let plugin = || manifest.name.clone();
        // Without a file, or without settings in it, faults have no place, and the plugin's settings stand alone.
        let in_file = self.source.document().zip(place);
        let in_file =
            in_file.filter(|(document, (index, _))| document.contains(&pointer(*index, "")));
        let empty = || Document::parse(plugin(), "plugins = { register = [{ config = {} }] }");
        let (document, index) = match in_file {
            Some((document, (index, _))) => (document.clone(), index),
            None => (empty().map_err(|faults| self.fault(manifest, faults, false))?, 0),
        };
        let mut faults: Vec<Fault> = Vec::new();
        if let Some((_, settings)) = place {
            faults.extend(type_fault(&document, index, settings, manifest));
            if manifest.config_schema.is_none() {
                faults.extend(key_faults(&document, index, settings, manifest));
            }
        }
        if let Some(fault) = pool_fault(pool) {
            let at = pointer(index, "/worker_pool");
            let message =
                format!("with its manifest and `plugins`, it has a worker pool whose {fault}");
            faults.push(document.fault_at(&at, message));
        }
        let transition = place.map(|(_, settings)| settings.transition.validate());
        if let Some(Err(error)) = transition {
            let at = pointer(index, "/transition");
            faults.push(document.fault_at(&at, error.to_string()));
        }
        let checked = match &manifest.config_schema {
            Some(schema) => {
                let schema = Schema::new(within_register(schema, index))
                    .map_err(|source| PluginSettingsError::Schema { plugin: plugin(), source })?;
                let document = with_config(document, index, config);
                faults.extend(schema.check(&document));
                document.refuse(faults)
            }
            None => document.refuse(faults),
        };
        checked.map_err(|faults| self.fault(manifest, faults, in_file.is_some()))
    }

    fn fault(&self, manifest: &Manifest, faults: Faults, in_file: bool) -> PluginSettingsError {
        let plugin = manifest.name.clone();
        if in_file {
            return PluginSettingsError::File { plugin, faults: Box::new(faults) };
        }
        let sentences = faults.iter().map(|fault| {
            let help = fault.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
            format!("{}{help}", fault.message)
        });
        let fault = sentences.collect::<Vec<_>>().join(", and ");
        PluginSettingsError::Values { plugin, fault }
    }
}

/// A part of a plugin's settings, as a JSON pointer into the configuration.
fn pointer(index: usize, part: &str) -> String {
    format!("/plugins/register/{index}{part}")
}

/// The configuration's file with the whole configuration of one plugin where its settings stand.
fn with_config(document: Document, index: usize, config: &Map<String, Value>) -> Document {
    let at = pointer(index, "");
    let mut settings = document.value().pointer(&at).cloned().unwrap_or_default();
    if let Value::Object(settings) = &mut settings {
        settings.insert("config".to_owned(), Value::Object(config.clone()));
    }
    document.with_value(&at, settings)
}

/// A schema of the whole configuration that judges nothing but one plugin's.
fn within_register(schema: &Value, index: usize) -> Value {
    let mut entries = vec![json!(true); index];
    entries.push(json!({ "properties": { "config": schema } }));
    let register = json!({ "prefixItems": entries });
    json!({ "properties": { "plugins": { "properties": { "register": register } } } })
}

fn type_fault(
    document: &Document,
    index: usize,
    settings: &PluginSettings,
    manifest: &Manifest,
) -> Option<Fault> {
    let set = settings.plugin_type.filter(|set| *set != manifest.plugin_type)?;
    let (set, is) = (word(set), word(manifest.plugin_type));
    let message = format!("`{}` is of type `{is}`, not `{set}`", manifest.name);
    let fault = document.fault_at(&pointer(index, "/type"), message);
    Some(fault.help("remove `type`, or name another plugin"))
}

/// Without a schema, the manifest's defaults say which keys there are.
fn key_faults(
    document: &Document,
    index: usize,
    settings: &PluginSettings,
    manifest: &Manifest,
) -> Vec<Fault> {
    let unknown = settings.config.keys().filter(|key| !manifest.config.contains_key(*key));
    let fault = |key: &String| {
        let token = key.replace('~', "~0").replace('/', "~1");
        let message = format!("`{}` has no key `{key}`; {}", manifest.name, known(key, manifest));
        document.fault_at_key(&pointer(index, &format!("/config/{token}")), message)
    };
    unknown.map(fault).collect()
}

fn known(key: &str, manifest: &Manifest) -> String {
    let keys = || manifest.config.keys().map(String::as_str);
    match echo_toml::nearest(key, keys()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if manifest.config.is_empty() => "it has none at all".to_owned(),
        None => format!("it has {}", echo_toml::list(keys(), "and")),
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
