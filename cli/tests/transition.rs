//! `plugin transition`, `reload` and `rollback` as they meet a host: what they order, and how they follow the steps.
//!
//! The host is played by the test, on a NATS server, so that each way in which a transition can go is gone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test whose surroundings fail has failed")]

mod common;

use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use async_nats::Message;
use common::server::NatsServer;
use common::{Folder, Ran, Running};
use futures_util::StreamExt;
use serde_json::{Value, json};
use uuid::Uuid;

/// What a host is to do with an order: the steps of its events, and whether the answer comes after them.
struct Plan {
    steps: &'static [&'static str],
    answer: Value,
    answers_last: bool,
}

impl Plan {
    fn new(steps: &'static [&'static str]) -> Self {
        let answer = json!({"ok": {"id": Uuid::from_u128(1), "plugin": "prices", "queued": false}});
        Self { steps, answer, answers_last: false }
    }
}

/// A host that carries one order out.
struct Played {
    thread: JoinHandle<()>,
    orders: Receiver<(String, Value)>,
}

impl Played {
    fn host(server: &NatsServer, plan: Plan) -> Self {
        let (sender, orders) = channel();
        let (ready, is_ready) = channel();
        let url = server.url();
        let play = async move {
            let client = async_nats::connect(url).await.unwrap();
            let changing = client.subscribe("system.plugin.transition").await.unwrap();
            let going_back = client.subscribe("system.plugin.rollback").await.unwrap();
            let mut asked = futures_util::stream::select(changing, going_back);
            client.flush().await.unwrap();
            ready.send(()).unwrap();
            let order = asked.next().await.unwrap();
            sender.send((order.subject.to_string(), data(&order))).unwrap();
            let mut answer = plan.answer;
            answer["host"] = json!("played");
            answer["alone"] = json!(true);
            let reply = order.reply.unwrap();
            let said = async || {
                client.publish(reply.clone(), answer.to_string().into()).await.unwrap();
            };
            if !plan.answers_last {
                said().await;
            }
            for step in plan.steps {
                let topic = format!("system.plugin.transition.{step}");
                let other = event(step, Uuid::from_u128(2)).to_string();
                client.publish(topic.clone(), other.into()).await.unwrap();
                let event = event(step, Uuid::from_u128(1)).to_string();
                client.publish(topic, event.into()).await.unwrap();
            }
            if plan.answers_last {
                said().await;
            }
            client.flush().await.unwrap();
        };
        let thread = apart(play);
        is_ready.recv().unwrap();
        Self { thread, orders }
    }

    /// The order that it got.
    fn order(self) -> (String, Value) {
        self.thread.join().unwrap();
        self.orders.recv().unwrap()
    }
}

fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work)
    })
}

fn data(message: &Message) -> Value {
    let data: Value = serde_json::from_slice(&message.payload).unwrap();
    // A whole message has its data within it.
    data.get("data").cloned().unwrap_or(data)
}

fn event(step: &str, id: Uuid) -> Value {
    let reason = match step {
        "rolling_back" | "rolled_back" => json!("3 of 50 attempts panicked"),
        "refused" => json!("it has another name"),
        _ => Value::Null,
    };
    let old = json!({"attempts": 950, "failed": 0, "panicked": 0, "p99": "120us"});
    let new = json!({"attempts": 50, "failed": 3, "panicked": 3, "p99": "12ms"});
    json!({
        "id": id, "plugin": "prices", "from": "1.0.0", "to": "1.1.0", "strategy": "gradual", "step": step,
        "at": "2026-01-01T00:00:00Z", "share": 25, "reason": reason, "old": old, "new": new
    })
}

/// Gives an order to a host that goes by the plan; what came of it, and what the host was told.
fn order(plan: Plan, args: &[&str]) -> (Ran, String, Value) {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let host = Played::host(&server, plan);
    let ran = folder.run_at(&server.url(), &[&["plugin"], args].concat());
    let (topic, data) = host.order();
    (ran, topic, data)
}

/// Has a reload ordered and followed until it is prepared, which is the last that the host says before it goes.
fn follow(folder: &Folder, server: &NatsServer) -> Running {
    let host = Played::host(server, Plan::new(&["started", "prepared"]));
    let mut command = folder.command(&["plugin", "reload", "prices"]);
    command.env("ECHO_URL", server.url());
    let mut following = Running::spawn(command);
    following.until_out("prepared");
    host.order();
    following
}

/// A host that hears which host is asked whether it is there, and says nothing; the question, once it came.
fn silent_host(server: &NatsServer) -> JoinHandle<Value> {
    let (ready, is_ready) = channel();
    let url = server.url();
    let listen = async move {
        let client = async_nats::connect(url).await.unwrap();
        let mut questions = client.subscribe("system.topics.list").await.unwrap();
        client.flush().await.unwrap();
        ready.send(()).unwrap();
        data(&questions.next().await.unwrap())
    };
    let asked = apart(listen);
    is_ready.recv().unwrap();
    asked
}

#[test]
fn a_new_version_is_ordered_and_followed_until_it_stays() {
    let mut plan = Plan::new(&["started", "prepared", "shifted", "cut", "committed"]);
    // Whoever subscribes after it has the answer misses all of these.
    plan.answers_last = true;
    let args = "transition prices new.so --strategy gradual --steps 25,100 --interval 1s --trial 2s --memory 1gb";
    let (ran, topic, data) = order(plan, &args.split(' ').collect::<Vec<_>>());
    assert_eq!((ran.code, topic.as_str()), (0, "system.plugin.transition"), "{}", ran.stderr);
    let library = data["library"].as_str().unwrap();
    assert!(library.starts_with('/') && library.ends_with("/new.so"), "{library}");
    let settings = json!({
        "strategy": "gradual", "steps": [25, 100], "interval": "1s", "trial": "2s", "memory": 1 << 30
    });
    assert_eq!(
        (&data["plugin"], &data["settings"], &data["queue"]),
        (&json!("prices"), &settings, &json!(false))
    );
    let steps: Vec<&str> =
        ran.stdout.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(steps, ["started", "prepared", "shifted", "cut", "committed"], "{}", ran.stdout);
    for words in [
        "the new version 1.1.0 gets 25 % of the messages (old: 950 handled, 0 failed, p99 120 µs; new: 50 handled, 3 \
         failed, 3 of them panicked, p99 12 ms)",
        "the new version 1.1.0 stays",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
}

#[test]
fn a_version_that_does_not_stay_is_told_by_the_exit_code() {
    let steps = &["started", "prepared", "cut", "rolling_back", "rolled_back"];
    let (ran, ..) = order(Plan::new(steps), &["transition", "prices", "production", "--json"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let told = ran.lines();
    let told: Vec<&str> = told.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(told, steps);
    assert_eq!(ran.lines()[4]["reason"], "3 of 50 attempts panicked");

    let refused = Plan::new(&["started", "refused"]);
    let (ran, _, data) = order(refused, &["transition", "prices", "production"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        data["library"].as_str().unwrap().ends_with("plugins/libraries/production/libprices.so")
    );
    assert!(ran.stdout.contains("nothing has changed: it has another name"), "{}", ran.stdout);
}

#[test]
fn a_reload_names_no_library_and_a_rollback_wants_the_version_before() {
    let (ran, topic, data) =
        order(Plan::new(&["started", "cut", "committed"]), &["reload", "prices", "--queue"]);
    assert_eq!((ran.code, topic.as_str()), (0, "system.plugin.transition"), "{}", ran.stderr);
    assert_eq!(data, json!({"plugin": "prices", "queue": true}));

    // One that goes on is ended.
    let (ran, topic, data) =
        order(Plan::new(&["rolling_back", "rolled_back"]), &["rollback", "prices"]);
    assert_eq!((ran.code, topic.as_str()), (0, "system.plugin.rollback"), "{}", ran.stderr);
    assert_eq!(data, json!({"plugin": "prices"}));
    // One back begins, and does not get there.
    let (ran, ..) = order(Plan::new(&["started", "cut", "rolled_back"]), &["rollback", "prices"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}

#[test]
fn an_order_that_nobody_takes_is_an_error() {
    let mut plan = Plan::new(&[]);
    plan.answer =
        json!({"error": "a transition of `prices` goes on; add `--queue` to wait for it"});
    let (ran, ..) = order(plan, &["transition", "prices", "production"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("a transition of `prices` goes on"), "{}", ran.stderr);

    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let nobody = folder.run_at(&server.url(), &["plugin", "reload", "prices"]);
    assert_eq!(nobody.code, 3);
    assert!(nobody.stderr.contains("no host is on the bus"), "{}", nobody.stderr);
    // What cannot be meant is told before anybody is asked.
    let steps = ["plugin", "reload", "prices", "--steps", "50,25", "--url", "nats://127.0.0.1:1"];
    let ran = folder.expect(2, &steps);
    assert!(ran.stderr.contains("percentages that grow"), "{}", ran.stderr);
}

#[test]
fn whoever_does_not_wait_learns_the_transitions_id() {
    let (ran, ..) = order(Plan::new(&["started"]), &["reload", "prices", "--no-wait", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected =
        json!({"host": "played", "id": Uuid::from_u128(1), "plugin": "prices", "queued": false});
    assert_eq!(ran.lines(), [expected]);
    let (ran, ..) = order(Plan::new(&["started"]), &["reload", "prices", "--no-wait"]);
    assert!(ran.stdout.contains("of `prices` goes on"), "{}", ran.stdout);
}

#[test]
fn whoever_is_interrupted_leaves_the_transition_to_the_host() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let following = follow(&folder, &server);
    following.signal("INT");
    let ran = following.end();
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    assert!(ran.stderr.contains("the transition goes on"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`echo-core plugin rollback prices` ends it"), "{}", ran.stderr);
}

#[test]
fn a_host_that_is_gone_is_not_waited_for() {
    // It goes after its last step, and the server stays.
    let (ran, ..) = order(Plan::new(&["started", "prepared"]), &["reload", "prices"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stdout.contains("prepared"), "{}", ran.stdout);
    assert!(ran.stderr.contains("the host played has ended"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`echo-core plugin show prices` tells"), "{}", ran.stderr);
}

#[test]
fn a_host_that_is_gone_where_there_are_others_is_not_waited_for() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let asked = silent_host(&server);
    let following = follow(&folder, &server);
    let ran = following.end();
    assert_eq!(asked.join().unwrap()["host"], "played");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("the host played has ended"), "{}", ran.stderr);
}

#[test]
fn whoever_waits_for_a_host_that_says_nothing_can_be_interrupted() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let asked = silent_host(&server);
    let following = follow(&folder, &server);
    assert_eq!(asked.join().unwrap()["host"], "played");
    following.signal("INT");
    assert_eq!(following.end().code, 130, "the host was waited for");
}

#[test]
fn whoever_loses_the_host_says_that_nobody_follows() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let following = follow(&folder, &server);
    drop(server);
    let ran = following.end();
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("nobody follows the transition any more"), "{}", ran.stderr);
}
