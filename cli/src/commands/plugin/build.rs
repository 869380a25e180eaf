//! `plugin build`: compiles a plugin by itself and puts its library into plugins/libraries.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use echo_core::library::LibraryError;
use serde::Deserialize;

use super::layout::Layout;
use crate::args::Profile;
use crate::exit::{CommandResult, Exit, Failure};
use crate::libraries;
use crate::output::Output;

/// Why a plugin was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There are no such sources.
    #[error("there is no {manifest}; `echo-core plugin new {plugin}` writes a plugin")]
    NoSource {
        /// The plugin.
        plugin: String,
        /// The manifest that was looked for.
        manifest: String,
    },
    /// Cargo cannot be run.
    #[error(
        "cargo cannot be run, and plugins are built with it; install Rust from https://rustup.rs"
    )]
    NoCargo(#[source] io::Error),
    /// Cargo has failed, and has said why.
    #[error("cargo could not build the plugin `{0}`; its own messages stand above")]
    Failed(String),
    /// What was built is no library.
    #[error(
        "{0} builds no library to load; write `crate-type = [\"cdylib\", \"rlib\"]` under [lib]"
    )]
    NoLibrary(String),
    /// What was built is a library, and no host would take it.
    #[error("what was built is no plugin that a host takes: {0}")]
    Refused(#[from] LibraryError),
    /// What was built is another plugin.
    #[error("the manifest of {plugin} names the plugin `{named}`; write `{plugin}` as its `name`")]
    Name {
        /// The plugin that was to be built.
        plugin: String,
        /// The name in the manifest.
        named: String,
    },
    /// The library cannot be put in its place.
    #[error("the library {} cannot be written", path.display())]
    Io {
        /// The library.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::NoCargo(_) | BuildError::Io { .. } => Self::surroundings(error),
            _ => Self::usage(error),
        }
    }
}

/// Builds a plugin, of the folder at `path` or else of the workshop.
pub fn build(
    output: &Output,
    layout: &Layout,
    name: &str,
    profile: Profile,
    path: Option<&Path>,
) -> CommandResult {
    super::check_name(name).map_err(Failure::usage)?;
    let source = path.map_or_else(|| layout.source(name), |path| layout.root().join(path));
    let manifest = source.join("Cargo.toml");
    let shown = layout.shown(&manifest).to_string();
    if !manifest.is_file() {
        return Err(BuildError::NoSource { plugin: name.to_owned(), manifest: shown }.into());
    }
    let built = cargo_build(name, &manifest, profile)?.ok_or(BuildError::NoLibrary(shown))?;
    let named = libraries::manifest(&built).map_err(BuildError::Refused)?.name;
    if named != name {
        return Err(BuildError::Name { plugin: name.to_owned(), named }.into());
    }
    let library = layout.library(name, profile);
    place(&built, &library).map_err(|source| BuildError::Io { path: library.clone(), source })?;
    output.say(format_args!(
        "{} is built; `echo-core plugin activate {name} {}` enables it",
        layout.shown(&library),
        profile.folder()
    ));
    Ok(Exit::Success)
}

/// Builds the one package. Built along with the workspace it would get the features that other crates ask
/// for, and be slower and larger for it.
fn cargo_build(
    name: &str,
    manifest: &Path,
    profile: Profile,
) -> Result<Option<PathBuf>, BuildError> {
    let profile = match profile {
        Profile::Development => "dev",
        Profile::Production => "production",
    };
    let mut child = echo_bench::cargo()
        .args(["build", "--lib", "--profile", profile])
        .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(manifest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(BuildError::NoCargo)?;
    let messages = child.stdout.take().map(BufReader::new);
    let lines = messages.into_iter().flat_map(|messages| messages.lines().map_while(Result::ok));
    let library = lines.filter_map(|line| library_of(&line, manifest)).last();
    let status = child.wait().map_err(BuildError::NoCargo)?;
    if status.success() { Ok(library) } else { Err(BuildError::Failed(name.to_owned())) }
}

/// The library of this package, where the line tells of one.
fn library_of(line: &str, manifest: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        reason: String,
        manifest_path: PathBuf,
        target: Target,
        filenames: Vec<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        crate_types: Vec<String>,
    }

    let artifact: Artifact = serde_json::from_str(line).ok()?;
    let own = artifact.manifest_path.canonicalize().ok()? == manifest.canonicalize().ok()?;
    let library = artifact.target.crate_types.iter().any(|kind| kind == "cdylib");
    if artifact.reason != "compiler-artifact" || !own || !library {
        return None;
    }
    let is_library =
        |file: &PathBuf| file.extension().is_some_and(|it| it == std::env::consts::DLL_EXTENSION);
    artifact.filenames.into_iter().find(is_library)
}

/// A library that a host has mapped must not be written over: the new one takes its name.
fn place(built: &Path, library: &Path) -> io::Result<()> {
    let fresh = library.with_extension("new");
    if let Some(folder) = library.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(built, &fresh)?;
    fs::rename(&fresh, library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_found_among_cargos_messages() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        fs::write(&manifest, "").unwrap();
        let message = |crate_type: &str, manifest: &Path| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": manifest,
                "target": { "crate_types": [crate_type] },
                "filenames": ["t/libx.rlib", format!("t/libx.{}", std::env::consts::DLL_EXTENSION)],
            })
            .to_string()
        };
        let found = library_of(&message("cdylib", &manifest), &manifest).unwrap();
        assert_eq!(found.extension().unwrap(), std::env::consts::DLL_EXTENSION);
        assert_eq!(library_of(&message("rlib", &manifest), &manifest), None);
        assert_eq!(library_of(&message("cdylib", folder.path()), &manifest), None);
        assert_eq!(library_of("{}", &manifest), None);
    }

    #[test]
    fn an_open_library_keeps_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let (built, library) = (folder.path().join("built"), folder.path().join("d/libx.so"));
        fs::write(&built, "old").unwrap();
        place(&built, &library).unwrap();
        let mut old = fs::File::open(&library).unwrap();
        fs::write(&built, "new").unwrap();
        place(&built, &library).unwrap();
        assert_eq!(io::read_to_string(&mut old).unwrap(), "old");
        assert_eq!(fs::read_to_string(&library).unwrap(), "new");
    }
}
