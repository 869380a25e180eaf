//! `publish`, `subscribe` and `request` with `--local`: each with a host of its own.

mod common;

use common::{Folder, Running, eventually, processes_with};

#[test]
fn publish_prints_what_its_message_caused() {
    let folder = Folder::new();
    let run = r#"{"suites":[{"name":"s","steps":[{"name":"a","command":["true"]}]}]}"#;
    let ran =
        folder.expect(0, &["publish", "--local", "test.run.start", run, "-s", "test.*.ended"]);
    let topics: Vec<String> =
        ran.lines().iter().map(|line| line["topic"].as_str().unwrap().to_owned()).collect();
    let expected = ["test.step.ended", "test.test.ended", "test.suite.ended", "test.run.ended"];
    assert_eq!(topics, expected);
    assert_eq!(ran.lines()[3]["message"]["data"]["outcome"], "passed");
}

#[test]
fn request_prints_the_answer() {
    let folder = Folder::new();
    let question = r#"{"run_id":"r","suite":"s","command":["echo","hello"],"timeout":"5s"}"#;
    let ran = folder.expect(0, &["request", "--local", "service.exec.local", question]);
    assert_eq!(ran.json()["stdout"], "hello\n");
    let ran = folder.expect(3, &["request", "--local", "nobody.home", "1"]);
    assert!(ran.stderr.contains("nobody answers to `nobody.home`"), "{}", ran.stderr);
}

#[test]
fn subscribe_ends_on_a_signal() {
    let folder = Folder::new();
    let mut running = Running::start(&folder, &["subscribe", "--local", ">"]);
    running.until("listening");
    running.signal("TERM");
    assert_eq!(running.end().code, 130);
}

#[test]
fn what_is_wrong_is_said() {
    let folder = Folder::new();
    for (args, word) in [
        (&["publish", "a..b"][..], "`a..b`"),
        (&["publish", "a.*", "1"], "wildcard"),
        (&["publish", "a", "{"], "no JSON"),
        (&["publish", "--local", "a", "-s", "x>"], "`x>`"),
        (&["subscribe", "a..b"], "`a..b`"),
        (&["subscribe", "--local", "a..b"], "`a..b`"),
        (&["subscribe", "a", "--queue", "a b"], "`a b`"),
        (&["publish", "a", "--field", "x"], "NAME=VALUE"),
        (&["publish", "a", "--field", "x y=1"], "x y"),
        (&["publish", "a", "--reply", "b.*"], "`b.*`"),
        (&["publish", "a", "--local", "--url", "nats://x"], "--local"),
        (&["publish", "a", "-s", "b"], "--local"),
        (&["publish", "a", "--url", "http://x"], "`http://x`"),
    ] {
        let ran = folder.expect(2, args);
        assert!(ran.stderr.contains(word), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn two_signals_end_what_a_message_started() {
    let folder = Folder::new();
    let step = r#"{"name":"a","command":["sleep","86304"],"timeout":"2h"}"#;
    let run = format!(r#"{{"suites":[{{"name":"s","steps":[{step}]}}]}}"#);
    let args = [
        "publish",
        "--local",
        "test.run.start",
        &run,
        "-s",
        "service.exec.local",
        "--timeout",
        "1h",
    ];
    let mut running = Running::start(&folder, &args);
    running.until_out("service.exec.local");
    eventually(|| !processes_with("sleep 86304").is_empty());
    running.signal("INT");
    running.until("ending what is still going on");
    running.signal("INT");
    assert_eq!(running.end().code, 130);
    eventually(|| processes_with("sleep 86304").is_empty());
}
