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
    /// The file as it is now, [`MAX_FILE`] of it at most. What it grows by meanwhile is left out.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let len = file.metadata()?.len().min(MAX_FILE);
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
    // It may be another by now; what is left out of that shows in `inspect`.
    File::open(path).and_then(|file| Content::of(&file)).map_err(Fault::Unreadable)
}

/// The SHA-256 of the file, in hexadecimal digits.
pub(crate) fn hash_of(path: &Path) -> io::Result<String> {
    Ok(hash(&Content::of(&File::open(path)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_read_as_it_is_when_it_is_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        assert!(Content::of(file.as_file()).unwrap().is_empty());
        // Longer than a page, and no whole number of them.
        let bytes: Vec<u8> = (0..10_001_u32).map(|number| number as u8).collect();
        file.write_all(&bytes).unwrap();
        assert_eq!(*Content::of(file.as_file()).unwrap(), *bytes, "it was longer by then");
        assert_eq!(*read(file.path()).unwrap(), *bytes);
        assert_eq!(hash_of(file.path()).unwrap(), hash(&bytes));
        file.as_file().set_len(3).unwrap();
        assert_eq!(*read(file.path()).unwrap(), bytes[..3]);
    }

    #[test]
    fn what_cannot_be_a_library_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(Fault::NotAFile)));
        assert!(matches!(read(&folder.path().join("none")), Err(Fault::Unreadable(_))));
        let large = File::create(folder.path().join("large")).unwrap();
        large.set_len(MAX_FILE + 1).unwrap();
        let fault = read(&folder.path().join("large"));
        assert!(matches!(fault, Err(Fault::TooLarge { len }) if len == MAX_FILE + 1));
    }
}
