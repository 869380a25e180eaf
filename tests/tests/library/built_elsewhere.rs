//! Libraries that were not built as the host was: with another profile, by another compiler, for an older version.

use std::path::{Path, PathBuf};
use std::process::Command;

use echo_core::library::{LoadedLibrary, UnloadOutcome};
use echo_sdk::testing::{Probe, request};
use echo_sdk::{Plugin, ProcessingStatus, StateSnapshot};
use serde_json::{Value, json};

use crate::kit::{build_with, echo, handle, load, own_rustc, plain, wait};

/// The system's own compiler, or the one that this variable names.
const OTHER: &str = "ECHO_OTHER_RUSTC";

fn other_rustc() -> PathBuf {
    let rustc = PathBuf::from(std::env::var_os(OTHER).unwrap_or_else(|| "/usr/bin/rustc".into()));
    let hint = "run scripts/setup-compiler, or name another Rust compiler in";
    assert!(rustc.is_file(), "there is no {}: {hint} {OTHER}", rustc.display());
    rustc
}

/// The minor number of a compiler's version.
fn version(rustc: &Path) -> u32 {
    let output = Command::new(rustc).arg("-V").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = text.split_whitespace().nth(1).and_then(|version| version.split('.').nth(1));
    number.unwrap().parse().unwrap()
}

/// The model plugin says again what it is told, and goes.
fn assert_says_again(library: &Path) {
    let (library, probe) = load(library);
    for data in [json!({ "text": "hi" }), json!("x".repeat(10_000)), json!([1, 2.5, null])] {
        let handled = handle(&library, request(&data)).unwrap();
        assert_eq!(handled, ProcessingStatus::Acknowledged);
        assert_eq!(probe.replies().pop().unwrap().message.json::<Value>().unwrap(), data);
    }
    let failed = handle(&library, request(&json!({ "status": "failed", "reason": "no" }))).unwrap();
    assert_eq!(failed, ProcessingStatus::Failed("no".into()));
    assert_unloaded(library);
}

fn assert_unloaded(library: LoadedLibrary) {
    let report = library.unload();
    assert!(matches!(report.outcome, UnloadOutcome::Unloaded), "{report}");
}

#[test]
fn a_library_of_another_profile() {
    let library = build_with(|cargo| {
        cargo.args(["-p", "echo-plugin-echo", "--lib", "--profile", "production"]);
    });
    assert_says_again(&library);
}

#[test]
fn a_library_of_another_compiler() {
    let rustc = other_rustc();
    assert_hears(load(&plain(&rustc).path()));
    // An older one does not know the language of this project's crates.
    if version(&rustc) < 95 {
        return;
    }
    let target = echo().parent().unwrap().join("other-compiler");
    let library = build_with(|cargo| {
        cargo.args(["-p", "echo-plugin-echo", "--lib", "--target-dir"]).arg(target);
        cargo.env("RUSTC", &rustc).env_remove("RUSTC_WRAPPER");
    });
    assert_says_again(&library);
}

/// Built with the structs of version 1.0, which are shorter.
#[test]
fn a_library_of_an_older_version() {
    let copy = plain(&own_rustc());
    let (library, probe) = load(&copy.path());
    let plugin = library.plugin();
    wait(async {
        plugin.init().await.unwrap();
        plugin.pause().await.unwrap();
        assert_eq!((plugin.state_schema(), plugin.export_state().await.unwrap()), (1, None));
        let refused = plugin.import_state(StateSnapshot::new(1, json!(1))).await.unwrap_err();
        assert!(refused.to_string().contains("hands no state over"), "{refused}");
        plugin.shutdown().await.unwrap();
    });
    drop(plugin);
    assert_hears((library, probe));
}

/// The plugin without an SDK publishes what it hears once more, the host's own message.
fn assert_hears((library, probe): (LoadedLibrary, Probe)) {
    let told = request(&json!({ "told": [1, 2] })).with_hops(3);
    assert_eq!(handle(&library, told.clone()).unwrap(), ProcessingStatus::Acknowledged);
    let heard = probe.published_on("plain.heard").remove(0).message;
    assert_eq!((&heard, heard.hops()), (&told, 3));
    // The lower of both versions counts.
    assert_eq!(wait(library.plugin().metrics()), json!({ "heard": 1, "minor": 0 }));
    assert_unloaded(library);
}
