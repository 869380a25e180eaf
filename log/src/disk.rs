//! The lowest layer: files in one directory. Tests put a disk of their own in its place, one that fails, or
//! that forgets what was not synced.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// A directory of files.
pub(crate) trait Disk: Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file whose space is there: what is written to it later needs no more.
    fn create(&self, name: &str, size: u32) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what was created, renamed and removed last.
    fn sync(&self) -> io::Result<()>;
}

/// A file.
pub(crate) trait DiskFile: Send + Sync {
    fn len(&self) -> io::Result<u64>;
    /// Reads what is there, at most as much as `buffer` holds; gives how much.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written last.
    fn sync(&self) -> io::Result<()>;
}

/// Whether a failure means that there is no room, which may pass.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// A directory of the file system.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn create(&self, name: &str, size: u32) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.0.join(name);
        let file =
            OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        match allocate(&file, size).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(Arc::new(file)),
            Err(error) => {
                // Whatever it got is wanted by others. That it stays is no worse than the error that is told.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.0.join(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

fn allocate(file: &File, size: u32) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, u64::from(size)) {
        // Not every file system can; zeros do the same there.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, size),
        done => Ok(done?),
    }
}

fn fill(file: &File, size: u32) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut left = size as usize;
    let mut at = 0;
    while let Some(part) = zeros.get(..left.min(zeros.len())).filter(|part| !part.is_empty()) {
        file.write_all_at(part, at)?;
        at += part.len() as u64;
        left -= part.len();
    }
    Ok(())
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut got = 0;
        while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(self)?)
    }
}
