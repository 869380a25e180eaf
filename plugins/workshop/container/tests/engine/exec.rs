//! Commands within a container.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::EventsOptionsBuilder;
use echo_sdk::contract::service::ExecReply;
use futures_util::StreamExt;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;

use crate::support::{IMAGE, PATIENCE, Run, docker, obedient};

async fn up() -> Run {
    let run = Run::new().await;
    let keys = json!({"command": obedient(), "env": {"FROM_SERVICE": "1"}, "workdir": "/var"});
    run.up("box", keys).await;
    run
}

fn exited(exit_code: i32, stdout: &str, stderr: &str) -> ExecReply {
    ExecReply::Exited { exit_code, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// Waits until no process of the container has `text` in its command line.
async fn gone(run: &Run, text: &str) {
    let look = async { while run.output("box", &["ps"]).await.contains(text) {} };
    timeout(Duration::from_secs(5), look).await.expect("the process is gone");
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let run = up().await;
    let command = ["printf", "%s|", "a b", "$HOME", "\"'", "", "*", "ü\n"];
    assert_eq!(run.output("box", &command).await, "a b|$HOME|\"'||*|ü\n|");
    run.finish().await;
}

#[tokio::test]
async fn the_exit_code_and_both_streams_come_back() {
    let run = up().await;
    let command = run.command("box", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(run.exec(&command).await, exited(7, "out\n", "err\n"));
    let killed = run.command("box", &["sh", "-c", "kill -9 $$"]);
    assert_eq!(run.exec(&killed).await, exited(137, "", ""));
    run.finish().await;
}

#[tokio::test]
async fn environment_and_folder_are_the_step_s_over_the_service_s() {
    let run = up().await;
    let mut command = run.command("box", &["sh", "-c", "echo $FROM_SERVICE $FROM_STEP $PWD"]);
    assert_eq!(run.exec(&command).await, exited(0, "1 /var\n", ""));
    command.env = [("FROM_STEP".to_owned(), "two words=2".to_owned())].into();
    command.workdir = Some("/tmp".to_owned());
    assert_eq!(run.exec(&command).await, exited(0, "1 two words=2 /tmp\n", ""));
    command.workdir = Some("../root".to_owned());
    assert_eq!(run.exec(&command).await, exited(0, "1 two words=2 /root\n", ""));
    run.finish().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_no_exit_code() {
    let run = up().await;
    for (command, workdir, word) in [
        ("no-such-program", None, "not found"),
        ("/etc/passwd", None, "permission denied"),
        ("true", Some("/no/such/folder"), "no such file or directory"),
    ] {
        let mut command = run.command("box", &[command]);
        command.workdir = workdir.map(str::to_owned);
        let ExecReply::Failed { reason } = run.exec(&command).await else { panic!("{word}") };
        assert!(reason.contains(&command.command[0]) && reason.contains(word), "{reason}");
        assert!(!reason.contains("OCI runtime"), "{reason}");
    }
    // The shell's own words for it are its output, and its exit code is one.
    let reply = run.exec(&run.command("box", &["sh", "-c", "no-such-program"])).await;
    assert!(matches!(reply, ExecReply::Exited { exit_code: 127, .. }), "{reply:?}");
    run.finish().await;
}

#[tokio::test]
async fn a_command_is_waited_for_after_its_output_has_ended() {
    let run = up().await;
    let command = run.command("box", &["sh", "-c", "exec >/dev/null 2>&1; sleep 0.3; exit 5"]);
    assert_eq!(run.exec(&command).await, exited(5, "", ""));
    let closed = run.command("box", &["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 6"]);
    assert_eq!(run.exec(&closed).await, exited(6, "", ""));
    run.finish().await;
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_is_not_waited_for() {
    let run = up().await;
    let begun = Instant::now();
    let command = run.command("box", &["sh", "-c", "sleep 999 & echo started"]);
    assert_eq!(run.exec(&command).await, exited(0, "started\n", ""));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(run.output("box", &["ps"]).await.contains("sleep 999"), "and it runs on");
    run.finish().await;
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let run = up().await;
    let script = "yes 0123456789 | head -n 300000; echo end";
    let stdout = run.output("box", &["sh", "-c", script]).await;
    assert!(stdout.starts_with("[the first ") && stdout.ends_with("\nend\n"));
    assert!(stdout.len() < 1024 * 1024 + 100, "{}", stdout.len());
    run.finish().await;
}

async fn times_out(run: &Run) {
    let script = "echo before; sleep 998 & sleep 999";
    let mut command = run.command("box", &["sh", "-c", script]);
    command.timeout = Duration::from_millis(500);
    let begun = Instant::now();
    let ExecReply::TimedOut { stdout, stderr } = run.exec(&command).await else {
        panic!("it ends in no time")
    };
    assert_eq!((stdout.as_str(), stderr.as_str()), ("before\n", ""));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    gone(run, "sleep 99").await;
    // The service itself was not touched.
    assert!(run.output("box", &["ps"]).await.contains("sleep 1000"));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let run = up().await;
    times_out(&run).await;
    run.finish().await;
}

/// An engine on another machine, as far as the plugin can tell: nothing is killed from here.
#[tokio::test]
async fn a_command_is_killed_from_within_on_an_engine_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let forwarder = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut engine = UnixStream::connect("/var/run/docker.sock").await.unwrap();
                // It ends when either side has hung up.
                let _ = copy_bidirectional(&mut client, &mut engine).await;
            });
        }
    });
    let run = Run::on(Some(address)).await;
    let address = run.up("box", json!({"command": obedient()})).await;
    assert_eq!(address.host, "127.0.0.1");
    times_out(&run).await;
    run.finish().await;
    forwarder.abort();
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_is_killed() {
    const CUT_OFFS: [u64; 8] = [5, 20, 40, 60, 80, 120, 200, 600];
    let run = up().await;
    let killed = tokio::spawn(killed(run.containers().remove(0), CUT_OFFS.len()));
    for cut_off in CUT_OFFS.map(Duration::from_millis) {
        let command = run.command("box", &["sleep", "997"]);
        assert!(timeout(cut_off, run.exec(&command)).await.is_err());
    }
    // Whatever each had come to by then.
    timeout(Duration::from_secs(10), killed).await.expect("all are killed").unwrap();
    assert!(!run.output("box", &["ps"]).await.contains("sleep 997"));
    run.finish().await;
}

/// Waits until so many commands have been killed in a container.
async fn killed(container: String, mut count: usize) {
    let filters = HashMap::from([("container", vec![container])]);
    let options = EventsOptionsBuilder::default().since("1").filters(&filters).build();
    let mut events = Docker::connect_with_defaults().unwrap().events(Some(options));
    while count > 0 {
        let event = events.next().await.unwrap().unwrap();
        // Docker has `exec_die` and `exitCode`, Podman `exec_died` and `containerExitCode`.
        if event.action.unwrap().starts_with("exec_die") {
            let attributes = event.actor.unwrap().attributes.unwrap();
            let code = attributes.get("exitCode").or(attributes.get("containerExitCode"));
            // What kills, if that takes a command too, ends by itself.
            count -= usize::from(code.is_some_and(|code| code == "137"));
        }
    }
}

#[tokio::test]
async fn a_command_of_a_service_that_has_died_fails() {
    let run = up().await;
    let command = run.command("box", &["sleep", "996"]);
    let reply = run.exec(&command);
    let kill = async {
        timeout(PATIENCE, async {
            while !run.output("box", &["ps"]).await.contains("sleep 996") {}
        })
        .await
        .unwrap();
        run.stop("box").await;
    };
    let (reply, ()) = tokio::join!(reply, kill);
    let ExecReply::Failed { reason } = reply else { panic!("{reply:?}") };
    assert!(reason.contains("`box`"), "{reason}");
    run.finish().await;
}

#[tokio::test]
async fn an_image_without_a_shell_will_do() {
    let run = Run::new().await;
    let image = format!("echo-core-test/bare:{}", run.id);
    let script = format!(
        "set -e; c=$(docker create {IMAGE}); docker cp $c:/bin/busybox - | docker import - {image}; docker rm $c"
    );
    let built = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(built.status.success(), "{built:?}");

    let sleep = ["/busybox", "sleep", "1000"];
    run.up("bare", json!({"image": image, "command": sleep})).await;
    assert_eq!(run.output("bare", &["/busybox", "echo", "a  b"]).await, "a  b\n");
    let reply = run.exec(&run.command("bare", &["sh", "-c", "true"])).await;
    assert!(matches!(reply, ExecReply::Failed { .. }), "{reply:?}");
    let mut command = run.command("bare", &["/busybox", "sleep", "999"]);
    command.timeout = Duration::from_millis(300);
    let reply = run.exec(&command).await;
    assert!(matches!(reply, ExecReply::TimedOut { .. }), "{reply:?}");
    assert!(!run.output("bare", &["/busybox", "ps"]).await.contains("sleep 999"));
    run.finish().await;
    assert!(docker(&["image", "rm", &image]).status.success());
}
