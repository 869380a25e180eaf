//! `init`: a first suite that runs as it is, and the commented configuration.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use echo_core::config::DEFAULT_CONFIG;

use crate::args::InitArgs;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;

/// The first suite.
pub const FIRST_SUITE: &str = include_str!("../../templates/init/first.suite.toml");

const FILES: [(&str, &str); 2] =
    [("first.suite.toml", FIRST_SUITE), ("echo-core.toml", DEFAULT_CONFIG)];

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file is there already.
    #[error("{} is there already and is not written over; move it away, or name another folder", .0.display())]
    Exists(PathBuf),
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

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Exists(_) => Self::usage(error),
            InitError::Write { .. } => Self::surroundings(error),
        }
    }
}

/// Writes the files.
pub fn init(output: &Output, args: &InitArgs) -> CommandResult {
    let written = write(&args.dir)?;
    let name = |path: &PathBuf| path.strip_prefix(".").unwrap_or(path).display().to_string();
    let names: Vec<String> = written.iter().map(name).collect();
    output.say(format_args!("wrote {}", names.join(" and ")));
    let suite = name(&args.dir.join(FILES[0].0));
    output.result(format_args!("next: echo-core run {suite}\n")).map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

/// Writes all of the files or, when one of them is there already, none.
fn write(folder: &Path) -> Result<Vec<PathBuf>, InitError> {
    let files = FILES.map(|(name, text)| (folder.join(name), text));
    if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(InitError::Exists(path.clone()));
    }
    let error = |path: &Path, source| InitError::Write { path: path.to_owned(), source };
    fs::create_dir_all(folder).map_err(|source| error(folder, source))?;
    for (path, text) in &files {
        create(path, text).map_err(|source| error(path, source))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        assert_eq!(write(&inner).unwrap().len(), 2);
        fs::remove_file(inner.join("first.suite.toml")).unwrap();
        let error = write(&inner).unwrap_err().to_string();
        assert!(error.contains("echo-core.toml is there already"), "{error}");
        assert!(!inner.join("first.suite.toml").exists());
    }

    #[test]
    fn what_is_written_is_valid() {
        echo_core::config::Config::parse("echo-core.toml", DEFAULT_CONFIG).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path()).unwrap();
        let types = crate::builtin::service_types(&Default::default()).unwrap();
        let suite = echo_suite::load(&files[0], &types).unwrap();
        assert!(suite.all_tests().count() > 0);
    }
}
