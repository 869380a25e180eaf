//! The folders that the system watches: that of enabled plugins and those that its links lead through.
//!
//! The system watches folders that are there, by what they are and not by their names. So where one is missing, the
//! nearest that is there is watched, and one that was made anew is watched anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, EventKind};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::host::candidate::entries;

/// How many links are followed, as many as the system does.
const LINKS: usize = 40;

/// Tells when something in the folders changes.
#[derive(Debug)]
pub(super) struct Eyes {
    watcher: RecommendedWatcher,
    /// The folders, by their names without links, and what they are: device and inode.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// The folders that cannot be watched, which was told.
    blind: BTreeSet<PathBuf>,
}

impl Eyes {
    /// Watches nothing yet; `changed` is told of what changes.
    ///
    /// # Errors
    /// When the system does not let anything be watched.
    pub(super) fn open(changed: Arc<Notify>) -> notify::Result<Self> {
        let tell = move |event: notify::Result<Event>| {
            // Our own looks open files. An error may stand for a change that was lost.
            if !event.is_ok_and(|event| is_look(event.kind)) {
                changed.notify_one();
            }
        };
        let watcher = RecommendedWatcher::new(tell, Config::default())?;
        Ok(Self { watcher, watched: BTreeMap::new(), blind: BTreeSet::new() })
    }

    /// Watches what has to be watched for the folder as it is now; whether that is more than before, so that something
    /// may have changed unseen. Blocks.
    pub(super) fn aim(&mut self, dir: &Path) -> bool {
        let wanted = folders(dir);
        let gone: Vec<PathBuf> =
            self.watched.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
        for path in gone {
            self.forget(&path);
        }
        let mut is_more = false;
        for (path, identity) in wanted {
            if self.watched.get(&path) == Some(&identity) {
                continue;
            }
            self.forget(&path);
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    is_more = true;
                    self.blind.remove(&path);
                    self.watched.insert(path, identity);
                }
                Err(error) => self.tell_blind(path, &error),
            }
        }
        is_more
    }

    fn forget(&mut self, path: &Path) {
        if self.watched.remove(path).is_some() {
            // A folder that is gone is not watched any more.
            let _ = self.watcher.unwatch(path);
        }
    }

    fn tell_blind(&mut self, path: PathBuf, error: &notify::Error) {
        if self.blind.insert(path.clone()) {
            let path = path.display();
            tracing::warn!(
                %path, %error,
                "a folder cannot be watched, so changes in it are not seen; raise fs.inotify.max_user_watches"
            );
        }
    }
}

fn is_look(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(AccessKind::Open(_) | AccessKind::Read))
}

/// The folders in which a change may be one of what is enabled.
fn folders(dir: &Path) -> BTreeMap<PathBuf, (u64, u64)> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let mut folders = BTreeMap::new();
    along(&dir, &mut folders);
    add(&dir, &mut folders);
    for entry in entries(&dir).unwrap_or_default() {
        along(&entry, &mut folders);
    }
    folders
}

/// The folders in which a name stands, and those of the links that it leads through.
fn along(path: &Path, folders: &mut BTreeMap<PathBuf, (u64, u64)>) {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Some(parent) = path.parent().map(Path::to_owned) else { return };
        add(&parent, folders);
        match fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            Err(_) => return,
        }
    }
}

/// Adds a folder, or the nearest above it that is there.
fn add(path: &Path, folders: &mut BTreeMap<PathBuf, (u64, u64)>) {
    let there = path.ancestors().find_map(|path| {
        let path = path.canonicalize().ok()?;
        let found = fs::metadata(&path).ok().filter(fs::Metadata::is_dir)?;
        Some((path, (found.dev(), found.ino())))
    });
    folders.extend(there);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;
    use tokio::time::timeout;

    fn names(dir: &Path) -> Vec<PathBuf> {
        folders(dir).into_keys().collect()
    }

    #[test]
    fn the_folders_of_links_are_watched_and_for_what_is_missing_the_nearest() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let dir = root.join("plugins/enabled");
        assert_eq!(names(&dir), [root.as_path()]);
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(names(&dir), [root.join("plugins"), dir.clone()]);
        // One link leads to another, and that one to what is not there yet.
        fs::create_dir(root.join("current")).unwrap();
        symlink("../../current/x.so", dir.join("x")).unwrap();
        symlink(root.join("built/today/x.so"), root.join("current/x.so")).unwrap();
        let there = [root.as_path(), &root.join("current"), &root.join("plugins"), &dir];
        assert_eq!(names(&dir), there);
        fs::create_dir_all(root.join("built/today")).unwrap();
        assert!(names(&dir).contains(&root.join("built/today")));
        // A circle of links ends.
        symlink("y", dir.join("y")).unwrap();
        assert!(names(&dir).contains(&dir));
    }

    /// Waits for a change, and until all that there is to tell of it was told.
    async fn seen(changed: &Notify) {
        changed.notified().await;
        while timeout(Duration::from_millis(100), changed.notified()).await.is_ok() {}
    }

    #[tokio::test]
    async fn a_change_is_told_and_a_look_is_not() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("enabled");
        fs::create_dir(&dir).unwrap();
        let changed = Arc::new(Notify::new());
        let mut eyes = Eyes::open(Arc::clone(&changed)).unwrap();
        assert!(eyes.aim(&dir));
        assert!(!eyes.aim(&dir), "nothing more to watch");
        fs::write(dir.join("x"), "1").unwrap();
        seen(&changed).await;
        // What is written to the folder that took the place of the one before is seen too.
        fs::rename(&dir, place.path().join("old")).unwrap();
        fs::create_dir(&dir).unwrap();
        seen(&changed).await;
        assert!(eyes.aim(&dir), "it is another folder");
        fs::write(dir.join("y"), "1").unwrap();
        seen(&changed).await;
        for kind in [AccessKind::Open(notify::event::AccessMode::Any), AccessKind::Read] {
            assert!(is_look(EventKind::Access(kind)));
        }
        let written = AccessKind::Close(notify::event::AccessMode::Write);
        assert!(!is_look(EventKind::Access(written)));
    }
}
