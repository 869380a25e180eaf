//! `plugin new`: a plugin that builds and passes its own tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::template::{Home, files};
use crate::args::Template;
use crate::builtin;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;

/// Why no plugin was written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The folder is there already.
    #[error("{0} is there already; choose another name")]
    Exists(String),
    /// A built-in plugin has the name.
    #[error("a built-in plugin is named `{0}`; choose another name")]
    BuiltIn(String),
    /// This is no clone of the project.
    #[error(
        "there is no plugins/workshop here; run this in a clone of Echo Core, whose SDK the plugin builds on"
    )]
    NoWorkshop,
    /// A crate by itself would lie within the workspace.
    #[error(
        "{0} is in the workshop; leave out --path and the plugin is written to plugins/workshop/NAME"
    )]
    InWorkshop(String),
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<NewError> for Failure {
    fn from(error: NewError) -> Self {
        match error {
            NewError::Write { .. } => Self::surroundings(error),
            _ => Self::usage(error),
        }
    }
}

/// Writes a plugin, to the folder at `path` or else into the workshop.
pub fn new(
    output: &Output,
    layout: &Layout,
    name: &str,
    template: Template,
    path: Option<&Path>,
) -> CommandResult {
    super::check_name(name).map_err(Failure::usage)?;
    let folder = write(layout, name, template, path)?;
    let shown = layout.shown(&folder).to_string();
    output.say(format_args!("wrote {shown}"));
    let (test, at) = match path {
        None => (format!("cargo test -p echo-plugin-{name}"), String::new()),
        Some(_) => {
            let test = format!("cargo test --manifest-path {shown}/Cargo.toml");
            (test, format!(" --path {shown}"))
        }
    };
    let next = format!(
        "next: {test}\nthen: echo-core plugin build {name}{at} && echo-core plugin activate {name}\n"
    );
    output.result(next).map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

fn write(
    layout: &Layout,
    name: &str,
    template: Template,
    path: Option<&Path>,
) -> Result<PathBuf, NewError> {
    let workshop = layout.workshop();
    if builtin::manifests().iter().any(|manifest| manifest.name == name) {
        return Err(NewError::BuiltIn(name.to_owned()));
    }
    let sdk = layout.root().join("sdk");
    if !workshop.is_dir() || !sdk.is_dir() {
        return Err(NewError::NoWorkshop);
    }
    let folder = path.map_or_else(|| layout.source(name), |path| layout.root().join(path));
    let home = match path {
        None => Home::Workspace,
        Some(_) if folder.starts_with(&workshop) => {
            return Err(NewError::InWorkshop(layout.shown(&folder).to_string()));
        }
        Some(_) => Home::Alone { sdk: &sdk },
    };
    if folder.symlink_metadata().is_ok() {
        return Err(NewError::Exists(layout.shown(&folder).to_string()));
    }
    // A folder in the workshop without a Cargo.toml breaks the whole workspace: it comes there complete.
    let parent = folder.parent().unwrap_or(layout.root());
    let draft = match path {
        None => layout.root().join(format!("plugins/.{name}.{}", std::process::id())),
        Some(_) => parent.join(format!(".{name}.{}", std::process::id())),
    };
    let moved = fill(&draft, files(template, name, home))
        .and_then(|()| fs::rename(&draft, &folder).map_err(|source| (folder.clone(), source)));
    moved.map_err(|(path, source)| {
        // The first fault is what matters.
        let _ = fs::remove_dir_all(&draft);
        NewError::Write { path, source }
    })?;
    Ok(folder)
}

fn fill(folder: &Path, files: Vec<(&str, String)>) -> Result<(), (PathBuf, io::Error)> {
    for (file, text) in files {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|source| (path, source))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_comes_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), Path::new("plugins/enabled"));
        let basic = |name: &str, path| write(&layout, name, Template::Basic, path);
        assert!(matches!(basic("my-plugin", None), Err(NewError::NoWorkshop)));
        fs::create_dir_all(layout.workshop()).unwrap();
        fs::create_dir(folder.path().join("sdk")).unwrap();
        let written = basic("my-plugin", None).unwrap();
        assert!(written.join("Cargo.toml").is_file() && written.join("src/tests.rs").is_file());
        assert!(matches!(basic("my-plugin", None), Err(NewError::Exists(_))));
        assert!(matches!(basic("process", None), Err(NewError::BuiltIn(_))));
        assert_eq!(fs::read_dir(folder.path().join("plugins")).unwrap().count(), 1);
    }

    #[test]
    fn a_plugin_elsewhere_is_a_crate_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("project"), Path::new("plugins/enabled"));
        fs::create_dir_all(layout.workshop()).unwrap();
        fs::create_dir(layout.root().join("sdk")).unwrap();
        let at = |path: &Path| write(&layout, "x", Template::Basic, Some(path));
        let elsewhere = folder.path().join("work/x");
        assert!(at(&elsewhere).unwrap().join("src/lib.rs").is_file());
        assert_eq!(fs::read_dir(folder.path().join("work")).unwrap().count(), 1);
        let workshop = Path::new("plugins/workshop/x");
        assert!(matches!(at(workshop), Err(NewError::InWorkshop(_))));
    }
}
