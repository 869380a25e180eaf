//! Which library a host was loading when it ended without a word.
//!
//! Loading a library runs its code, and code can bring the whole process down. So a file by the library's hash is
//! written before that, and taken away once the library is in service or the host has refused it. One that is
//! found later was left by a host that did not get so far, and its library is not loaded again.
//!
//! The host that writes a marker holds a lock on it, which the system lets go of when the process ends, however
//! it ends. A marker that is locked is one of a host that lives.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

use super::error::Fault;

/// The folder of the markers, within that of a host's state.
const FOLDER: &str = "loading";

/// The most bytes of a marker that are read.
const MAX_MARKER: u64 = 4096;

/// Where markers are.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    folder: PathBuf,
}

/// A marker, which goes when this is dropped.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Marks {
    /// Markers in the folder of a host's state.
    pub(super) fn within(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    /// Marks a library as being loaded. Where no marker can be written the library goes without one, which is
    /// logged; so does one that another host is loading just now, which has marked it.
    ///
    /// # Errors
    /// [`Fault::Crashed`] when a host ended while it loaded the library.
    pub(super) fn place(&self, library: &Path, hash: &str) -> Result<Option<Mark>, Fault> {
        let path = self.folder.join(format!("loading-{hash}"));
        match self.try_place(&path, library) {
            Ok(Placed::Marked(mark)) => Ok(Some(mark)),
            Ok(Placed::Taken) => Ok(None),
            Ok(Placed::Left) => Err(Fault::Crashed { marker: path }),
            Err(error) => {
                let marker = path.display();
                tracing::warn!(%marker, %error, "a library is loaded without a marker");
                Ok(None)
            }
        }
    }

    fn try_place(&self, path: &Path, library: &Path) -> io::Result<Placed> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        loop {
            let mut options = OpenOptions::new();
            let mut file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Placed::Taken),
                Err(error) => return Err(error.into()),
            }
            if fstat(&file)?.st_nlink == 0 {
                // Its host took it away after it was opened here.
                continue;
            }
            let mut left = Vec::new();
            (&file).take(MAX_MARKER).read_to_end(&mut left)?;
            if !left.is_empty() {
                return Ok(Placed::Left);
            }
            writeln!(
                file,
                "{} was being loaded by process {}",
                library.display(),
                std::process::id()
            )?;
            return Ok(Placed::Marked(Mark { path: path.to_owned(), _file: file }));
        }
    }
}

/// What became of the attempt to write a marker.
enum Placed {
    Marked(Mark),
    /// A host that lives has it.
    Taken,
    /// A host that has ended left it.
    Left,
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(marker = %self.path.display(), %error, "a marker stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_stands_while_a_library_is_loaded_and_is_believed_afterwards() {
        let state = tempfile::tempdir().unwrap();
        let marks = Marks::within(state.path());
        let place = || marks.place(Path::new("/x/a.so"), "abc");
        let mark = place().unwrap().unwrap();
        let path = mark.path.clone();
        assert!(fs::read_to_string(&path).unwrap().starts_with("/x/a.so was being loaded by "));
        // Another host that lives.
        assert!(place().unwrap().is_none());
        assert!(marks.place(Path::new("/x/b.so"), "other").unwrap().is_some());
        drop(mark);
        assert!(!path.exists());

        // A host that ends without a word leaves the file, and the lock goes.
        fs::write(&path, "left").unwrap();
        let Err(Fault::Crashed { marker }) = place() else { panic!("it is loaded again") };
        assert_eq!(marker, path);
        assert!(place().is_err());
        fs::remove_file(&path).unwrap();
        assert!(place().unwrap().is_some());
    }

    #[test]
    fn where_no_marker_can_be_written_there_is_none() {
        let state = tempfile::NamedTempFile::new().unwrap();
        assert!(Marks::within(state.path()).place(Path::new("a.so"), "abc").unwrap().is_none());
    }
}
