//! Suites as commands take them: found, read, and checked against the services that plugins provide.

use std::path::{Path, PathBuf};

use echo_sdk::contract::suite::Suite;
use echo_suite::{ServiceTypes, SuiteError};
use echo_toml::Faults;
use miette::Diagnostic;

use crate::exit::{Failure, chain};

/// Why there are no suites to work with.
#[derive(Debug)]
pub enum NoSuites {
    /// Nothing was found.
    Find(SuiteError),
    /// Files hold faults.
    Faults(Vec<Faults>),
}

/// Finds, reads and checks the suites that `paths` lead to.
///
/// # Errors
/// [`NoSuites`] with everything that is wrong.
pub fn load(paths: &[PathBuf], types: &ServiceTypes) -> Result<Vec<Suite>, NoSuites> {
    let files = echo_suite::discover(paths).map_err(NoSuites::Find)?;
    echo_suite::load_all(&files, types).map_err(NoSuites::Faults)
}

impl From<NoSuites> for Failure {
    fn from(error: NoSuites) -> Self {
        match error {
            NoSuites::Find(error) => {
                let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
                Self::usage(format!("{}{help}", chain(&error)))
            }
            NoSuites::Faults(faults) => Self::faults(faults),
        }
    }
}

/// A path as it is shown: seen from the folder that the program runs in, where it lies below.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
