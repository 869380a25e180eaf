//! Finding the files of suites.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum SuiteError {
    /// A path leads nowhere.
    #[error("there is no file or folder `{}`", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A folder holds no suites.
    #[error("there are no suites in `{}`", path.display())]
    #[diagnostic(help(
        "a suite's file is named `suite.toml` or ends in `.suite.toml`; `echo-core init` writes a first one"
    ))]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// A folder cannot be read.
    #[error("cannot read the folder `{}`", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The files of the suites that `paths` lead to, each once, in the order of the paths.
///
/// A file is taken whatever its name is. Of a folder, and the folders within it, every file is taken that is
/// named `suite.toml` or ends in `.suite.toml`, in the order of their paths; folders whose names begin with a
/// dot, and links to folders, are left out.
///
/// # Errors
/// [`SuiteError`] when a path leads nowhere, or a folder cannot be read or holds no suites.
pub fn discover<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> Result<Vec<PathBuf>, SuiteError> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let found = if path.is_dir() {
            suites_within(path)?
        } else if path.exists() {
            vec![path.to_owned()]
        } else {
            return Err(SuiteError::Missing { path: path.to_owned() });
        };
        for file in found {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn suites_within(folder: &Path) -> Result<Vec<PathBuf>, SuiteError> {
    let mut suites = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(path) = folders.pop() {
        let unreadable = |source| SuiteError::Unreadable { path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type().map_err(unreadable)?.is_dir() {
                if !name.starts_with('.') {
                    folders.push(entry.path());
                }
            } else if name == "suite.toml" || name.ends_with(".suite.toml") {
                suites.push(entry.path());
            }
        }
    }
    if suites.is_empty() {
        return Err(SuiteError::None { path: folder.to_owned() });
    }
    suites.sort();
    Ok(suites)
}
