//! `plugin activate` and `plugin deactivate`: the links in plugins/enabled.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use crate::args::Profile;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;

/// Why a plugin was not activated or deactivated.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// There is no such library.
    #[error(
        "there is no library {library}; `echo-core plugin build {plugin} --profile {profile}` makes it"
    )]
    NoLibrary {
        /// The plugin.
        plugin: String,
        /// The library that was looked for.
        library: String,
        /// The profile, as it is given.
        profile: &'static str,
    },
    /// It is not enabled.
    #[error("the plugin `{0}` is not enabled; `echo-core plugin list` shows those that are")]
    NotEnabled(String),
    /// What is there was not put there by `activate`.
    #[error("{} is no link, so it is left alone; move it away yourself", .0.display())]
    NoLink(PathBuf),
    /// The link cannot be made or removed.
    #[error("the link {} cannot be changed", path.display())]
    Io {
        /// The link.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<ActivateError> for Failure {
    fn from(error: ActivateError) -> Self {
        match error {
            ActivateError::Io { .. } => Self::surroundings(error),
            _ => Self::usage(error),
        }
    }
}

/// Links a library into plugins/enabled, from where hosts load it: those that run and follow the folder now, others when they start.
pub fn activate(output: &Output, layout: &Layout, name: &str, profile: Profile) -> CommandResult {
    let link = enable(layout, name, profile)?;
    output.say(format_args!("{} is enabled; hosts load it", layout.shown(&link)));
    Ok(Exit::Success)
}

/// Removes the link from plugins/enabled.
pub fn deactivate(output: &Output, layout: &Layout, name: &str) -> CommandResult {
    disable(layout, name)?;
    output.say(format_args!("{name} is no longer enabled; hosts unload it, its library stays"));
    Ok(Exit::Success)
}

fn enable(layout: &Layout, name: &str, profile: Profile) -> Result<PathBuf, ActivateError> {
    super::check_name(name).map_err(|_| ActivateError::NotEnabled(name.to_owned()))?;
    built(layout, name, profile)?;
    let link = layout.enabled().join(name);
    refuse_other(&link)?;
    replace_link(&layout.link_target(name, profile), &link)
        .map_err(|source| ActivateError::Io { path: link.clone(), source })?;
    Ok(link)
}

/// The library of a plugin, which has to be there.
///
/// # Errors
/// [`ActivateError::NoLibrary`].
pub fn built(layout: &Layout, name: &str, profile: Profile) -> Result<PathBuf, ActivateError> {
    let library = layout.library(name, profile);
    if library.is_file() {
        return Ok(library);
    }
    let library = layout.shown(&library).to_string();
    Err(ActivateError::NoLibrary { plugin: name.to_owned(), library, profile: profile.folder() })
}

/// The link changes at once from old to new: no host finds it missing.
fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    let folder = link.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let fresh = folder.join(format!(".{}.{}", uuid::Uuid::now_v7().simple(), std::process::id()));
    symlink(target, &fresh)?;
    fs::rename(&fresh, link).inspect_err(|_| {
        // The rename's own error is what matters.
        let _ = fs::remove_file(&fresh);
    })
}

fn disable(layout: &Layout, name: &str) -> Result<(), ActivateError> {
    let not_enabled = || ActivateError::NotEnabled(name.to_owned());
    super::check_name(name).map_err(|_| not_enabled())?;
    let link = layout.enabled().join(name);
    if link.symlink_metadata().is_err() {
        return Err(not_enabled());
    }
    refuse_other(&link)?;
    fs::remove_file(&link).map_err(|source| ActivateError::Io { path: link, source })
}

fn refuse_other(link: &Path) -> Result<(), ActivateError> {
    match link.symlink_metadata() {
        Ok(metadata) if !metadata.is_symlink() => Err(ActivateError::NoLink(link.to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout_with_library() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), Path::new("plugins/enabled"));
        for profile in [Profile::Development, Profile::Production] {
            let library = layout.library("x", profile);
            fs::create_dir_all(library.parent().unwrap()).unwrap();
            fs::write(library, profile.folder()).unwrap();
        }
        (folder, layout)
    }

    #[test]
    fn a_link_comes_changes_and_goes() {
        let (_folder, layout) = layout_with_library();
        let link = enable(&layout, "x", Profile::Development).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "development");
        assert_eq!(enable(&layout, "x", Profile::Production).unwrap(), link);
        assert_eq!(fs::read_to_string(&link).unwrap(), "production");
        assert!(fs::read_link(&link).unwrap().is_relative());
        assert_eq!(fs::read_dir(layout.enabled()).unwrap().count(), 1);
        disable(&layout, "x").unwrap();
        assert!(link.symlink_metadata().is_err());
        assert!(layout.library("x", Profile::Production).is_file());
    }

    #[test]
    fn what_is_missing_is_named() {
        let (_folder, layout) = layout_with_library();
        let error = enable(&layout, "y", Profile::Production).unwrap_err().to_string();
        let way_out = "`echo-core plugin build y --profile production`";
        assert!(
            error.contains("libraries/production/liby.so") && error.contains(way_out),
            "{error}"
        );
        assert!(matches!(disable(&layout, "y"), Err(ActivateError::NotEnabled(_))));
        assert!(matches!(disable(&layout, "../x"), Err(ActivateError::NotEnabled(_))));
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let (_folder, layout) = layout_with_library();
        fs::create_dir_all(layout.enabled()).unwrap();
        fs::write(layout.enabled().join("x"), "mine").unwrap();
        assert!(matches!(disable(&layout, "x"), Err(ActivateError::NoLink(_))));
        let refused = enable(&layout, "x", Profile::Development);
        assert!(matches!(refused, Err(ActivateError::NoLink(_))));
    }
}
