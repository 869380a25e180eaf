//! The library as a form of a plugin for [`Harness`](echo_sdk::testing::Harness), with the feature `testing`.
//!
//! ```no_run
//! # async fn sketch(manifest: echo_sdk::Manifest, make: fn(echo_sdk::PluginContext) -> echo_core::library::LibraryPlugin) {
//! use echo_core::testing::Library;
//! use echo_sdk::testing::{Harness, message};
//!
//! let harness = Harness::new(&manifest, make).and(Library::at("target/debug/libecho_plugin_x.so"));
//! harness.run(async |stage| drop(stage.give("a.b", &message(&1)).await)).await;
//! # }
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use echo_sdk::testing::{Driven, Form, Staged};
use echo_sdk::{
    BaseMessage, BoxFuture, Health, Plugin, PluginContext, PluginError, ProcessingStatus,
    StateSnapshot, Topic,
};
use serde_json::Value;

use crate::actor::{Actor, Operation, on_runtime};
use crate::library::{self, LibraryPlugin, LoadedLibrary, UnloadOutcome};

/// A plugin's library. It is loaded anew for each test, and taken out of memory after it; a test fails when it stays
/// there. Say [`record_threads!`](crate::record_threads) in the test's file, so that a thread of another test is not
/// taken for the library's.
#[derive(Debug, Clone)]
pub struct Library {
    path: PathBuf,
}

impl Library {
    /// The library at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Form for Library {
    fn name(&self) -> &'static str {
        "library"
    }

    fn make(&self, context: PluginContext) -> Result<Box<dyn Staged>, PluginError> {
        let loaded = library::load(&self.path, |_| context).map_err(PluginError::processing)?;
        Ok(Box::new(Loaded(loaded)))
    }
}

/// A library on stage. Nothing of it runs on the test's own thread.
struct Loaded(LoadedLibrary);

impl Loaded {
    fn run(&self, operation: Operation) -> BoxFuture<'_, Result<(), PluginError>> {
        let running = Actor::run(Arc::new(self.0.plugin()), operation);
        Box::pin(async { on_runtime(self.0.runtime(), running).await? })
    }

    fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Arc<LibraryPlugin>) -> BoxFuture<'static, T>,
    ) -> BoxFuture<'_, Result<T, PluginError>> {
        Box::pin(on_runtime(self.0.runtime(), ask(Arc::new(self.0.plugin()))))
    }
}

impl Driven for Loaded {
    fn init(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        self.run(Operation::Init)
    }

    fn process_message<'a>(
        &'a self,
        topic: &'a Topic,
        message: &'a BaseMessage,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>> {
        let (topic, message) = (topic.clone(), message.clone());
        let handled = self.with(|plugin| {
            Box::pin(async move { Plugin::process_message(&*plugin, &topic, &message).await })
        });
        Box::pin(async { handled.await? })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        self.run(Operation::Shutdown)
    }

    fn health_check(&self) -> BoxFuture<'_, Health> {
        let health = self.with(Actor::health);
        Box::pin(async {
            health.await.unwrap_or_else(|error| Health::Unhealthy(error.to_string()))
        })
    }

    fn metrics(&self) -> BoxFuture<'_, Value> {
        let metrics = self.with(Actor::metrics);
        Box::pin(async { metrics.await.unwrap_or_default() })
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        self.run(Operation::Pause)
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        self.run(Operation::Resume)
    }

    fn reset(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        self.run(Operation::Reset)
    }

    fn export_state(&self) -> BoxFuture<'_, Result<Option<StateSnapshot>, PluginError>> {
        let exported =
            self.with(|plugin| Box::pin(async move { Plugin::export_state(&*plugin).await }));
        Box::pin(async { exported.await? })
    }

    fn import_state(&self, state: StateSnapshot) -> BoxFuture<'_, Result<(), PluginError>> {
        let imported = self
            .with(|plugin| Box::pin(async move { Plugin::import_state(&*plugin, state).await }));
        Box::pin(async { imported.await? })
    }
}

impl Staged for Loaded {
    fn plugin(&self) -> &dyn Driven {
        self
    }

    fn end(self: Box<Self>) -> Result<(), String> {
        let report = self.0.unload();
        match &report.outcome {
            UnloadOutcome::Unloaded => Ok(()),
            UnloadOutcome::Quarantined(_) => Err(report.to_string()),
        }
    }
}
