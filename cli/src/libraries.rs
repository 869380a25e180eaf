//! The plugin libraries that hosts load, and what their manifests say; nothing of them is run here.

use std::fs;
use std::path::{Path, PathBuf};

use echo_core::config::PluginsConfig;
use echo_sdk::Manifest;

pub use echo_core::library::manifest;

/// The libraries that a host loads: those of the enabled folder, and those that the settings name.
pub fn of_host(config: &PluginsConfig) -> Vec<PathBuf> {
    if !config.enabled {
        return Vec::new();
    }
    let registered = config.register.iter().filter(|settings| settings.enabled);
    let named = registered.filter_map(|settings| settings.library.clone());
    files(&config.dir).into_iter().chain(named).collect()
}

/// The manifests of these libraries. One with a fault is left out: the host that refuses it says why.
pub fn manifests(config: &PluginsConfig) -> Vec<Manifest> {
    of_host(config).iter().filter_map(|path| manifest(path).ok()).collect()
}

/// The files of a folder, by name; those whose names begin with a dot are nobody's business.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let mut files: Vec<PathBuf> = visible.map(|entry| entry.path()).collect();
    files.sort();
    files
}
