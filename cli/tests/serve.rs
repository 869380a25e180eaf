//! A host that stays, and the commands that speak to it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::host::Host;
use common::{Folder, Running, eventually, lines, processes_with};
use serde_json::{Value, json};

/// A run of one suite with one step.
fn run_of(id: &str, command: &[&str]) -> String {
    let step = json!({"name": "a", "command": command, "timeout": "2h"});
    json!({"run_id": id, "suites": [{"name": "s", "steps": [step]}]}).to_string()
}

#[test]
fn a_host_says_when_it_is_ready_and_ends_on_a_signal() {
    let folder = Folder::new();
    let none = folder.expect(3, &["url"]);
    assert!(none.stderr.contains("`echo-core serve`"), "{}", none.stderr);
    let host = Host::start(&folder, &[]);
    assert!(host.ready.starts_with("ready "), "{}", host.ready);
    let url = folder.expect(0, &["url"]).stdout;
    let (token, address) = url.trim().strip_prefix("nats://").unwrap().split_once('@').unwrap();
    assert_eq!(address, host.said("nats"));
    assert!(token.len() >= 32 && !host.ready.contains(token));
    let http = folder.expect(0, &["url", "--http"]).stdout;
    assert_eq!(http.trim(), format!("http://{}", host.said("http")));
    let all = folder.expect(0, &["url", "--json"]).json();
    assert_eq!((&all["token"], &all["nats"]), (&json!(token), &json!(url.trim())));
    let ended = host.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    folder.expect(3, &["url"]);
    let again = Host::start(&folder, &[]);
    assert!(folder.expect(0, &["url"]).stdout.contains(token), "the token is kept");
    drop(again);
    folder.expect(3, &["url"]);
}

/// Any tool can publish a test run, or watch one.
#[test]
fn a_run_is_published_and_watched() {
    let folder = Folder::new();
    let _host = Host::start(&folder, &[]);
    let mut watching = Running::start(&folder, &["subscribe", "test.>"]);
    watching.until("listening on test.> at 127.0.0.1:");
    folder.expect(0, &["publish", "test.run.start", &run_of("watched", &["echo", "hi"])]);
    let mut seen = Vec::new();
    loop {
        let line = lines(&watching.until_out("topic")).remove(0);
        let topic = line["topic"].as_str().unwrap().to_owned();
        assert_eq!(line["message"]["data"]["run_id"], "watched", "{line}");
        seen.push(topic);
        if line["topic"] == "test.run.ended" {
            assert_eq!(line["message"]["data"]["outcome"], "passed");
            break;
        }
    }
    let expected = [
        "test.run.start",
        "test.run.started",
        "test.suite.started",
        "test.test.started",
        "test.step.started",
        "test.step.ended",
        "test.test.ended",
        "test.suite.ended",
        "test.run.ended",
    ];
    assert_eq!(seen, expected);
    watching.signal("INT");
    assert_eq!(watching.end().code, 130);
}

#[test]
fn a_run_is_asked_for_and_its_end_is_the_answer() {
    let folder = Folder::new();
    let host = Host::start(&folder, &[]);
    let args = ["request", "test.run.start", &run_of("asked", &["false"]), "--timeout", "1m"];
    let ended = folder.expect(0, &args).json();
    assert_eq!((&ended["run_id"], &ended["outcome"]), (&json!("asked"), &json!("failed")));
    let nobody = folder.expect(3, &["request", "nobody.home", "1"]);
    assert!(nobody.stderr.contains("nobody answers to `nobody.home`"), "{}", nobody.stderr);
    assert_eq!(host.end().code, 0);
}

#[test]
fn nobody_gets_in_without_the_token() {
    let folder = Folder::new();
    let host = Host::start(&folder, &[]);
    let address = host.said("nats");
    // The token is found for the address as well.
    let found = folder.run_at(&format!("nats://{address}"), &["publish", "a", "1"]);
    assert_eq!(found.code, 0, "{}", found.stderr);
    for args in [&["publish", "a", "1"][..], &["subscribe", "a"], &["dead", "list"]] {
        let ran = folder.run_at(&format!("nats://wrong-token@{address}"), args);
        assert_eq!(ran.code, 3, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("does not let this command in"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("wrong-token"), "{}", ran.stderr);
    }
    // Another user has another state folder, and no token in it.
    let elsewhere = Folder::new();
    let ran = elsewhere.run_at(&format!("nats://{address}"), &["publish", "a", "1"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let own = folder.expect(0, &["url"]).stdout;
    assert_eq!(elsewhere.run_at(own.trim(), &["publish", "a", "1"]).code, 0);
}

#[test]
fn an_open_host_lets_everybody_in() {
    let folder = Folder::new();
    let host = Host::start(&folder, &["--open"]);
    let url = format!("nats://{}", host.said("nats"));
    assert_eq!(folder.expect(0, &["url"]).stdout.trim(), url);
    let elsewhere = Folder::new();
    assert_eq!(elsewhere.run_at(&url, &["publish", "a", "1"]).code, 0);
}

#[test]
fn several_hosts_are_told_apart_by_their_ports() {
    let folder = Folder::new();
    let (one, two) = (Host::start(&folder, &[]), Host::start(&folder, &[]));
    let ran = folder.expect(3, &["publish", "a", "1"]);
    assert!(ran.stderr.contains("several hosts run here"), "{}", ran.stderr);
    folder.expect(3, &["url"]);
    for host in [one, two] {
        let address = host.said("nats");
        let port = address.rsplit(':').next().unwrap();
        assert!(folder.expect(0, &["url", "--port", port]).stdout.contains(address));
        assert_eq!(folder.run_at(&format!("nats://{address}"), &["publish", "a", "1"]).code, 0);
        assert_eq!(host.end().code, 0);
    }
}

#[test]
fn dead_letters_are_listed_shown_replayed_and_discarded() {
    let folder = Folder::new();
    let _host = Host::start(&folder, &[]);
    assert!(folder.expect(0, &["dead", "list"]).stdout.contains("no dead letters"));
    let mut dying = Running::start(&folder, &["subscribe", "dead.>", "-n", "3"]);
    dying.until("listening");
    folder.expect(0, &["publish", "test.run.start", r#"{"suits":1}"#, "-n", "2"]);
    folder.expect(0, &["publish", "service.exec.local", "7"]);
    assert_eq!(dying.end().code, 0);
    let list = |args: &[&str]| {
        let args = [&["dead", "list", "--json"], args].concat();
        folder.expect(0, &args).json()["letters"].as_array().unwrap().clone()
    };
    eventually(|| list(&[]).len() == 3);
    let runs = list(&["--topic", "test.>"]);
    assert_eq!(runs.len(), 2);
    assert_eq!((&runs[0]["slot"], &runs[0]["attempts"]), (&json!("orchestrator"), &json!(1)));
    assert!(runs[0]["reason"].as_str().unwrap().contains("malformed"));
    assert_eq!(list(&["--slot", "process"]).len(), 1);
    let id = runs[0]["id"].as_str().unwrap();
    let shown = folder.expect(0, &["dead", "show", id]).stdout;
    assert!(shown.contains("suits") && shown.contains("orchestrator"), "{shown}");
    let shown = folder.expect(0, &["dead", "show", id, "--json"]).json();
    let message_id = &shown["letter"]["message"]["id"];
    assert_eq!(shown["letter"]["message"]["data"], json!({"suits": 1}));

    folder.expect(2, &["dead", "replay"]);
    let mut again = Running::start(&folder, &["subscribe", "test.run.start", "-n", "1"]);
    again.until("listening");
    let replayed = folder.expect(0, &["dead", "replay", "--id", id, "--json"]).json();
    assert_eq!(replayed["replayed"][0]["message_id"], *message_id);
    let again = again.end().lines().remove(0);
    assert_eq!(again["message"]["data"], json!({"suits": 1}));
    assert_eq!(again["message"]["id"], *message_id);
    // It dies again, as a letter of its own; the first is marked.
    eventually(|| list(&["--topic", "test.>"]).len() == 3);
    let marked = |letter: &&Value| letter["replayed_at"].is_string();
    assert_eq!(list(&[]).iter().filter(marked).count(), 1);
    let fresh =
        folder.expect(0, &["dead", "replay", "--slot", "process", "--new-id", "--json"]).json();
    assert_eq!(fresh["replayed"].as_array().unwrap().len(), 1);
    let discarded = folder.expect(0, &["dead", "discard", "--topic", "test.>"]).stdout;
    assert_eq!(discarded, "forgot 3 dead letters\n");
    assert_eq!(list(&["--topic", "test.>"]).len(), 0);
    let gone = folder.expect(2, &["dead", "show", id]);
    assert!(gone.stderr.contains("dead list"), "{}", gone.stderr);
}

#[test]
fn topics_lists_slots_with_rates() {
    let folder = Folder::new();
    let _host = Host::start(&folder, &[]);
    let mut watching =
        Running::start(&folder, &["topics", "--json", "--watch", "--interval", "300ms"]);
    watching.until_out("orchestrator");
    let question = r#"{"run_id":"r","suite":"s","command":["true"],"timeout":"5s"}"#;
    folder.expect(0, &["request", "service.exec.local", question]);
    let row = loop {
        let rows = lines(&watching.until_out("process")).remove(0);
        let row =
            rows.as_array().unwrap().iter().find(|row| row["slot"] == "process").unwrap().clone();
        if row["in_per_s"].as_f64().unwrap() > 0.0 {
            break row;
        }
    };
    assert_eq!((&row["hosts"], &row["status"]), (&json!(1), &json!("running")));
    assert_eq!((&row["accepted"], &row["depth"]), (&json!(1), &json!(0)));
    assert!(row["patterns"].as_array().unwrap().contains(&json!("service.exec.local")), "{row}");
    watching.signal("INT");
    assert_eq!(watching.end().code, 130);
    let table = folder.expect(0, &["topics", "--interval", "10ms"]).stdout;
    assert!(table.starts_with("SLOT") && table.contains("orchestrator"), "{table}");
}

#[test]
fn a_plugin_is_paused_and_resumed() {
    let folder = Folder::new();
    let _host = Host::start(&folder, &[]);
    let paused = folder.expect(0, &["plugin", "pause", "process"]).stdout;
    assert_eq!(paused, "`process` is paused on 1 host\n");
    let question = r#"{"run_id":"r","suite":"s","command":["echo","late"],"timeout":"5s"}"#;
    let mut asking =
        Running::start(&folder, &["request", "service.exec.local", question, "--timeout", "1m"]);
    let depth = || {
        let rows = folder.expect(0, &["topics", "--json", "--interval", "1ms"]).json();
        let rows = rows.as_array().unwrap().clone();
        rows.iter().find(|row| row["slot"] == "process").unwrap()["depth"].clone()
    };
    eventually(|| depth() == 1);
    let resumed = folder.expect(0, &["plugin", "resume", "process", "--json"]).json();
    assert_eq!(resumed[0]["status"], "running");
    asking.until_out("late");
    assert_eq!(asking.end().code, 0);
    folder.expect(0, &["plugin", "reset", "process"]);
    let unknown = folder.expect(2, &["plugin", "pause", "nobody"]);
    assert!(unknown.stderr.contains("no plugin `nobody`"), "{}", unknown.stderr);
}

#[test]
fn topics_shows_how_far_a_slot_is_behind() {
    let folder = Folder::new();
    folder
        .write("echo-core.toml", "[bus]\nqueue_size = 2\ndurable.topics = [\"service.exec.>\"]\n");
    let _host = Host::start(&folder, &[]);
    folder.expect(0, &["plugin", "pause", "process"]);
    let question = r#"{"run_id":"r","suite":"s","command":["true"],"timeout":"5s"}"#;
    for _ in 0..5 {
        folder.expect(0, &["publish", "service.exec.local", question]);
    }
    let lag = || {
        let rows = folder.expect(0, &["topics", "--json", "--interval", "1ms"]).json();
        let rows = rows.as_array().unwrap().clone();
        rows.iter().find(|row| row["slot"] == "process").unwrap()["lag"].clone()
    };
    eventually(|| lag() == 5);
    let table = folder.expect(0, &["topics", "--interval", "1ms"]).stdout;
    let [head, row] = ["SLOT", "process"].map(|first| {
        let line = table.lines().find(|line| line.starts_with(first)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    let column = head.iter().position(|name| name == "LAG").unwrap();
    assert_eq!(row[column], "5", "{table}");
    folder.expect(0, &["plugin", "resume", "process"]);
    eventually(|| lag() == 0);
}

#[test]
fn what_a_host_cannot_finish_it_says() {
    let folder = Folder::new();
    let brief = ["orchestrator", "process"].map(|plugin| {
        let pool = "worker_pool = { shutdown_timeout = \"200ms\" }";
        format!("[[plugins.register]]\nid = \"{plugin}\"\n{pool}\n")
    });
    folder.write("echo-core.toml", &format!("[shutdown]\ntimeout = \"200ms\"\n{}", brief.concat()));
    let host = Host::start(&folder, &[]);
    folder.expect(0, &["publish", "test.run.start", &run_of("long", &["sleep", "86305"])]);
    eventually(|| !processes_with("sleep 86305").is_empty());
    let ended = host.end();
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("orchestrator"), "{}", ended.stderr);
    eventually(|| processes_with("sleep 86305").is_empty());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::new();
    let host = Host::start(&folder, &[]);
    let mut command = folder.command(&["serve"]);
    command.env("ECHO_GATEWAY__NATS", host.said("nats")).env("ECHO_GATEWAY__HTTP", "off");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(host.said("nats")) && said.contains("gateway.nats"), "{said}");
}

/// What the HTTP door answers to a request of these lines, the first and the headers, and this body.
fn http(host: &Host, lines: &str, body: &str) -> String {
    let address = host.said("http");
    let mut stream = TcpStream::connect(address).unwrap();
    let lines = lines.replace('\n', "\r\n");
    let head = format!("{lines}\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    write!(stream, "{head}Connection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_doors_speak_nats_and_http() {
    let folder = Folder::new();
    let host = Host::start(&folder, &[]);
    let mut nats = TcpStream::connect(host.said("nats")).unwrap();
    let mut greeting = [0; 5];
    nats.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"INFO ");
    let health = http(&host, "GET /healthz HTTP/1.1", "");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("healthy"), "{health}");

    let url = folder.expect(0, &["url", "--json"]).json();
    let token = format!("Authorization: Bearer {}", url["token"].as_str().unwrap());
    let mut subscriber = Running::start(&folder, &["subscribe", "from.http", "-n", "1"]);
    subscriber.until("listening");
    let publish = "POST /v1/publish/from.http HTTP/1.1";
    let refused = http(&host, publish, "1");
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("echo-core url"), "{refused}");
    let page = format!("{publish}\n{token}\nOrigin: https://page.example");
    let refused = http(&host, &page, "1");
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains("allowed_origins"),
        "{refused}"
    );
    let event = r#"{"specversion":"1.0","id":"e1","source":"/s","type":"t","data":{"a":1}}"#;
    let cloud = format!("{publish}\n{token}\nContent-Type: application/cloudevents+json");
    let taken = http(&host, &cloud, event);
    assert!(taken.starts_with("HTTP/1.1 202"), "{taken}");
    assert_eq!(subscriber.end().lines()[0]["message"]["data"], json!({"a": 1}));

    let question = r#"{"run_id":"r","suite":"s","command":["echo","hi"],"timeout":"5s"}"#;
    let request = format!("POST /v1/request/service.exec.local HTTP/1.1\n{token}");
    let answer = http(&host, &request, question);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(r#""stdout":"hi\n""#),
        "{answer}"
    );
    let metrics = http(&host, &format!("GET /metrics HTTP/1.1\n{token}"), "");
    let counted = r#"echo_messages_acknowledged_total{slot="process"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains(r#"echo_slot_lag{slot="process"} "#), "{metrics}");
    let topics = http(&host, &format!("GET /v1/topics HTTP/1.1\n{token}"), "");
    assert!(topics.contains("service.exec.local"), "{topics}");
    let document = http(&host, "GET /openapi.json HTTP/1.1", "");
    assert!(document.contains(r#""openapi": "3.1.0""#), "{document}");
}

/// A WebSocket opens, and an event stream goes on until the host ends.
#[test]
fn streams_are_told_when_the_host_ends() {
    let folder = Folder::new();
    let host = Host::start(&folder, &["--open"]);
    let open = |lines: &str| {
        let mut stream = TcpStream::connect(host.said("http")).unwrap();
        write!(stream, "{lines}\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut socket = open(&format!("GET /v1/ws HTTP/1.1\r\n{upgrade}\r\n{key}"));
    let mut status = [0; 12];
    socket.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    let mut events = open("GET /v1/subscribe/some.%3E HTTP/1.1");
    events.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    folder.expect(0, &["publish", "some.topic", "7"]);
    assert_eq!(host.end().code, 0);
    let mut all = String::new();
    events.read_to_string(&mut all).unwrap();
    let (message, end) = (all.find("event: some.topic\n").unwrap(), all.find("event: $end\n"));
    assert!(end.is_some_and(|end| message < end) && all.contains("\"closing\""), "{all}");
}

#[test]
fn the_folder_of_plugins_is_followed_unless_the_configuration_says_otherwise() {
    for config in ["watch = false", "enabled = false"] {
        let folder = Folder::new();
        folder.write("echo-core.toml", &format!("[plugins]\n{config}\n"));
        let mut host = Host::start(&folder, &[]);
        let open = host.running().open();
        assert!(!open.iter().any(|it| it.contains("inotify")), "{config}: {open:?}");
    }
    let folder = Folder::new();
    let mut host = Host::start(&folder, &[]);
    let open = host.running().open();
    assert!(open.iter().any(|it| it.contains("inotify")), "{open:?}");
    let mut told = Running::start(&folder, &["subscribe", "system.plugin.refused"]);
    told.until("listening");
    folder.write("plugins/enabled/notes.so", "no library");
    let refused = lines(&told.until_out("topic")).remove(0);
    let reason = refused["message"]["data"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("notes.so") && reason.contains("no ELF file"), "{reason}");
    assert_eq!(host.end().code, 0);
}
