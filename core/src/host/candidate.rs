//! Plugins that may come to run: those that are linked in, and the libraries that are found.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use echo_sdk::{Manifest, PluginContext, PluginError};

use super::Refused;
use crate::actor::Actor;
use crate::config::Config;
use crate::library;
use crate::registry::Origin;

/// Makes a plugin that is linked in.
pub(super) type BuiltIn =
    Box<dyn FnOnce(PluginContext) -> Result<Arc<dyn Actor>, PluginError> + Send>;

/// How a candidate is made.
pub(super) enum Source {
    BuiltIn(BuiltIn),
    Library(PathBuf),
}

/// A plugin of which only the manifest is known yet.
pub(super) struct Candidate {
    pub(super) manifest: Manifest,
    pub(super) source: Source,
}

impl Candidate {
    pub(super) fn built_in(manifest: Manifest, make: BuiltIn) -> Self {
        Self { manifest, source: Source::BuiltIn(make) }
    }

    pub(super) fn name(&self) -> &str {
        &self.manifest.name
    }

    pub(super) fn origin(&self) -> Origin {
        match &self.source {
            Source::BuiltIn(_) => Origin::BuiltIn,
            Source::Library(path) => Origin::Library(path.clone()),
        }
    }

    /// The library's file, where it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::BuiltIn(_) => None,
            Source::Library(path) => Some(path),
        }
    }
}

/// Reads the manifests of the libraries in the folder and in the configuration; nothing of them runs.
pub(super) fn find_libraries(
    config: &Config,
    dir: Option<&Path>,
) -> (Vec<Candidate>, Vec<Refused>) {
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    let mut paths = Vec::new();
    if let Some(dir) = dir {
        match entries(dir) {
            Ok(found) => paths.extend(found),
            Err(error) => refused.push(Refused {
                file: dir.display().to_string(),
                reason: format!("the folder of enabled plugins cannot be read: {error}"),
            }),
        }
    }
    let registered = config.plugins.register.iter().filter(|settings| settings.enabled);
    paths.extend(registered.filter_map(|settings| settings.library.clone()));
    for path in paths {
        match library::manifest(&path) {
            Ok(manifest) => candidates.push(Candidate { manifest, source: Source::Library(path) }),
            Err(error) => refused
                .push(Refused { file: path.display().to_string(), reason: error.to_string() }),
        }
    }
    (candidates, refused)
}

/// The files of a folder, by name, those that begin with a dot aside; a folder that is not there is empty.
fn entries(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut paths = Vec::new();
    for entry in listing {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
