//! What comes before what, and what goes on at once.

use echo_sdk::contract::run::Outcome;
use serde_json::{Value, json};

use crate::bus::{Answer, Bus, exited, kind, ready, service, step};

#[tokio::test]
async fn a_run_is_told_from_its_start_to_its_end() {
    let bus = Bus::kind();
    let ended = bus
        .run(json!({ "run_id": "r1", "suites": [{
            "name": "shop",
            "services": { "db": service(&[]) },
            "tests": [
                { "name": "buy", "steps": [
                    { "name": "order", "command": ["order"], "service": "db" },
                    step("pay"),
                ] },
                { "name": "look", "steps": [step("list")] },
            ],
        }] }))
        .await;
    assert_eq!(
        bus.lines(),
        [
            "test.run.started run",
            "test.suite.started shop",
            "> service.start.t db",
            "< service.start.t db",
            "test.test.started buy",
            "test.step.started order",
            "> service.exec.t db",
            "< service.exec.t db",
            "test.step.ended order passed",
            "test.step.started pay",
            "> service.exec.local pay",
            "< service.exec.local pay",
            "test.step.ended pay passed",
            "test.test.ended buy passed",
            "test.test.started look",
            "test.step.started list",
            "> service.exec.local list",
            "< service.exec.local list",
            "test.step.ended list passed",
            "test.test.ended look passed",
            "> service.stop.t db",
            "< service.stop.t db",
            "test.suite.ended shop passed",
            "> service.cleanup.local run",
            "< service.cleanup.local run",
            "> service.cleanup.t run",
            "< service.cleanup.t run",
            "test.run.ended run passed",
        ]
    );
    assert_eq!(ended.outcome, Outcome::Passed);
    assert_eq!((ended.tests.passed, ended.steps.passed), (2, 3));
    assert_eq!(serde_json::to_value(&ended).unwrap(), bus.events("test.run.ended")[0]);
    let started = &bus.events("test.run.started")[0];
    assert_eq!((&started["tests"], &started["steps"]), (&json!(2), &json!(3)));
    for (topic, message) in bus.messages() {
        assert_eq!(message.key(), Some("r1"), "{topic} keeps the run's order");
        assert_eq!(message.json::<Value>().unwrap()["run_id"], "r1", "{topic}");
    }
}

#[tokio::test]
async fn services_that_nothing_orders_start_at_once_and_the_rest_in_turn() {
    let bus = Bus::new(|topic, data| match topic {
        "service.start.t" | "service.stop.t" => Answer::Held,
        _ => Answer::Now(kind(topic, data)),
    });
    let web = json!({
        "type": "t",
        "command": ["serve", "--api", "${services.api.host}:${services.api.ports.80}"],
    });
    let start = json!({ "suites": [{
        "name": "s",
        "services": {
            "db": service(&[]), "cache": service(&[]), "api": service(&["db", "cache"]), "web": web,
        },
        "steps": [step("look")],
    }] });
    let services = async {
        let [cache, db] = names(bus.in_flight(2).await);
        assert_eq!([cache.name(), db.name()], ["cache", "db"]);
        cache.answer(ready(1));
        bus.seen("< service.start.t cache").await;
        db.answer(ready(2));
        // `web` depends on `api` in no word but by what its command refers to.
        let [api] = names(bus.in_flight(1).await);
        assert_eq!(api.name(), "api");
        api.answer(ready(3));
        let [web] = names(bus.in_flight(1).await);
        assert_eq!(web.data["spec"]["command"][2], "127.0.0.1:3");
        web.answer(ready(4));

        let [web] = names(bus.in_flight(1).await);
        assert_eq!([web.topic.as_str(), &web.name()], ["service.stop.t", "web"]);
        web.answer(json!({ "result": "stopped" }));
        let [api] = names(bus.in_flight(1).await);
        api.answer(json!({ "result": "stopped" }));
        let [cache, db] = names(bus.in_flight(2).await);
        assert_eq!([cache.name(), db.name()], ["cache", "db"]);
        db.answer(json!({ "result": "stopped" }));
        cache.answer(json!({ "result": "stopped" }));
    };
    let (ended, ()) = tokio::join!(bus.run(start), services);
    assert_eq!(ended.outcome, Outcome::Passed);
    assert!(bus.position("< service.start.t web") < bus.position("test.test.started s"));
}

#[tokio::test]
async fn as_many_suites_run_at_once_as_jobs_allow() {
    for jobs in [1, 2] {
        let bus = Bus::new(|topic, data| match topic {
            "service.exec.local" => Answer::Held,
            _ => Answer::Now(kind(topic, data)),
        });
        let suite = |name: &str| json!({ "name": name, "steps": [step(name)] });
        let start = json!({
            "suites": [suite("a"), suite("b"), suite("c")],
            "options": { "jobs": jobs },
        });
        let steps = async {
            let mut left = 3;
            while left > 0 {
                let asked = bus.in_flight(jobs.min(left)).await;
                assert_eq!(asked.len(), jobs.min(left), "{jobs} jobs");
                left -= asked.len();
                asked.into_iter().for_each(|asked| asked.answer(exited(0)));
            }
        };
        let (ended, ()) = tokio::join!(bus.run(start), steps);
        assert_eq!((ended.outcome, ended.tests.passed), (Outcome::Passed, 3));
    }
}

fn names<const N: usize>(asked: Vec<crate::bus::InFlight>) -> [crate::bus::InFlight; N] {
    asked
        .try_into()
        .unwrap_or_else(|asked: Vec<_>| panic!("{} are in flight, not {N}", asked.len()))
}
