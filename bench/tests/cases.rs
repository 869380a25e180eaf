//! Each case measures what it says, in rounds too short for its figures to mean anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use echo_bench::{BenchError, Options};
use serde_json::Value;

/// Runs a case with our own side alone, and gives its lines.
fn run(case: &str, messages: u64) -> Vec<Value> {
    let options = Options {
        cases: vec![case.to_owned()],
        messages: Some(messages),
        repeats: Some(2),
        peer: vec!["echo-core".to_owned()],
        ..Options::default()
    };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    echo_bench::run(&options, &mut out, &mut notes).unwrap();
    assert!(notes.starts_with(b"# "), "the machine is described first");
    let out = String::from_utf8(out).unwrap();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one line of a case, with its name and a rate.
fn figures(case: &str, messages: u64) -> Value {
    let lines = run(case, messages);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["case"], case);
    assert!(lines[0]["msgs_per_s"].as_u64().unwrap() > 0, "{lines:?}");
    lines[0].clone()
}

#[test]
fn rates_are_measured_without_times() {
    let cases = [
        "work_queue",
        "work_queue_fresh",
        "fan_out_1_8",
        "fan_in_8_1",
        "match_uncached",
        "match_cached",
        "publish_1_subscription",
        "nats_core",
        "durable",
    ];
    for case in cases {
        let figures = figures(case, 500);
        assert!(figures.get("p50_ns").is_none() && figures.get("grown_bytes").is_none(), "{case}");
    }
}

#[test]
fn times_are_measured_one_by_one() {
    for (case, messages) in [("request", 200), ("idle_to_handled", 5)] {
        let figures = figures(case, messages);
        let (p50, p99) = (figures["p50_ns"].as_u64().unwrap(), figures["p99_ns"].as_u64().unwrap());
        assert!(0 < p50 && p50 <= p99, "{case}: {figures}");
    }
}

#[test]
fn memory_is_compared_between_rounds() {
    assert!(figures("memory", 3_000)["grown_bytes"].is_i64());
}

#[test]
fn a_pool_is_held_against_fixed_sizes() {
    let options = Options {
        cases: vec!["pool".to_owned()],
        peer: vec!["io".to_owned()],
        quick: true,
        ..Options::default()
    };
    let mut out = Vec::new();
    echo_bench::run(&options, &mut out, &mut Vec::new()).unwrap();
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, sizes) = lines.split_last().unwrap();
    let of = |key: &str| sizes.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(Value::from(of("workers")), serde_json::json!([1, 2, 4, 8, 16, 32, "adaptive"]));
    assert_eq!(of("workers_at_end")[..6], of("workers")[..6], "a fixed size stays as it is");
    // Whoever waits for 50 ms gets 20 done in a second, whatever else the machine does; 32 get more done than one.
    let rates: Vec<u64> = of("msgs_per_s").iter().map(|rate| rate.as_u64().unwrap()).collect();
    assert!(rates[0] <= 40 && rates[5] > 4 * rates[0], "{rates:?}");
    let ratios = &last["ratios"][0];
    assert_eq!(ratios["handler"], "io");
    assert!(ratios["throughput"].as_f64().unwrap() > 0.0 && ratios["workers"].is_f64(), "{last}");
}

#[test]
fn a_case_that_there_is_not_is_named_with_those_there_are() {
    let options = Options { cases: vec!["speed".to_owned()], ..Options::default() };
    let error = echo_bench::run(&options, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, BenchError::UnknownCase { .. }));
    assert!(error.to_string().starts_with("there is no case `speed`; there are work_queue, "));
}

#[test]
fn the_list_names_every_case_with_what_it_measures() {
    let options = Options { list: true, ..Options::default() };
    let mut out = Vec::new();
    echo_bench::run(&options, &mut out, &mut Vec::new()).unwrap();
    let list = String::from_utf8(out).unwrap();
    assert!(list.lines().all(|line| line.split_whitespace().count() > 3), "{list}");
    assert!(list.contains("publish_100k_subscriptions") && list.contains("durable"), "{list}");
}
