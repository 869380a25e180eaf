//! Plugin libraries: shared objects that are loaded while the host runs, and unloaded again.
//!
//! [`Loader`] looks at a file before it lets the system load it, agrees with the library on the version of the
//! [boundary](echo_sdk::abi), creates the plugin and gives it back as a [`LibraryPlugin`], which is a
//! [`Plugin`](echo_sdk::Plugin) like any other. Each library has threads of its own, a small tokio runtime:
//! what a plugin leaves behind in a thread, it leaves in one that ends before the library goes.
//!
//! Reading order: `content` and `file` (a file, and what can be said of it), `marks` (what was being loaded when a host ended),
//! `mapping` (the system's loader), `enter` (the handshake), `host` (what the plugin can call), `buffer` and
//! `call` (a future that crosses), `plugin`, `threads`, `recorder` (what of a library still runs); `error` and
//! `report` are the outcomes.

mod buffer;
mod call;
mod content;
mod enter;
mod error;
mod file;
mod host;
mod mapping;
mod marks;
mod plugin;
#[doc(hidden)]
pub mod recorder;
mod report;
mod telemetry;
#[cfg(test)]
mod tests;
mod threads;

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use echo_sdk::contract::host::LibraryInfo;
use echo_sdk::{Manifest, PluginContext};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use enter::enter;
use host::Host;
use mapping::Mapping;
use marks::{Mark, Marks};
use plugin::Instance;
use recorder::Bystanders;
use threads::{Threads, apart, apart_within};

pub(crate) use content::hash_of;
#[doc(hidden)]
pub use enter::adopt;
pub use error::{Fault, LibraryError};
pub(crate) use file::hash;
pub use plugin::LibraryPlugin;
pub use recorder::is_recording;
pub use report::{Quarantine, Quarantined, UnloadOutcome, UnloadReport, quarantined};

/// How long the constructor of a plugin may take, unless a [`Loader`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Loads the library at `path` and creates its plugin with the context that `context` makes for its manifest.
///
/// As [`Loader::load`] of a loader that remembers nothing.
///
/// # Errors
/// As [`Loader::load`].
pub fn load(
    path: &Path,
    context: impl FnOnce(&Manifest) -> PluginContext,
) -> Result<LoadedLibrary, LibraryError> {
    Loader::default().load(path, context)
}

/// How libraries are loaded.
#[derive(Debug, Clone)]
#[must_use = "a loader does nothing until `load` is called"]
pub struct Loader {
    patience: Duration,
    marks: Option<Marks>,
}

impl Default for Loader {
    fn default() -> Self {
        Self { patience: PATIENCE, marks: None }
    }
}

impl Loader {
    /// How long the constructor of a plugin may take.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Remembers in this folder, that of a host's state, which library is being loaded. A library that was when
    /// a host ended without a word is not loaded again.
    pub fn remember_in(self, state: &Path) -> Self {
        Self { marks: Some(Marks::within(state)), ..self }
    }

    /// Loads the library at `path` and creates its plugin with the context that `context` makes for its manifest.
    ///
    /// Blocks while the library's own code creates the plugin; call it where blocking is allowed. Once the plugin is
    /// initialised, or is not going to be, say [`LoadedLibrary::settled`].
    ///
    /// # Errors
    /// [`LibraryError`] that names the file and what is wrong with it. Nothing of it runs on then, but for a
    /// constructor that was not waited for any longer.
    pub fn load(
        &self,
        path: &Path,
        context: impl FnOnce(&Manifest) -> PluginContext,
    ) -> Result<LoadedLibrary, LibraryError> {
        let loaded = self.load_file(path, context);
        loaded.map_err(|fault| LibraryError { path: path.to_owned(), fault })
    }

    fn load_file(
        &self,
        path: &Path,
        context: impl FnOnce(&Manifest) -> PluginContext,
    ) -> Result<LoadedLibrary, Fault> {
        let file = content::read(path)?;
        let (manifest, abi) = file::inspect(&file)?;
        let hash = file::hash(&file);
        let mark = match &self.marks {
            Some(marks) => marks.place(path, &hash)?,
            None => None,
        };
        let before = Bystanders::now();
        let threads = Threads::start(&manifest).map_err(Fault::Threads)?;
        let host = Arc::new(Host::new(context(&manifest)));
        let open = {
            let (manifest, host) = (manifest.clone(), Arc::clone(&host));
            let name = format!("{}-{hash:.16}", manifest.name);
            move || {
                let mapping = Mapping::open(&file, &name)?;
                let created = enter(&mapping, &manifest, &host);
                Ok((mapping, created))
            }
        };
        // From here on the library's own code runs, on a thread that ends before the library can.
        let opened = apart_within(&manifest.name, self.patience, open).map_err(Fault::Threads)?;
        let path = path.to_owned();
        let kept = |outcome| UnloadReport {
            plugin: manifest.name.clone(),
            path: path.clone(),
            hash: hash.clone(),
            outcome,
            panic: None,
        };
        let Some(opened) = opened else {
            refused(kept(UnloadOutcome::Quarantined(Quarantine::Creating)));
            return Err(Fault::Late { patience: self.patience });
        };
        let (mapping, created) = opened?;
        match created {
            Ok(instance) => {
                let plugin = LibraryPlugin::new(instance, threads.handle().clone());
                let mark = Mutex::new(mark);
                Ok(LoadedLibrary {
                    manifest,
                    path,
                    hash,
                    abi,
                    plugin,
                    threads,
                    mapping,
                    before,
                    mark,
                })
            }
            Err(fault) => {
                // What still holds the context may still run, so its code has to stay.
                let outcome = match threads.end(manifest.worker_pool.shutdown_timeout) {
                    Ok(()) if Arc::strong_count(&host) == 1 => mapping.take_out(&before),
                    Ok(()) => UnloadOutcome::Quarantined(Quarantine::ContextHeld),
                    Err(quarantine) => UnloadOutcome::Quarantined(quarantine),
                };
                refused(kept(outcome));
                Err(fault)
            }
        }
    }
}

/// Remembers and tells what became of a library that was refused after some of its code ran.
fn refused(report: UnloadReport) {
    let UnloadReport { path, outcome, .. } = report.kept();
    if let UnloadOutcome::Quarantined(why) = outcome {
        tracing::warn!(path = %path.display(), %why, "a refused library stays in memory");
    }
}

/// Reads the manifest of the library at `path`; nothing of the library runs.
///
/// # Errors
/// [`LibraryError`] that names the file and what is wrong with it.
pub fn manifest(path: &Path) -> Result<Manifest, LibraryError> {
    let inspected = content::read(path).and_then(|file| file::inspect(&file));
    let manifest = inspected.map(|(manifest, _)| manifest);
    manifest.map_err(|fault| LibraryError { path: path.to_owned(), fault })
}

/// Says of the library at `path` what is told of one that is loaded; nothing of the library runs.
///
/// # Errors
/// [`LibraryError`] that names the file and what is wrong with it.
pub fn inspect(path: &Path) -> Result<(Manifest, LibraryInfo), LibraryError> {
    let inspected = content::read(path).and_then(|file| {
        let (manifest, abi) = file::inspect(&file)?;
        Ok((manifest, info(path, file::hash(&file), abi)))
    });
    inspected.map_err(|fault| LibraryError { path: path.to_owned(), fault })
}

fn info(path: &Path, hash: String, (major, minor): (u32, u32)) -> LibraryInfo {
    LibraryInfo { file: path.display().to_string(), hash, abi: format!("{major}.{minor}") }
}

/// A library that is loaded, with its plugin and its threads.
///
/// Dropping it without [`unload`](Self::unload) leaves the library in memory, where it does no harm.
#[derive(Debug)]
pub struct LoadedLibrary {
    manifest: Manifest,
    path: PathBuf,
    hash: String,
    abi: (u32, u32),
    plugin: LibraryPlugin,
    threads: Threads,
    mapping: Mapping,
    /// The threads that there were before it was loaded.
    before: Bystanders,
    /// Stands while it is not certain that the host survives the library.
    mark: Mutex<Option<Mark>>,
}

impl LoadedLibrary {
    /// The plugin; its clones are to be dropped before the library is unloaded.
    pub fn plugin(&self) -> LibraryPlugin {
        self.plugin.clone()
    }

    /// The library's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file that was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of the file as it was loaded, in hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The bytes of the file as it was loaded, whatever has become of it.
    ///
    /// # Errors
    /// Those of reading the copy in memory.
    pub fn bytes(&self) -> io::Result<impl Deref<Target = [u8]>> {
        self.mapping.bytes()
    }

    /// What is told of it: the file, its hash, and the version of the boundary that it was built for.
    pub fn info(&self) -> LibraryInfo {
        info(&self.path, self.hash.clone(), self.abi)
    }

    /// The plugin is initialised, or its host has given it up: nobody has to remember any more that it was being loaded.
    pub fn settled(&self) {
        drop(self.mark.lock().take());
    }

    /// Where the plugin's workers have to run: on the threads that belong to this library.
    pub fn runtime(&self) -> &Handle {
        self.threads.handle()
    }

    /// Ends the library's threads, drops the plugin, and takes the library out of memory.
    ///
    /// Waits up to the manifest's `shutdown_timeout` for the threads. Call it after
    /// [`Plugin::shutdown`](echo_sdk::Plugin::shutdown), with every clone of the plugin gone, and where blocking
    /// is allowed. What cannot be taken out safely stays where it is, and the report says why.
    pub fn unload(self) -> UnloadReport {
        let Self { manifest, path, hash, plugin, threads, mapping, before, mark: _mark, abi: _ } =
            self;
        let timeout = manifest.worker_pool.shutdown_timeout;
        let instance = plugin.into_instance();
        let host = Arc::clone(instance.host());
        // Dropping the plugin runs its code, so this too happens on a thread that ends before the library.
        let ended = apart(&manifest.name, move || {
            threads.end(timeout)?;
            Arc::try_unwrap(instance).map(Instance::destroy).map_err(Quarantine::keep)
        });
        let (outcome, panic) = match ended.map_err(Quarantine::NoThread).flatten() {
            Ok(panic) if Arc::strong_count(&host) == 1 => (mapping.take_out(&before), panic),
            Ok(panic) => (UnloadOutcome::Quarantined(Quarantine::ContextHeld), panic),
            Err(quarantine) => (UnloadOutcome::Quarantined(quarantine), None),
        };
        UnloadReport { plugin: manifest.name, path, hash, outcome, panic }.kept()
    }
}
