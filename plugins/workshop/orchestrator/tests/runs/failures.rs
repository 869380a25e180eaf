//! What makes a run red, and what follows from it.

use echo_sdk::contract::run::Outcome;
use serde_json::{Value, json};

use crate::bus::{Answer, Bus, exited, kind, ready, service, step};

/// A suite with these services and these steps.
fn suite(services: Value, steps: Value) -> Value {
    json!({ "run_id": "r1", "suites": [{ "name": "s", "services": services, "steps": steps }] })
}

/// The news that a service of the suite died.
fn died(service: &str) -> Value {
    json!({
        "run_id": "r1", "suite": "s", "service": service, "service_type": "t",
        "ending": "exit code 3", "log": ["its last words"],
    })
}

#[tokio::test]
async fn a_step_that_does_not_pass_skips_the_later_ones_unless_it_says_otherwise() {
    for goes_on in [false, true] {
        let bus = Bus::new(|topic, data| match data["command"][0].as_str() {
            Some("bad") => Answer::Now(exited(7)),
            _ => Answer::Now(kind(topic, data)),
        });
        let bad = json!({ "name": "bad", "command": ["bad"], "continue_on_failure": goes_on });
        let ended = bus
            .run(json!({ "suites": [{ "name": "s", "tests": [
                { "name": "one", "steps": [step("good"), bad, step("later")] },
                { "name": "two", "steps": [step("other")] },
            ] }] }))
            .await;
        assert_eq!(
            (ended.outcome, ended.tests.failed, ended.tests.passed),
            (Outcome::Failed, 1, 1)
        );
        let later = bus.event("test.step.ended", "step", "later");
        let expected = if goes_on { "passed" } else { "skipped" };
        assert_eq!(later["outcome"], expected);
        let failed = bus.event("test.step.ended", "step", "bad");
        assert_eq!(failed["exit_code"], 7);
        assert_eq!(
            failed["failures"][0],
            "exit code 0 was expected, but the command exited with 7"
        );
        if !goes_on {
            assert_eq!(later["failures"][0], "step `bad` before it did not pass");
            assert!(bus.lines_of("test.step.started later").is_empty());
        }
        assert_eq!(bus.event("test.test.ended", "test", "one")["steps"]["failed"], 1);
    }
}

#[tokio::test]
async fn a_type_that_nobody_serves_is_named_with_the_way_out() {
    let bus = Bus::new(|topic, data| match topic {
        "service.start.t" | "service.stop.t" | "service.cleanup.t" => Answer::Nobody,
        _ => Answer::Now(kind(topic, data)),
    });
    let ended = bus.run(suite(json!({ "db": service(&[]) }), json!([step("look")]))).await;
    assert_eq!((ended.outcome, ended.tests.skipped), (Outcome::Errored, 1));
    let reason = ended.reason.unwrap();
    assert_eq!(
        reason,
        "suite `s`: service `db` did not start: no plugin serves the type `t`; \
         `echo-core services` lists the types that can be used"
    );
    let test = bus.event("test.test.ended", "test", "s");
    assert_eq!(test["outcome"], "skipped");
    assert!(test["reason"].as_str().unwrap().contains("service `db` did not start"));
    assert!(bus.lines_of("> service.exec").is_empty());
}

#[tokio::test]
async fn a_service_that_does_not_start_stops_those_that_did_and_those_on_their_way() {
    let bus = Bus::new(|topic, data| match topic {
        "service.start.t" if data["service"] == "db" => Answer::Now(ready(1)),
        "service.start.t" => Answer::Held,
        _ => Answer::Now(kind(topic, data)),
    });
    let services = json!({
        "db": service(&[]), "api": service(&["db"]), "slow": service(&["db"]), "web": service(&["api"]),
    });
    let fail = async {
        let mut asked = bus.in_flight(2).await;
        let reason = json!({ "result": "failed", "reason": "port 80 is taken", "log": ["oh no"] });
        asked.remove(0).answer(reason);
        asked
    };
    let (ended, _slow) = tokio::join!(bus.run(suite(services, json!([step("look")]))), fail);
    assert_eq!((ended.outcome, ended.tests.skipped), (Outcome::Errored, 1));
    let suite = bus.event("test.suite.ended", "suite", "s");
    assert_eq!(suite["reason"], "port 80 is taken");
    assert_eq!(suite["service_logs"]["api"], json!(["oh no"]));
    assert_eq!(suite["service_logs"]["db"], json!(["a line"]));
    // `web` was never asked for; the failed one is gone already; `slow` is given up, then stopped.
    assert!(bus.lines_of("> service.start.t web").is_empty());
    assert!(bus.position("x service.start.t slow") < bus.position("> service.stop.t slow"));
    assert!(bus.position("< service.stop.t slow") < bus.position("> service.stop.t db"));
    assert_eq!(bus.lines_of("> service.stop").len(), 2);
    assert_eq!(bus.lines_of("> service.cleanup").len(), 1);
}

#[tokio::test]
async fn a_step_in_a_service_that_dies_errors_at_once() {
    let bus = Bus::new(|topic, data| match topic {
        "service.exec.t" => Answer::Held,
        _ => Answer::Now(kind(topic, data)),
    });
    let in_db =
        json!({ "name": "ask", "command": ["ask"], "service": "db", "continue_on_failure": true });
    let again = json!({ "name": "again", "command": ["again"], "service": "db" });
    let kill = async {
        let asked = bus.in_flight(1).await;
        // Another run's service, and another suite's.
        for key in ["run_id", "suite"] {
            let mut other = died("db");
            other[key] = json!("other");
            bus.publish("service.died", other);
        }
        bus.publish("service.died", died("db"));
        asked
    };
    let start = suite(json!({ "db": service(&[]) }), json!([in_db, again]));
    let (ended, _asked) = tokio::join!(bus.run(start), kill);
    assert_eq!((ended.outcome, ended.steps.errored), (Outcome::Errored, 2));
    let step = bus.event("test.step.ended", "step", "ask");
    assert_eq!(step["failures"][0], "service `db` died after it was ready: exit code 3");
    // The second step is not even asked for... and errors all the same.
    assert_eq!(bus.lines_of("x service.exec.t").len(), 1);
    assert_eq!(bus.event("test.step.ended", "step", "again")["outcome"], "errored");
    let suite = bus.event("test.suite.ended", "suite", "s");
    assert_eq!(suite["service_logs"]["db"], json!(["its last words"]));
}

#[tokio::test]
async fn a_service_that_dies_makes_the_suite_red_even_if_every_step_passed() {
    // Told while the last step ran, and told as late as with the answer to the stop.
    for when in ["service.exec.local", "service.stop.t"] {
        let bus = Bus::new(move |topic, data| match topic {
            topic if topic == when => Answer::Held,
            _ => Answer::Now(kind(topic, data)),
        });
        let kill = async {
            let asked = bus.in_flight(1).await.remove(0);
            bus.publish("service.died", died("db"));
            let reply = kind(&asked.topic, &asked.data);
            asked.answer(reply);
        };
        let start = suite(json!({ "db": service(&[]) }), json!([step("look")]));
        let (ended, ()) = tokio::join!(bus.run(start), kill);
        assert_eq!((ended.steps.passed, ended.tests.passed), (1, 1));
        assert_eq!(ended.outcome, Outcome::Errored, "{when}");
        let suite = bus.event("test.suite.ended", "suite", "s");
        assert_eq!(suite["outcome"], "errored");
        assert_eq!(suite["reason"], "service `db` died after it was ready: exit code 3");
        assert_eq!(suite["service_logs"]["db"], json!(["its last words"]));
    }
}

#[tokio::test]
async fn what_may_be_left_behind_is_an_error() {
    let bus = Bus::new(|topic, data| match topic {
        "service.stop.t" => Answer::Now(json!({ "result": "failed", "reason": "it hangs" })),
        "service.cleanup.t" => Answer::Now(json!({
            "service_type": "t", "removed": [], "failures": ["volume v is in use"],
        })),
        _ => Answer::Now(kind(topic, data)),
    });
    let ended = bus.run(suite(json!({ "db": service(&[]) }), json!([step("look")]))).await;
    assert_eq!((ended.outcome, ended.tests.passed), (Outcome::Errored, 1));
    assert_eq!(ended.reason.unwrap(), "suite `s`: it hangs; volume v is in use");
}

#[tokio::test]
async fn an_event_that_cannot_be_told_is_an_error() {
    let bus = Bus::kind();
    bus.refuse("test.step.ended");
    let ended = bus.run(suite(json!({}), json!([step("look")]))).await;
    assert_eq!(ended.outcome, Outcome::Errored);
    assert_eq!(ended.reason.unwrap(), "`test.step.ended` could not be told: the bus is closed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_or_makes_no_sense_is_an_error() {
    let bus = Bus::new(|topic, data| match data["command"][0].as_str() {
        Some("silent") => Answer::Held,
        Some("odd") => Answer::Now(json!({ "result": "perhaps" })),
        _ => Answer::Now(kind(topic, data)),
    });
    let silent = json!({
        "name": "silent", "command": ["silent"], "timeout": "20s", "continue_on_failure": true,
    });
    let ended = bus.run(suite(json!({}), json!([silent, step("odd")]))).await;
    assert_eq!((ended.outcome, ended.steps.errored), (Outcome::Errored, 2));
    let failure = |step| bus.event("test.step.ended", "step", step)["failures"][0].to_string();
    assert!(failure("silent").contains("no answer from `service.exec.local` within 25s"));
    assert!(
        failure("odd").contains("the answer of the type `local` is malformed"),
        "{}",
        failure("odd")
    );
}
