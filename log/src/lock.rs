//! One host a directory.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// The file that says who has the directory. It stays; that it is locked is what counts.
pub(crate) const FILE: &str = "lock";

/// A directory that is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

/// Why the directory is not ours.
#[derive(Debug)]
pub(crate) enum NotLocked {
    /// Somebody has it: the process, as far as it says.
    Taken(Option<u32>),
    Io(io::Error),
}

impl DirectoryLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, NotLocked> {
        let path = dir.join(FILE);
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open.map_err(NotLocked::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                return Err(NotLocked::Taken(pid));
            }
            Err(TryLockError::Error(error)) => return Err(NotLocked::Io(error)),
        }
        // The name of the owner helps people alone: on a full disk the log opens without it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
