//! The service kit with a toy type of service, on a mock bus.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use echo_sdk::contract::service::*;
use echo_sdk::contract::suite::{Readiness, ServiceSpec};
use echo_sdk::service::{
    LogSink, Scope, ServiceError, ServiceKit, ServicePlugin, Stream, config_of,
};
use echo_sdk::testing::{Probe, When, message, mock, request};
use echo_sdk::{BaseMessage, Plugin, ProcessingStatus, Topic};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// What the test does to the toys, and what it sees of them.
#[derive(Default)]
struct Strings {
    /// The log and the life of each toy, in the order of their starts.
    toys: Mutex<Vec<(LogSink, watch::Sender<Option<String>>)>>,
    started: Notify,
    exit_codes: Mutex<VecDeque<i32>>,
    execs_dropped: Notify,
    stopped: Mutex<Vec<String>>,
    limits: Mutex<Vec<Duration>>,
    /// The toys whose end only shows when it is looked for: before they are stopped, or after.
    unnoticed: Mutex<Vec<&'static str>>,
    swept: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Toy(Arc<Strings>);

struct ToyInstance {
    name: String,
    port: Option<u16>,
    server: Option<JoinHandle<()>>,
    life: watch::Receiver<Option<String>>,
    strings: Arc<Strings>,
}

/// A toy that nobody stopped is a leak: it is seen here.
impl Drop for ToyInstance {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
        self.strings.stopped.lock().unwrap().push(format!("dropped {}", self.name));
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ToyConfig {
    listen: bool,
    says: Vec<String>,
    status: Option<u16>,
    trouble: Option<String>,
}

impl ServicePlugin for Toy {
    type Instance = ToyInstance;

    fn service_type(&self) -> &str {
        "toy"
    }

    async fn start(
        &self,
        request: &ServiceStart,
        log: LogSink,
    ) -> Result<ToyInstance, ServiceError> {
        let config: ToyConfig = config_of(request)?;
        let (end, life) = watch::channel(None);
        config.says.iter().for_each(|line| log.line(Stream::Stdout, line));
        self.0.toys.lock().unwrap().push((log, end));
        self.0.started.notify_one();
        match config.trouble.as_deref() {
            Some("hang") => std::future::pending().await,
            Some("panic") => panic!("the toy is broken"),
            Some(reason) => return Err(ServiceError::Unavailable(reason.into())),
            None => {}
        }
        let (mut port, mut server) = (None, None);
        if config.listen {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            port = Some(listener.local_addr().unwrap().port());
            server = Some(tokio::spawn(serve(listener, config.status)));
        }
        let (name, strings) = (request.id.service.clone(), self.0.clone());
        Ok(ToyInstance { name, port, server, life, strings })
    }

    fn address(&self, instance: &ToyInstance) -> ServiceAddress {
        let ports = instance.port.map(|port| ("main".to_owned(), port)).into_iter().collect();
        ServiceAddress {
            host: "127.0.0.1".into(),
            ports,
            instance: instance.name.clone(),
            peers: None,
        }
    }

    fn default_readiness(&self, _spec: &ServiceSpec) -> Readiness {
        Readiness { log: Some("^up$".into()), ..Readiness::default() }
    }

    async fn exec(&self, _instance: &ToyInstance, request: &ServiceExec) -> ExecReply {
        if request.command == ["sleep"] {
            let _seen = Seen(&self.0.execs_dropped);
            self.0.started.notify_one();
            return std::future::pending().await;
        }
        let exit_code = self.0.exit_codes.lock().unwrap().pop_front().unwrap_or(0);
        ExecReply::Exited { exit_code, stdout: request.command.join("|"), stderr: "no luck".into() }
    }

    async fn ended(&self, instance: &ToyInstance) -> String {
        let mut life = instance.life.clone();
        let ending = life.wait_for(Option::is_some).await.unwrap();
        ending.clone().unwrap()
    }

    async fn ended_by_itself(&self, instance: &ToyInstance) -> bool {
        let is_stopped = self.0.stopped.lock().unwrap().contains(&instance.name);
        let when = if is_stopped { "after" } else { "before" };
        let ended = self.0.unnoticed.lock().unwrap().contains(&when);
        if ended {
            let toys = self.0.toys.lock().unwrap();
            toys[0].1.send_replace(Some("exit code 3".into()));
        }
        ended
    }

    async fn stop(&self, instance: &ToyInstance, timeout: Duration) -> Result<(), ServiceError> {
        self.0.stopped.lock().unwrap().push(instance.name.clone());
        self.0.limits.lock().unwrap().push(timeout);
        match instance.name.as_str() {
            "deaf" => std::future::pending().await,
            "sticky" => Err(ServiceError::Failed("it is glued to the floor".into())),
            _ => Ok(()),
        }
    }

    async fn cleanup(&self, scope: Scope<'_>) -> Result<Vec<String>, ServiceError> {
        let swept = match scope {
            Scope::Service(id) => format!("service {}", id.service),
            Scope::Run(run) => format!("run {run}"),
        };
        self.0.swept.lock().unwrap().push(swept.clone());
        Ok(vec![swept])
    }
}

struct Seen<'a>(&'a Notify);

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn serve(listener: TcpListener, status: Option<u16>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Some(status) = status {
            stream.writable().await.unwrap();
            stream.try_write(format!("HTTP/1.1 {status} Whatever\r\n\r\n").as_bytes()).unwrap();
        }
    }
}

struct Bench {
    kit: Arc<ServiceKit<Toy>>,
    probe: Probe,
    strings: Arc<Strings>,
}

impl Bench {
    fn new() -> Self {
        let (context, probe) = mock("toys");
        let strings = Arc::<Strings>::default();
        let kit = Arc::new(ServiceKit::new(context, Toy(strings.clone())));
        Self { kit, probe, strings }
    }

    /// Gives a message to the kit, and the last reply that came of it.
    async fn send(&self, topic: &str, message: &BaseMessage) -> Value {
        let topic = Topic::new(topic).unwrap();
        let status = self.kit.process_message(&topic, message).await.unwrap();
        assert_eq!(status, ProcessingStatus::Acknowledged);
        let reply = self.probe.replies().pop().unwrap();
        assert_eq!(reply.when, When::WithAcknowledgement);
        reply.message.json().unwrap()
    }

    async fn start(&self, service: &str, keys: Value) -> Value {
        self.send("service.start.toy", &request(&start_data("r1", service, keys))).await
    }

    /// A start that goes on in the background; returns once the toy's own start runs.
    async fn begin(&self, service: &str, keys: Value) -> JoinHandle<()> {
        let kit = self.kit.clone();
        let message = request(&start_data("r1", service, keys));
        let before = self.strings.toys.lock().unwrap().len();
        let task = tokio::spawn(async move {
            kit.process_message(&Topic::new("service.start.toy").unwrap(), &message).await.unwrap();
        });
        while self.strings.toys.lock().unwrap().len() == before {
            self.strings.started.notified().await;
        }
        task
    }

    async fn exec(&self, service: &str, command: &[&str]) -> Value {
        self.send("service.exec.toy", &request(&exec_data(service, command))).await
    }

    async fn stop(&self, service: &str) -> Value {
        self.send("service.stop.toy", &request(&id("r1", service))).await
    }

    fn stopped(&self) -> Vec<String> {
        self.strings.stopped.lock().unwrap().clone()
    }

    async fn event<T: serde::de::DeserializeOwned>(&self, topic: &str) -> T {
        let event = self.probe.next(topic).await;
        assert_eq!((event.when, event.message.key()), (When::Now, Some("r1")));
        event.message.json().unwrap()
    }
}

fn id(run: &str, service: &str) -> Value {
    json!({ "run_id": run, "suite": "s", "service": service })
}

fn exec_data(service: &str, command: &[&str]) -> Value {
    let mut data = id("r1", service);
    data["command"] = json!(command);
    data["timeout"] = json!("5s");
    data
}

fn start_data(run: &str, service: &str, keys: Value) -> Value {
    let mut data = id(run, service);
    data["spec"] = keys;
    data["spec"]["type"] = json!("toy");
    data
}

fn reason(reply: &Value) -> &str {
    assert_eq!(reply["result"], "failed", "{reply}");
    reply["reason"].as_str().unwrap()
}

#[tokio::test]
async fn a_service_is_ready_when_each_part_was_seen() {
    let bench = Bench::new();
    bench.strings.exit_codes.lock().unwrap().extend([1, 7, 0]);
    let ready = json!({ "port": "main", "log": "^hel+o", "command": ["am", "i up"], "http": "/x" });
    let keys = json!({ "listen": true, "status": 302, "says": ["hello you"], "ready": ready });
    let reply = bench.start("a", keys).await;
    assert_eq!(reply["result"], "ready", "{reply}");
    let started: ServiceStarted = bench.event(STARTED).await;
    let port = started.address.ports["main"];
    assert_eq!(reply["address"], serde_json::to_value(&started.address).unwrap());
    let told: ServiceReady = bench.event(READY).await;
    assert_eq!(
        told.evidence,
        [
            "a line of its output matches `^hel+o`: hello you".to_owned(),
            format!("port main (127.0.0.1:{port}) accepts connections"),
            format!("GET http://127.0.0.1:{port}/x answered 302"),
            "`am i up` exited with 0".to_owned(),
        ]
    );
    assert!(bench.strings.exit_codes.lock().unwrap().is_empty(), "the failures were tried again");
    assert!(told.duration_ms >= started.duration_ms);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ready_in_time_fails_with_what_was_missing() {
    let bench = Bench::new();
    for (name, ready, missing) in [
        ("a", json!({ "log": "never" }), "no line of its output matches `never`"),
        ("b", json!({ "command": ["x"] }), "`x` exited with 3: no luck"),
    ] {
        bench.strings.exit_codes.lock().unwrap().resize(99_999, 3);
        let keys = json!({ "says": ["hm"], "ready": ready, "start_timeout": "700ms" });
        let reply = bench.start(name, keys).await;
        let expected = format!(
            "service `{name}` did not come up: it was not ready within 700ms (start_timeout): "
        );
        assert_eq!(reason(&reply), expected + missing);
        assert_eq!(reply["log"], json!(["hm"]));
        let told: ServiceFailed = bench.event(FAILED).await;
        assert_eq!((told.reason.as_str(), told.log.len()), (reason(&reply), 1));
    }
    assert_eq!(bench.stopped(), ["a", "dropped a", "b", "dropped b"]);
}

#[tokio::test]
async fn a_port_that_nobody_serves_or_an_answer_that_is_bad_is_named() {
    let bench = Bench::new();
    let keys =
        json!({ "listen": true, "status": 500, "ready": { "http": "/" }, "start_timeout": "80ms" });
    let reply = bench.start("a", keys).await;
    assert!(reason(&reply).ends_with("answered 500"), "{reply}");
    let keys = json!({ "listen": true, "ready": { "port": "other" } });
    let reply = bench.start("a", keys).await;
    assert!(reason(&reply).ends_with("ready.port is `other`; the ports of the service are: main"));
    let reply = bench.start("a", json!({ "ready": { "http": "/" } })).await;
    assert!(
        reason(&reply).ends_with("ready.http needs ready.port; the ports of the service are: none")
    );
}

#[tokio::test]
async fn a_death_during_the_start_fails_at_once() {
    let bench = Bench::new();
    let task = bench.begin("a", json!({ "says": ["boom"], "start_timeout": "1h" })).await;
    bench.strings.toys.lock().unwrap()[0].1.send_replace(Some("exit code 3".into()));
    task.await.unwrap();
    let reply: Value = bench.probe.replies()[0].message.json().unwrap();
    assert_eq!(
        reason(&reply),
        "service `a` did not come up: it ended before it was ready: exit code 3"
    );
    assert_eq!(reply["log"], json!(["boom"]));
    assert_eq!(bench.stopped(), ["a", "dropped a"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_fails_or_panics_leaves_nothing() {
    let bench = Bench::new();
    for (trouble, expected) in [
        ("hang", "not ready within 1s (start_timeout): it was not started yet"),
        ("no engine", "service `a` did not come up: no engine"),
        ("panic", "service `a`: the plugin panicked"),
    ] {
        let reply = bench.start("a", json!({ "trouble": trouble, "start_timeout": "1s" })).await;
        assert!(reason(&reply).contains(expected), "{reply}");
    }
    assert_eq!(*bench.strings.swept.lock().unwrap(), ["service a", "service a"]);
    assert_eq!(bench.start("a", json!({ "says": ["up"] })).await["result"], "ready");
}

#[tokio::test]
async fn what_the_suite_says_wrongly_is_refused_before_anything_starts() {
    let bench = Bench::new();
    for (keys, expected) in [
        (json!({ "ready": { "log": "(" } }), "ready.log is no regular expression"),
        (json!({ "ready": { "http": "x" } }), "ready.http is \"x\""),
        (json!({ "ready": { "command": [] } }), "ready.command is empty"),
        (json!({ "lisen": true }), "unknown field `lisen`"),
        (json!({ "ready": { "ports": "x" } }), "unknown field `ports`"),
    ] {
        let reply = bench.start("a", keys).await;
        assert!(reason(&reply).contains(expected), "{reply}");
    }
    for (run, service) in [("r1", "../a"), ("r1", ""), ("a/b", "a")] {
        let message = request(&start_data(run, service, json!({})));
        let reply = bench.send("service.start.toy", &message).await;
        assert!(reason(&reply).contains("letters, digits, `-` and `_`"), "{reply}");
    }
    let mut other = start_data("r1", "a", json!({}));
    other["spec"]["type"] = json!("container");
    let reply = bench.send("service.start.toy", &request(&other)).await;
    assert!(reason(&reply).contains("is of type `container`"), "{reply}");
    assert!(bench.strings.toys.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_second_start_is_refused_but_a_repeated_one_answered() {
    let bench = Bench::new();
    let message = request(&start_data("r1", "a", json!({ "says": ["up"] })));
    let first = bench.send("service.start.toy", &message).await;
    assert_eq!(first["result"], "ready");
    assert_eq!(bench.send("service.start.toy", &message).await, first);
    let second = bench.start("a", json!({ "says": ["up"] })).await;
    assert_eq!(reason(&second), "service `a` of suite `s` runs already");
    assert_eq!(bench.strings.toys.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_start_whose_handler_is_cut_off_is_undone_and_can_be_repeated() {
    let bench = Bench::new();
    let task = bench.begin("a", json!({})).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let reply = bench.start("a", json!({ "says": ["up"] })).await;
    let told: ServiceFailed = bench.event(FAILED).await;
    assert!(told.reason.ends_with("the request for it was withdrawn"), "{}", told.reason);
    assert_eq!(bench.stopped(), ["a", "dropped a"]);
    // The service was still on its way out, or gone already; either way the new one is another.
    assert_eq!(reply["result"], "ready", "{reply}");
    assert_eq!(bench.strings.toys.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_death_after_ready_is_told_and_commands_are_refused() {
    let bench = Bench::new();
    bench.start("a", json!({ "says": ["up"] })).await;
    {
        let toys = bench.strings.toys.lock().unwrap();
        toys[0].0.line(Stream::Stderr, "oh no");
        toys[0].1.send_replace(Some("signal 9 (SIGKILL)".into()));
    }
    let told: ServiceDied = bench.event(DIED).await;
    assert_eq!(
        (told.ending.as_str(), told.log),
        ("signal 9 (SIGKILL)", vec!["up".into(), "oh no".into()])
    );
    let reply = bench.exec("a", &["x"]).await;
    assert_eq!(reason(&reply), "service `a` of suite `s` has ended: signal 9 (SIGKILL)");
    let mut logs = id("r1", "a");
    logs["lines"] = json!(1);
    let reply = bench.send("service.logs.toy", &request(&logs)).await;
    assert_eq!(reply, json!({ "lines": ["oh no"] }));
    assert_eq!(bench.stop("a").await, json!({ "result": "stopped" }));
    assert_eq!(bench.stopped(), ["a", "dropped a"]);
}

#[tokio::test]
async fn a_death_that_only_shows_at_the_stop_is_told_before_the_answer() {
    for when in ["before", "after"] {
        let bench = Bench::new();
        bench.start("a", json!({ "says": ["up"] })).await;
        bench.strings.unnoticed.lock().unwrap().push(when);
        assert_eq!(bench.stop("a").await, json!({ "result": "stopped" }));
        let told = bench.probe.published_on(DIED);
        assert_eq!(told.len(), 1, "{when}");
        assert_eq!(told[0].message.json::<ServiceDied>().unwrap().ending, "exit code 3");
        assert_eq!(bench.stopped(), ["a", "dropped a"]);
    }
}

#[tokio::test]
async fn a_command_runs_in_a_ready_service_and_ends_with_its_handler_or_its_service() {
    let bench = Bench::new();
    assert_eq!(reason(&bench.exec("a", &["x"]).await), "service `a` of suite `s` does not run");
    bench.start("a", json!({ "says": ["up"] })).await;
    bench.strings.started.notified().await;
    let reply = bench.exec("a", &["echo", "a  b", ""]).await;
    assert_eq!((&reply["result"], &reply["stdout"]), (&json!("exited"), &json!("echo|a  b|")));
    assert!(reason(&bench.exec("a", &[]).await).contains("the command is empty"));

    let sleeper = |kit: Arc<ServiceKit<Toy>>| {
        let message = request(&exec_data("a", &["sleep"]));
        tokio::spawn(async move {
            kit.process_message(&Topic::new("service.exec.toy").unwrap(), &message).await.unwrap();
        })
    };
    let cut_off = sleeper(bench.kit.clone());
    bench.strings.started.notified().await;
    cut_off.abort();
    bench.strings.execs_dropped.notified().await;

    let outlived = sleeper(bench.kit.clone());
    bench.strings.started.notified().await;
    bench.stop("a").await;
    outlived.await.unwrap();
    bench.strings.execs_dropped.notified().await;
    let replies = bench.probe.replies();
    let said =
        |text: &str| replies.iter().any(|reply| reply.message.data().unwrap()["reason"] == text);
    assert!(said("service `a` of suite `s` was stopped while the command ran"));
}

#[tokio::test]
async fn a_stop_is_told_repeatable_and_its_failure_is_told_too() {
    let bench = Bench::new();
    assert_eq!(bench.stop("a").await["result"], "stopped");
    bench.start("a", json!({ "says": ["up"] })).await;
    assert_eq!(bench.stop("a").await["result"], "stopped");
    bench.event::<ServiceStopped>(STOPPED).await;
    assert_eq!(bench.stop("a").await["result"], "stopped");
    bench.start("sticky", json!({ "says": ["up"] })).await;
    let reply = bench.stop("sticky").await;
    assert_eq!(reason(&reply), "service `sticky` was not removed: it is glued to the floor");
    assert_eq!(bench.probe.published_on(STOPPED).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_its_time_to_end_and_a_failed_start_gets_less() {
    let bench = Bench::new();
    let limit = json!({ "says": ["up"], "stop_timeout": "1m", "start_timeout": "1s" });
    bench.start("deaf", limit.clone()).await;
    let begun = tokio::time::Instant::now();
    let reply = bench.stop("deaf").await;
    let expected = "service `deaf` was not removed: removing it took too long and was given up";
    assert_eq!(reason(&reply), expected);
    assert_eq!(begun.elapsed().as_secs(), 63);

    let mut failing = limit;
    failing["says"] = json!([]);
    let begun = tokio::time::Instant::now();
    let reply = bench.start("deaf", failing).await;
    assert!(reason(&reply).contains("not ready within 1s"), "{reply}");
    assert!(reason(&reply).ends_with("may be left: removing it took too long and was given up"));
    assert_eq!(begun.elapsed().as_secs(), 5);
    let limits = [Duration::from_secs(60), Duration::from_secs(1)];
    assert_eq!(*bench.strings.limits.lock().unwrap(), limits);
}

#[tokio::test]
async fn a_cleanup_ends_its_run_alone_and_for_good() {
    let bench = Bench::new();
    let late = request(&start_data("r1", "late", json!({ "says": ["up"] })));
    let hanging = bench.begin("hanging", json!({})).await;
    bench.start("a", json!({ "says": ["up"] })).await;
    bench.start("sticky", json!({ "says": ["up"] })).await;
    let other = request(&start_data("r2", "a", json!({ "says": ["up"] })));
    bench.send("service.start.toy", &other).await;

    let reply = bench.send("service.cleanup.toy", &request(&json!({ "run_id": "r1" }))).await;
    hanging.await.unwrap();
    let removed = json!(["service `a` of suite `s`", "service `hanging` of suite `s`", "run r1"]);
    let failures = json!(["service `sticky` of suite `s`: it is glued to the floor"]);
    assert_eq!(reply, json!({ "service_type": "toy", "removed": removed, "failures": failures }));

    let refused = bench.send("service.start.toy", &late).await;
    assert_eq!(reason(&refused), "service `late` was not started: its run is over");
    assert_eq!(bench.start("a", json!({ "says": ["up"] })).await["result"], "ready");
    assert_eq!(bench.kit.metrics().await, json!({ "services": 2, "ready": 2 }));
}

#[tokio::test]
async fn a_shutdown_stops_all_that_runs() {
    let bench = Bench::new();
    bench.start("a", json!({ "says": ["up"] })).await;
    let hanging = bench.begin("b", json!({ "trouble": "hang" })).await;
    bench.kit.shutdown().await.unwrap();
    hanging.await.unwrap();
    assert_eq!(bench.stopped(), ["a", "dropped a"]);
    assert_eq!(*bench.strings.swept.lock().unwrap(), ["service b"]);
    assert_eq!(bench.kit.metrics().await["services"], 0);
}

#[tokio::test]
async fn dropping_the_kit_drops_what_runs() {
    let bench = Bench::new();
    bench.start("a", json!({ "says": ["up"] })).await;
    let Bench { kit, strings, .. } = bench;
    drop(kit);
    while strings.stopped.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*strings.stopped.lock().unwrap(), ["dropped a"]);
}

#[tokio::test]
async fn malformed_requests_are_answered_where_an_answer_is_wanted() {
    let bench = Bench::new();
    for verb in ["start", "exec", "stop"] {
        let reply = bench.send(&format!("service.{verb}.toy"), &request(&json!({}))).await;
        let expected = format!("the request on `service.{verb}.toy` is malformed: ");
        assert!(reason(&reply).starts_with(&expected), "{reply}");
    }
    let reply = bench.send("service.cleanup.toy", &request(&1)).await;
    assert_eq!(reply["failures"].as_array().unwrap().len(), 1);
    for topic in ["service.start.toy", "service.logs.toy", "service.start.other", "x"] {
        let topic = Topic::new(topic).unwrap();
        let status = bench.kit.process_message(&topic, &message(&json!({}))).await.unwrap();
        assert!(matches!(status, ProcessingStatus::Failed(_)), "{topic}: {status:?}");
    }
}
