//! Making a plugin, when the host starts and while it runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use echo_bus::{RetryPolicy, Side, Slot, SlotOptions, Transport};
use echo_sdk::{
    Manifest, MessageTransport, PluginContext, PluginError, StateKind, WorkerPoolConfig,
};
use tokio::runtime::Handle;

use super::candidate::{Candidate, Source};
use super::{DeadLetters, HostError, failed};
use crate::actor::context::PluginTransport;
use crate::actor::{Actor, Counters, Delivering, Measured, SlotRuntime, Window};
use crate::config::{Config, PluginSetup, state_dir};
use crate::library::{LibraryError, LoadedLibrary, Loader};
use crate::middleware::{Layer, SlotMiddleware};
use crate::registry::{Managed, Origin, Version};
use crate::schema::Schemas;
use crate::state::{Forms, PluginState};
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

/// A version that was made, and all that it lives on but its slot.
struct Made {
    manifest: Manifest,
    origin: Origin,
    worker_pool: WorkerPoolConfig,
    telemetry: HostTelemetry,
    middleware: Option<SlotMiddleware>,
    forms: Arc<Forms>,
    measured: Arc<Measured>,
    living: Living,
}

/// A plugin's actor, and what it runs on.
struct Living {
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
        let made = self.make(candidate, setup).await?;
        let slot = self.open_slot(&made.manifest, &made.worker_pool).await?;
        let side = Side::default();
        Ok(Arc::new(Managed::new(self.version(made, (slot, side), Arc::default()))))
    }

    /// Makes another version of a plugin, behind the same slot as the current one, on this side of it.
    pub(super) async fn make_beside(
        &self,
        candidate: Candidate,
        setup: PluginSetup,
        current: &SlotRuntime,
        side: Side,
    ) -> Result<Arc<Version>, HostError> {
        let made = self.make(candidate, setup).await?;
        let slot = (Arc::clone(&current.slot), side);
        Ok(self.version(made, slot, Arc::clone(&current.counters)))
    }

    async fn make(&self, candidate: Candidate, setup: PluginSetup) -> Result<Made, HostError> {
        let PluginSetup { config, worker_pool, middleware, .. } = setup;
        let (manifest, origin) = (candidate.manifest.clone(), candidate.origin());
        let name = manifest.name.as_str();
        let telemetry = HostTelemetry::new(name, self.exports.clone());
        let own: Vec<Layer> = middleware.iter().map(|own| own.layer(&self.schemas)).collect();
        let layers = self.middleware.iter().chain(&own);
        let middleware = SlotMiddleware::new(layers, name, worker_pool.max_attempts);
        let measured = Arc::<Measured>::default();
        let transport = PluginTransport {
            transport: Arc::clone(&self.transport),
            queue_size: self.config.bus.queue_size,
            measured: Arc::clone(&measured),
        };
        let mut transport: Arc<dyn MessageTransport> = Arc::new(transport);
        if let Some(middleware) = &middleware {
            transport = middleware.transport(transport);
        }
        let forms = Arc::new(Forms::default());
        let states = self.transport.states(name);
        let state = PluginState { kind: manifest.state, states, forms: Arc::clone(&forms) };
        let context = PluginContext::new(
            name,
            manifest.version.as_str(),
            config,
            transport,
            Arc::new(telemetry.clone()),
        );
        let context = context.with_state(Arc::new(state));
        let living = match candidate.source {
            Source::BuiltIn(make) => {
                let actor = make(context).map_err(failed(name, "made"))?;
                Living { actor, runtime: Handle::current(), library: None }
            }
            Source::Library(path) | Source::Kept { kept: path, .. } => {
                load(&self.config, path, context, name).await?
            }
        };
        forms.bind(&living.actor).map_err(failed(name, "asked for the form of its state"))?;
        Ok(Made { manifest, origin, worker_pool, telemetry, middleware, forms, measured, living })
    }

    async fn open_slot(
        &self,
        manifest: &Manifest,
        pool: &WorkerPoolConfig,
    ) -> Result<Arc<dyn Slot>, HostError> {
        let options = SlotOptions {
            name: manifest.name.clone(),
            patterns: manifest.subscriptions.clone(),
            capacity: pool.queue_size,
            overflow: pool.overflow,
        };
        Ok(self.transport.open_slot(options).await?)
    }

    /// What was made, behind a slot.
    fn version(
        &self,
        made: Made,
        (slot, side): (Arc<dyn Slot>, Side),
        counters: Arc<Counters>,
    ) -> Arc<Version> {
        let Made { manifest, origin, worker_pool, telemetry, middleware, forms, measured, living } =
            made;
        let delivery = &self.config.delivery;
        let retry = RetryPolicy { base: delivery.retry_base_delay, max: delivery.retry_max_delay };
        let runtime = SlotRuntime {
            transport: Arc::clone(&self.transport),
            slot,
            side,
            delivering: Delivering {
                max_attempts: worker_pool.max_attempts,
                max_hops: delivery.max_hops,
                retry,
                deadline: worker_pool.deadline,
                commit_patience: self.config.bus.commit_patience,
            },
            telemetry,
            metrics: SlotMetrics::new(&manifest.name),
            counters,
            measured,
            window: Window::default(),
            dead_letters: Arc::clone(&self.dead_letters),
            middleware,
            states: (manifest.state != StateKind::None)
                .then(|| self.transport.states(&manifest.name)),
            forms,
            on_trial: AtomicBool::new(false),
        };
        let Living { actor, runtime: threads, library } = living;
        let (living, slot) = ((actor, threads), Arc::new(runtime));
        Arc::new(Version::new(manifest, origin, worker_pool, living, slot, library))
    }
}

/// Loads a library where blocking is allowed.
async fn load(
    config: &Config,
    path: std::path::PathBuf,
    context: PluginContext,
    name: &str,
) -> Result<Living, HostError> {
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
    Ok(Living { actor: Arc::new(library.plugin()), runtime, library: Some(library) })
}
