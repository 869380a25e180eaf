//! `plugin list`: what manifests say, without running anything.

use std::path::{Path, PathBuf};

use echo_sdk::Manifest;
use serde::Serialize;

use super::layout::Layout;
use crate::args::{Profile, TableArgs};
use crate::builtin;
use crate::exit::{CommandResult, Exit, Failure};
use crate::libraries::{self, files};
use crate::output::{Output, Palette};
use crate::table::table;

/// A plugin, or a file that should be one.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name, or the file's.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What becomes of it.
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The library; a built-in plugin has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Why it cannot be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What it says of itself.
    #[serde(skip)]
    pub manifest: Option<Manifest>,
}

/// What becomes of a plugin when a host starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is part of the program.
    BuiltIn,
    /// Hosts load it.
    Enabled,
    /// It is built, and hosts do not load it.
    Built,
    /// It stands where hosts load from, and they will refuse it.
    Refused,
}

impl Status {
    /// The status as it stands in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Enabled => "enabled",
            Self::Built => "built",
            Self::Refused => "refused",
        }
    }
}

/// Lists all that there are.
pub fn list(output: &Output, layout: &Layout, args: &TableArgs) -> CommandResult {
    let plugins = collect(layout);
    let printed = if args.json {
        output.json(&plugins)
    } else {
        output.result(show_all(&plugins, layout, output.out))
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

/// Built-in plugins, then those that hosts load, then those that only are built.
pub fn collect(layout: &Layout) -> Vec<Listed> {
    let mut plugins: Vec<Listed> = builtin::manifests()
        .into_iter()
        .map(|manifest| Listed::of(manifest, Status::BuiltIn, None))
        .collect();
    let enabled = files(layout.enabled());
    plugins.extend(enabled.iter().map(|path| read(path, Status::Enabled)));
    let loaded: Vec<PathBuf> = enabled.iter().filter_map(|path| path.canonicalize().ok()).collect();
    for profile in [Profile::Development, Profile::Production] {
        let built = files(&layout.libraries(profile)).into_iter();
        let built = built.filter(|path| path.canonicalize().is_ok_and(|it| !loaded.contains(&it)));
        plugins.extend(built.map(|path| read(&path, Status::Built)));
    }
    plugins
}

fn read(path: &Path, status: Status) -> Listed {
    match libraries::manifest(path) {
        Ok(manifest) => Listed::of(manifest, status, Some(path.to_owned())),
        Err(error) => Listed {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            version: None,
            status: Status::Refused,
            description: None,
            path: Some(path.to_owned()),
            fault: Some(crate::exit::chain(&error)),
            manifest: None,
        },
    }
}

impl Listed {
    fn of(manifest: Manifest, status: Status, path: Option<PathBuf>) -> Self {
        Self {
            name: manifest.name.clone(),
            version: Some(manifest.version.clone()),
            status,
            description: Some(manifest.description.clone()),
            path,
            fault: None,
            manifest: Some(manifest),
        }
    }

    fn about(&self) -> String {
        self.fault.clone().or_else(|| self.description.clone()).unwrap_or_default()
    }
}

fn show_all(plugins: &[Listed], layout: &Layout, palette: Palette) -> String {
    let rows = plugins.iter().map(|plugin| {
        let library = plugin.path.as_ref().map(|path| layout.shown(path).to_string());
        [
            plugin.name.clone(),
            plugin.version.clone().unwrap_or_else(|| "-".to_owned()),
            plugin.status.word().to_owned(),
            library.unwrap_or_else(|| "-".to_owned()),
            plugin.about(),
        ]
    });
    table(palette, ["NAME", "VERSION", "STATUS", "LIBRARY", "DESCRIPTION"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_is_no_library_is_listed_with_its_fault() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), "plugins/enabled".as_ref());
        fs::create_dir_all(layout.enabled()).unwrap();
        fs::write(layout.enabled().join("notes.txt"), "hello").unwrap();
        fs::write(layout.enabled().join(".gitkeep"), "").unwrap();
        let plugins = collect(&layout);
        let names: Vec<&str> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        assert_eq!(names, ["orchestrator", "process", "container", "notes.txt"]);
        let refused = &plugins[3];
        assert_eq!(refused.status, Status::Refused);
        assert!(refused.about().contains("notes.txt"), "{refused:?}");
    }
}
