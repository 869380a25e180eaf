//! What is refused before anything starts.

use echo_sdk::ProcessingStatus;
use echo_sdk::contract::run::Outcome;
use serde_json::json;

use crate::bus::{Answer, Bus, handle, kind, service, step};

#[tokio::test]
async fn a_suite_with_faults_is_refused_with_each_of_them() {
    let bus = Bus::kind();
    let ended = bus
        .run(json!({ "run_id": "r1", "suites": [
            { "name": "a", "services": { "x": service(&["y"]), "y": service(&["x"]) },
              "steps": [{ "name": "s", "command": [], "service": "z" }] },
            { "name": "b", "steps": [{ "name": "s", "command": ["${services.x.host}"] }] },
        ] }))
        .await;
    assert_eq!(ended.outcome, Outcome::Errored);
    let reason = ended.reason.unwrap();
    for part in ["suite `a`", "wait for each other", "names no program", "`z`", "suite `b`"] {
        assert!(reason.contains(part), "{part:?} is not in: {reason}");
    }
    assert_eq!(bus.lines(), ["test.run.ended run errored"]);
}

#[tokio::test]
async fn data_that_is_no_start_is_dead_and_answered() {
    let bus = Bus::kind();
    let status = handle(&bus.plugin(), json!({ "suits": [] })).await;
    let ProcessingStatus::Failed(reason) = status else { panic!("{status:?}") };
    assert!(reason.contains("suits"), "{reason}");
    let reply = &bus.replies()[0];
    assert_eq!((&reply["outcome"], &reply["reason"]), (&json!("errored"), &json!(reason)));
    assert!(bus.lines().is_empty());
}

#[tokio::test]
async fn an_id_names_one_run_at_a_time() {
    let bus = Bus::new(|topic, data| match topic {
        "service.exec.local" => Answer::Held,
        _ => Answer::Now(kind(topic, data)),
    });
    let plugin = bus.plugin();
    let start = json!({ "run_id": "r1", "suites": [{ "name": "s", "steps": [step("look")] }] });
    let second = async {
        let asked = bus.in_flight(1).await.remove(0);
        handle(&plugin, start.clone()).await;
        let reply = bus.replies().remove(0);
        assert_eq!(reply["outcome"], "errored");
        assert!(reply["reason"].as_str().unwrap().contains("`r1` is in progress"), "{reply}");
        // The first goes on as if nothing had been.
        assert!(bus.events("test.run.ended").is_empty());
        let reply = kind(&asked.topic, &asked.data);
        asked.answer(reply);
    };
    tokio::join!(handle(&plugin, start.clone()), second);
    assert_eq!(bus.replies()[1]["outcome"], "passed");
    assert_eq!(bus.events("test.run.started").len(), 1);
}
