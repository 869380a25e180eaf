//! The cases that build plugin libraries, in a process of their own: they count what is left of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use echo_bench::Options;
use echo_sdk::TransitionStrategy;
use echo_test_ledger::Fault;
use serde_json::Value;

echo_core::record_threads!();

/// The one line of a case that builds plugin libraries.
fn library_line(case: &str, options: Options) -> Value {
    let mut out = Vec::new();
    let options = Options { cases: vec![case.to_owned()], quick: true, ..options };
    echo_bench::run(&options, &mut out, &mut Vec::new()).unwrap();
    let out = String::from_utf8(out).unwrap();
    let [line] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    serde_json::from_str(line).unwrap()
}

/// One after the other, since the libraries of one are mappings that the other sees.
#[test]
fn libraries_are_unloaded_held_against_what_is_linked_in_and_changed() {
    unloading();
    boundary();
    transitions();
}

fn unloading() {
    let line = library_line("unload", Options { count: Some(20), ..Options::default() });
    let left = ["mappings_left", "fds_left", "quarantined"].map(|key| line[key].clone());
    assert_eq!((&line["cycles"], left), (&Value::from(20), [0, 0, 0].map(Value::from)), "{line}");
    assert!(line["rss_kb_per_cycle"].is_f64(), "{line}");
}

fn boundary() {
    let line = library_line("boundary", Options::default());
    for key in ["built_in_ns", "load_ms", "load_with_runtime_ms", "register_ms"] {
        assert!(line[key].as_f64().unwrap() > 0.0, "{key}: {line}");
    }
    for key in ["added_ns", "added_ns_reading", "added_ns_with_runtime"] {
        assert!(line[key].is_f64(), "{key}: {line}");
    }
    // This program's allocator does not count.
    assert!(line["allocations_per_message"].is_null(), "{line}");
}

fn transitions() {
    let measured = |strategy, fault: Option<Fault>, count| {
        let (strategy, rate, keys) = (Some(strategy), Some(500), Some(20));
        let count = Some(count);
        library_line(
            "transition",
            Options { strategy, fault, rate, keys, count, ..Options::default() },
        )
    };
    let kept = |line: &Value| {
        let lost = ["lost", "duplicated", "reordered"].map(|key| line[key].clone());
        assert_eq!(lost, [0, 0, 0].map(Value::from), "{line}");
        assert_eq!(line["state_sums_exact"], true, "{line}");
        assert!(line["messages"].as_u64().unwrap() >= 1_000, "{line}");
    };
    let line = measured(TransitionStrategy::Graceful, None, 2);
    kept(&line);
    assert_eq!((&line["committed"], &line["transitions"]), (&2.into(), &2.into()), "{line}");
    assert!(
        line["max_added_ms"].is_f64() && line["undisturbed_p999_ms"].as_f64() > Some(0.0),
        "{line}"
    );
    let line = measured(TransitionStrategy::Immediate, Some(Fault::Panic), 1);
    kept(&line);
    assert_eq!((&line["committed"], &line["rolled_back"]), (&0.into(), &1.into()), "{line}");
    assert!(line["longest_rollback_ms"].as_f64() > Some(0.0), "{line}");
}
