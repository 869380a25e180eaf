//! Plugin libraries: shared objects that are loaded while the host runs, and unloaded again.
//!
//! [`load`] looks at a file before it lets the system load it, agrees with the library on the version of the
//! [boundary](echo_sdk::abi), creates the plugin and gives it back as a [`LibraryPlugin`], which is a
//! [`Plugin`](echo_sdk::Plugin) like any other. Each library has threads of its own, a small tokio runtime:
//! what a plugin leaves behind in a thread, it leaves in one that ends before the library goes.
//!
//! Reading order: `file` (what can be said of a file), `mapping` (the system's loader), `enter` (the
//! handshake), `host` (what the plugin can call), `buffer` and `call` (a future that crosses), `plugin`,
//! `threads`, `recorder` (what of a library still runs); `error` and `report` are the outcomes.

mod buffer;
mod call;
mod enter;
mod error;
mod file;
mod host;
mod mapping;
mod plugin;
#[doc(hidden)]
pub mod recorder;
mod report;
mod telemetry;
#[cfg(test)]
mod tests;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use echo_sdk::contract::host::LibraryInfo;
use echo_sdk::{Manifest, PluginContext};
use tokio::runtime::Handle;

use enter::enter;
use host::Host;
use mapping::Mapping;
use plugin::Instance;
use recorder::Bystanders;
use threads::{Threads, apart};

#[doc(hidden)]
pub use enter::adopt;
pub use error::{Fault, LibraryError};
pub use plugin::LibraryPlugin;
pub use recorder::is_recording;
pub use report::{Quarantine, Quarantined, UnloadOutcome, UnloadReport, quarantined};

/// Loads the library at `path` and creates its plugin with the context that `context` makes for its manifest.
///
/// Blocks while the library's own code creates the plugin; call it where blocking is allowed.
///
/// # Errors
/// [`LibraryError`] that names the file and what is wrong with it. Nothing of it runs on then.
pub fn load(
    path: &Path,
    context: impl FnOnce(&Manifest) -> PluginContext,
) -> Result<LoadedLibrary, LibraryError> {
    load_file(path, context).map_err(|fault| LibraryError { path: path.to_owned(), fault })
}

/// Reads the manifest of the library at `path`; nothing of the library runs.
///
/// # Errors
/// [`LibraryError`] that names the file and what is wrong with it.
pub fn manifest(path: &Path) -> Result<Manifest, LibraryError> {
    let inspected = file::read(path).and_then(|file| file::inspect(&file));
    let manifest = inspected.map(|(manifest, _)| manifest);
    manifest.map_err(|fault| LibraryError { path: path.to_owned(), fault })
}

/// Says of the library at `path` what is told of one that is loaded; nothing of the library runs.
///
/// # Errors
/// [`LibraryError`] that names the file and what is wrong with it.
pub fn inspect(path: &Path) -> Result<(Manifest, LibraryInfo), LibraryError> {
    let inspected = file::read(path).and_then(|file| {
        let (manifest, abi) = file::inspect(&file)?;
        Ok((manifest, info(path, file::hash(&file), abi)))
    });
    inspected.map_err(|fault| LibraryError { path: path.to_owned(), fault })
}

fn info(path: &Path, hash: String, (major, minor): (u32, u32)) -> LibraryInfo {
    LibraryInfo { file: path.display().to_string(), hash, abi: format!("{major}.{minor}") }
}

fn load_file(
    path: &Path,
    context: impl FnOnce(&Manifest) -> PluginContext,
) -> Result<LoadedLibrary, Fault> {
    let file = file::read(path)?;
    let (manifest, abi) = file::inspect(&file)?;
    let hash = file::hash(&file);
    let before = Bystanders::now();
    let threads = Threads::start(&manifest).map_err(Fault::Threads)?;
    let host = Arc::new(Host::new(context(&manifest)));
    let name = format!("{}-{hash:.16}", manifest.name);
    // From here on the library's own code runs, on a thread that ends before the library can.
    let opened = apart(&manifest.name, || {
        let mapping = Mapping::open(&file, &name)?;
        let created = enter(&mapping, &manifest, &host);
        Ok((mapping, created))
    });
    let (mapping, created) = opened.map_err(Fault::Threads).flatten()?;
    match created {
        Ok(instance) => {
            let plugin = LibraryPlugin::new(instance, threads.handle().clone());
            let path = path.to_owned();
            Ok(LoadedLibrary { manifest, path, hash, abi, plugin, threads, mapping, before })
        }
        Err(fault) => {
            // What still holds the context may still run, so its code has to stay.
            let outcome = match threads.end(manifest.worker_pool.shutdown_timeout) {
                Ok(()) if Arc::strong_count(&host) == 1 => mapping.take_out(&before),
                Ok(()) => UnloadOutcome::Quarantined(Quarantine::ContextHeld),
                Err(quarantine) => UnloadOutcome::Quarantined(quarantine),
            };
            let (plugin, path) = (manifest.name, path.to_owned());
            let report = UnloadReport { plugin, path, hash, outcome, panic: None }.kept();
            if let UnloadOutcome::Quarantined(why) = report.outcome {
                tracing::warn!(path = %report.path.display(), %why, "a refused library stays in memory");
            }
            Err(fault)
        }
    }
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

    /// What is told of it: the file, its hash, and the version of the boundary that it was built for.
    pub fn info(&self) -> LibraryInfo {
        info(&self.path, self.hash.clone(), self.abi)
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
        let Self { manifest, path, hash, plugin, threads, mapping, before, .. } = self;
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
