//! Opening a log, and its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::LogError;
use crate::disk::{Directory, Disk};
use crate::files::Files;
use crate::front::{Front, Gate, Name};
use crate::lock::{DirectoryLock, NotLocked};
use crate::log::{Log, Owner, Shared, unix_seconds};
use crate::options::Options;
use crate::recover::{Recovered, Recovery, recover};
use crate::writer::{Failure, Writer};

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the directory, or this one has it open already.
    #[error("the log in {dir} is in use by {}; stop it, or give this host a directory of its own", owner(*pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that has it, as far as it says.
        pid: Option<u32>,
    },
    /// The directory or a file in it cannot be used.
    #[error(
        "the log in {dir} cannot be opened; see to it that the directory can be read and written"
    )]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// There is no room to begin a segment.
    #[error(transparent)]
    NoRoom(LogError),
}

fn owner(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => "this very process".to_owned(),
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

impl Log {
    /// Opens the log in a directory, which is made if it is not there, and reads back what it holds. Blocks for
    /// as long as that takes.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, cannot be read or written, or has no room for a segment.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = DirectoryLock::take(dir).map_err(|not_locked| match not_locked {
            NotLocked::Taken(pid) => OpenError::InUse { dir: dir.to_owned(), pid },
            NotLocked::Io(error) => failed(error),
        })?;
        Self::open_on(Arc::new(Directory::new(dir)), dir, Some(lock), options)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        lock: Option<DirectoryLock>,
        options: Options,
    ) -> Result<(Self, Recovery), OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        let started = Instant::now();
        let options = options.checked();
        let (mut files, segments) = Files::find(disk, options.segment_size).map_err(failed)?;
        let recovered = recover(&mut files, segments, &options, unix_seconds()).map_err(failed)?;
        let mut report = recovered.report.clone();
        let mut writer =
            writer(files, recovered, options, dir).map_err(|failure| match failure {
                Failure::NoRoom(error) => OpenError::NoRoom(error),
                Failure::Broken(error) => failed(error),
            })?;
        writer.lock = lock;
        let shared = Arc::clone(&writer.shared);
        let thread = std::thread::Builder::new().name("echo-log".into());
        let thread = thread.spawn(|| writer.run()).map_err(failed)?;
        report.took = started.elapsed();
        let thread = Mutex::new(Some(thread));
        Ok((Self(Arc::new(Owner { shared, thread })), report))
    }
}

/// Goes on where the files end, with a spare if there is room for one.
pub(crate) fn writer(
    files: Files,
    recovered: Recovered,
    options: Options,
    dir: &Path,
) -> Result<Writer, Failure> {
    let Recovered { index, window, next_seq, next_slot, next_number, last, current, .. } =
        recovered;
    let name = |(slot, it): (&u32, &crate::index::Registered)| {
        let len = it.name.len() + it.about.len() + 16;
        (Box::from(&*it.name), Name { slot: *slot, len })
    };
    let front = Front {
        window,
        next_seq,
        next_slot,
        names: index.slots.iter().map(name).collect(),
        live: index.messages.len(),
        ..Front::new(&options)
    };
    let shared = Shared {
        front: Mutex::new(front),
        index: Mutex::new(index),
        wake: Condvar::new(),
        options,
        dir: dir.display().to_string().into(),
    };
    let mut writer = Writer::new(Arc::new(shared), files, last, next_number);
    writer.current = current;
    if writer.current.is_none() {
        writer.begin_segment()?;
    }
    writer.keep_house().map_err(Failure::Broken)?;
    Ok(writer)
}

impl Shared {
    /// Tells everybody that the writer has ended, and why nothing is taken in any more.
    pub(crate) fn end(&self, result: Result<(), LogError>) {
        let mut front = self.front.lock();
        let error = result.as_ref().err().cloned().unwrap_or(LogError::Closed);
        front.gate = Gate::Shut(error.clone());
        front.ended = Some(result.clone());
        let gathered = std::mem::take(&mut front.gathered);
        let opening = std::mem::take(&mut front.opening);
        drop(front);
        // Only what has nothing to write can be left of a log that ended well.
        let is_empty = gathered.frames.is_empty() && gathered.settled.is_empty();
        gathered.complete(if is_empty { result } else { Err(error.clone()) });
        opening.complete(Err(error));
    }
}
