//! A plugin with a tokio of its own: its timers, sockets, tasks and blocking work, and their end.

use std::time::Instant;

use echo_core::library::{LoadedLibrary, Quarantine, UnloadOutcome, UnloadReport};
use echo_sdk::testing::request;
use echo_sdk::{Plugin, PluginError, ProcessingStatus};
use serde_json::{Value, json};

use crate::kit::{handle, load, runtime, runtime_with_signals, wait};

fn order(library: &LoadedLibrary, what: &str) -> Result<ProcessingStatus, PluginError> {
    handle(library, request(&json!(what)))
}

fn assert_unloaded(report: &UnloadReport) {
    assert!(matches!(report.outcome, UnloadOutcome::Unloaded), "{report}");
}

#[test]
fn timers_sockets_tasks_and_blocking_work_are_those_of_the_library() {
    let (library, probe) = load(runtime());
    assert_eq!(order(&library, "all").unwrap(), ProcessingStatus::Acknowledged);
    let answer = probe.replies().remove(0).message.json::<Value>().unwrap();
    let expected = json!({ "late": true, "heard": "over the wire", "sum": 42, "blocked": true });
    assert_eq!(answer, expected);
    assert_eq!(probe.published_on("runtime.told").len(), 1);
    assert_eq!(order(&library, "tick").unwrap(), ProcessingStatus::Acknowledged);
    assert!(wait(library.plugin().metrics())["ticks"].as_u64().unwrap() > 0);
    assert_unloaded(&library.unload());
}

#[test]
fn tasks_that_are_left_end_with_the_plugin() {
    let (library, probe) = load(runtime());
    for _ in 0..3 {
        assert_eq!(order(&library, "leave tasks").unwrap(), ProcessingStatus::Acknowledged);
    }
    assert_unloaded(&library.unload());
    assert!(probe.replies().is_empty());
}

#[test]
fn a_thread_that_the_runtime_cannot_end_keeps_the_library_after_a_while() {
    for what in ["leave blocking work", "block the runtime"] {
        let (library, _) = load(runtime());
        let patience = library.manifest().worker_pool.shutdown_timeout;
        assert_eq!(order(&library, what).unwrap(), ProcessingStatus::Acknowledged);
        let began = Instant::now();
        let report = library.unload();
        let own = UnloadOutcome::Quarantined(Quarantine::OwnThreads(1));
        assert_eq!(format!("{:?}", report.outcome), format!("{own:?}"), "{what}");
        assert!(began.elapsed() >= patience, "{what}: {:?}", began.elapsed());
    }
}

#[test]
fn a_library_that_handles_a_signal_stays() {
    let (library, _) = load(&runtime_with_signals().path());
    assert_eq!(order(&library, "listen for a signal").unwrap(), ProcessingStatus::Acknowledged);
    let report = library.unload();
    let reason = UnloadOutcome::Quarantined(Quarantine::SignalHandler(10));
    assert_eq!(format!("{:?}", report.outcome), format!("{reason:?}"));
}

#[test]
fn libraries_with_a_runtime_come_and_go() {
    for _ in 0..30 {
        let (library, _) = load(runtime());
        assert_eq!(order(&library, "all").unwrap(), ProcessingStatus::Acknowledged);
        assert_unloaded(&library.unload());
    }
}
