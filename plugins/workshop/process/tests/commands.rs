//! Commands on this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use echo_sdk::service::MAX_OUTPUT;
use echo_sdk::testing::{message, request};
use echo_sdk::{Plugin, ProcessingStatus, Topic};
use serde_json::json;
use support::{Bench, alive, ended, reason, stdout};

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let bench = Bench::new();
    let odd = ["", "a  b", "$HOME", "`id`", "\"'", "*", "\\n", "ä\n"];
    let reply = bench.run(&[&["printf", "%s|"], &odd[..]].concat()).await;
    assert_eq!(stdout(&reply), odd.join("|") + "|");
}

#[tokio::test]
async fn outputs_are_kept_apart_and_the_ending_is_told() {
    let bench = Bench::new();
    let reply = bench.run(&["sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!(
        reply,
        json!({ "result": "exited", "exit_code": 7, "stdout": "out\n", "stderr": "err\n" })
    );
    let reply = bench.run(&["sh", "-c", "kill -TERM $$"]).await;
    assert_eq!(reply["exit_code"], 128 + 15);
    let reply = bench.run(&["cat"]).await;
    assert_eq!((stdout(&reply), &reply["exit_code"]), ("", &json!(0)));
}

#[tokio::test]
async fn it_runs_in_the_suite_s_folder_with_the_host_s_environment_and_more() {
    let bench = Bench::new();
    std::fs::create_dir(bench.dir.path().join("sub")).unwrap();
    let script = "pwd; echo $MORE $ECHO_RUN_ID; env";
    let mut data = bench.exec_data(None, &["sh", "-c", script]);
    data["env"] = json!({ "MORE": "a b" });
    let reply = bench.ask("service.exec.local", data.clone()).await;
    let dir = bench.dir.path().to_str().unwrap();
    assert!(stdout(&reply).starts_with(&format!("{dir}\na b r1\n")), "{reply}");
    support::assert_host_environment(stdout(&reply));
    data["workdir"] = json!("sub");
    let reply = bench.ask("service.exec.local", data).await;
    assert!(stdout(&reply).starts_with(&format!("{dir}/sub\n")), "{reply}");
}

#[tokio::test]
async fn past_its_time_it_is_killed_with_its_group_and_what_it_wrote_is_kept() {
    let bench = Bench::new();
    let script = "sleep 1000 & echo $$ $!; echo busy >&2; wait";
    let mut data = bench.exec_data(None, &["sh", "-c", script]);
    data["timeout"] = json!("300ms");
    let reply = bench.ask("service.exec.local", data).await;
    assert_eq!((&reply["result"], &reply["stderr"]), (&json!("timed_out"), &json!("busy\n")));
    ended(reply["stdout"].as_str().unwrap()).await;
}

#[tokio::test]
async fn what_cannot_be_run_says_what_and_where() {
    let bench = Bench::new();
    let path = std::env::var("PATH").unwrap();
    let reply = bench.run(&["no-such-program"]).await;
    assert_eq!(reason(&reply), format!("there is no program `no-such-program` in PATH ({path})"));
    let reply = bench.run(&["./no-such-program", "x"]).await;
    let dir = bench.dir.path().display();
    assert_eq!(reason(&reply), format!("there is no program `{dir}/./no-such-program`"));
    assert_eq!(reason(&bench.run(&[]).await), "the command is empty");
    let mut data = bench.exec_data(None, &["true"]);
    data["workdir"] = json!("/no/such");
    let reply = bench.ask("service.exec.local", data.clone()).await;
    assert_eq!(reason(&reply), "`true` cannot run in /no/such: there is no such folder");
    data["env"] = json!({ "": "x" });
    assert!(
        reason(&bench.ask("service.exec.local", data).await).contains("cannot name an environment")
    );
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let bench = Bench::new();
    let script = "print('x' * (3 << 20) + 'end')";
    let reply = bench.run(&["python3", "-c", script]).await;
    let (note, kept) = stdout(&reply).split_once('\n').unwrap();
    assert_eq!(note, format!("[the first {} bytes were cut]", (3 << 20) + 4 - MAX_OUTPUT));
    assert!(kept.ends_with("xend\n") && kept.len() == MAX_OUTPUT);
}

#[tokio::test]
async fn what_it_leaves_running_does_not_hold_it_up() {
    let bench = Bench::new();
    let reply = bench.run(&["sh", "-c", "sleep 1000 & echo $!"]).await;
    let pid = stdout(&reply).to_owned();
    assert_eq!(reply["exit_code"], 0);
    assert!(alive(&pid), "it may be meant for the next step");
    bench.ask("service.cleanup.local", json!({ "run_id": "r1" })).await;
    ended(&pid).await;
}

#[tokio::test]
async fn a_cleanup_ends_commands_in_hand_and_refuses_those_that_come_late() {
    let bench = Arc::new(Bench::new());
    let late = request(&bench.exec_data(None, &["true"]));
    let runner = bench.clone();
    // Without the environment it cannot be known by its mark, only by its group.
    let script = "echo $$ > pid.new; mv pid.new pid; exec env -i sleep 1000";
    let running = tokio::spawn(async move { runner.run(&["sh", "-c", script]).await });
    let mut other = bench.exec_data(None, &["sh", "-c", "until [ -s pid ]; do sleep 0.01; done"]);
    other["run_id"] = json!("r2");
    bench.ask("service.exec.local", other).await;
    let reply = bench.ask("service.cleanup.local", json!({ "run_id": "r1" })).await;
    assert_eq!((&reply["service_type"], &reply["failures"]), (&json!("local"), &json!([])));
    let reply = running.await.unwrap();
    assert_eq!(reply["exit_code"], 128 + 9, "{reply}");
    let topic = Topic::new("service.exec.local").unwrap();
    bench.plugin.process_message(&topic, &late).await.unwrap();
    let reply = bench.probe.replies().pop().unwrap().message.json().unwrap();
    assert_eq!(reason(&reply), "the command was not run: its run is over");
    assert_eq!(bench.run(&["true"]).await["exit_code"], 0, "a later run of that id");
}

#[tokio::test]
async fn a_handler_that_is_cut_off_kills_its_command() {
    let bench = Arc::new(Bench::new());
    let runner = bench.clone();
    let script = "sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait";
    let task = tokio::spawn(async move { runner.run(&["sh", "-c", script]).await });
    bench.run(&["sh", "-c", "until [ -s pids ]; do sleep 0.01; done"]).await;
    let pids = std::fs::read_to_string(bench.dir.path().join("pids")).unwrap();
    assert!(pids.split_whitespace().all(alive));
    task.abort();
    ended(&pids).await;
}

#[tokio::test]
async fn malformed_requests_are_answered_or_dead() {
    let bench = Bench::new();
    let reply = bench.ask("service.exec.local", json!({ "command": "true" })).await;
    assert!(
        reason(&reply).starts_with("the request on `service.exec.local` is malformed: "),
        "{reply}"
    );
    let reply = bench.ask("service.cleanup.local", json!(1)).await;
    assert_eq!(reply["failures"].as_array().unwrap().len(), 1);
    let topic = Topic::new("service.exec.local").unwrap();
    let status = bench.plugin.process_message(&topic, &message(&1)).await.unwrap();
    assert!(matches!(status, ProcessingStatus::Failed(_)));
}
