//! What a host loads where a record says that the enabled library is not to be loaded.

use std::path::{Path, PathBuf};

use echo_core::library::{UnloadOutcome, inspect};
use echo_core::{Config, Host, Records, Refused};
use tempfile::TempDir;

use crate::hosted::enabled;
use crate::kit::{Copy, echo, replace};

/// A copy of the model plugin of another name, of this version.
pub fn version(name: &str, version: &str) -> Copy {
    Copy::of(echo(), |bytes| {
        replace(bytes, b"\"name\": \"echo\"", format!("\"name\": \"{name}\"").as_bytes());
        let own = b"\"version\": \"0.1.0\"";
        replace(bytes, own, format!("\"version\": \"{version}\"").as_bytes());
    })
}

fn hash(library: &Path) -> String {
    inspect(library).unwrap().1.hash
}

/// A host's folders: one plugin enabled, and a state of its own.
struct Place {
    enabled: TempDir,
    state: TempDir,
    plugin: &'static str,
}

impl Place {
    fn new(plugin: &'static str, library: &Path) -> Self {
        Self { enabled: enabled(&[(plugin, library)]), state: tempfile::tempdir().unwrap(), plugin }
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.plugins.dir = self.enabled.path().to_owned();
        config.gateway.state_dir = Some(self.state.path().to_owned());
        config
    }

    fn records(&self) -> Records {
        Records::of(&self.config()).unwrap()
    }

    fn enable(&self, library: &Path) {
        let link = self.enabled.path().join(self.plugin);
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(library, link).unwrap();
    }

    /// Starts a host: the version that runs, and what was refused.
    async fn start(&self) -> (String, Vec<Refused>) {
        let builder = Host::builder().config(self.config()).enabled_dir(self.enabled.path());
        let host = builder.start().await.unwrap();
        let (version, refused) =
            (host.plugin(self.plugin).unwrap().version, host.refused().to_vec());
        assert!(host.shutdown().await.is_clean());
        (version, refused)
    }

    fn kept(&self) -> Option<PathBuf> {
        let records = self.records();
        records.find(self.plugin).map(|record| records.kept_library(&record).unwrap())
    }
}

#[tokio::test]
async fn the_version_before_runs_until_another_library_is_enabled() {
    let (old, new, newer) =
        (version("rec1", "0.1.0"), version("rec1", "0.2.0"), version("rec1", "0.3.0"));
    let place = Place::new("rec1", &new.path());
    assert_eq!(place.start().await, ("0.2.0".to_owned(), Vec::new()));

    let bytes = std::fs::read(old.path()).unwrap();
    let why = "was rolled back: 3 of 50 attempts panicked";
    place.records().place("rec1", &hash(&new.path()), &bytes, why).unwrap();
    drop(old);
    for _ in 0..2 {
        let (version, refused) = place.start().await;
        assert_eq!((version.as_str(), refused.len()), ("0.1.0", 1), "{refused:?}");
        let file = place.enabled.path().join("rec1").display().to_string();
        assert_eq!(refused[0].file, file);
        let way_out = format!("`plugin transition rec1 {file}`");
        for words in ["`rec1` 0.2.0 was rolled back: 3 of 50", "before it, 0.1.0", &way_out] {
            assert!(refused[0].reason.contains(words), "{words}: {}", refused[0].reason);
        }
    }
    let kept = place.kept().unwrap();

    place.enable(&newer.path());
    assert_eq!(place.start().await, ("0.3.0".to_owned(), Vec::new()));
    assert!(place.kept().is_none() && !kept.exists(), "it means nothing any more");
    // Nor does it when that library is enabled again.
    place.enable(&new.path());
    assert_eq!(place.start().await, ("0.2.0".to_owned(), Vec::new()));
}

#[tokio::test]
async fn what_cannot_be_loaded_instead_keeps_nobody_from_what_is_enabled() {
    let (old, new) = (version("rec2", "0.1.0"), version("rec2", "0.2.0"));
    let place = Place::new("rec2", &new.path());
    let bytes = std::fs::read(old.path()).unwrap();
    place.records().place("rec2", &hash(&new.path()), &bytes, "was rolled back").unwrap();
    assert_eq!(place.start().await.0, "0.1.0");
    std::fs::write(place.kept().unwrap(), &bytes[..1000]).unwrap();
    assert_eq!(place.start().await, ("0.2.0".to_owned(), Vec::new()));
}

#[tokio::test]
async fn a_library_that_is_loaded_can_be_kept_though_its_file_is_gone() {
    let library = version("rec3", "0.1.0");
    let bytes = std::fs::read(library.path()).unwrap();
    let (loaded, _probe) = crate::kit::load(&library.path());
    drop(library);
    assert!(*loaded.bytes().unwrap() == *bytes);
    assert!(matches!(loaded.unload().outcome, UnloadOutcome::Unloaded));
}
