//! What is in the folder of enabled plugins, file by file, as far as it can be relied on.
//!
//! A file that is being written changes from look to look. So a file counts once two looks have found it alike and it can
//! be read as a library; until then what it held before goes on to count. One that stays unfit is told.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use echo_sdk::Manifest;
use tokio::time::Instant;

use crate::host::Refused;
use crate::host::candidate::entries;
use crate::library;

/// How long a file may be no library before that is told: whoever writes it may pause.
const PATIENCE: Duration = Duration::from_secs(2);

/// A library as its file is.
#[derive(Debug)]
pub(super) struct Enabled {
    pub(super) manifest: Manifest,
    pub(super) hash: String,
}

/// The files of the folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    files: BTreeMap<PathBuf, Seen>,
}

/// A file, as the last look found it.
#[derive(Debug)]
struct Seen {
    stamp: Result<Stamp, io::ErrorKind>,
    /// When it became what it is.
    since: Instant,
    state: State,
    /// What it held when it could last be relied on.
    library: Option<Arc<Enabled>>,
}

#[derive(Debug)]
enum State {
    /// The next look will tell whether it is all there.
    New,
    Read,
    /// It is no library, and may become one yet.
    Unfit(String),
    Told,
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, io::ErrorKind> {
        let found = fs::metadata(path).map_err(|error| error.kind())?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Folder {
    /// Looks at each file; those that have turned out to be no libraries. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be read; what was seen before goes on to count.
    pub(super) fn look(&mut self, dir: &Path) -> io::Result<Vec<Refused>> {
        let paths = entries(dir)?;
        self.files.retain(|path, _| paths.contains(path));
        let now = Instant::now();
        let mut refused = Vec::new();
        for path in paths {
            let stamp = Stamp::of(&path);
            match self.files.get_mut(&path) {
                Some(seen) if seen.stamp == stamp => refused.extend(seen.look(&path, now)),
                Some(seen) => {
                    (seen.stamp, seen.since, seen.state) = (stamp, now, State::New);
                }
                None => {
                    let seen = Seen { stamp, since: now, state: State::New, library: None };
                    self.files.insert(path, seen);
                }
            }
        }
        Ok(refused)
    }

    /// Whether another look may find more, though nothing changes.
    pub(super) fn is_unsettled(&self) -> bool {
        self.files.values().any(|seen| matches!(seen.state, State::New | State::Unfit(_)))
    }

    /// Whether a file has come of which nothing is known yet.
    pub(super) fn has_unknown(&self) -> bool {
        let unknown = |seen: &Seen| matches!(seen.state, State::New) && seen.library.is_none();
        self.files.values().any(unknown)
    }

    /// Whether a file of this name is there, whatever it holds.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// The libraries that can be relied on.
    pub(super) fn libraries(&self) -> impl Iterator<Item = (&Path, &Arc<Enabled>)> {
        self.files.iter().filter_map(|(path, seen)| Some((&**path, seen.library.as_ref()?)))
    }

    /// Whether the file is as it was then.
    pub(super) fn is_as_at(&self, path: &Path, then: Instant) -> bool {
        self.files.get(path).is_some_and(|seen| seen.since <= then)
    }
}

impl Seen {
    /// A file that is as it was; what is wrong with it, once that is certain.
    fn look(&mut self, path: &Path, now: Instant) -> Option<Refused> {
        match &self.state {
            State::Read | State::Told => None,
            State::New => {
                match library::inspect(path) {
                    // What was read may be less than what is there by now.
                    _ if Stamp::of(path) != self.stamp => {}
                    Ok((manifest, info)) => {
                        let changed = |known: &Arc<Enabled>| known.hash != info.hash;
                        if self.library.as_ref().is_none_or(changed) {
                            self.library = Some(Arc::new(Enabled { manifest, hash: info.hash }));
                        }
                        self.state = State::Read;
                    }
                    Err(error) => self.state = State::Unfit(error.to_string()),
                }
                None
            }
            State::Unfit(_) if now.duration_since(self.since) < PATIENCE => None,
            State::Unfit(reason) => {
                let reason = reason.clone();
                self.state = State::Told;
                Some(Refused { file: path.display().to_string(), reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn look(folder: &mut Folder, dir: &Path) -> Vec<String> {
        folder.look(dir).unwrap().into_iter().map(|it| it.reason).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_no_library_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let mut folder = Folder::default();
        assert_eq!(look(&mut folder, dir.path()), [""; 0]);
        assert!(!folder.is_unsettled());
        fs::write(&file, "half").unwrap();
        for _ in 0..3 {
            assert_eq!(look(&mut folder, dir.path()), [""; 0]);
            assert!(folder.is_unsettled());
        }
        tokio::time::advance(PATIENCE).await;
        // It goes on to be written, so that its time begins anew.
        fs::write(&file, "half, and more").unwrap();
        for _ in 0..2 {
            assert_eq!(look(&mut folder, dir.path()), [""; 0]);
        }
        tokio::time::advance(PATIENCE).await;
        let told = look(&mut folder, dir.path());
        assert!(told.len() == 1 && told[0].contains("no ELF file"), "{told:?}");
        assert_eq!(look(&mut folder, dir.path()), [""; 0]);
        assert!(!folder.is_unsettled() && folder.has(&file));
        assert_eq!(folder.libraries().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_leads_nowhere_may_lead_somewhere_yet() {
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("x"), dir.path().join(".target"));
        symlink(&file, &link).unwrap();
        let mut folder = Folder::default();
        look(&mut folder, dir.path());
        look(&mut folder, dir.path());
        tokio::time::advance(PATIENCE).await;
        let told = look(&mut folder, dir.path());
        assert!(told.len() == 1 && told[0].contains("cannot be read"), "{told:?}");
        fs::write(&file, "something").unwrap();
        look(&mut folder, dir.path());
        assert!(folder.is_unsettled(), "it is looked at again");
        fs::remove_file(&link).unwrap();
        look(&mut folder, dir.path());
        assert!(!folder.has(&link) && !folder.is_unsettled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_is_not_there_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::default();
        assert_eq!(look(&mut folder, &dir.path().join("not/there")), [""; 0]);
    }
}
