//! The handshake with a library that is loaded.

#![allow(unsafe_code, reason = "calls and reads what the system's loader found")]

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

use echo_sdk::abi::{Declaration, MAGIC, MAJOR};
use echo_sdk::{Manifest, PluginContext};
use tokio::runtime::Handle;

use super::error::{Fault, LibraryError};
use super::host::Host;
use super::mapping::Mapping;
use super::plugin::{Instance, LibraryPlugin};

/// An entry point.
type Entry = unsafe extern "C" fn() -> *const Declaration;

/// Finds the library's declaration, checks it against what this host speaks, and creates the plugin.
pub(super) fn enter(
    mapping: &Mapping,
    manifest: &Manifest,
    host: &Arc<Host>,
) -> Result<Instance, Fault> {
    let symbol = &manifest.entry_point;
    let missing = || Fault::NoEntryPoint { symbol: symbol.clone() };
    let name = CString::new(symbol.as_str()).map_err(|_| missing())?;
    // SAFETY: the file's note says that it is a plugin, whose entry point is such a function. What it returns
    // is null, or stays as long as the library, which `load` closes after the instance is gone.
    unsafe {
        let entry = mapping.symbol::<Entry>(&name).ok_or_else(missing)?;
        Instance::create(check(entry())?, manifest, host)
    }
}

/// Links a plugin through the boundary without a library: for tests and measurements.
///
/// # Errors
/// [`LibraryError`] as [`load`](super::load) gives it, with the plugin's name for a path.
pub fn adopt(
    declaration: &'static Declaration,
    manifest: &Manifest,
    context: PluginContext,
    runtime: Handle,
) -> Result<LibraryPlugin, LibraryError> {
    let host = Arc::new(Host::new(context));
    // SAFETY: a declaration of the program's own stays for good, with the functions that it names.
    let created = unsafe {
        check(declaration).and_then(|declaration| Instance::create(declaration, manifest, &host))
    };
    match created {
        Ok(instance) => Ok(LibraryPlugin::new(instance, runtime)),
        Err(fault) => Err(LibraryError { path: PathBuf::from(&manifest.name), fault }),
    }
}

/// # Safety
/// `declaration` is null, or the address of memory that starts with its own size and stays for `'a`.
unsafe fn check<'a>(declaration: *const Declaration) -> Result<&'a Declaration, Fault> {
    if declaration.is_null() || !declaration.is_aligned() {
        return Err(Fault::Declaration("has no address"));
    }
    // SAFETY: the caller vouches for the size, which comes first in every version.
    let size = unsafe { (&raw const (*declaration).size).read() } as usize;
    if size < size_of::<Declaration>() {
        return Err(Fault::Declaration("is shorter than any version has it"));
    }
    // SAFETY: it is as long as this struct, each field of which takes any value.
    let declaration = unsafe { &*declaration };
    if declaration.magic != MAGIC {
        return Err(Fault::Magic { found: declaration.magic });
    }
    if declaration.major != MAJOR {
        return Err(Fault::Version { found: (declaration.major, declaration.minor) });
    }
    Ok(declaration)
}
