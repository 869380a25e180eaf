//! Ctrl-C in the middle of a run: all that was started is gone, and the report says so.

mod common;

use common::{Folder, Running, processes_with};

/// A suite whose service and step sleep for a time that nobody else sleeps for, to be known by it.
fn suite(seconds: u32, trap: &str, stop_timeout: &str) -> String {
    format!(
        r#"
name = "slow"
[services.box]
type = "process"
command = ["sh", "-c", "{trap}echo open; sleep {seconds}; sleep {seconds}"]
ready = {{ log = "^open$" }}
stop_timeout = "{stop_timeout}"
[[steps]]
name = "waits"
service = "box"
command = ["sleep", "{seconds}"]
timeout = "2h"
[[steps]]
name = "never"
command = ["true"]
"#
    )
}

#[test]
fn one_signal_ends_the_run_and_cleans_up() {
    for (seconds, signal) in [(86_301, "INT"), (86_302, "TERM")] {
        let folder = Folder::new();
        folder.write("slow.suite.toml", &suite(seconds, "", "2s"));
        let args = ["run", "-v", "--report", "json=r.json", "--report", "junit=r.xml", "."];
        let mut running = Running::start(&folder, &args);
        running.until("step        slow > waits");
        assert!(!processes_with(&format!("sleep {seconds}")).is_empty());
        running.signal(signal);
        running.until("waiting until these services are stopped: slow > box");
        let ran = running.end();
        assert_eq!(ran.code, 130, "{}\n{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("interrupted in "), "{}", ran.stdout);
        assert_eq!(processes_with(&format!("sleep {seconds}")), Vec::<String>::new());
        let report: serde_json::Value = serde_json::from_str(&folder.read("r.json")).unwrap();
        assert_eq!(report["outcome"], "interrupted");
        assert_eq!(report["suites"][0]["services"][0]["gone"], true);
        assert!(folder.read("r.xml").contains(r#"type="interrupted""#));
    }
}

#[test]
fn a_second_signal_does_not_wait_for_what_does_not_end() {
    let folder = Folder::new();
    folder.write("slow.suite.toml", &suite(86_303, "trap '' TERM; ", "1h"));
    let mut running = Running::start(&folder, &["run", "-v", "."]);
    running.until("step        slow > waits");
    running.signal("INT");
    running.until("the run ends");
    running.signal("INT");
    running.until("ending by force");
    let ran = running.end();
    assert_eq!(ran.code, 130, "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(processes_with("sleep 86303"), Vec::<String>::new());
}
