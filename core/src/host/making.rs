//! Making a plugin, when the host starts and while it runs.

use std::sync::Arc;

use echo_bus::{RetryPolicy, SlotOptions, Transport};
use echo_sdk::{
    Manifest, MessageTransport, PluginContext, PluginError, StateKind, WorkerPoolConfig,
};
use tokio::runtime::Handle;

use super::candidate::{Candidate, Source};
use super::{DeadLetters, HostError, failed};
use crate::actor::context::PluginTransport;
use crate::actor::{Actor, Counters, Delivering, SlotRuntime};
use crate::config::{Config, PluginSetup, state_dir};
use crate::library::{LibraryError, LoadedLibrary, Loader};
use crate::middleware::{Layer, SlotMiddleware};
use crate::registry::Managed;
use crate::schema::Schemas;
use crate::state::PluginState;
use crate::telemetry::{Exports, HostTelemetry, SlotMetrics};

/// What all plugins of a host have in common.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) exports: Exports,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) dead_letters: Arc<DeadLetters>,
    pub(super) middleware: Vec<Layer>,
    pub(super) schemas: Arc<Schemas>,
}

/// A plugin that was made, and what it lives on.
struct Made {
    actor: Arc<dyn Actor>,
    runtime: Handle,
    library: Option<LoadedLibrary>,
}

impl Parts {
    /// Makes a plugin and opens its slot.
    pub(super) async fn register(
        &self,
        candidate: Candidate,
        setup: PluginSetup,
    ) -> Result<Arc<Managed>, HostError> {
        let PluginSetup { config, worker_pool, middleware, .. } = setup;
        let (manifest, origin) = (candidate.manifest.clone(), candidate.origin());
        let name = manifest.name.as_str();
        let telemetry = HostTelemetry::new(name, self.exports.clone());
        let own: Vec<Layer> = middleware.iter().map(|own| own.layer(&self.schemas)).collect();
        let layers = self.middleware.iter().chain(&own);
        let middleware = SlotMiddleware::new(layers, name, worker_pool.max_attempts);
        let transport = PluginTransport {
            transport: Arc::clone(&self.transport),
            queue_size: self.config.bus.queue_size,
        };
        let mut transport: Arc<dyn MessageTransport> = Arc::new(transport);
        if let Some(middleware) = &middleware {
            transport = middleware.transport(transport);
        }
        let state = PluginState { kind: manifest.state, states: self.transport.states(name) };
        let context = PluginContext::new(
            name,
            manifest.version.as_str(),
            config,
            transport,
            Arc::new(telemetry.clone()),
        );
        let context = context.with_state(Arc::new(state));
        let Made { actor, runtime, library } = match candidate.source {
            Source::BuiltIn(make) => {
                let actor = make(context).map_err(failed(name, "made"))?;
                Made { actor, runtime: Handle::current(), library: None }
            }
            Source::Library(path) => load(&self.config, path, context, name).await?,
        };
        let slot = self.open_slot(&manifest, &worker_pool, telemetry, middleware).await?;
        let plugin = Managed::new(manifest, origin, worker_pool, actor, runtime, slot);
        Ok(Arc::new(plugin.with_library(library)))
    }

    async fn open_slot(
        &self,
        manifest: &Manifest,
        pool: &WorkerPoolConfig,
        telemetry: HostTelemetry,
        middleware: Option<SlotMiddleware>,
    ) -> Result<Arc<SlotRuntime>, HostError> {
        let slot = self
            .transport
            .open_slot(SlotOptions {
                name: manifest.name.clone(),
                patterns: manifest.subscriptions.clone(),
                capacity: pool.queue_size,
                overflow: pool.overflow,
            })
            .await?;
        let delivery = &self.config.delivery;
        let retry = RetryPolicy { base: delivery.retry_base_delay, max: delivery.retry_max_delay };
        Ok(Arc::new(SlotRuntime {
            transport: Arc::clone(&self.transport),
            slot,
            delivering: Delivering {
                max_attempts: pool.max_attempts,
                max_hops: delivery.max_hops,
                retry,
                deadline: pool.deadline,
                commit_patience: self.config.bus.commit_patience,
            },
            telemetry,
            metrics: SlotMetrics::new(&manifest.name),
            counters: Counters::default(),
            dead_letters: Arc::clone(&self.dead_letters),
            middleware,
            states: (manifest.state != StateKind::None)
                .then(|| self.transport.states(&manifest.name)),
        }))
    }
}

/// Loads a library where blocking is allowed.
async fn load(
    config: &Config,
    path: std::path::PathBuf,
    context: PluginContext,
    name: &str,
) -> Result<Made, HostError> {
    let mut loader = Loader::default().patience(config.plugins.start_timeout);
    if let Some(state) = state_dir(config.gateway.state_dir.as_deref()) {
        loader = loader.remember_in(&state);
    }
    let loading = tokio::task::spawn_blocking(move || loader.load(&path, |_| context));
    let loaded: Result<LoadedLibrary, LibraryError> = loading.await.map_err(|error| {
        let error = PluginError::ProcessingError(format!("its loading was cut off: {error}"));
        failed(name, "loaded")(error)
    })?;
    let library = loaded?;
    let runtime = library.runtime().clone();
    Ok(Made { actor: Arc::new(library.plugin()), runtime, library: Some(library) })
}
