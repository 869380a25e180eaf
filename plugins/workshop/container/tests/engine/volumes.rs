//! Folders and volumes.

use echo_sdk::contract::service::{ExecReply, StopReply};
use serde_json::json;

use crate::support::{Run, obedient};

#[tokio::test]
async fn a_folder_beside_the_suite_is_mounted() {
    let run = Run::new().await;
    let data = run.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("in"), "from the suite\n").unwrap();
    let volumes = ["./data:/rw", "./data:/ro:ro"];
    run.up("box", json!({"command": obedient(), "volumes": volumes})).await;

    assert_eq!(run.output("box", &["cat", "/ro/in"]).await, "from the suite\n");
    run.output("box", &["sh", "-c", "echo written > /rw/out"]).await;
    assert_eq!(std::fs::read_to_string(data.join("out")).unwrap(), "written\n");
    let reply = run.exec(&run.command("box", &["touch", "/ro/no"])).await;
    assert!(matches!(reply, ExecReply::Exited { exit_code: 1, .. }), "{reply:?}");
    run.finish().await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named_and_not_made() {
    let run = Run::new().await;
    let keys = json!({"command": obedient(), "volumes": ["./missing:/x"]});
    let (reason, _) = run.refused("box", keys).await;
    let path = run.dir.path().join("missing");
    assert!(reason.contains("/./missing` is not there"), "{reason}");
    assert!(!path.exists());
    assert_eq!(run.left(), [""; 0]);
    run.finish().await;
}

#[tokio::test]
async fn a_named_volume_is_shared_and_goes_with_the_last_service() {
    let run = Run::new().await;
    let keys = || json!({"command": obedient(), "volumes": ["shared:/data"]});
    tokio::join!(run.up("a", keys()), run.up("b", keys()));
    run.output("a", &["sh", "-c", "echo hello > /data/x"]).await;
    assert_eq!(run.output("b", &["cat", "/data/x"]).await, "hello\n");
    assert_eq!(run.volumes(), [format!("echo-core.{}.suite.shared", run.id)]);

    assert_eq!(run.stop("a").await, StopReply::Stopped);
    assert_eq!(run.output("b", &["cat", "/data/x"]).await, "hello\n");
    assert_eq!(run.stop("b").await, StopReply::Stopped);
    assert_eq!(run.left(), [""; 0]);
    run.finish().await;
}
