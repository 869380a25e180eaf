//! The other keys, as the engine has them.

use serde_json::{Value, json};

use crate::support::{Run, SUITE, inspect};

#[tokio::test]
async fn each_key_reaches_the_engine() {
    let run = Run::new().await;
    let keys = json!({
        "entrypoint": ["sh", "-c"],
        "command": ["trap 'exit 0' TERM; sleep 1000 & wait"],
        "env": {"A": "b c"},
        "workdir": "/tmp",
        "user": "65534:65534",
        "hostname": "my-box",
        "labels": {"team": "x"},
        "memory": "64mb",
        "cpus": 0.5,
        "cap_add": ["NET_ADMIN"],
    });
    let address = run.up("box", keys).await;
    let seen: Value = serde_json::from_str(&inspect(&address.instance, "{{json .}}")).unwrap();
    let (config, host) = (&seen["Config"], &seen["HostConfig"]);
    assert_eq!(config["Entrypoint"], json!(["sh", "-c"]));
    assert_eq!(config["User"], "65534:65534");
    assert_eq!(config["Labels"]["team"], "x");
    assert_eq!(config["Labels"]["echo-core.run"], run.id.as_str());
    assert_eq!(config["Labels"]["echo-core.suite"], SUITE);
    assert_eq!(config["Labels"]["echo-core.service"], "box");
    assert_eq!(config["Labels"]["echo-core.host"], std::process::id().to_string());
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(64 << 20), &json!(64 << 20)));
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["CapAdd"], json!(["NET_ADMIN"]));
    assert_eq!(host["Privileged"], false);

    let script = "echo $A; pwd; id -u; hostname";
    let said = run.output("box", &["sh", "-c", script]).await;
    assert_eq!(said, "b c\n/tmp\n65534\nmy-box\n");
    run.finish().await;
}

#[tokio::test]
async fn a_missing_image_is_named_with_the_ways_out() {
    let run = Run::new().await;
    let image = "registry.invalid/team/api:9";
    for (pull, word) in [("never", "pull = \"never\""), ("missing", "could not be pulled")] {
        let (reason, _) = run.refused("api", json!({"image": image, "pull": pull})).await;
        for word in [word, image, "docker pull", "docker load"] {
            assert!(reason.contains(word), "{pull}: {reason}");
        }
        assert_eq!(reason.lines().count(), 1, "{reason}");
    }
    assert_eq!(run.left(), [""; 0]);
    run.finish().await;
}

#[tokio::test]
async fn a_fault_is_refused_before_anything_is_made() {
    let run = Run::new().await;
    for (keys, word) in [
        (json!({"imag": "x"}), "imag"),
        (json!({"ports": ["http"]}), "http"),
        (json!({"volumes": ["a:b"]}), "a:b"),
        (json!({"command": ["no-such-program"]}), "no-such-program"),
    ] {
        let (reason, _) = run.refused("box", keys).await;
        assert!(reason.contains("`box`") && reason.contains(word), "{reason}");
        assert_eq!(run.left(), [""; 0]);
    }
    run.finish().await;
}
