//! Which enabled library is not to be loaded, and which one is in its place.
//!
//! A record is written before a new version gets messages, with a copy of the old version's library. When the new version
//! stays it refuses nothing any more, and keeps the library of the version before for whoever wants that back. So a host that is killed in between, or started anew after a rollback, comes up with the old version
//! although the new one is enabled. It stands for the new library's content, not for its path: once something else is
//! enabled, it says nothing any more and is removed.
//!
//! Hosts of one user share the folder, those with the same folder of enabled plugins the records too. Whoever writes or
//! removes holds a lock on a file of the folder, which the system lets go of when the process ends, however it ends; so what
//! a writer was interrupted at is known to be left over. A file is replaced by a rename, after it is on the disk: readers
//! need no lock, and find what was there before or what is there now.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::config::{Config, state_dir};
use crate::library;

/// The folder of the records, within that of a host's state.
const FOLDER: &str = "transitions";

/// The most bytes of a record that are read.
const MAX_RECORD: u64 = 64 * 1024;

/// How files begin that are being written; what has this name without a writer is left over.
const UNFINISHED: &str = ".unfinished-";

/// How many libraries a record refuses at most; the earliest are forgotten past that.
const MAX_REFUSED: usize = 16;

/// The file that writers lock.
const LOCK: &str = ".lock";

/// A record could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("the record of `{plugin}`'s transition, {}, cannot be changed", path.display())]
pub struct RecordError {
    /// The plugin.
    plugin: String,
    /// The file that could not be written or removed.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// That a library is not to be loaded, and which one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The plugin.
    pub plugin: String,
    /// The SHA-256 of each library that is not to be loaded, in hexadecimal digits, the latest last; none where the
    /// version before was followed by one that stays.
    pub refused: Vec<String>,
    /// That of the library that is loaded in their place, or of the version before.
    pub kept: String,
    /// Why the latest is refused: reads on from its name, such as "was rolled back".
    pub why: String,
    /// When it was written.
    pub at: DateTime<Utc>,
}

impl Record {
    /// Whether the library of this hash is not to be loaded.
    pub fn refuses(&self, hash: &str) -> bool {
        self.refused.iter().any(|refused| refused == hash)
    }

    /// Why the library is not loaded, in words that say when that came to be.
    pub fn reason(&self) -> String {
        format!("{} ({})", self.why, self.at.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// The records of the hosts that load from one folder of enabled plugins.
#[derive(Debug, Clone)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// The records of a host with this configuration; none where nobody knows a place for a host's state.
    pub fn of(config: &Config) -> Option<Self> {
        let state = state_dir(config.gateway.state_dir.as_deref())?;
        let enabled = &config.plugins.dir;
        // Not the folder that a link leads to: it may not be there yet, and has the same records once it is.
        let enabled = std::path::absolute(enabled).unwrap_or_else(|_| enabled.clone());
        Some(Self::within(&state, &enabled))
    }

    /// The records in this folder of a host's state, of hosts that load from `enabled`.
    pub fn within(state: &Path, enabled: &Path) -> Self {
        let key = library::hash(enabled.as_os_str().as_encoded_bytes());
        Self { folder: state.join(FOLDER).join(format!("{key:.16}")) }
    }

    /// From now on the library `refused`, by its hash, is not loaded for the plugin; this one is, of which the bytes are
    /// kept. What was refused before stays so, but for this one. `why` reads on from the refused version's name. Blocks until
    /// that is on the disk.
    ///
    /// # Errors
    /// [`RecordError`]; what was recorded before still holds then.
    pub fn place(
        &self,
        plugin: &str,
        refused: &str,
        old: &[u8],
        why: &str,
    ) -> Result<Record, RecordError> {
        let kept = library::hash(old);
        let mut all = self.find(plugin).map(|record| record.refused).unwrap_or_default();
        all.retain(|earlier| *earlier != refused && *earlier != kept);
        if refused != kept {
            all.push(refused.to_owned());
        }
        all.drain(..all.len().saturating_sub(MAX_REFUSED));
        let record = Record {
            plugin: plugin.to_owned(),
            refused: all,
            kept,
            why: why.to_owned(),
            at: Utc::now(),
        };
        let (path, kept) = (self.path(plugin), self.kept(&record));
        self.write(&record, &path, &kept, old).map_err(|source| RecordError {
            plugin: plugin.to_owned(),
            path,
            source,
        })?;
        Ok(record)
    }

    /// The new version stays: nothing is refused any more, and the library that was kept is that of the version before.
    /// Blocks until that is on the disk.
    ///
    /// # Errors
    /// [`RecordError`]; what was recorded before still holds then.
    pub fn settle(&self, plugin: &str) -> Result<(), RecordError> {
        let Some(mut record) = self.find(plugin) else { return Ok(()) };
        record.refused.clear();
        record.why = "was followed by another".to_owned();
        record.at = Utc::now();
        let path = self.path(plugin);
        let settled = self.lock().and_then(|_lock| self.replace_record(&path, &record));
        settled.map_err(|source| RecordError { plugin: plugin.to_owned(), path, source })
    }

    fn write(&self, record: &Record, path: &Path, kept: &Path, old: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let _lock = self.lock()?;
        if library::hash_of(kept).ok().as_ref() != Some(&record.kept) {
            self.replace(kept, old)?;
        }
        self.replace_record(path, record)?;
        self.tidy(&record.plugin, Some(kept))
    }

    fn replace_record(&self, path: &Path, record: &Record) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        self.replace(path, &text)
    }

    /// The plugin's enabled library is loaded again, whichever it is. Blocks until that is on the disk.
    ///
    /// # Errors
    /// [`RecordError`]; the record still holds then.
    pub fn remove(&self, plugin: &str) -> Result<(), RecordError> {
        let path = self.path(plugin);
        let removed = match path.symlink_metadata() {
            Ok(_) => self.remove_file(&path, plugin),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| RecordError { plugin: plugin.to_owned(), path, source })
    }

    fn remove_file(&self, path: &Path, plugin: &str) -> io::Result<()> {
        let _lock = self.lock()?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&self.folder)?.sync_all()?;
        self.tidy(plugin, None)
    }

    /// What is recorded of a plugin. What cannot be read is told in the log, and is as if it were not there.
    pub fn find(&self, plugin: &str) -> Option<Record> {
        if !echo_sdk::is_name(plugin) {
            return None;
        }
        let path = self.path(plugin);
        let read = || -> io::Result<Record> {
            let mut text = Vec::new();
            File::open(&path)?.take(MAX_RECORD).read_to_end(&mut text)?;
            let record: Record = serde_json::from_slice(&text)?;
            let hash = |text: &str| is_hash(text.as_bytes());
            let refused = record.refused.iter().all(|refused| hash(refused));
            if record.plugin != plugin || !refused || !hash(&record.kept) {
                let fault = "it is of another plugin, or names no library";
                return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
            }
            Ok(record)
        };
        match read() {
            Ok(record) => Some(record),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let record = path.display();
                tracing::warn!(%record, %error, "a record of a transition is ignored; delete it");
                None
            }
        }
    }

    /// The library that is loaded in place of the refused one.
    ///
    /// # Errors
    /// When it is not there, or is another: then nothing can be loaded in its place.
    pub fn kept_library(&self, record: &Record) -> io::Result<PathBuf> {
        let path = self.kept(record);
        if library::hash_of(&path)? == record.kept {
            return Ok(path);
        }
        let fault = format!("{} has other content than was kept", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, fault))
    }

    fn path(&self, plugin: &str) -> PathBuf {
        self.folder.join(format!("{plugin}.json"))
    }

    fn kept(&self, record: &Record) -> PathBuf {
        self.folder.join(format!("{}-{}.so", record.plugin, record.kept))
    }

    /// Keeps other writers out as long as the file is open.
    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.folder.join(LOCK))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Puts a file in place of what is there, once all of it is on the disk.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let fresh = self.folder.join(format!("{UNFINISHED}{name}"));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Removes what is left of earlier records of the plugin, but for this library; and what a writer that was killed
    /// left, for nobody writes while this one holds the lock.
    fn tidy(&self, plugin: &str, kept: Option<&Path>) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hash = name.strip_prefix(plugin).and_then(|rest| rest.strip_prefix('-'));
            let hash = hash.and_then(|rest| rest.strip_suffix(".so"));
            let of_plugin = hash.is_some_and(|hash| is_hash(hash.as_bytes()));
            let left = of_plugin && Some(path.as_path()) != kept;
            if left || name.starts_with(UNFINISHED) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether these can be the hexadecimal digits of a hash, which makes them safe in a path.
fn is_hash(digits: &[u8]) -> bool {
    digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn records() -> (tempfile::TempDir, Records) {
        let state = tempfile::tempdir().unwrap();
        let records = Records::within(state.path(), Path::new("/project/plugins/enabled"));
        (state, records)
    }

    fn hash(bytes: &[u8]) -> String {
        library::hash(bytes)
    }

    fn files(records: &Records) -> Vec<String> {
        let entries = fs::read_dir(&records.folder).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| name != LOCK);
        names.sort();
        names
    }

    #[test]
    fn a_record_is_found_until_it_is_removed() {
        let (_state, records) = records();
        assert_eq!(records.find("x"), None);
        records.remove("x").unwrap();
        let placed = records.place("x", &hash(b"new"), b"old", "was rolled back").unwrap();
        assert_eq!(records.find("x"), Some(placed.clone()));
        let kept = records.kept_library(&placed).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"old");
        assert!(placed.reason().starts_with("was rolled back (2"), "{}", placed.reason());
        assert_eq!(records.find("y"), None);
        for path in [&kept, &records.path("x")] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let folder = fs::metadata(&records.folder).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        records.remove("x").unwrap();
        assert_eq!(records.find("x"), None);
        assert_eq!(files(&records), [""; 0]);
    }

    #[test]
    fn what_is_placed_replaces_what_was_and_leaves_others_alone() {
        let (_state, records) = records();
        records.place("x-y", &hash(b"n"), b"other", "a").unwrap();
        records.place("x", &hash(b"1"), b"old", "a").unwrap();
        fs::write(records.folder.join(format!("{UNFINISHED}x.json")), "{").unwrap();
        let second = records.place("x", &hash(b"2"), b"older", "b").unwrap();
        assert_eq!(records.find("x"), Some(second));
        let of_x = format!("x-{}.so", hash(b"older"));
        let of_y = format!("x-y-{}.so", hash(b"other"));
        let mut expected = [of_x, "x.json".to_owned(), of_y, "x-y.json".to_owned()];
        expected.sort();
        assert_eq!(files(&records), expected);
    }

    #[test]
    fn what_was_refused_stays_so_until_a_version_stays() {
        let (_state, records) = records();
        records.place("x", &hash(b"2"), b"1", "a").unwrap();
        let record = records.place("x", &hash(b"3"), b"1", "b").unwrap();
        assert!(record.refuses(&hash(b"2")) && record.refuses(&hash(b"3")));
        let back = records.place("x", &hash(b"3"), b"2", "b").unwrap();
        assert_eq!(back.refused, [hash(b"3")], "what is kept is not refused");
        let same = records.place("x", &hash(b"2"), b"2", "b").unwrap();
        assert_eq!(same.refused, [hash(b"3")], "nor is what is loaded anew");
        for number in 0..40_u8 {
            records.place("x", &hash(&[number]), b"1", "b").unwrap();
        }
        assert_eq!(records.find("x").unwrap().refused.len(), MAX_REFUSED);
        records.settle("x").unwrap();
        let settled = records.find("x").unwrap();
        assert!(settled.refused.is_empty());
        assert_eq!(fs::read(records.kept_library(&settled).unwrap()).unwrap(), b"1");
        records.settle("nobody").unwrap();
    }

    #[test]
    fn projects_do_not_see_the_records_of_others() {
        let (state, records) = records();
        let other = Records::within(state.path(), Path::new("/other/plugins/enabled"));
        records.place("x", &hash(b"1"), b"old", "a").unwrap();
        assert_eq!(other.find("x"), None);
        other.remove("x").unwrap();
        assert!(records.find("x").is_some());
    }

    #[test]
    fn what_makes_no_sense_is_ignored_and_left() {
        let (_state, records) = records();
        let record = records.place("x", &hash(b"1"), b"old", "a").unwrap();
        let path = records.path("x");
        let with = |change: &dyn Fn(&mut Record)| {
            let mut record = record.clone();
            change(&mut record);
            serde_json::to_string(&record).unwrap()
        };
        for text in [
            String::new(),
            "{".to_owned(),
            with(&|record| record.plugin = "y".to_owned()),
            with(&|record| record.refused.push("../../etc".to_owned())),
            with(&|record| record.kept = "../x".to_owned()),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(records.find("x"), None, "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left for a person to see");
        }
        // The next one takes its place.
        let record = records.place("x", &hash(b"1"), b"old", "a").unwrap();
        assert_eq!(records.find("x"), Some(record.clone()));
        fs::write(records.kept(&record), "something else").unwrap();
        let fault = records.kept_library(&record).unwrap_err().to_string();
        assert!(fault.contains("other content"), "{fault}");
        records.place("x", &hash(b"1"), b"old", "a").unwrap();
        assert_eq!(fs::read(records.kept_library(&record).unwrap()).unwrap(), b"old");
    }

    #[test]
    fn where_nothing_can_be_written_that_is_an_error_that_names_the_plugin() {
        let state = tempfile::NamedTempFile::new().unwrap();
        let records = Records::within(state.path(), Path::new("/x"));
        let error = records.place("x", &hash(b"1"), b"old", "a").unwrap_err().to_string();
        assert!(error.contains("`x`'s transition"), "{error}");
        assert_eq!(records.find("x"), None);
    }
}
