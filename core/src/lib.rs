//! # Echo Core
//!
//! A [`Host`] runs plugins on a bus. Each plugin has a slot on the bus and a pool of workers that grows and
//! shrinks with its load; the registry knows all plugins and the order that their dependencies ask for.
//!
//! Reading order: [`host`] (start, lifecycle, shutdown), `registry`, `actor` (what a handler's answer does
//! to its message), [`middleware`] (what stands around handlers and publishers), [`schema`] (what data keeps
//! to), `pool` (how many workers), [`library`] (plugins from shared libraries), `transition` (one version
//! in another's place), [`config`], [`telemetry`].

pub mod config;
pub mod host;
pub mod library;
pub mod middleware;
pub mod schema;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

mod actor;
mod current;
mod pool;
mod registry;
mod state;
mod transition;

pub use config::Config;
pub use host::{Host, HostBuilder, HostError, Refused, ShutdownReport, Transitioning, Unfinished};
pub use registry::{
    Node, OrderError, Origin, PluginEntry, PluginMetrics, PluginResources, RegistryError,
    initialisation_order,
};
pub use transition::{Record, RecordError, Records};
