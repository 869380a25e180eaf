//! `publish`, `subscribe` and `request` against a real NATS server: to the command line it looks like a host.

mod common;

use std::process::Command;

use common::server::NatsServer;
use common::{Folder, Running, lines};

fn at(folder: &Folder, url: &str, args: &[&str]) -> Command {
    let mut command = folder.command(args);
    command.env("ECHO_URL", url);
    command
}

#[test]
fn what_is_published_arrives() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let url = server.url();
    let mut subscriber = Running::spawn(at(&folder, &url, &["subscribe", "a.>", "-n", "4"]));
    subscriber.until("listening on a.> at 127.0.0.1:");
    let fields = ["--key", "k", "--schema", "s/1", "--field", "Tenant=t=1", "--reply", "r"];
    let whole = [&["publish", "a.b", r#"{"n":1}"#][..], &fields].concat();
    assert_eq!(folder.run_at(&url, &whole).code, 0);
    let plain = [&["publish", "a.c", "[1, 2]", "--plain"][..], &fields].concat();
    assert_eq!(folder.run_at(&url, &plain).code, 0);
    let many = folder.run_at(&url, &["publish", "a.d", "-n", "2"]);
    assert!(many.code == 0 && many.stderr.contains("published 2 messages"), "{}", many.stderr);
    let ran = subscriber.end();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let received = lines(&ran.stdout);
    let topics: Vec<&str> = received.iter().map(|it| it["topic"].as_str().unwrap()).collect();
    assert_eq!(topics, ["a.b", "a.c", "a.d", "a.d"]);
    assert_eq!(received[0]["message"]["source"], "echo-core");
    for (message, data) in [(0, serde_json::json!({"n": 1})), (1, serde_json::json!([1, 2]))] {
        let message = &received[message]["message"];
        let headers = &message["headers"];
        assert_eq!((&message["data"], &message["schema"]), (&data, &"s/1".into()));
        assert_eq!((&headers["key"], &headers["reply_to"]), (&"k".into(), &"r".into()));
        assert_eq!(headers["fields"]["Tenant"], serde_json::json!(["t=1"]));
    }
    assert_ne!(received[2]["message"]["id"], received[3]["message"]["id"]);
}

#[test]
fn lines_of_standard_input_are_messages_and_raw_prints_payloads() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let url = server.url();
    let subscribe = ["subscribe", "--raw", "x", "--count", "2"];
    let mut subscriber = Running::spawn(at(&folder, &url, &subscribe));
    subscriber.until("listening");
    let publish = ["publish", "--url", &url, "x", "-", "--plain"];
    let ran = folder.run_with("{\"a\": 1}\n\n\"two\"\n", &publish);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(subscriber.end().stdout, "{\"a\": 1}\n\"two\"\n");
    let ran = folder.run_with("1\nno json\n", &publish);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("line 2 of standard input is no JSON: `no json`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_group_shares_the_messages() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let url = server.url();
    // Each ends when it has its share; one that got more would leave the other waiting.
    let args = ["subscribe", "w", "--queue", "g", "-n", "100"];
    let members = [(), ()].map(|()| {
        let mut member = Running::spawn(at(&folder, &url, &args));
        member.until("listening");
        member
    });
    assert_eq!(folder.run_at(&url, &["publish", "w", "-n", "200"]).code, 0);
    for member in members {
        let ran = member.end();
        assert_eq!((ran.code, ran.lines().len()), (0, 100), "{}", ran.stderr);
    }
}

#[test]
fn a_request_is_answered_or_nobody_is_there() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let url = server.url();
    let nobody = folder.run_at(&url, &["request", "nobody.home", "1"]);
    assert_eq!(nobody.code, 3);
    assert!(nobody.stderr.contains("nobody answers to `nobody.home`"), "{}", nobody.stderr);
    let mut asked = Running::spawn(at(&folder, &url, &["subscribe", "q", "-n", "1"]));
    asked.until("listening");
    let mut asking = Running::spawn(at(&folder, &url, &["request", "q", "1", "--timeout", "30s"]));
    let question = &lines(&asked.until_out("reply_to"))[0];
    let inbox = question["message"]["headers"]["reply_to"].as_str().unwrap().to_owned();
    assert_eq!(folder.run_at(&url, &["publish", &inbox, r#"{"answer":42}"#]).code, 0);
    assert_eq!(asking.until_out("answer"), "{\"answer\":42}\n");
    assert_eq!(asking.end().code, 0);
    let _silent = {
        let mut silent = Running::spawn(at(&folder, &url, &["subscribe", "q"]));
        silent.until("listening");
        silent
    };
    let late = folder.run_at(&url, &["request", "q", "1", "--timeout", "100ms"]);
    assert_eq!(late.code, 3);
    assert!(late.stderr.contains("no answer from `q` within 100ms"), "{}", late.stderr);
}

#[test]
fn whoever_is_not_let_in_is_told_the_way() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &["--auth", "s3cret-token"]);
    for url in [server.url(), server.url_as("wrong-token")] {
        for args in [&["publish", "a", "1"][..], &["subscribe", "a"], &["request", "a", "1"]] {
            let ran = folder.run_at(&url, args);
            assert_eq!(ran.code, 3, "{args:?}: {}", ran.stderr);
            assert!(ran.stderr.contains("does not let this command in"), "{}", ran.stderr);
            assert!(ran.stderr.contains("echo-core url"), "{}", ran.stderr);
            assert!(!ran.stderr.contains("wrong-token"), "{}", ran.stderr);
        }
    }
    let in_the_address = folder.run_at(&server.url_as("s3cret-token"), &["publish", "a", "1"]);
    assert_eq!(in_the_address.code, 0, "{}", in_the_address.stderr);
    folder.write("echo-core.toml", "[bus.nats]\ntoken = \"s3cret-token\"\n");
    let configured = folder.run_at(&server.url(), &["publish", "a", "1"]);
    assert_eq!(configured.code, 0, "{}", configured.stderr);
}

#[test]
fn what_the_server_forbids_is_told() {
    let folder = Folder::new();
    let permissions = "publish = [\"open.>\", \"_INBOX.>\"], subscribe = \"open.>\"";
    let users = format!("users = [{{ user: u, password: p, permissions: {{ {permissions} }} }}]");
    folder.write("server.conf", &format!("authorization {{ {users} }}\n"));
    let server = NatsServer::start(&folder, &["-c", "server.conf"]);
    let url = server.url_as("u:p");
    let allowed = folder.run_at(&url, &["publish", "open.a", "1"]);
    assert_eq!(allowed.code, 0, "{}", allowed.stderr);
    for args in [&["publish", "shut.a", "1"][..], &["subscribe", "shut.>"]] {
        let ran = folder.run_at(&url, args);
        assert_eq!(ran.code, 3, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("refused: ") && ran.stderr.contains("shut."), "{}", ran.stderr);
    }
}

#[test]
fn nobody_there_is_one_sentence_with_the_way_out() {
    let folder = Folder::new();
    for args in [
        &["publish", "a", "1"][..],
        &["subscribe", "a"],
        &["request", "a"],
        &["dead", "list"],
        &["topics"],
    ] {
        let ran = folder.run_at("nats://127.0.0.1:1", args);
        assert_eq!(ran.code, 3, "{args:?}");
        assert!(ran.stderr.contains("no host answers at 127.0.0.1:1"), "{}", ran.stderr);
        assert!(ran.stderr.contains("`echo-core serve`"), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn a_server_without_a_host_is_said_to_be_one() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    for args in [&["dead", "list"][..], &["topics"], &["plugin", "pause", "process"]] {
        let ran = folder.run_at(&server.url(), args);
        assert_eq!(ran.code, 3, "{args:?}");
        assert!(ran.stderr.contains("no host is on the bus at 127.0.0.1:"), "{}", ran.stderr);
    }
}

#[test]
fn a_subscriber_comes_back_after_the_server() {
    let folder = Folder::new();
    let server = NatsServer::start(&folder, &[]);
    let (url, port) = (server.url(), server.port().to_owned());
    let mut subscriber = Running::spawn(at(&folder, &url, &["subscribe", "a", "-n", "1"]));
    subscriber.until("listening");
    drop(server);
    subscriber.until("was lost; trying again");
    let _server = NatsServer::start_at(&folder, &port, &[]);
    subscriber.until("connected to 127.0.0.1:");
    assert_eq!(folder.run_at(&url, &["publish", "a", "7"]).code, 0);
    assert_eq!(subscriber.end().lines()[0]["message"]["data"], 7);
}
