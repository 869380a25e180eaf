//! Reading a library's file.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memmap2::{MmapMut, MmapOptions};

use super::error::Fault;
use super::file::{MAX_FILE, hash};

/// The bytes of a file, in memory that goes back to the system with them.
///
/// On the heap they would stay: glibc's allocator keeps twice as much as the largest block that it was ever given back,
/// for good, in each of its arenas.
#[derive(Debug)]
pub(crate) struct Content {
    memory: MmapMut,
    len: usize,
}

impl Content {
    /// The first `len` bytes of the file, or all that it has.
    pub(super) fn of(file: &File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // There is no mapping of nothing.
        let mut memory = MmapOptions::new().len(len.max(1)).populate().map_anon()?;
        let mut read = 0;
        while let Some(rest) = memory.get_mut(read..len).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { memory, len: read })
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

/// Reads the whole file.
pub(super) fn read(path: &Path) -> Result<Content, Fault> {
    // A pipe would block when it is opened, so look first.
    let found = std::fs::metadata(path).map_err(Fault::Unreadable)?;
    if !found.is_file() {
        return Err(Fault::NotAFile);
    }
    if found.len() > MAX_FILE {
        return Err(Fault::TooLarge { len: found.len() });
    }
    // What it grows by meanwhile is cut off, which shows in `inspect`.
    File::open(path).and_then(|file| Content::of(&file, found.len())).map_err(Fault::Unreadable)
}

/// The SHA-256 of the file, in hexadecimal digits.
pub(crate) fn hash_of(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let len = file.metadata()?.len().min(MAX_FILE);
    Ok(hash(&Content::of(&file, len)?))
}
