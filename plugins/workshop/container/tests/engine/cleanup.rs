//! Nothing is left, whatever happens.

use std::time::Duration;

use echo_plugin_container::Containers;
use echo_sdk::service::{LogSink, Scope, ServicePlugin};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{Run, SUITE, docker, obedient};

#[tokio::test]
async fn a_start_that_is_cut_off_at_any_moment_leaves_nothing() {
    let run = Run::new().await;
    let containers = Containers::default();
    let request = run.request("box", json!({"command": obedient(), "volumes": ["v:/v"]}));
    let mut cut_off = 0;
    for millis in [0, 1, 3, 10, 30, 60, 100, 150, 200, 300, 400] {
        let start = containers.start(&request, LogSink::new());
        match timeout(Duration::from_millis(millis), start).await {
            Ok(started) => {
                let container = started.unwrap();
                containers.stop(&container, Duration::ZERO).await.unwrap();
            }
            Err(_) => {
                cut_off += 1;
                containers.cleanup(Scope::Service(&request.id)).await.unwrap();
            }
        }
        assert_eq!(run.containers(), [""; 0], "cut off after {millis} ms");
    }
    assert!(cut_off > 0);
    containers.cleanup(Scope::Run(&run.id)).await.unwrap();
    run.finish().await;
}

#[tokio::test]
async fn a_plugin_that_knows_nothing_of_a_run_cleans_up_after_it() {
    let run = Run::new().await;
    run.up("a", json!({"command": obedient(), "volumes": ["v:/v"]})).await;
    run.up("b", json!({"command": obedient()})).await;
    let other = Run::new().await;
    other.up("a", json!({"command": obedient()})).await;

    // As after a host that was killed.
    let removed = Containers::default().cleanup(Scope::Run(&run.id)).await.unwrap();
    let mut expected = vec![
        format!("container `echo-core.{}.{SUITE}.a`", run.id),
        format!("container `echo-core.{}.{SUITE}.b`", run.id),
        format!("network `echo-core.{}.{SUITE}`", run.id),
        format!("volume `echo-core.{}.{SUITE}.v`", run.id),
    ];
    let mut found = removed;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(run.left(), [""; 0]);
    assert_eq!(other.left().len(), 2, "another run's are not touched");
    other.finish().await;
    run.finish().await;
}

#[tokio::test]
async fn a_container_that_somebody_else_removed_is_dead_and_no_hindrance() {
    let run = Run::new().await;
    let address = run.up("box", json!({"command": obedient()})).await;
    docker(&["rm", "--force", &address.instance]);
    let died = timeout(crate::support::PATIENCE, run.probe.next("service.died")).await;
    died.expect("a death");
    run.finish().await;
}

#[tokio::test]
async fn unnamed_volumes_of_an_image_go_with_the_container() {
    let run = Run::new().await;
    let image = format!("echo-core-test/volume:{}", run.id);
    let script = format!(
        "docker export $(docker create --label echo-core.run={} {}) \
         | docker import --change 'VOLUME /data' --change 'ENV PATH=/bin' - {image}",
        run.id,
        crate::support::IMAGE
    );
    let built = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let address = run.up("box", json!({"image": image, "command": obedient()})).await;
    let volume = "{{range .Mounts}}{{.Name}}{{end}}";
    let volume = crate::support::inspect(&address.instance, volume);
    assert!(docker(&["volume", "inspect", &volume]).status.success());
    run.stop("box").await;
    assert!(!docker(&["volume", "inspect", &volume]).status.success());
    run.finish().await;
    assert!(docker(&["image", "rm", &image]).status.success());
}
