//! A library in this process's memory.

#![allow(unsafe_code, reason = "the system's loader runs a library's code and finds its symbols")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, major, memfd_create, minor};

use super::error::Fault;
use super::report::{Quarantine, UnloadOutcome};

/// A library that the system's loader has opened. Without [`close`](Mapping::close) it stays for good.
///
/// What is mapped is a sealed copy in memory, named by plugin and content, so that nobody can write to the
/// file below it. The copy's descriptor stays open as long as the mapping, since the loader knows libraries
/// by path, and the path would be that of the next copy.
#[derive(Debug)]
pub(super) struct Mapping {
    library: ManuallyDrop<Library>,
    copy: ManuallyDrop<OwnedFd>,
}

impl Mapping {
    /// Copies the file's bytes and has the loader open the copy, which runs its constructors.
    pub(super) fn open(file: &[u8], name: &str) -> Result<Self, Fault> {
        let copy = copy(file, name).map_err(Fault::Copy)?;
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        // SAFETY: whoever enabled the plugin wants its code to run in this process; its note says that it is
        // one, and of this version.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| Fault::Open(reason(&error)))?;
        Ok(Self { library: ManuallyDrop::new(library), copy: ManuallyDrop::new(copy) })
    }

    /// The library's symbol of this name.
    ///
    /// # Safety
    /// The symbol, if it is there, is a `T`; it is not used after the library is closed.
    pub(super) unsafe fn symbol<T: Copy>(&self, name: &CStr) -> Option<T> {
        // SAFETY: the caller vouches for the type.
        unsafe { self.library.get::<T>(name) }.ok().map(|symbol| *symbol)
    }

    /// Has the loader take the library out of memory, and looks whether it did. Nothing of the library may be
    /// in use; where that shows, it stays.
    pub(super) fn close(mut self) -> UnloadOutcome {
        // SAFETY: both are taken once, here, since `self` ends and has no destructor.
        let (library, copy) =
            unsafe { (ManuallyDrop::take(&mut self.library), ManuallyDrop::take(&mut self.copy)) };
        let quarantine = match library.close().map(|()| is_mapped(&copy)) {
            Ok(Ok(false)) => return UnloadOutcome::Unloaded,
            Ok(Ok(true)) => Quarantine::StillMapped,
            Ok(Err(error)) => Quarantine::Unconfirmed(error),
            Err(error) => Quarantine::Refused(reason(&error)),
        };
        let _ = ManuallyDrop::new(copy);
        UnloadOutcome::Quarantined(quarantine)
    }
}

fn copy(file: &[u8], name: &str) -> io::Result<OwnedFd> {
    let copy = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    copy.write_all(file)?;
    // `WRITE` would wait for whoever has a page in hand just now, and give up at times; there is no writable
    // mapping yet, so that `FUTURE_WRITE` forbids as much. Linux knows it since 5.1.
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// Whether any of the copy's code is in this process's memory. Backtraces map it too, to read its symbols,
/// which keeps some memory and nothing that runs.
fn is_mapped(copy: &OwnedFd) -> io::Result<bool> {
    let stat = fstat(copy)?;
    let device = format!("{:02x}:{:02x}", major(stat.st_dev), minor(stat.st_dev));
    let inode = stat.st_ino.to_string();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    // Each line: address, rights, offset, device, inode, path.
    Ok(maps.lines().any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().take(5).collect();
        matches!(words[..], [_, rights, _, at, number]
            if rights.contains('x') && at == device && number == inode)
    }))
}

/// What the loader said, which libloading keeps in the error's source.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_to_a_copy() {
        let sealed = File::from(copy(b"library", "sealed").unwrap());
        let error = (&sealed).write_all(b"other").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(sealed.set_len(0).is_err());
    }
}
