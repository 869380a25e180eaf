//! `plugin new`: a plugin that builds and passes its own test.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use crate::builtin;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;

/// The plugin's files: where each goes, and what is in it. `{{name}}` stands for the plugin's name,
/// `{{crate}}` for that name within a crate's, `{{type}}` for the name of its Rust type.
const TEMPLATE: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../../../templates/plugin/Cargo.toml.in")),
    ("manifest.json", include_str!("../../../templates/plugin/manifest.json.in")),
    ("src/lib.rs", include_str!("../../../templates/plugin/lib.rs.in")),
];

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

/// Writes a plugin.
pub fn new(output: &Output, layout: &Layout, name: &str) -> CommandResult {
    super::check_name(name).map_err(Failure::usage)?;
    let folder = write(layout, name)?;
    output.say(format_args!("wrote {}", layout.shown(&folder)));
    let next = format!(
        "next: cargo test -p echo-plugin-{name}\nthen: echo-core plugin build {name} && echo-core plugin activate {name}\n"
    );
    output.result(next).map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

fn write(layout: &Layout, name: &str) -> Result<PathBuf, NewError> {
    let folder = layout.source(name);
    if builtin::manifests().iter().any(|manifest| manifest.name == name) {
        return Err(NewError::BuiltIn(name.to_owned()));
    }
    if !folder.parent().is_some_and(Path::is_dir) || !layout.root().join("sdk").is_dir() {
        return Err(NewError::NoWorkshop);
    }
    if folder.symlink_metadata().is_ok() {
        return Err(NewError::Exists(layout.shown(&folder).to_string()));
    }
    // A folder in the workshop without a Cargo.toml breaks the whole workspace: it comes there complete.
    let draft = layout.root().join(format!("plugins/.{name}.{}", std::process::id()));
    let write_error = |path: &Path, source| NewError::Write { path: path.to_owned(), source };
    let filled = fill(&draft, name);
    let moved = filled
        .and_then(|()| fs::rename(&draft, &folder).map_err(|source| (folder.clone(), source)));
    moved.map_err(|(path, source)| {
        // The first fault is what matters.
        let _ = fs::remove_dir_all(&draft);
        write_error(&path, source)
    })?;
    Ok(folder)
}

fn fill(folder: &Path, name: &str) -> Result<(), (PathBuf, io::Error)> {
    for (file, text) in TEMPLATE {
        let path = folder.join(file);
        let text = text
            .replace("{{name}}", name)
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{type}}", &type_name(name));
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|source| (path, source))?;
    }
    Ok(())
}

/// `my-plugin` becomes `MyPlugin`.
fn type_name(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split(['-', '_']).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_comes_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), Path::new("plugins/enabled"));
        assert!(matches!(write(&layout, "my-plugin"), Err(NewError::NoWorkshop)));
        fs::create_dir_all(folder.path().join("plugins/workshop")).unwrap();
        fs::create_dir(folder.path().join("sdk")).unwrap();
        let written = write(&layout, "my-plugin").unwrap();
        let manifest = fs::read_to_string(written.join("manifest.json")).unwrap();
        let manifest = echo_sdk::Manifest::from_json(&manifest).unwrap();
        assert_eq!(manifest.name, "my-plugin");
        let source = fs::read_to_string(written.join("src/lib.rs")).unwrap();
        assert!(source.contains("struct MyPlugin") && !source.contains("{{"), "{source}");
        assert!(matches!(write(&layout, "my-plugin"), Err(NewError::Exists(_))));
        assert!(matches!(write(&layout, "process"), Err(NewError::BuiltIn(_))));
        assert_eq!(fs::read_dir(folder.path().join("plugins")).unwrap().count(), 1);
    }
}
