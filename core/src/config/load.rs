//! Reading the configuration from its layers.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use echo_sdk::{WorkerPoolConfig, is_name};
use echo_toml::{Document, Faults, Schema, SchemaError};
use tracing_subscriber::EnvFilter;

use super::settings::pool_fault;
use super::source::Source;
use super::{Config, environment};

/// The commented configuration of all keys with their defaults; what `echo-core init` writes.
pub const DEFAULT_CONFIG: &str = include_str!("../../../config/default.toml");

/// Where the configuration is looked for, seen from the working folder; the first one that exists is read.
pub const FILE_NAMES: [&str; 2] = ["echo-core.toml", "config/echo-core.toml"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds faults.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] Faults),
    /// A variable of the environment cannot be worked with.
    #[error("the environment variable {name}={value}: {fault}")]
    Variable {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The environment's variables make a configuration that cannot work.
    #[error("with {names} of the environment: {fault}")]
    Environment {
        /// The variables.
        names: String,
        /// What is wrong.
        fault: String,
    },
    /// Values do not go together.
    #[error("{0}")]
    Values(String),
    /// The schema is no JSON Schema; a fault of Echo Core's own.
    #[error("the configuration's own schema is faulty")]
    Schema(#[from] SchemaError),
}

impl Config {
    /// Reads the configuration: the defaults, under the file at `path` or else the first of [`FILE_NAMES`]
    /// in the working folder, under the environment.
    ///
    /// # Errors
    /// [`ConfigError`] when a file is given and cannot be read, or a layer holds a fault.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        Self::load_from(Path::new(""), path, variables)
    }

    /// As [`load`](Self::load), for another working folder and environment.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_from(
        folder: &Path,
        path: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config = match file(folder, path)? {
            Some((path, text)) => Self::parse(&path.to_string_lossy(), &text)?,
            None => Self::default(),
        };
        environment::apply(config, variables)
    }

    /// Reads `text`, the content of the file `name`, over the defaults.
    ///
    /// # Errors
    /// [`ConfigError::File`] with every fault of the file.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let schema = schema()?;
        let document = Document::parse(name, text)?;
        document.refuse(schema.check(&document))?;
        let config: Self = document.decode()?;
        let faults = config.faults().into_iter();
        document.refuse(faults.map(|(at, fault)| document.fault_at(&at, fault)).collect())?;
        Ok(Self { source: Source::new(document), ..config })
    }

    /// Checks a configuration that was changed after it was read, or put together in code.
    ///
    /// # Errors
    /// [`ConfigError::Values`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self.faults().into_iter().next() {
            Some((_, fault)) => Err(ConfigError::Values(fault)),
            None => Ok(()),
        }
    }

    /// What is wrong beyond the form of single values: the place as a JSON pointer, and a sentence.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = self.value_faults();
        if let Err(error) = self.plugins.transition.validate() {
            faults.push(("/plugins/transition".to_owned(), error.to_string()));
        }
        if let Some(fault) = pool_fault(&self.plugins.worker_pool.over(WorkerPoolConfig::default()))
        {
            let fault = format!("of the worker pool that most plugins get, {fault}");
            faults.push(("/plugins/worker_pool".to_owned(), fault));
        }
        faults.extend(self.register_faults());
        faults.extend(self.middleware_faults());
        faults.extend(self.gateway.faults());
        faults
    }

    fn value_faults(&self) -> Vec<(String, String)> {
        let Self { bus, delivery, plugins, telemetry, .. } = self;
        let no_filter = EnvFilter::builder().parse(&telemetry.log).is_err();
        let secure = telemetry.otlp_endpoint.as_ref().is_some_and(|to| !to.starts_with("http://"));
        let faults = [
            (
                delivery.retry_max_delay < delivery.retry_base_delay,
                "/delivery/retry_max_delay",
                "`delivery.retry_max_delay` is shorter than `delivery.retry_base_delay`",
            ),
            (
                plugins.worker_pool.max_attempts.is_some(),
                "/plugins/worker_pool/max_attempts",
                "the attempts of all plugins are set as `delivery.max_attempts`",
            ),
            (
                no_filter,
                "/telemetry/log",
                "`telemetry.log` is no log filter; write such as \"warn\" or \"info,plugin=debug\"",
            ),
            (
                secure,
                "/telemetry/otlp_endpoint",
                "`telemetry.otlp_endpoint` begins with http://; for TLS put a collector in between",
            ),
        ];
        let found = faults.into_iter().filter(|(wrong, ..)| *wrong);
        let found = found.map(|(_, pointer, fault)| (pointer, fault));
        let found = bus.faults().into_iter().chain(found);
        found.map(|(pointer, fault)| (pointer.to_owned(), fault.to_owned())).collect()
    }

    fn register_faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut seen = HashSet::new();
        for (index, settings) in self.plugins.register.iter().enumerate() {
            let id = &settings.id;
            let pointer = format!("/plugins/register/{index}/id");
            if !is_name(id) {
                let rule = "a plugin's name is made of letters, digits, `-` and `_`";
                faults.push((pointer, format!("`{id}` names no plugin; {rule}")));
            } else if !seen.insert(id) {
                faults.push((pointer, format!("`{id}` is registered twice; put both into one")));
            }
        }
        faults
    }
}

/// What a file may hold.
pub(super) fn schema() -> Result<Schema, SchemaError> {
    Schema::new(schemars::schema_for!(Config).to_value())
}

fn file(folder: &Path, path: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    if let Some(path) = path {
        return read(folder.join(path)).map(Some);
    }
    let found = FILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.exists());
    found.map(read).transpose()
}

fn read(path: PathBuf) -> Result<(PathBuf, String), ConfigError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}
