//! Where plugins lie: their sources, their libraries, and those that are enabled.

use std::io;
use std::path::{Path, PathBuf};

use echo_core::config::PluginsConfig;

use crate::args::Profile;

/// The folder that holds `plugins/`, which is the one that the program runs in: there hosts look too.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    enabled: PathBuf,
}

impl Layout {
    /// The folders below `root`; those that hosts load from are in `enabled`, seen from there.
    pub fn new(root: &Path, enabled: &Path) -> Self {
        Self { root: root.to_owned(), enabled: root.join(enabled) }
    }

    /// The folders below the one that the program runs in.
    ///
    /// # Errors
    /// When that folder is gone.
    pub fn here(config: &PluginsConfig) -> io::Result<Self> {
        Ok(Self::new(&std::env::current_dir()?, &config.dir))
    }

    /// The folder that holds `plugins/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where plugins are made.
    pub fn workshop(&self) -> PathBuf {
        self.root.join("plugins/workshop")
    }

    /// A plugin's sources.
    pub fn source(&self, plugin: &str) -> PathBuf {
        self.workshop().join(plugin)
    }

    /// The libraries of a profile.
    pub fn libraries(&self, profile: Profile) -> PathBuf {
        self.root.join("plugins/libraries").join(profile.folder())
    }

    /// A plugin's library of a profile.
    pub fn library(&self, plugin: &str, profile: Profile) -> PathBuf {
        self.libraries(profile).join(library_name(plugin))
    }

    /// The folder from which hosts load.
    pub fn enabled(&self) -> &Path {
        &self.enabled
    }

    /// What the link of an enabled plugin says: relative where both are in their usual places, so that the
    /// whole tree can move.
    pub fn link_target(&self, plugin: &str, profile: Profile) -> PathBuf {
        let library = self.library(plugin, profile);
        let usual = self.enabled == self.root.join("plugins/enabled");
        match library.strip_prefix(self.root.join("plugins")) {
            Ok(below) if usual => Path::new("..").join(below),
            _ => library,
        }
    }

    /// A path as it is shown: below the root where it lies there.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The file name of a plugin's library.
pub fn library_name(plugin: &str) -> String {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    format!("{prefix}{plugin}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_relative_in_its_usual_place() {
        let layout = Layout::new(Path::new("/project"), Path::new("plugins/enabled"));
        let target = layout.link_target("x", Profile::Production);
        assert_eq!(target, Path::new("../libraries/production").join(library_name("x")));
        let library = layout.library("x", Profile::Production);
        assert_eq!(layout.shown(&library).to_string(), "plugins/libraries/production/libx.so");
        let elsewhere = Layout::new(Path::new("/project"), Path::new("/other"));
        assert_eq!(elsewhere.link_target("x", Profile::Production), library);
    }
}
