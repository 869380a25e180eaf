//! The plugin of a library.

#![allow(unsafe_code, reason = "calls of a library's functions")]

use std::alloc::Layout;
use std::ffi::c_void;
use std::future::Future;
use std::sync::Arc;

use echo_sdk::abi::{Answer, Declaration, MINOR, Op, PluginTable, StateCall};
use echo_sdk::{
    BaseMessage, Health, Manifest, Plugin, PluginError, ProcessingStatus, StateSnapshot, Topic,
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::call::Asking;
use super::error::Fault;
use super::host::Host;

/// The largest future that a plugin may have, in bytes.
const MAX_FUTURE: usize = 16 * 1024 * 1024;

/// The minor version from which on plugins hand their state over.
const HANDS_OVER: u32 = 2;

/// A plugin on the other side of the boundary, and what is needed to call it.
///
/// Its functions can be called as long as it lives: whoever creates one keeps the library open until then.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) table: PluginTable,
    pub(super) layout: Layout,
    plugin: *mut c_void,
    name: String,
    host: Arc<Host>,
    /// The lower of both sides' minor versions.
    minor: u32,
    /// The form of the plugin's state.
    schema: u32,
}

// SAFETY: `Plugin` requires `Send` and `Sync`, on the other side too.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// Creates the plugin that a library declares.
    ///
    /// # Safety
    /// The declaration was checked, and its functions stay until the instance is dropped.
    pub(super) unsafe fn create(
        declaration: &Declaration,
        manifest: &Manifest,
        host: &Arc<Host>,
    ) -> Result<Self, Fault> {
        // SAFETY: the caller vouches for what the declaration names.
        let table = unsafe { table(declaration.table) }?;
        let layout = Layout::from_size_align(declaration.future_size, declaration.future_align)
            .ok()
            .filter(|layout| (1..=MAX_FUTURE).contains(&layout.size()))
            .ok_or(Fault::Declaration("has a size of futures that cannot be"))?;
        let mut answer = Answer::done();
        // SAFETY: the table belongs to the library; seat and answer last for the call.
        let plugin = host.seat(manifest, declaration.minor, |seat| unsafe {
            (table.create)(seat, &raw mut answer)
        });
        let schema = answer.schema();
        let said = answer.finished();
        if plugin.is_null() {
            let silent = || PluginError::ProcessingError("it does not say why".into());
            return Err(Fault::Create(said.err().unwrap_or_else(silent)));
        }
        let (name, host) = (manifest.name.clone(), Arc::clone(host));
        let minor = declaration.minor.min(MINOR);
        let instance = Self { table, layout, plugin, name, host, minor, schema };
        match said.map_err(Fault::Create)? {
            plugin if plugin == instance.name => Ok(instance),
            plugin => Err(Fault::Name { manifest: manifest.name.clone(), plugin }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(super) fn plugin(&self) -> *const c_void {
        self.plugin
    }

    /// Drops the plugin; what it said if it panicked.
    pub(super) fn destroy(mut self) -> Option<String> {
        self.end()
    }

    fn end(&mut self) -> Option<String> {
        let plugin = std::mem::replace(&mut self.plugin, std::ptr::null_mut());
        if plugin.is_null() {
            return None;
        }
        let mut answer = Answer::done();
        // SAFETY: `create` made the plugin; its futures borrow the instance, so they are gone.
        unsafe { (self.table.destroy)(plugin, &raw mut answer) };
        answer.finished().err().map(|error| error.to_string())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(panic) = self.end() {
            tracing::warn!(plugin = self.name, panic, "a plugin panicked when it was dropped");
        }
    }
}

/// # Safety
/// `table` is null, or the address of memory that starts with its own size.
unsafe fn table(table: *const PluginTable) -> Result<PluginTable, Fault> {
    if table.is_null() || !table.is_aligned() {
        return Err(Fault::Declaration("names no functions"));
    }
    // SAFETY: the caller vouches for the size, which comes first in every version.
    let size = unsafe { (&raw const (*table).size).read() } as usize;
    if size < size_of::<PluginTable>() {
        return Err(Fault::Declaration("names fewer functions than any version has"));
    }
    // Behind the size each field is one function, and none of them may be missing.
    let functions = size_of::<PluginTable>() / size_of::<usize>() - 1;
    let first = table.cast::<usize>().wrapping_add(1);
    // SAFETY: so many fields lie behind the first, by the size that was just checked.
    if (0..functions).any(|index| unsafe { first.add(index).read() } == 0) {
        return Err(Fault::Declaration("leaves out a function"));
    }
    // SAFETY: it is long enough and no function is null.
    Ok(unsafe { table.read() })
}

/// The plugin of a library, as the host's own code sees it. Cheap to clone.
///
/// Messages are handled where the future is polled, which has to be on the library's
/// [`runtime`](super::LoadedLibrary::runtime); everything else goes there by itself.
#[derive(Debug, Clone)]
pub struct LibraryPlugin {
    instance: Arc<Instance>,
    runtime: Handle,
}

impl LibraryPlugin {
    pub(super) fn new(instance: Instance, runtime: Handle) -> Self {
        Self { instance: Arc::new(instance), runtime }
    }

    pub(super) fn into_instance(self) -> Arc<Instance> {
        self.instance
    }

    async fn ask(&self, op: Op) -> Answer {
        let instance = Arc::clone(&self.instance);
        self.on_runtime(async move { Asking::op(&instance, op).await }).await
    }

    async fn ask_state(
        &self,
        op: Op,
        state: StateSnapshot,
        to: u32,
    ) -> Result<Answer, PluginError> {
        if !self.hands_over() {
            let text = "it is built for a version of the plugin boundary that hands no state over; \
                        build it with this host's version of echo-sdk";
            return Err(PluginError::ProcessingError(text.to_owned()));
        }
        let instance = Arc::clone(&self.instance);
        let asked = self.on_runtime(async move {
            let json = state.data.to_string();
            let call = StateCall::lend(&state, &json, to);
            Asking::state(&instance, op, &call).await
        });
        Ok(asked.await)
    }

    fn hands_over(&self) -> bool {
        self.instance.minor >= HANDS_OVER
    }

    async fn on_runtime(&self, asking: impl Future<Output = Answer> + Send + 'static) -> Answer {
        // A worker that takes a message's state to another form is there already.
        if Handle::try_current().is_ok_and(|here| here.id() == self.runtime.id()) {
            return asking.await;
        }
        let asked = self.runtime.spawn(asking);
        let _guard = AbortOnDrop(asked.abort_handle());
        asked.await.unwrap_or_else(|_| Answer::panicked("its threads have ended".into()))
    }
}

/// Cuts a task off when nobody waits for it any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Plugin for LibraryPlugin {
    fn name(&self) -> &str {
        self.instance.name()
    }

    async fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        Asking::handle(&self.instance, topic, message).await
    }

    async fn init(&self) -> Result<(), PluginError> {
        self.ask(Op::Init).await.finished().map(drop)
    }

    async fn shutdown(&self) -> Result<(), PluginError> {
        self.ask(Op::Shutdown).await.finished().map(drop)
    }

    async fn health_check(&self) -> Health {
        let health = self.ask(Op::Health).await.health();
        health.unwrap_or_else(|error| Health::Unhealthy(error.to_string()))
    }

    async fn metrics(&self) -> Value {
        let value = self.ask(Op::Metrics).await.into_value();
        value.unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
    }

    async fn pause(&self) -> Result<(), PluginError> {
        self.ask(Op::Pause).await.finished().map(drop)
    }

    async fn resume(&self) -> Result<(), PluginError> {
        self.ask(Op::Resume).await.finished().map(drop)
    }

    async fn reset(&self) -> Result<(), PluginError> {
        self.ask(Op::Reset).await.finished().map(drop)
    }

    fn state_schema(&self) -> u32 {
        self.instance.schema
    }

    async fn export_state(&self) -> Result<Option<StateSnapshot>, PluginError> {
        if self.hands_over() { self.ask(Op::ExportState).await.snapshot(None) } else { Ok(None) }
    }

    async fn import_state(&self, state: StateSnapshot) -> Result<(), PluginError> {
        self.ask_state(Op::ImportState, state, 0).await?.finished().map(drop)
    }

    async fn convert_state(
        &self,
        state: StateSnapshot,
        to: u32,
    ) -> Result<StateSnapshot, PluginError> {
        let entry = state.entry.clone();
        let converted = self.ask_state(Op::ConvertState, state, to).await?.snapshot(entry)?;
        let silent = || PluginError::ProcessingError("it gave no state back".to_owned());
        converted.ok_or_else(silent)
    }
}
