//! A plugin at work: what its handler's answers do to the messages, whatever type the plugin has.
//!
//! [`Actor`] hides the plugin's type. Only the worker loop is generic over it, so a handler's future lives
//! inside the worker's own and costs no allocation; the worker is boxed once for its life.

mod attempt;
pub(crate) mod context;
mod helped;
mod measured;
mod shadow;
mod slot;
mod stateful;
mod turns;
mod worker;

/// What [`turns`] is made of; its model test puts other parts in its place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU8, Ordering};
}

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use echo_sdk::{BoxFuture, Health, Plugin, PluginError, StateSnapshot, handover};
use serde_json::Value;

pub(crate) use attempt::{Contained, panic_text};
pub(crate) use helped::Working;
pub(crate) use measured::{Attempts, BUCKETS, Figures, Measured, Times, first_from, shortest_of};
pub(crate) use shadow::{Ended, Muted, Rehearsal, Rehearsed, Shown, Window};
pub(crate) use slot::{Counters, Delivering, SlotRuntime};
pub(crate) use worker::{Finish, Worker, WorkerStats};

/// What a plugin is asked to do between messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Init,
    Shutdown,
    Pause,
    Resume,
    Reset,
}

/// A plugin whose type is hidden.
pub(crate) trait Actor: Send + Sync + 'static {
    fn run(self: Arc<Self>, operation: Operation) -> BoxFuture<'static, Result<(), PluginError>>;
    fn health(self: Arc<Self>) -> BoxFuture<'static, Health>;
    fn metrics(self: Arc<Self>) -> BoxFuture<'static, Value>;
    /// What the plugin remembers, in its own form.
    fn export_state(
        self: Arc<Self>,
    ) -> BoxFuture<'static, Result<Option<StateSnapshot>, PluginError>>;
    /// The plugin's own form.
    fn schema(&self) -> u32;
    /// Takes a state to the plugin's own form, and proves that nothing is lost; nothing is taken over yet.
    fn take_up(
        self: Arc<Self>,
        state: StateSnapshot,
    ) -> BoxFuture<'static, Result<StateSnapshot, PluginError>>;
    /// Takes a state to another form; nothing is taken over yet.
    fn convert(
        self: Arc<Self>,
        state: StateSnapshot,
        to: u32,
    ) -> BoxFuture<'static, Result<StateSnapshot, PluginError>>;
    /// Takes a state in the plugin's own form over.
    fn import_state(
        self: Arc<Self>,
        state: StateSnapshot,
    ) -> BoxFuture<'static, Result<(), PluginError>>;
    /// Handles messages until the worker is told to finish or its slot is closed and empty.
    fn work(self: Arc<Self>, worker: Worker) -> BoxFuture<'static, ()>;
    /// Handles copies of messages, of which nothing follows.
    fn rehearse(self: Arc<Self>, rehearsal: Rehearsal) -> BoxFuture<'static, ()>;
}

impl<P: Plugin> Actor for P {
    fn run(self: Arc<Self>, operation: Operation) -> BoxFuture<'static, Result<(), PluginError>> {
        Box::pin(async move {
            match operation {
                Operation::Init => self.init().await,
                Operation::Shutdown => self.shutdown().await,
                Operation::Pause => self.pause().await,
                Operation::Resume => self.resume().await,
                Operation::Reset => self.reset().await,
            }
        })
    }

    fn health(self: Arc<Self>) -> BoxFuture<'static, Health> {
        Box::pin(async move { self.health_check().await })
    }

    fn metrics(self: Arc<Self>) -> BoxFuture<'static, Value> {
        Box::pin(async move { Plugin::metrics(&*self).await })
    }

    fn export_state(
        self: Arc<Self>,
    ) -> BoxFuture<'static, Result<Option<StateSnapshot>, PluginError>> {
        Box::pin(async move { Plugin::export_state(&*self).await })
    }

    fn schema(&self) -> u32 {
        self.state_schema()
    }

    fn take_up(
        self: Arc<Self>,
        state: StateSnapshot,
    ) -> BoxFuture<'static, Result<StateSnapshot, PluginError>> {
        Box::pin(async move {
            let taken = handover::take_up(&*self, state).await;
            taken.map_err(|error| PluginError::ProcessingError(error.to_string()))
        })
    }

    fn convert(
        self: Arc<Self>,
        state: StateSnapshot,
        to: u32,
    ) -> BoxFuture<'static, Result<StateSnapshot, PluginError>> {
        Box::pin(async move { self.convert_state(state, to).await })
    }

    fn import_state(
        self: Arc<Self>,
        state: StateSnapshot,
    ) -> BoxFuture<'static, Result<(), PluginError>> {
        Box::pin(async move { Plugin::import_state(&*self, state).await })
    }

    fn work(self: Arc<Self>, worker: Worker) -> BoxFuture<'static, ()> {
        Box::pin(async move { worker.work(&*self).await })
    }

    fn rehearse(self: Arc<Self>, rehearsal: Rehearsal) -> BoxFuture<'static, ()> {
        Box::pin(async move { rehearsal.run(&*self).await })
    }
}

/// Runs one of a plugin's futures on the runtime that the plugin belongs to; a panic becomes an error.
pub(crate) async fn on_runtime<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    future: BoxFuture<'static, T>,
) -> Result<T, PluginError> {
    let mut task = AbortOnDrop(runtime.spawn(future));
    (&mut task.0).await.map_err(|error| {
        let text = match error.try_into_panic() {
            Ok(payload) => panic_text(payload),
            Err(_) => "its runtime was shut down".to_owned(),
        };
        PluginError::Panicked(text)
    })
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Calls a plugin's code that is not async; a panic becomes an error.
pub(crate) fn contained<T>(
    call: impl FnOnce() -> Result<T, PluginError>,
) -> Result<T, PluginError> {
    std::panic::catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|payload| Err(PluginError::Panicked(panic_text(payload))))
}
