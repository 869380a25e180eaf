//! Putting a host together and starting it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use echo_bus::Transport;
use echo_sdk::{BaseMessage, Manifest, Plugin, PluginContext, PluginError};

use super::candidate::{BuiltIn, Candidate, find_libraries, for_nobody};
use super::local_bus;
use super::starting::Starting;
use super::watching::Watching;
use super::{Host, HostError};
use crate::actor::{Actor, contained};
use crate::config::Config;
use crate::middleware::Layer;
use crate::schema::Schemas;
use crate::telemetry::Exports;

/// Puts a host together; ends with [`start`](Self::start).
#[derive(Default)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct HostBuilder {
    config: Config,
    exports: Exports,
    enabled_dir: Option<PathBuf>,
    watching: bool,
    transport: Option<Arc<dyn Transport>>,
    candidates: Vec<Candidate>,
    middleware: Vec<Layer>,
    schemas: Option<Arc<Schemas>>,
}

impl HostBuilder {
    /// The configuration; the defaults without one.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where logs, traces and metrics go; nowhere without it.
    pub fn telemetry(mut self, exports: Exports) -> Self {
        self.exports = exports;
        self
    }

    /// The bus that the host runs on; one within this process, as `bus` of the configuration says, without it.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// The registry of schemas that the bus of [`transport`](Self::transport) checks messages against, as its
    /// admission. Without it the host loads one as `schemas` of the configuration says; a bus that was given
    /// knows nothing of that.
    pub fn schemas(mut self, schemas: Arc<Schemas>) -> Self {
        self.schemas = Some(schemas);
        self
    }

    /// Loads the plugin libraries of this folder as well.
    pub fn enabled_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.enabled_dir = Some(dir.into());
        self
    }

    /// Follows what becomes of that folder while the host runs, unless `plugins.watch` of the configuration is off: what
    /// is enabled is loaded, what is not any more is unloaded, and another version takes the place of the one that runs.
    pub fn watching(mut self) -> Self {
        self.watching = true;
        self
    }

    /// Adds a plugin that is linked into the host.
    pub fn plugin<P: Plugin>(
        mut self,
        manifest: Manifest,
        constructor: impl Fn(PluginContext) -> Result<P, PluginError> + Send + Sync + 'static,
    ) -> Self {
        let make: BuiltIn = Box::new(move |context| {
            let plugin = contained(|| constructor(context))?;
            Ok(Arc::new(plugin) as Arc<dyn Actor>)
        });
        self.candidates.push(Candidate::built_in(manifest, make));
        self
    }

    /// Adds a middleware, within those added before and outside of those of the configuration. One value
    /// that all plugins share; [`Layer`] says otherwise.
    pub fn middleware(mut self, middleware: impl Into<Layer>) -> Self {
        self.middleware.push(middleware.into());
        self
    }

    /// Makes all plugins, opens their slots, and initialises them, dependencies first.
    ///
    /// A library that cannot be taken is refused and the host goes on without it; see
    /// [`Host::refused`].
    ///
    /// # Errors
    /// [`HostError`] when the bus or the schemas cannot be brought up, or a plugin that is linked in cannot run.
    pub async fn start(self) -> Result<Host, HostError> {
        BaseMessage::recycle();
        let schemas = match self.schemas {
            Some(schemas) => schemas,
            None => Arc::new(Schemas::load(&self.config.schemas)?),
        };
        let bus = match self.transport {
            Some(transport) => transport,
            None => local_bus::start(&self.config.bus, &schemas).await?,
        };
        if let Some(events) = self.exports.span_events() {
            events.tell_on(&bus);
        }
        let mut candidates = self.candidates;
        let mut starting = Starting::new(self.config, self.exports, bus, self.middleware, schemas);
        let watched = self
            .enabled_dir
            .as_deref()
            .filter(|_| self.watching && starting.config().plugins.watch);
        // From now on, so that nothing changes unseen between this look and the first of those to come.
        let watching = watched.and_then(Watching::begin);
        let (libraries, refused) = find_libraries(starting.config(), self.enabled_dir.as_deref());
        refused.into_iter().for_each(|refused| starting.refuse(refused));
        candidates.extend(libraries);
        let nobody = for_nobody(starting.config(), &candidates);
        nobody.into_iter().for_each(|refused| starting.refuse(refused));
        let mut host = starting.run(candidates).await?;
        if let Some(watching) = watching {
            host.watch_enabled(watching);
        }
        Ok(host)
    }
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.candidates.iter().map(Candidate::name).collect();
        f.debug_struct("HostBuilder").field("plugins", &names).finish_non_exhaustive()
    }
}
