//! A library in this process's memory.

#![allow(unsafe_code, reason = "the system's loader runs a library's code and finds its symbols")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, major, memfd_create, minor};

use super::content::Content;
use super::error::Fault;
use super::recorder::{self, Bystanders, Left};
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

    /// The bytes that were copied.
    pub(super) fn bytes(&self) -> io::Result<Content> {
        Content::of(&File::from(self.copy.try_clone()?))
    }

    /// Takes the library out of memory, where nothing of it may be in use; where that shows, it stays.
    /// `before` are the threads that there were when it was loaded.
    pub(super) fn take_out(self, before: &Bystanders) -> UnloadOutcome {
        match self.release(before) {
            Ok(()) => self.close(),
            Err(quarantine) => UnloadOutcome::Quarantined(quarantine),
        }
    }

    /// Makes sure that nobody will run the library's code again.
    fn release(&self, before: &Bystanders) -> Result<(), Quarantine> {
        let regions = regions(&self.copy).map_err(Quarantine::Unconfirmed)?;
        let place: Vec<_> = regions.into_iter().map(|region| region.range).collect();
        before.only(&place).map_err(|left| match left {
            Left::Own(count) => Quarantine::OwnThreads(count),
            Left::Unknown(count) => Quarantine::UnknownThreads(count),
        })?;
        if let Some(signal) = recorder::handled_signal(&place) {
            return Err(Quarantine::SignalHandler(signal));
        }
        let keys = recorder::purge_keys(&place);
        tracing::trace!(keys, "nobody runs the library any more");
        Ok(())
    }

    /// Has the loader take the library out of memory, and looks whether it did.
    fn close(mut self) -> UnloadOutcome {
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

/// A part of a copy in this process's memory.
struct Region {
    range: Range<usize>,
    /// Whether it is code.
    runs: bool,
}

/// Whether any of the copy's code is in this process's memory. Backtraces map it too, to read its symbols,
/// which keeps some memory and nothing that runs.
fn is_mapped(copy: &OwnedFd) -> io::Result<bool> {
    Ok(regions(copy)?.iter().any(|region| region.runs))
}

/// Where the copy is in this process's memory.
fn regions(copy: &OwnedFd) -> io::Result<Vec<Region>> {
    let stat = fstat(copy)?;
    let device = format!("{:02x}:{:02x}", major(stat.st_dev), minor(stat.st_dev));
    let inode = stat.st_ino.to_string();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    // Each line: addresses, rights, offset, device, inode, path.
    let region = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (addresses, rights) = (words.next()?, words.next()?);
        let (at, number) = (words.nth(1)?, words.next()?);
        let (start, end) = addresses.split_once('-')?;
        let address = |digits| usize::from_str_radix(digits, 16).ok();
        (at == device && number == inode).then_some(())?;
        Some(Region { range: address(start)?..address(end)?, runs: rights.contains('x') })
    };
    Ok(maps.lines().filter_map(region).collect())
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
