//! A program that hosts libraries and does not record threads: it goes by the list of its threads.
//!
//! One test alone, since each thread of another would be one that may be a library's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "library/kit.rs"]
#[allow(dead_code, reason = "most of it is for other tests")]
mod kit;

use std::sync::mpsc;

use echo_core::library::{Quarantine, UnloadOutcome, UnloadReport, is_recording};
use echo_sdk::testing::request;
use serde_json::json;

use kit::{echo, handle, load, misbehave, runtime};

fn assert_unknown(report: &UnloadReport) {
    let UnloadOutcome::Quarantined(Quarantine::UnknownThreads(1)) = &report.outcome else {
        panic!("{report:?}")
    };
    assert!(report.to_string().contains("record_threads!"), "{report}");
}

#[test]
fn a_library_goes_as_long_as_no_thread_has_come_since() {
    assert!(!is_recording());
    for library in [echo(), runtime(), echo()] {
        let (library, _) = load(library);
        handle(&library, request(&json!(0))).unwrap();
        let report = library.unload();
        assert!(matches!(report.outcome, UnloadOutcome::Unloaded), "{report}");
    }

    // A thread of the library's.
    let (library, _) = load(misbehave());
    handle(&library, request(&json!({ "do": "keep a thread" }))).unwrap();
    assert_unknown(&library.unload());

    // One of the program's, which cannot be told from it.
    let (library, _) = load(echo());
    let (leave, left) = mpsc::channel::<()>();
    let own = std::thread::spawn(move || left.recv());
    assert_unknown(&library.unload());
    drop(leave);
    assert!(own.join().unwrap().is_err());
}
