//! Plugin libraries: what the boundary costs, and what a library leaves behind.
//!
//! The library that is measured here has a tokio of its own and is built from this project's sources, as its author
//! would; `--library` names one that is built already.

mod boundary;
mod unload;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::BenchError;

pub(super) use boundary::measure as boundary;
pub(super) use unload::measure as unload;

/// A library that is built for a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a tokio of its own.
    Runtime,
    /// Without, as a plugin that never waits.
    Plain,
    /// The first version of a ledger.
    FirstLedger,
    /// The second one.
    SecondLedger,
}

impl Kind {
    fn package(self) -> &'static str {
        match self {
            Self::Runtime | Self::Plain => "echo-test-runtime",
            Self::FirstLedger | Self::SecondLedger => "echo-test-ledger",
        }
    }

    /// What cargo is told besides.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Runtime | Self::FirstLedger => &[],
            Self::Plain => &["--no-default-features"],
            Self::SecondLedger => &["--features", "second"],
        }
    }
}

/// A line of what cargo says.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    filenames: Vec<PathBuf>,
}

/// A cargo as a person starts it. What cargo tells a program that it runs of that program's own package is not passed on:
/// build scripts that look at it would run again, and all that depends on them be built again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| told(name)).for_each(|name| _ = cargo.env_remove(name));
    cargo
}

/// Builds the library by itself, in the project that the working folder is part of, and puts a copy into `folder`.
pub(super) fn build(kind: Kind, folder: &std::path::Path) -> Result<PathBuf, BenchError> {
    let failed =
        |fault: String| BenchError::Library(format!("the library could not be built: {fault}"));
    let (mut cargo, package) = (cargo(), kind.package());
    cargo.args(["build", "-p", package, "--lib", "--message-format", "json-render-diagnostics"]);
    cargo.args(kind.arguments());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let started = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| failed(format!("cargo does not start: {error}")))?;
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines().map_while(Result::ok));
    let artifacts = lines.into_iter().flatten().filter_map(|line| serde_json::from_str(&line).ok());
    let own = artifacts.filter(|artifact: &Artifact| artifact.package_id.contains(package));
    let files = own.flat_map(|artifact| artifact.filenames);
    let library = files.filter(|file| file.extension().is_some_and(|it| it == "so")).last();
    let status = child.wait()?;
    let (true, Some(library)) = (status.success(), library) else {
        let text = "cargo says why above; run this in a checkout of Echo Core, or name a library with --library";
        return Err(failed(text.to_owned()));
    };
    // The other kind goes by the same name.
    let copy = folder.join(format!("{kind:?}.so"));
    std::fs::copy(library, &copy)?;
    Ok(copy)
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// To the hundredth, which is more than a measurement says.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
