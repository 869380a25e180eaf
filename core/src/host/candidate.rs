//! Plugins that may come to run: those that are linked in, and the libraries that are found.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use echo_sdk::{Manifest, PluginContext, PluginError};

use super::Refused;
use crate::actor::Actor;
use crate::config::Config;
use crate::library::{self, LibraryError};
use crate::registry::Origin;
use crate::transition::Records;

/// Makes a plugin that is linked in.
pub(super) type BuiltIn =
    Box<dyn FnOnce(PluginContext) -> Result<Arc<dyn Actor>, PluginError> + Send>;

/// How a candidate is made.
pub(super) enum Source {
    BuiltIn(BuiltIn),
    Library(PathBuf),
    /// The library that is kept in place of the enabled one, which is not to be loaded.
    Kept {
        enabled: PathBuf,
        kept: PathBuf,
    },
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
            Source::Library(path) | Source::Kept { enabled: path, .. } => {
                Origin::Library(path.clone())
            }
        }
    }

    /// The library's file, where it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::BuiltIn(_) => None,
            Source::Library(path) | Source::Kept { enabled: path, .. } => Some(path),
        }
    }
}

/// Reads the manifests of the libraries in the folder and in the configuration; nothing of them runs. One that is not to be
/// loaded is refused, and the one that is kept in its place is a candidate.
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
    let mut paths: Vec<(PathBuf, Option<&str>)> =
        paths.into_iter().map(|path| (path, None)).collect();
    let registered = config.plugins.register.iter().filter(|settings| settings.enabled);
    let listed = registered.filter_map(|it| Some((it.library.clone()?, Some(it.id.as_str()))));
    paths.extend(listed);
    let records = Records::of(config);
    for (path, id) in paths {
        match named(&path, id) {
            Ok(manifest) => {
                let instead = records.as_ref().and_then(|it| instead(it, &path, &manifest));
                let (candidate, told) = match instead {
                    Some((candidate, told)) => (candidate, Some(told)),
                    None => (Candidate { manifest, source: Source::Library(path) }, None),
                };
                candidates.push(candidate);
                refused.extend(told);
            }
            Err(reason) => refused.push(Refused { file: path.display().to_string(), reason }),
        }
    }
    (candidates, refused)
}

/// The manifest of a library; nothing of it runs.
pub(super) fn read(path: &Path) -> Result<Manifest, LibraryError> {
    library::manifest(path)
}

/// The manifest of a library, which has this name where the configuration gives it one.
fn named(path: &Path, id: Option<&str>) -> Result<Manifest, String> {
    let manifest = read(path).map_err(|error| error.to_string())?;
    match id {
        Some(id) if id != manifest.name => {
            let name = &manifest.name;
            Err(format!(
                "`plugins.register` calls it `{id}`, and its manifest `{name}`; write that as `id`"
            ))
        }
        _ => Ok(manifest),
    }
}

/// What is loaded in place of an enabled library, where a record says that it is not to be loaded; and that this is so.
/// A record of a library that is not enabled any more is removed.
fn instead(records: &Records, path: &Path, manifest: &Manifest) -> Option<(Candidate, Refused)> {
    let name = &manifest.name;
    let record = records.find(name).filter(|record| !record.refused.is_empty())?;
    let (_, info) = library::inspect(path).ok()?;
    if !record.refuses(&info.hash) {
        tracing::info!(
            plugin = name,
            "what a record says is not to be loaded is not enabled any more"
        );
        if let Err(error) = records.remove(name) {
            tracing::warn!(%error, "a record that means nothing any more stays");
        }
        return None;
    }
    let kept = records.kept_library(&record).map_err(|error| error.to_string());
    let kept = kept.and_then(|kept| Ok((read(&kept).map_err(|error| error.to_string())?, kept)));
    let (kept_manifest, kept) = match kept {
        Ok(kept) => kept,
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, error, "nothing is kept that could be loaded in a library's place");
            return None;
        }
    };
    let (new, old, file) = (&manifest.version, &kept_manifest.version, path.display());
    let (why, kept_at) = (record.reason(), kept.display());
    let reason = format!(
        "`{name}` {new} {why}; the version before it, {old}, runs from {kept_at} until another library is enabled; \
         `plugin transition {name} {file}` tries this one again"
    );
    let source = Source::Kept { enabled: path.to_owned(), kept };
    let refused = Refused { file: path.display().to_string(), reason };
    Some((Candidate { manifest: kept_manifest, source }, refused))
}

/// Settings of the configuration that are for no plugin, by the name that they give.
pub(super) fn for_nobody(config: &Config, candidates: &[Candidate]) -> Vec<Refused> {
    let settings = config.plugins.register.iter();
    let unknown = settings.filter(|it| {
        // A library that is named and is no plugin was refused as such.
        it.enabled && it.library.is_none() && !candidates.iter().any(|known| known.name() == it.id)
    });
    let names = || candidates.iter().map(Candidate::name);
    let refused = unknown.map(|settings| {
        let id = &settings.id;
        let way_out = match echo_toml::nearest(id, names()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "name its library with `library`, or enable it".to_owned(),
        };
        let reason = format!(
            "`plugins.register` has settings for `{id}`, and there is no such plugin; {way_out}"
        );
        Refused { file: id.clone(), reason }
    });
    refused.collect()
}

/// The files of a folder, by name, those that begin with a dot aside; a folder that is not there is empty.
pub(super) fn entries(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
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
