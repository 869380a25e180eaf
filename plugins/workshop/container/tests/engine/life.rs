//! Starting, dying, stopping.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use echo_sdk::contract::service::{self, ServiceDied, ServiceReady, StopReply};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{IMAGE, PATIENCE, Run, docker, obedient};

async fn died(run: &Run) -> ServiceDied {
    let event = timeout(PATIENCE, run.probe.next(service::DIED)).await.expect("a death");
    event.message.json().unwrap()
}

/// Ready by its first line, and then whatever `script` says.
fn script(script: &str) -> Value {
    json!({
        "command": ["sh", "-c", format!("echo up; read -t 1 x </dev/zero; {script}")],
        "ready": {"log": "^up$"},
    })
}

#[tokio::test]
async fn a_death_is_told_with_the_exit_code_and_the_last_lines() {
    let run = Run::new().await;
    run.up("web", script("echo bye; echo oops >&2; exit 3")).await;
    let ServiceDied { ending, mut log, .. } = died(&run).await;
    assert_eq!(ending, "exit code 3");
    log.sort();
    assert_eq!(log, ["bye", "oops", "up"]);
    assert_eq!(run.containers().len(), 1, "until it is stopped");
    assert_eq!(run.stop("web").await, StopReply::Stopped);
    assert_eq!(run.left(), [""; 0]);
    run.finish().await;
}

#[tokio::test]
async fn a_signal_is_named() {
    let run = Run::new().await;
    let web = run.up("web", json!({"command": obedient()})).await;
    docker(&["kill", &web.instance]);
    assert_eq!(died(&run).await.ending, "exit code 137 (signal 9)");
    run.finish().await;
}

#[tokio::test]
async fn want_of_memory_is_named() {
    let run = Run::new().await;
    let mut keys = script("exec tail /dev/zero");
    keys["memory"] = json!("16mb");
    run.up("hungry", keys).await;
    let ending = died(&run).await.ending;
    assert!(ending.contains("137") && ending.contains("raise `memory`"), "{ending}");
    run.finish().await;
}

#[tokio::test]
async fn a_service_that_ends_before_it_is_ready_is_refused_with_its_log() {
    let run = Run::new().await;
    let command = ["sh", "-c", "echo cannot >&2; exit 4"];
    let keys = json!({"command": command, "ports": ["80"]});
    let (reason, log) = run.refused("web", keys).await;
    assert!(reason.contains("exit code 4"), "{reason}");
    assert_eq!(log, ["cannot"]);
    assert_eq!(run.left(), [""; 0]);
    run.finish().await;
}

#[tokio::test]
async fn a_service_that_obeys_is_stopped_at_once() {
    let run = Run::new().await;
    let command = ["sh", "-c", "trap 'echo leaving; exit 0' TERM; sleep 1000 & wait"];
    run.up("web", json!({"command": command, "stop_timeout": "30s"})).await;
    let begun = Instant::now();
    assert_eq!(run.stop("web").await, StopReply::Stopped);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(run.left(), [""; 0]);
    run.finish().await;
}

#[tokio::test]
async fn a_service_that_does_not_obey_is_killed_after_its_time() {
    let run = Run::new().await;
    let command = ["sh", "-c", "trap '' TERM; echo up; sleep 1000"];
    let keys = json!({"command": command, "stop_timeout": "700ms", "ready": {"log": "up"}});
    run.up("web", keys).await;
    let begun = Instant::now();
    assert_eq!(run.stop("web").await, StopReply::Stopped);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_millis(2700), "{took:?}");
    assert_eq!(run.left(), [""; 0]);
    run.finish().await;
}

#[tokio::test]
async fn output_is_followed_line_by_line() {
    let run = Run::new().await;
    // The second line is longer than an engine keeps in one piece.
    let script =
        "printf 'one\\n'; head -c 20000 /dev/zero | tr '\\0' x; echo; echo three; sleep 1000";
    let keys = json!({"command": ["sh", "-c", script], "ready": {"log": "^three$"}});
    run.up("web", keys).await;
    let log = run.log("web").await;
    assert_eq!((log.len(), log[0].as_str(), log[2].as_str()), (3, "one", "three"));
    assert!(log[1].starts_with("xxxx") && log[1].ends_with("(cut)"), "{}", log[1].len());
    run.finish().await;
}

/// What the engine itself takes is taken off: the same container, created and started with nothing around.
#[tokio::test]
async fn a_start_costs_little_beside_the_engine_s_time() {
    let run = Run::new().await;
    let engine = Docker::connect_with_defaults().unwrap();
    let (mut ours, mut engines) = (Vec::new(), Vec::new());
    for number in 0..5 {
        let name = format!("web-{number}");
        run.up(&name, json!({"command": obedient(), "network": "none"})).await;
        let ready = run.probe.next(service::READY).await;
        ours.push(ready.message.json::<ServiceReady>().unwrap().duration_ms);
        run.stop(&name).await;

        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(["sleep", "1000"].map(str::to_owned).to_vec()),
            labels: Some([("echo-core.run".to_owned(), run.id.to_string())].into()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let begun = Instant::now();
        let id = engine.create_container(None, body).await.unwrap().id;
        engine.start_container(&id, None).await.unwrap();
        engines.push(begun.elapsed().as_secs_f64() * 1000.0);
        let force = RemoveContainerOptionsBuilder::default().force(true).build();
        engine.remove_container(&id, Some(force)).await.unwrap();
    }
    println!("ready after {ours:.1?} ms, of which the engine takes {engines:.1?} ms");
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let own = least(&ours) - least(&engines);
    assert!(own < 50.0, "{own} ms of our own: {ours:?} against {engines:?}");
    run.finish().await;
}
