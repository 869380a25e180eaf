//! Libraries built for the tests, and a host's part around them.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use echo_core::library::{self, LibraryError, LoadedLibrary};
use echo_sdk::testing::{Probe, mock_with};
use echo_sdk::{BaseMessage, Plugin, PluginError, ProcessingStatus, Topic};
use serde_json::{Map, Value, json};

/// The model plugin, built as its author would.
pub fn echo() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| build(&["-p", "echo-plugin-echo"]));
    &PATH
}

/// The plugin that does whatever it is told.
pub fn misbehave() -> &'static Path {
    static PATH: LazyLock<PathBuf> =
        LazyLock::new(|| build(&["-p", "echo-tests", "--example", "misbehave"]));
    &PATH
}

/// The plugin with a tokio of its own.
pub fn runtime() -> &'static Path {
    static KEPT: LazyLock<Copy> = LazyLock::new(|| kept(&["-p", "echo-test-runtime"]));
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| KEPT.path());
    &PATH
}

/// The same, which can handle a signal besides.
pub fn runtime_with_signals() -> Copy {
    kept(&["-p", "echo-test-runtime", "--features", "signal"])
}

/// Two versions of a plugin that keeps its state in different forms.
pub fn ledger() -> &'static (Copy, Copy) {
    static VERSIONS: LazyLock<(Copy, Copy)> = LazyLock::new(|| {
        let package = ["-p", "echo-test-ledger"];
        (kept(&package), kept(&[&package[..], &["--features", "second"]].concat()))
    });
    &VERSIONS
}

/// A library that an author without the SDK wrote for version 1.0 of the boundary, built by this compiler alone.
pub fn plain(rustc: &Path) -> Copy {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/plain/lib.rs");
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = Command::new(rustc);
    compiler.args(["--edition", "2021", "--crate-type", "cdylib", "--crate-name", "plain", source]);
    let output = compiler.arg("-o").arg(folder.path().join("copy.so")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Copy { folder }
}

/// The compiler that builds everything else.
pub fn own_rustc() -> PathBuf {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()).into()
}

/// Builds a package that is built in several ways: the next build overwrites this one's library, so it is copied.
fn kept(selection: &[&str]) -> Copy {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    Copy::of(&build(selection), |_| {})
}

/// Builds a package alone, since built beside others its dependencies would get their features too.
fn build(selection: &[&str]) -> PathBuf {
    build_with(|cargo| {
        cargo.args(selection);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
    })
}

/// A cargo as a person starts it. What cargo tells a program that it runs of that program's own package is not passed on:
/// build scripts that look at it would run again, and all that depends on them be built again.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| told(name)).for_each(|name| _ = cargo.env_remove(name));
    cargo
}

/// The library that cargo builds once it is told what.
pub fn build_with(tell: impl FnOnce(&mut Command)) -> PathBuf {
    let mut cargo = cargo();
    cargo.args(["build", "--message-format", "json-render-diagnostics"]);
    tell(&mut cargo);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // The selected package is the last one that cargo builds.
    let artifacts = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let files = artifacts.filter_map(|it| it["filenames"].as_array().cloned()).flatten();
    let mut libraries = files.filter_map(|file| file.as_str().map(PathBuf::from));
    libraries.rfind(|file| file.extension().is_some_and(|it| it == "so")).unwrap()
}

/// Loads a library with its own configuration.
pub fn load(path: &Path) -> (LoadedLibrary, Probe) {
    load_with(path, json!({})).unwrap()
}

/// Loads a library with `settings` over its own configuration.
pub fn load_with(path: &Path, settings: Value) -> Result<(LoadedLibrary, Probe), LibraryError> {
    let mut probe = None;
    let library = library::load(path, |manifest| {
        let mut config = manifest.config.clone();
        config.extend(settings.as_object().cloned().unwrap_or_else(Map::new));
        let (context, watching) = mock_with(&manifest.name, config);
        probe = Some(watching);
        context
    })?;
    Ok((library, probe.unwrap()))
}

/// Waits for something that runs elsewhere: nothing of a library's may run on the test's own thread.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Has the library's plugin handle a message, on one of the library's threads.
pub fn handle(
    library: &LoadedLibrary,
    message: BaseMessage,
) -> Result<ProcessingStatus, PluginError> {
    let plugin = library.plugin();
    let topic = Topic::new("plugin.some.rather.long.topic").unwrap();
    let handled = async move { plugin.process_message(&topic, &message).await };
    wait(library.runtime().spawn(handled)).unwrap()
}

/// A copy of a library in a folder of its own, with some of its bytes changed.
pub struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    /// Copies `library` after `change`.
    pub fn of(library: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = std::fs::read(library).unwrap();
        change(&mut bytes);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("copy.so"), bytes).unwrap();
        Self { folder }
    }

    /// Where the copy is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("copy.so")
    }
}

/// Replaces every occurrence of some bytes by as many others.
pub fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "nothing to replace");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

/// A copy of the model plugin of another name, since tests run side by side.
pub fn renamed(name: &str) -> Copy {
    Copy::of(echo(), |bytes| {
        let from = b"\"name\": \"echo\"";
        replace(bytes, from, format!("\"name\": \"{name}\"").as_bytes());
    })
}

/// The copies of this plugin that are in memory.
pub fn mapped(plugin: &str) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let name = format!("/memfd:{plugin}-");
    maps.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect()
}
