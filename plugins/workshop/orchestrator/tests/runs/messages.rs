//! What the messages hold: environment, references, folders, and their place in the trace.

use echo_sdk::contract::run::Outcome;
use serde_json::{Value, json};

use crate::bus::{Answer, Bus, kind, service, step};

#[tokio::test]
async fn a_step_on_this_machine_is_told_of_itself_and_of_the_services() {
    let bus = Bus::kind();
    let look = json!({
        "name": "look",
        "command": ["curl", "http://${services.my-web.host}:${services.my-web.ports.80}/", "$${HOME}"],
        "env": { "B": "step", "RUN": "${run.id}" },
        "workdir": "sub",
    });
    let ended = bus
        .run(json!({ "run_id": "r1", "suites": [{
            "name": "s", "dir": "/suites",
            "env": { "A": "suite", "B": "suite", "ECHO_TEST": "mine" },
            "services": { "my-web": service(&[]) },
            "steps": [look],
        }] }))
        .await;
    assert_eq!(ended.outcome, Outcome::Passed);
    let exec = bus.asked_of("service.exec.local");
    let command = json!(["curl", "http://127.0.0.1:4711/", "${HOME}"]);
    assert_eq!(exec["command"], command);
    assert_eq!(bus.event("test.step.ended", "step", "look")["command"], command);
    assert_eq!(
        exec["env"],
        json!({
            "A": "suite", "B": "step", "RUN": "r1",
            "ECHO_RUN_ID": "r1", "ECHO_SUITE": "s", "ECHO_TEST": "mine", "ECHO_STEP": "look",
            "ECHO_SERVICE_MY_WEB_HOST": "127.0.0.1", "ECHO_SERVICE_MY_WEB_PORT_80": "4711",
        })
    );
    assert_eq!((&exec["workdir"], &exec["dir"]), (&json!("sub"), &json!("/suites")));
    assert_eq!(exec["timeout"], "30s");
    let start = bus.asked_of("service.start.t");
    assert_eq!((&start["dir"], &start["service"]), (&json!("/suites"), &json!("my-web")));
}

#[tokio::test]
async fn within_a_service_others_are_where_it_sees_them() {
    let address = |name: &str| {
        json!({ "result": "ready", "address": {
            "host": "127.0.0.1", "ports": { "80": 4711 }, "instance": "i",
            "peers": { "host": name, "ports": { "80": 80 } },
        } })
    };
    let bus = Bus::new(move |topic, data| match topic {
        "service.start.t" => Answer::Now(address(data["service"].as_str().unwrap())),
        _ => Answer::Now(kind(topic, data)),
    });
    let target = "${services.web.host}:${services.web.ports.80}";
    bus.run(json!({ "suites": [{
        "name": "s",
        "services": { "web": service(&[]), "client": { "type": "t", "env": { "WEB": target } } },
        "steps": [
            { "name": "inside", "command": ["get", target], "service": "client" },
            { "name": "outside", "command": ["get", target] },
        ],
    }] }))
    .await;
    let client = bus.asked().into_iter().find_map(|(_, message)| {
        let data: Value = message.json().unwrap();
        (data["service"] == "client").then_some(data)
    });
    let client = client.unwrap();
    assert_eq!(client["spec"]["env"]["WEB"], "web:80");
    let inside = bus.asked_of("service.exec.t");
    assert_eq!(inside["command"][1], "web:80");
    assert!(inside["env"].get("ECHO_SERVICE_WEB_HOST").is_none());
    assert_eq!(bus.asked_of("service.exec.local")["command"][1], "127.0.0.1:4711");
}

#[tokio::test]
async fn a_step_that_refers_to_what_is_not_there_is_not_run() {
    let bus = Bus::kind();
    let lost = json!({ "name": "lost", "command": ["echo", "${env.NO_SUCH_VARIABLE_IS_SET}"] });
    let ended = bus.run(json!({ "suites": [{ "name": "s", "steps": [lost] }] })).await;
    assert_eq!(ended.outcome, Outcome::Errored);
    let step = bus.event("test.step.ended", "step", "lost");
    assert!(step["failures"][0].as_str().unwrap().contains("NO_SUCH_VARIABLE_IS_SET"), "{step}");
    assert!(bus.lines_of("> service.exec").is_empty());
}

#[tokio::test]
async fn each_message_belongs_to_the_span_of_what_it_is_about() {
    let bus = Bus::new(|topic, data| match topic {
        "service.exec.local" => {
            Answer::Now(json!({ "result": "failed", "reason": "no such program" }))
        }
        _ => Answer::Now(kind(topic, data)),
    });
    bus.run(json!({ "suites": [{
        "name": "s", "services": { "db": service(&[]) }, "steps": [step("look")],
    }] }))
    .await;
    let spans = bus.spans();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["test.run", "test.suite", "service.start", "test.test", "test.step"]);
    let [run, suite, start, test, step] = spans.try_into().unwrap();
    assert_eq!((run.parent, suite.parent), (None, Some(run.id)));
    assert_eq!(
        (start.parent, test.parent, step.parent),
        (Some(suite.id), Some(suite.id), Some(test.id))
    );
    for (topic, span) in [
        ("test.run.started", &run),
        ("test.suite.ended", &suite),
        ("test.test.started", &test),
        ("test.step.started", &step),
        ("test.step.ended", &step),
        ("service.start.t", &start),
        ("service.exec.local", &step),
        ("service.stop.t", &suite),
        ("service.cleanup.t", &run),
    ] {
        let mut messages = bus.messages();
        messages.extend(bus.asked());
        let (_, message) = messages.iter().find(|(other, _)| other == topic).unwrap();
        assert_eq!(message.trace_context().unwrap().span_id, span.id, "{topic}");
    }
    assert_eq!(start.error, None);
    assert_eq!(step.error.as_deref(), Some("no such program"));
    assert!(run.error.is_some() && suite.error.is_some() && test.error.is_some());
}
