//! What a library leaves behind: nothing, or a report that says why not.

use std::sync::mpsc;
use std::time::Instant;

use echo_core::library::{
    LoadedLibrary, Quarantine, Quarantined, UnloadOutcome, UnloadReport, is_recording, quarantined,
};
use echo_sdk::testing::request;
use echo_sdk::{Plugin, Topic};
use serde_json::json;

use crate::kit::{echo, handle, load, mapped, misbehave, renamed, wait};

fn unload(library: LoadedLibrary) -> UnloadReport {
    std::thread::scope(|scope| scope.spawn(|| library.unload()).join().unwrap())
}

/// The file descriptors that lead to copies of this plugin.
fn open_copies(plugin: &str) -> usize {
    let name = format!("/memfd:{plugin}-");
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with(&name)).count()
}

#[test]
fn this_program_records_threads() {
    assert!(is_recording());
}

#[test]
fn fifty_cycles_leave_no_trace() {
    let copy = renamed("loop");
    for _ in 0..50 {
        let (library, _) = load(&copy.path());
        assert!(!mapped("loop").is_empty());
        wait(library.plugin().init()).unwrap();
        handle(&library, request(&json!({ "text": "hello" }))).unwrap();
        wait(library.plugin().shutdown()).unwrap();
        let report = unload(library);
        assert!(matches!(report.outcome, UnloadOutcome::Unloaded), "{report}");
        assert_eq!(mapped("loop"), [""; 0]);
    }
    assert_eq!(open_copies("loop"), 0);
}

#[test]
fn one_file_loaded_twice_is_two_libraries() {
    let copy = renamed("twin");
    let ((first, _), (second, _)) = (load(&copy.path()), load(&copy.path()));
    assert_eq!(first.hash(), second.hash());
    handle(&first, request(&json!({}))).unwrap();
    let said = |library: &LoadedLibrary| wait(library.plugin().metrics());
    assert_eq!((said(&first), said(&second)), (json!({ "said": 1 }), json!({ "said": 0 })));
    assert!(matches!(unload(first).outcome, UnloadOutcome::Unloaded));
    handle(&second, request(&json!({}))).unwrap();
    assert!(matches!(unload(second).outcome, UnloadOutcome::Unloaded));
    assert_eq!(mapped("twin"), [""; 0]);
}

#[test]
fn a_library_whose_file_is_overwritten_goes_on() {
    let copy = renamed("over");
    let (library, _) = load(&copy.path());
    std::fs::write(copy.path(), b"gone").unwrap();
    handle(&library, request(&json!({}))).unwrap();
    assert!(matches!(unload(library).outcome, UnloadOutcome::Unloaded));
}

#[test]
fn a_pending_handler_is_dropped_with_its_library() {
    let (library, probe) = load(misbehave());
    let plugin = library.plugin();
    let topic = Topic::new("plugin.misbehave.do").unwrap();
    let order = request(&json!({ "do": "wait with a fuse" }));
    let handling =
        library.runtime().spawn(async move { plugin.process_message(&topic, &order).await });
    wait(probe.next("waiting"));
    let report = unload(library);
    assert!(matches!(report.outcome, UnloadOutcome::Unloaded), "{report}");
    assert!(wait(handling).unwrap_err().is_cancelled());
}

fn assert_quarantined(report: &UnloadReport, expected: impl Fn(&Quarantine) -> bool) {
    let quarantined =
        matches!(&report.outcome, UnloadOutcome::Quarantined(reason) if expected(reason));
    assert!(quarantined, "{report:?}");
    assert!(report.to_string().contains("stays in memory until the host ends: "), "{report}");
}

#[test]
fn a_plugin_that_somebody_holds_stays() {
    let (library, _) = load(echo());
    let held = library.plugin();
    assert_quarantined(&unload(library), |reason| matches!(reason, Quarantine::PluginHeld));
    assert_eq!(held.name(), "echo");
    // Its threads are gone, and say so.
    assert!(wait(held.init()).is_err());
}

#[test]
fn a_plugin_that_keeps_its_context_stays() {
    let (library, _) = load(misbehave());
    handle(&library, request(&json!({ "do": "keep the context" }))).unwrap();
    assert_quarantined(&unload(library), |reason| matches!(reason, Quarantine::ContextHeld));
}

#[test]
fn a_plugin_that_leaves_a_thread_running_stays() {
    let (library, _) = load(misbehave());
    handle(&library, request(&json!({ "do": "keep a thread" }))).unwrap();
    let report = unload(library);
    assert_quarantined(&report, |reason| matches!(reason, Quarantine::OwnThreads(1)));
    let known = |it: &Quarantined| it.hash == report.hash && it.reason.contains("1 of the threads");
    assert!(quarantined().iter().any(known), "{:?}", quarantined());
}

#[test]
fn a_thread_that_never_comes_back_keeps_its_library() {
    let (library, _) = load(misbehave());
    let patience = library.manifest().worker_pool.shutdown_timeout;
    let (enter, entered) = mpsc::channel();
    let (leave, left) = mpsc::channel::<()>();
    let blocked = library.runtime().spawn_blocking(move || {
        enter.send(()).unwrap();
        let _ = left.recv();
    });
    entered.recv().unwrap();
    let started = Instant::now();
    assert_quarantined(&unload(library), |reason| matches!(reason, Quarantine::Threads(1)));
    assert!(started.elapsed() >= patience);
    drop(leave);
    wait(blocked).unwrap();
}
