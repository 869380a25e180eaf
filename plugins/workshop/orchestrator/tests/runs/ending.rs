//! Runs that end early, and tests that are left out.

use std::time::Duration;

use echo_sdk::contract::run::Outcome;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bus::{Answer, Bus, exited, handle, kind, service, step};

/// A bus on which the commands of steps do not end by themselves.
fn endless() -> Bus {
    Bus::new(|topic, data| match topic {
        "service.exec.local" | "service.exec.t" => Answer::Held,
        _ => Answer::Now(kind(topic, data)),
    })
}

fn two_tests(extra: Value) -> Value {
    let mut suite = json!({
        "name": "s",
        "services": { "db": service(&[]) },
        "tests": [
            { "name": "one", "steps": [step("first"), step("second")] },
            { "name": "two", "steps": [step("third")] },
        ],
    });
    suite.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    suite
}

#[tokio::test]
async fn a_cancel_ends_the_step_in_hand_and_takes_everything_down() {
    let bus = endless();
    let start = json!({ "run_id": "r1", "suites": [two_tests(json!({})), {
        "name": "never", "services": { "x": service(&[]) }, "steps": [step("s")],
    }] });
    let cancel = async {
        let asked = bus.in_flight(1).await;
        bus.publish("test.run.cancel", json!({ "run_id": "other", "reason": "not meant" }));
        bus.publish("test.run.cancel", json!({ "run_id": "r1", "reason": "Ctrl-C" }));
        asked
    };
    let (ended, _asked) = tokio::join!(bus.run(start), cancel);
    assert_eq!(ended.outcome, Outcome::Interrupted);
    assert_eq!(ended.reason.as_deref(), Some("the run was cancelled: Ctrl-C"));
    assert_eq!((ended.steps.interrupted, ended.steps.skipped), (1, 3));
    assert_eq!((ended.tests.interrupted, ended.tests.skipped), (1, 2));
    let lines = bus.lines();
    let from = bus.position("x service.exec.local first");
    assert_eq!(
        lines[from..],
        [
            "x service.exec.local first",
            "test.step.ended first interrupted",
            "test.step.ended second skipped",
            "test.test.ended one interrupted",
            "test.test.ended two skipped",
            "> service.logs.t db",
            "< service.logs.t db",
            "> service.stop.t db",
            "< service.stop.t db",
            "test.suite.ended s interrupted",
            "test.suite.started never",
            "test.test.ended never skipped",
            "test.suite.ended never interrupted",
            "> service.cleanup.local run",
            "< service.cleanup.local run",
            "> service.cleanup.t run",
            "< service.cleanup.t run",
            "test.run.ended run interrupted",
        ]
    );
}

#[tokio::test]
async fn a_cancel_is_answered_by_the_run_that_it_ends() {
    let bus = endless();
    let plugin = bus.plugin();
    let cancel = async {
        let asked = bus.in_flight(1).await;
        bus.request("test.run.cancel", json!({ "run_id": "r1", "reason": "" }));
        asked
    };
    let start = json!({ "run_id": "r1", "suites": [two_tests(json!({}))] });
    let (_, _asked) = tokio::join!(handle(&plugin, start), cancel);
    assert_eq!(bus.replies()[0], json!({ "run_id": "r1" }));
    assert_eq!(bus.replies()[1]["reason"], "the run was cancelled");
}

#[tokio::test]
async fn a_cancel_while_services_start_gives_them_up() {
    let bus = Bus::new(|topic, data| match topic {
        "service.start.t" => Answer::Held,
        _ => Answer::Now(kind(topic, data)),
    });
    let cancel = async {
        let asked = bus.in_flight(1).await;
        bus.publish("test.run.cancel", json!({ "run_id": "r1", "reason": "enough" }));
        asked
    };
    let start = json!({ "run_id": "r1", "suites": [two_tests(json!({}))] });
    let (ended, _asked) = tokio::join!(bus.run(start), cancel);
    assert_eq!((ended.outcome, ended.tests.skipped), (Outcome::Interrupted, 2));
    assert!(bus.position("x service.start.t db") < bus.position("> service.stop.t db"));
}

#[tokio::test(start_paused = true)]
async fn a_suite_ends_with_its_timeout_and_the_next_begins() {
    let bus = Bus::new(|topic, data| match data["command"][0].as_str() {
        Some("first") => Answer::Held,
        _ => Answer::Now(kind(topic, data)),
    });
    let began = Instant::now();
    let next = json!({ "name": "next", "steps": [step("fine")] });
    let ended = bus.run(json!({ "suites": [two_tests(json!({ "timeout": "3s" })), next] })).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!((ended.outcome, ended.tests.passed), (Outcome::Failed, 1));
    let reason = "the suite `s` did not end within its timeout of 3s";
    assert_eq!(ended.reason.as_deref(), Some(reason));
    let step = bus.event("test.step.ended", "step", "first");
    assert_eq!(step["outcome"], "failed");
    assert_eq!(step["failures"][0], format!("the step was ended early: {reason}"));
    assert_eq!(bus.event("test.test.ended", "test", "two")["reason"], reason);
    // Nobody waits for the command any more, so it has to end by itself: it was told when.
    let asked = bus.asked();
    let exec = asked.iter().find(|(topic, _)| topic == "service.exec.local").unwrap();
    let timeout = exec.1.json::<Value>().unwrap()["timeout"].as_str().unwrap().to_owned();
    let timeout = echo_sdk::duration::parse(&timeout).unwrap();
    assert!(timeout < Duration::from_secs(4), "{timeout:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_with_its_timeout() {
    let bus = endless();
    let start = json!({ "suites": [two_tests(json!({}))], "options": { "timeout": "2s" } });
    let ended = bus.run(start).await;
    assert_eq!(ended.outcome, Outcome::Failed);
    assert_eq!(ended.reason.as_deref(), Some("the run did not end within its timeout of 2s"));
    assert_eq!(bus.lines_of("< service.stop.t").len(), 1);
}

#[tokio::test]
async fn the_first_test_that_does_not_pass_ends_a_run_that_fails_fast() {
    let bus = Bus::new(|topic, data| match data["command"][0].as_str() {
        Some("first") => Answer::Now(exited(1)),
        _ => Answer::Now(kind(topic, data)),
    });
    let after = json!({ "name": "after", "services": { "x": service(&[]) }, "steps": [step("s")] });
    let ended = bus
        .run(json!({
            "suites": [two_tests(json!({})), after],
            "options": { "fail_fast": true },
        }))
        .await;
    assert_eq!((ended.outcome, ended.tests.failed, ended.tests.skipped), (Outcome::Failed, 1, 2));
    let two = bus.event("test.test.ended", "test", "two");
    assert_eq!(two["reason"], "a test before it did not pass, and `fail_fast` is set");
    assert_eq!(bus.event("test.suite.ended", "suite", "after")["outcome"], "skipped");
    assert!(bus.lines_of("> service.start.t x").is_empty());
}

#[tokio::test]
async fn what_the_filter_leaves_out_is_skipped_and_its_suite_starts_no_services() {
    let bus = Bus::kind();
    let other = json!({ "name": "other", "services": { "x": service(&[]) }, "steps": [step("s")] });
    let ended = bus
        .run(json!({
            "suites": [two_tests(json!({})), other],
            "options": { "filter": "^s/two$" },
        }))
        .await;
    assert_eq!((ended.outcome, ended.tests.passed, ended.tests.skipped), (Outcome::Passed, 1, 2));
    assert_eq!((ended.steps.passed, ended.steps.skipped), (1, 3));
    assert_eq!(bus.events("test.run.started")[0]["tests"], 1);
    let one = bus.event("test.test.ended", "test", "one");
    assert_eq!(one["reason"], "the filter `^s/two$` leaves it out");
    assert_eq!(bus.event("test.suite.ended", "suite", "other")["outcome"], "skipped");
    assert!(bus.lines_of("> service.start.t x").is_empty());
}

#[tokio::test]
async fn a_run_of_nothing_is_not_passed() {
    let bus = Bus::kind();
    for start in [
        json!({ "suites": [] }),
        json!({ "suites": [two_tests(json!({}))], "options": { "filter": "nowhere" } }),
    ] {
        let ended = bus.run(start).await;
        assert_eq!(ended.outcome, Outcome::Skipped);
        assert_eq!(ended.reason.as_deref(), Some("nothing was run, so nothing was shown"));
    }
}

#[tokio::test]
async fn nothing_goes_on_when_the_handler_is_dropped() {
    let bus = endless();
    let plugin = bus.plugin();
    let start = json!({ "run_id": "r1", "suites": [two_tests(json!({}))] });
    tokio::select! {
        _ = handle(&plugin, start.clone()) => panic!("the step does not end"),
        _ = bus.in_flight(1) => {}
    }
    assert_eq!(bus.lines().last().unwrap(), "x service.exec.local first");
    // The id is free again.
    tokio::select! {
        _ = handle(&plugin, start) => panic!("the step does not end"),
        _ = bus.in_flight(1) => {}
    }
}
