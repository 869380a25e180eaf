//! `run`, `validate` and `init` as a person uses them.

mod common;

use common::{Folder, lines};

const GREEN: &str = r#"
name = "green"
[services.box]
type = "process"
command = ["sh", "-c", "echo open; exec sleep 3600"]
ready = { log = "^open$" }
[[tests]]
name = "says"
[[tests.steps]]
name = "hello"
service = "box"
command = ["echo", "a b", "c"]
expected_output_regex = "^a b c\n$"
[[tests]]
name = "exits"
[[tests.steps]]
name = "with 3"
command = ["sh", "-c", "exit 3"]
expected_exit_code = 3
"#;

const RED: &str = r#"
name = "red"
[services.box]
type = "process"
command = ["sh", "-c", "echo 'from the service'; echo open; exec sleep 3600"]
ready = { log = "^open$" }
[[steps]]
name = "breaks"
service = "box"
command = ["sh", "-c", "echo to stdout; echo to stderr >&2; exit 4"]
[[steps]]
name = "never"
command = ["true"]
"#;

const BROKEN: &str = r#"
name = "broken"
[services.box]
type = "process"
command = ["sh", "-c", "echo dying; exit 7"]
ready = { log = "^open$" }
[[steps]]
name = "never"
command = ["true"]
"#;

#[test]
fn a_green_run_ends_with_0_and_says_what_it_did() {
    let folder = Folder::new();
    folder.write("green.suite.toml", GREEN);
    let ran = folder.expect(0, &["run", "green.suite.toml"]);
    assert!(ran.stdout.starts_with("passed in "), "{}", ran.stdout);
    assert!(ran.stdout.contains("1 suite; tests: 2 passed; steps: 2 passed"), "{}", ran.stdout);
    assert!(ran.stderr.contains("ready       green > box in "), "{}", ran.stderr);
    assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'), "no colour in a pipe");
    let quiet = folder.expect(0, &["run", "-q", "."]);
    assert_eq!(quiet.stderr, "");
    let verbose = folder.expect(0, &["run", "-v", "."]);
    assert!(verbose.stderr.contains("green > says > hello: echo 'a b' c"), "{}", verbose.stderr);
}

#[test]
fn a_red_run_ends_with_1_and_shows_all_that_helps() {
    let folder = Folder::new();
    folder.write("red.suite.toml", RED);
    let ran = folder.expect(1, &["run", "."]);
    for part in [
        "FAILED red > breaks (step 1 of 2)",
        "command   sh -c 'echo to stdout; echo to stderr >&2; exit 4'   (in service box)",
        "exit code 0 was expected, but the command exited with 4",
        "| to stdout",
        "| to stderr",
        "log of box",
        "| from the service",
        "red.suite.toml",
        "tests: 0 passed, 1 failed; steps: 0 passed, 1 failed, 1 skipped",
    ] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
}

#[test]
fn a_service_that_does_not_come_up_ends_with_3() {
    let folder = Folder::new();
    folder.write("broken.suite.toml", BROKEN);
    let ran = folder.expect(3, &["run", ".", "--report", "junit=r.xml", "--report", "tap=r.tap"]);
    for part in ["ERRORED broken", "exit code 7", "| dying"] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    assert!(folder.read("r.xml").contains(r#"<testcase name="(suite)" classname="broken">"#));
    let tap = folder.read("r.tap");
    assert!(tap.contains("# SKIP") && tap.contains("not ok 2 - broken/(suite)"), "{tap}");
}

#[test]
fn every_report_says_the_same() {
    let folder = Folder::new();
    folder.write("a.suite.toml", GREEN);
    folder.write("b.suite.toml", RED);
    let reports = ["--report", "junit=r.xml", "--report", "json=r.json", "--report", "tap=r.tap"];
    folder.expect(1, &[&["run", "-j", "2", "."], &reports[..]].concat());

    let json: serde_json::Value = serde_json::from_str(&folder.read("r.json")).unwrap();
    assert_eq!(
        (&json["format"], &json["outcome"]),
        (&"echo-core-report/1".into(), &"failed".into())
    );
    assert_eq!(json["counts"]["tests"]["passed"], 2);
    assert_eq!(json["counts"]["tests"]["failed"], 1);
    let suites = json["suites"].as_array().unwrap();
    let red = suites.iter().find(|suite| suite["name"] == "red").unwrap();
    assert_eq!(red["services"][0]["gone"], true);
    let step = &red["tests"][0]["steps"][0];
    assert_eq!((&step["exit_code"], &step["stdout"]), (&4.into(), &"to stdout\n".into()));

    let xml = folder.read("r.xml");
    assert!(xml.contains(r#"tests="3" skipped="0" failures="1" errors="0""#), "{xml}");
    let tap = folder.read("r.tap");
    assert!(tap.contains("1..3") && tap.matches("\nok ").count() == 2, "{tap}");
    assert_eq!(tap.matches("\nnot ok ").count(), 1, "{tap}");
}

#[test]
fn reports_for_programs_have_standard_output_to_themselves() {
    let folder = Folder::new();
    folder.write("green.suite.toml", GREEN);
    let ran = folder.expect(0, &["run", "--json", "."]);
    assert_eq!(ran.json()["outcome"], "passed");
    assert!(
        ran.stderr.contains("passed in "),
        "the summary goes to standard error: {}",
        ran.stderr
    );
    let ran = folder.expect(0, &["run", "--events", "-", "."]);
    assert!(ran.lines().len() > 10);
    folder.expect(2, &["run", "--events", "-", "--json", "."]);
}

#[test]
fn the_events_are_complete_and_in_order() {
    let folder = Folder::new();
    folder.write("green.suite.toml", GREEN);
    folder.expect(0, &["run", "--events", "events.jsonl", "."]);
    let events = lines(&folder.read("events.jsonl"));
    let topics: Vec<&str> = events.iter().map(|line| line["topic"].as_str().unwrap()).collect();
    let mut rest = topics.iter();
    for expected in [
        "test.run.start",
        "test.run.started",
        "test.suite.started",
        "service.start.process",
        "service.started",
        "service.ready",
        "test.test.started",
        "test.step.started",
        "service.exec.process",
        "test.step.ended",
        "test.test.ended",
        "test.test.started",
        "test.step.started",
        "service.exec.local",
        "test.step.ended",
        "test.test.ended",
        "service.stop.process",
        "service.stopped",
        "test.suite.ended",
        "test.run.ended",
        "system.host.stopping",
    ] {
        assert!(
            rest.any(|topic| *topic == expected),
            "{expected} is not where it belongs: {topics:#?}"
        );
    }
    let run_id = &events[0]["message"]["data"]["run_id"];
    let of_run = events.iter().filter(|line| line["topic"].as_str().unwrap().starts_with("test."));
    assert!(of_run.into_iter().all(|line| line["message"]["data"]["run_id"] == *run_id));
}

#[test]
fn a_file_that_cannot_be_written_is_named_before_anything_runs() {
    let folder = Folder::new();
    folder.write("green.suite.toml", GREEN);
    for option in [["--report", "json=no/r.json"], ["--events", "no/e.jsonl"]] {
        let ran = folder.expect(3, &["run", option[0], option[1], "."]);
        assert!(ran.stderr.contains("no/") && !ran.stderr.contains("ready"), "{}", ran.stderr);
    }
}

#[test]
fn nothing_to_run_is_an_error() {
    let folder = Folder::new();
    let ran = folder.expect(2, &["run", "."]);
    assert!(ran.stderr.contains("suite.toml"), "{}", ran.stderr);
    folder.write("green.suite.toml", GREEN);
    let ran = folder.expect(2, &["run", "--filter", "^green/sings$", "."]);
    assert!(ran.stderr.contains("nothing was run"), "{}", ran.stderr);
    let ran = folder.expect(2, &["run", "missing.suite.toml"]);
    assert!(ran.stderr.contains("`missing.suite.toml`"), "{}", ran.stderr);
    folder.expect(2, &["run"]);
}

#[test]
fn a_filter_runs_what_it_finds_and_reports_the_rest_as_skipped() {
    let folder = Folder::new();
    folder.write("green.suite.toml", GREEN);
    let ran = folder.expect(0, &["run", "--filter", "^green/says$", "--json", "."]);
    let counts = &ran.json()["counts"]["tests"];
    assert_eq!((&counts["passed"], &counts["skipped"]), (&1.into(), &1.into()));
}

#[test]
fn a_run_that_takes_too_long_fails() {
    let folder = Folder::new();
    let slow = "[[steps]]\nname = \"sleeps\"\ncommand = [\"sleep\", \"3600\"]\ntimeout = \"2h\"\n";
    folder.write("slow.suite.toml", slow);
    let ran = folder.expect(1, &["run", "--timeout", "300ms", "."]);
    assert!(ran.stdout.contains("300ms"), "{}", ran.stdout);
}

#[test]
fn a_dry_run_shows_the_order_and_starts_nothing() {
    let folder = Folder::new();
    let suite = GREEN.replace("echo open;", "touch started; echo open;");
    folder.write("green.suite.toml", &suite);
    let ran = folder.expect(0, &["run", "--dry-run", "."]);
    let expected = [
        "green  (green.suite.toml)",
        "  start box (process)",
        "  test says",
        "    hello: echo 'a b' c   (in box)",
        "  test exits",
        "    with 3: sh -c 'exit 3'",
        "  stop box",
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);
    assert!(!folder.path().join("started").exists());
    let json = folder.expect(0, &["run", "--dry-run", "--json", "."]).json();
    assert_eq!(json["suites"][0]["tests"][0]["steps"][0]["command"][1], "a b");
}

#[test]
fn faults_name_file_line_and_what_would_be_right() {
    let folder = Folder::new();
    folder.write("bad.suite.toml", &GREEN.replace("expected_exit_code", "expected_exit_cod"));
    for command in ["validate", "run"] {
        let ran = folder.expect(2, &[command, "bad.suite.toml"]);
        let expected =
            ["bad.suite.toml:19:1", "expected_exit_cod", "did you mean `expected_exit_code`"];
        for part in expected {
            assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
        }
        assert_eq!(ran.stdout, "");
    }
    let report = folder.expect(2, &["validate", "--json", "bad.suite.toml"]).json();
    let fault = &report["faults"][0];
    assert_eq!((&report["valid"], &fault["line"]), (&false.into(), &19.into()));
    assert_eq!(fault["file"], "bad.suite.toml");
    folder.write("good.suite.toml", GREEN);
    let ran = folder.expect(0, &["validate", "good.suite.toml"]);
    assert_eq!(ran.stdout, "valid  green  good.suite.toml: 1 service, 2 tests, 2 steps\n");
}

#[test]
fn a_bus_or_a_report_that_cannot_be_had_is_named() {
    let folder = Folder::new();
    folder.write("green.suite.toml", GREEN);
    let ran = folder.expect(3, &["run", "--bus", "nats://127.0.0.1:1", "."]);
    assert!(ran.stderr.contains("answers at nats://127.0.0.1:1;"), "{}", ran.stderr);
    let ran = folder.expect(2, &["run", "--bus", "mqtt://127.0.0.1:1", "."]);
    assert!(ran.stderr.contains("write \"local\""), "{}", ran.stderr);
    let ran = folder.expect(2, &["run", "--report", "html=r.html", "."]);
    assert!(ran.stderr.contains("junit, json and tap"), "{}", ran.stderr);
}

#[test]
fn what_init_writes_runs_as_it_is() {
    let folder = Folder::new();
    let ran = folder.expect(0, &["init", "mine"]);
    assert_eq!(ran.stdout, "next: echo-core run mine/first.suite.toml\n");
    folder.expect(0, &["run", "mine/first.suite.toml"]);
    folder.expect(0, &["run", "--config", "mine/echo-core.toml", "mine"]);
    let left = std::fs::read_dir(folder.path().join("mine")).unwrap().count();
    assert_eq!(left, 2, "the suite and the configuration alone");
    let again = folder.expect(2, &["init", "mine"]);
    assert!(again.stderr.contains("mine/first.suite.toml is there already"), "{}", again.stderr);
}

#[test]
fn a_faulty_configuration_is_named_with_its_line() {
    let folder = Folder::new();
    folder.write("green.suite.toml", GREEN);
    folder.write("echo-core.toml", "[run]\njops = 2\n");
    let ran = folder.expect(2, &["run", "."]);
    for part in ["echo-core.toml:2:1", "did you mean `jobs`"] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
}
