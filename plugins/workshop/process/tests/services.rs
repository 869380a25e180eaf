//! Programs as services: readiness, environment, death, and that nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use echo_sdk::contract::service::{DIED, FAILED, READY, ServiceDied, ServiceFailed, ServiceReady};
use echo_sdk::testing::request;
use echo_sdk::{Plugin, Topic};
use serde_json::json;
use support::{Bench, WEB, alive, ended, id, reason, stdout};

#[tokio::test]
async fn a_server_is_ready_when_its_port_its_log_its_page_and_a_command_say_so() {
    let bench = Bench::new();
    let ready =
        json!({ "port": "web", "http": "/", "log": "^serving$", "command": ["test", "-d", "."] });
    let keys = json!({ "command": ["python3", "-c", WEB], "ports": ["web"], "ready": ready });
    let reply = bench.start("api", keys).await;
    assert_eq!(reply["result"], "ready", "{reply}");
    let port = reply["address"]["ports"]["web"].as_u64().unwrap();
    assert_eq!(reply["address"]["host"], "127.0.0.1");
    let told: ServiceReady = bench.event(READY).await;
    assert_eq!(
        told.evidence,
        [
            "a line of its output matches `^serving$`: serving".to_owned(),
            format!("port web (127.0.0.1:{port}) accepts connections"),
            format!("GET http://127.0.0.1:{port}/ answered 200"),
            "`test -d .` exited with 0".to_owned(),
        ]
    );
    assert_eq!(bench.stop("api").await, json!({ "result": "stopped" }));
    ended(reply["address"]["instance"].as_str().unwrap()).await;
    std::net::TcpListener::bind(("127.0.0.1", port as u16)).unwrap();
}

#[tokio::test]
async fn without_a_check_the_first_port_counts_and_without_a_port_it_runs() {
    let bench = Bench::new();
    let keys = json!({ "command": ["python3", "-c", WEB], "ports": ["web", "admin"] });
    assert_eq!(bench.start("api", keys).await["result"], "ready");
    let told: ServiceReady = bench.event(READY).await;
    assert!(told.evidence[0].starts_with("port web ("), "{:?}", told.evidence);
    bench.start("idle", json!({ "command": ["sleep", "1000"] })).await;
    let told: ServiceReady = bench.event(READY).await;
    assert_eq!(told.evidence, ["it runs; the suite asks for no other sign"]);
    bench.plugin.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_death_during_the_start_fails_at_once_with_the_ending_and_the_last_words() {
    let bench = Bench::new();
    let script = "echo first; echo 'last words' >&2; exit 3";
    let keys = json!({ "command": ["sh", "-c", script], "ports": ["web"], "start_timeout": "1h" });
    let reply = bench.start("api", keys).await;
    assert_eq!(
        reason(&reply),
        "service `api` did not come up: it ended before it was ready: exit code 3"
    );
    let log: Vec<_> = reply["log"].as_array().unwrap().iter().collect();
    assert!(log.contains(&&json!("first")) && log.contains(&&json!("last words")), "{log:?}");
    let told: ServiceFailed = bench.event(FAILED).await;
    assert_eq!(told.reason, reason(&reply));
}

#[tokio::test]
async fn a_death_after_ready_is_told() {
    let bench = Bench::new();
    let pid = bench.start_script("api", "echo 'so far' >&2; echo up $$; exec sleep 1000").await;
    bench.run_in("api", &["kill", "-9", &pid]).await;
    let told: ServiceDied = bench.event(DIED).await;
    assert_eq!(told.ending, "signal 9 (SIGKILL)");
    assert!(told.log.contains(&"so far".to_owned()), "{:?}", told.log);
    let reply = bench.run_in("api", &["true"]).await;
    assert_eq!(reason(&reply), "service `api` of suite `s` has ended: signal 9 (SIGKILL)");
    assert_eq!(bench.stop("api").await["result"], "stopped");
}

#[tokio::test]
async fn what_does_not_listen_in_time_is_killed_and_what_was_missing_is_named() {
    let bench = Bench::new();
    let script = "echo pid $$; exec sleep 1000";
    let keys =
        json!({ "command": ["sh", "-c", script], "ports": { "web": 0 }, "start_timeout": "300ms" });
    let reply = bench.start("api", keys).await;
    let expected = "service `api` did not come up: it was not ready within 300ms (start_timeout): \
                    port web (127.0.0.1:";
    assert!(reason(&reply).starts_with(expected), "{reply}");
    assert!(reason(&reply).contains("takes no connection"), "{reply}");
    ended(reply["log"][0].as_str().unwrap().strip_prefix("pid ").unwrap()).await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    std::fs::write(bench.dir.path().join("data"), "no program").unwrap();
    std::fs::write(bench.dir.path().join("lost"), "#!/no/such/shell\n").unwrap();
    bench.run(&["chmod", "+x", "lost"]).await;
    for (keys, expected) in [
        (
            json!({ "command": ["no-such-program"] }),
            "there is no program `no-such-program` in PATH (/",
        ),
        (json!({ "command": ["./nothing"] }), "there is no program `/"),
        (json!({ "command": ["./data"] }), "data` may not be run: Permission denied"),
        (
            json!({ "command": ["./lost"] }),
            "lost` cannot be run: the interpreter that it names is not",
        ),
        (json!({ "command": ["sh"], "workdir": "gone" }), "/gone: there is no such folder"),
        (
            json!({ "command": ["sh"], "ports": { "web": taken } }),
            "for `web` is taken on this machine",
        ),
        (json!({ "command": ["sh"], "colour": "red" }), "unknown field `colour`"),
    ] {
        let reply = bench.start("api", keys).await;
        assert!(reason(&reply).contains(expected), "{reply}");
    }
}

#[tokio::test]
async fn the_environment_is_small_unless_the_suite_wants_more() {
    let bench = Bench::new();
    let keys = json!({
        "command": ["sh", "-c", "env; pwd; echo done; exec sleep 1000"],
        "env": { "MINE": "a  b", "LANG": "C" },
        "ports": ["web", "admin-ui"],
        "ready": { "log": "^done$" },
    });
    let reply = bench.start("api", keys.clone()).await;
    let ports = &reply["address"]["ports"];
    let lines = bench.lines("api").await;
    let value = |name: &str| {
        let mut values = lines.iter().filter_map(|line| line.strip_prefix(&format!("{name}=")));
        values.next().map(str::to_owned)
    };
    assert_eq!(value("MINE").unwrap(), "a  b");
    assert_eq!(value("LANG").unwrap(), "C");
    assert_eq!(value("PORT").unwrap(), ports["web"].to_string());
    assert_eq!(value("PORT_WEB").unwrap(), ports["web"].to_string());
    assert_eq!(value("PORT_ADMIN_UI").unwrap(), ports["admin-ui"].to_string());
    assert_eq!(
        (value("ECHO_RUN_ID").unwrap(), value("ECHO_SERVICE").unwrap()),
        ("r1".into(), "api".into())
    );
    assert!(lines.contains(&bench.dir.path().to_str().unwrap().to_owned()), "{lines:?}");
    // Beside these there may be what the shell itself adds.
    let known = ["PATH", "HOME", "LANG", "TMPDIR", "MINE", "PWD", "OLDPWD", "SHLVL", "_"];
    let foreign = |name: &&str| {
        !known.contains(name) && !name.starts_with("ECHO_") && !name.starts_with("PORT")
    };
    let names = lines.iter().filter_map(|line| Some(line.split_once('=')?.0));
    assert_eq!(names.filter(foreign).collect::<Vec<_>>(), [""; 0]);
    let scratch = value("ECHO_SCRATCH").unwrap();
    assert!(support::is_empty(Path::new(&scratch)));

    let mut all = keys;
    all["inherit_env"] = json!(true);
    bench.start("rich", all).await;
    support::assert_host_environment(&bench.lines("rich").await.join("\n"));
    bench.plugin.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_stop_asks_first_and_removes_the_scratch_folder() {
    let bench = Bench::new();
    let script = "trap 'echo bye > farewell; kill $!; exit 0' TERM
        echo x > \"$ECHO_SCRATCH/file\"; sleep 1000 & echo up $ECHO_SCRATCH; wait";
    let scratch = bench.start_script("api", script).await;
    assert!(Path::new(&scratch).join("file").exists());
    assert_eq!(bench.stop("api").await["result"], "stopped");
    assert_eq!(std::fs::read_to_string(bench.dir.path().join("farewell")).unwrap(), "bye\n");
    assert!(!Path::new(&scratch).exists());
    let root = Path::new(&scratch).parent().unwrap();
    assert!(support::is_empty(root));
    bench.plugin.shutdown().await.unwrap();
    assert!(!root.exists());
}

#[tokio::test]
async fn a_stop_ends_children_the_deaf_and_those_that_left_the_group() {
    let bench = Bench::new();
    let script = "trap '' TERM
        sh -c 'sleep 1000 & echo $! > inner; wait' & setsid sleep 1000 & left=$!
        until [ -s inner ]; do sleep 0.01; done
        echo up $$ $! $left $(cat inner); while :; do sleep 1000; done";
    let keys = json!({ "command": ["sh", "-c", script], "ready": { "log": "^up" }, "stop_timeout": "50ms" });
    assert_eq!(bench.start("api", keys).await["result"], "ready");
    let pids = bench.lines("api").await[0].strip_prefix("up ").unwrap().to_owned();
    assert!(pids.split(' ').all(alive), "{pids}");
    assert_eq!(bench.stop("api").await["result"], "stopped");
    ended(&pids).await;
}

#[tokio::test]
async fn a_program_that_ends_takes_its_group_along() {
    let bench = Bench::new();
    let pid = bench.start_script("api", "sleep 1000 & echo up $!; sleep 0.01").await;
    let told: ServiceDied = bench.event(DIED).await;
    assert_eq!(told.ending, "exit code 0");
    ended(&pid).await;
}

#[tokio::test]
async fn a_cleanup_leaves_nothing_of_its_run() {
    let bench = Bench::new();
    let first = bench.start_script("a", "setsid sleep 1000 & echo up $$ $!; wait").await;
    let second = bench.start_script("b", "echo up $$; exec sleep 1000").await;
    let reply = bench.run(&["sh", "-c", "setsid sleep 1000 >&- 2>&- & echo $!"]).await;
    let behind = stdout(&reply).to_owned();
    assert!(alive(&behind), "a command may leave something running");
    let reply = bench.ask("service.cleanup.local", json!({ "run_id": "other" })).await;
    assert_eq!(reply["removed"], json!([]));
    assert!(alive(&behind), "it belongs to another run");

    let reply = bench.ask("service.cleanup.process", json!({ "run_id": "r1" })).await;
    assert_eq!(reply["failures"], json!([]), "{reply}");
    let removed = reply["removed"].to_string();
    for part in ["service `a` of suite `s`", "service `b` of suite `s`", "(sleep)"] {
        assert!(removed.contains(part), "{removed}");
    }
    ended(&format!("{first} {second} {behind}")).await;
}

#[tokio::test]
async fn a_handler_that_is_cut_off_leaves_nothing() {
    let bench = Arc::new(Bench::new());
    let script = "echo $$ > pid.new; mv pid.new pid; exec sleep 1000";
    let keys = json!({ "command": ["sh", "-c", script], "ready": { "log": "never" } });
    let message = request(&bench.start_data("api", keys));
    let starter = bench.clone();
    let task = tokio::spawn(async move {
        let topic = Topic::new("service.start.process").unwrap();
        starter.plugin.process_message(&topic, &message).await
    });
    bench.run(&["sh", "-c", "until [ -s pid ]; do sleep 0.01; done"]).await;
    let pid = std::fs::read_to_string(bench.dir.path().join("pid")).unwrap();
    assert!(alive(&pid));
    task.abort();
    let told: ServiceFailed = bench.event(FAILED).await;
    assert!(told.reason.ends_with("withdrawn"), "{}", told.reason);
    ended(&pid).await;
}

#[tokio::test]
async fn dropping_the_plugin_kills_what_runs() {
    let bench = Bench::new();
    let pids = bench.start_script("a", "sleep 1000 & echo up $$ $!; wait").await;
    drop(bench);
    ended(&pids).await;
}

#[tokio::test]
async fn commands_run_in_the_service_s_surroundings() {
    let bench = Bench::new();
    std::fs::create_dir(bench.dir.path().join("sub")).unwrap();
    let keys = json!({
        "command": ["python3", "-c", WEB],
        "ports": ["web"],
        "env": { "A": "service", "B": "service" },
        "workdir": "sub",
    });
    let reply = bench.start("api", keys).await;
    let port = reply["address"]["ports"]["web"].to_string();
    let mut data = bench.exec_data(
        Some("api"),
        &["sh", "-c", "echo $PORT_WEB $A $B; pwd; test -w \"$ECHO_SCRATCH\""],
    );
    data["env"] = json!({ "B": "step" });
    let reply = bench.ask("service.exec.process", data.clone()).await;
    let sub = bench.dir.path().join("sub");
    assert_eq!(stdout(&reply), format!("{port} service step\n{}\n", sub.display()));
    assert_eq!(reply["exit_code"], 0);
    data["workdir"] = json!("..");
    data["command"] = json!(["pwd", "-P"]);
    let reply = bench.ask("service.exec.process", data).await;
    assert_eq!(stdout(&reply).trim(), bench.dir.path().parent().unwrap().to_str().unwrap());

    let mut unknown = id("api");
    unknown["run_id"] = json!("other");
    unknown["command"] = json!(["true"]);
    unknown["timeout"] = json!("1s");
    let reply = bench.ask("service.exec.process", unknown).await;
    assert_eq!(reason(&reply), "service `api` of suite `s` does not run");
    bench.plugin.shutdown().await.unwrap();
}
