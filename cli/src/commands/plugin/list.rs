//! `plugin list` and `plugin show`: what manifests say, without running anything.

use std::path::{Path, PathBuf};

use echo_sdk::Manifest;
use serde::Serialize;

use super::layout::Layout;
use crate::args::{Profile, TableArgs};
use crate::builtin;
use crate::exit::{CommandResult, Exit, Failure};
use crate::libraries::{self, files};
use crate::output::{Output, Palette, Style};
use crate::table::table;

/// A plugin, or a file that should be one.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The library; a built-in plugin has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Why it cannot be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    #[serde(skip)]
    manifest: Option<Manifest>,
}

/// What becomes of a plugin when a host starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
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
    fn word(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Enabled => "enabled",
            Self::Built => "built",
            Self::Refused => "refused",
        }
    }
}

/// There is no such plugin.
#[derive(Debug, thiserror::Error)]
#[error("there is no plugin `{name}`; {way_out}")]
struct UnknownPlugin {
    name: String,
    way_out: String,
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

/// Shows the manifest of one.
pub fn show(output: &Output, layout: &Layout, name: &str, json: bool) -> CommandResult {
    let plugins = collect(layout);
    let Some(plugin) = plugins.iter().find(|plugin| plugin.name == name) else {
        return Err(Failure::usage(unknown(name, &plugins)));
    };
    let Some(manifest) = &plugin.manifest else {
        return Err(Failure::usage(plugin.fault.clone().unwrap_or_default()));
    };
    let printed = if json {
        output.json(manifest)
    } else {
        output.result(show_one(manifest, plugin, layout, output.out))
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

fn unknown(name: &str, plugins: &[Listed]) -> UnknownPlugin {
    let names = || plugins.iter().map(|plugin| plugin.name.as_str());
    let way_out = match echo_toml::nearest(name, names()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("there are {}", echo_toml::list(names(), "and")),
    };
    UnknownPlugin { name: name.to_owned(), way_out }
}

/// Built-in plugins, then those that hosts load, then those that only are built.
fn collect(layout: &Layout) -> Vec<Listed> {
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

fn show_one(manifest: &Manifest, plugin: &Listed, layout: &Layout, palette: Palette) -> String {
    let pool = &manifest.worker_pool;
    let library = plugin.path.as_ref().map(|path| layout.shown(path).to_string());
    let list =
        |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let lines = [
        ("version", manifest.version.clone()),
        ("about", manifest.description.clone()),
        ("status", plugin.status.word().to_owned()),
        ("library", library.unwrap_or_else(|| "-".to_owned())),
        ("handles", list(manifest.subscriptions.iter().map(|it| it.as_str().to_owned()).collect())),
        (
            "needs",
            list(manifest.dependencies.iter().map(|(name, v)| format!("{name} {v}")).collect()),
        ),
        ("services", list(manifest.services.iter().map(|it| it.service_type.clone()).collect())),
        ("workers", format!("{} to {}", pool.min_workers, pool.max_workers)),
        ("queue", format!("{} messages", pool.queue_size)),
        ("config", serde_json::Value::Object(manifest.config.clone()).to_string()),
    ];
    let mut text = palette.paint(Style::Strong, &manifest.name) + "\n";
    for (name, value) in lines {
        text.push_str(&format!(
            "  {} {value}\n",
            palette.paint(Style::Dim, format_args!("{name:<9}"))
        ));
    }
    text
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
        let nearest = unknown("proces", &plugins).to_string();
        assert!(nearest.contains("did you mean `process`?"), "{nearest}");
    }
}
