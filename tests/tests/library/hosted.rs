//! Libraries in a host: they work beside others that are refused or that panic, and go when it ends.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use echo_core::Host;
use echo_core::library::{Quarantined, quarantined};
use echo_sdk::contract::system::PluginQuarantined;
use echo_sdk::{Pattern, PluginContext, StateSnapshot};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::{Copy, echo, mapped, misbehave, renamed, replace};

/// A folder of enabled plugins.
pub fn enabled(plugins: &[(&str, &Path)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, library) in plugins {
        symlink(library, folder.path().join(name)).unwrap();
    }
    folder
}

async fn say(client: &PluginContext, data: Value) -> Value {
    let message = client.message_builder().data(&data).build().unwrap();
    let answer = client.request("plugin.echo.say", message, Duration::from_secs(10)).await;
    answer.unwrap().json().unwrap()
}

#[tokio::test]
async fn each_status_of_a_library_has_its_effect() {
    let folder = enabled(&[("echo", echo())]);
    let host = Host::builder().enabled_dir(folder.path()).start().await.unwrap();
    assert_eq!(host.refused().len(), 0, "{:?}", host.refused());
    let client = host.client("test");

    assert_eq!(say(&client, json!({ "text": "hi" })).await, json!({ "text": "hi" }));

    let later = json!({ "status": "retry_later", "after": "20ms" });
    assert_eq!(say(&client, later.clone()).await, later);
    assert_eq!(host.plugin("echo").unwrap().metrics.retried, 1);

    let mut heard = host.watch(&Pattern::new("else.where").unwrap(), 1).await.unwrap();
    let forward = json!({ "status": "forward", "topic": "else.where" });
    client.publish_data("plugin.echo.say", &forward).await.unwrap();
    let forwarded = heard.next().await.unwrap().message;
    assert_eq!((forwarded.json::<Value>().unwrap(), forwarded.hops()), (forward, 1));

    let mut dead = host.watch(&Pattern::new("dead.>").unwrap(), 1).await.unwrap();
    let failed = json!({ "status": "failed", "reason": "asked to" });
    client.publish_data("plugin.echo.say", &failed).await.unwrap();
    let letter = dead.next().await.unwrap();
    assert_eq!(letter.topic, "dead.echo.plugin.echo.say");
    assert!(letter.message.json::<Value>().unwrap().to_string().contains("asked to"));

    assert_eq!(host.plugin_metrics("echo").await.unwrap(), json!({ "said": 2 }));
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn what_cannot_be_loaded_is_refused_and_the_host_runs_on() {
    let text = tempfile::NamedTempFile::with_suffix(".so").unwrap();
    std::fs::write(text.path(), "no library").unwrap();
    let old = Copy::of(echo(), |bytes| {
        replace(bytes, b"Echo\0\0\0\0\x01\0\0\0", b"Echo\0\0\0\0\x07\0\0\0");
    });
    let lost = Copy::of(misbehave(), |bytes| {
        replace(bytes, b"\"echo_entry_misbehave\"", b"\"echo_entry_misbehavf\"");
    });
    let folder = enabled(&[
        ("echo", echo()),
        ("text", text.path()),
        ("old", &old.path()),
        ("lost", &lost.path()),
    ]);
    let host = Host::builder().enabled_dir(folder.path()).start().await.unwrap();
    for (name, words) in [
        ("text", "no ELF file"),
        ("old", "built for version 7."),
        ("lost", "`echo_entry_misbehavf`"),
    ] {
        let file = folder.path().join(name).display().to_string();
        let refused = host.refused().iter().find(|refused| refused.file == file);
        let reason = &refused.unwrap_or_else(|| panic!("{name}: {:?}", host.refused())).reason;
        assert!(reason.contains(words) && reason.contains(&file), "{reason}");
    }
    assert_eq!(host.refused().len(), 3);
    assert_eq!(say(&host.client("test"), json!(1)).await, json!(1));
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn a_panicking_library_fails_its_message_and_nothing_else() {
    let folder = enabled(&[("echo", echo()), ("misbehave", misbehave())]);
    let host = Host::builder().enabled_dir(folder.path()).start().await.unwrap();
    let client = host.client("test");
    let mut dead = host.watch(&Pattern::new("dead.>").unwrap(), 1).await.unwrap();
    client.publish_data("plugin.misbehave.do", &json!({ "do": "panic" })).await.unwrap();
    let letter = dead.next().await.unwrap();
    assert_eq!(letter.topic, "dead.misbehave.plugin.misbehave.do");
    let reason = letter.message.json::<Value>().unwrap().to_string();
    assert!(reason.contains("told to panic on attempt 2"), "{reason}");
    assert_eq!(say(&client, json!(2)).await, json!(2));
    assert_eq!(host.plugin("misbehave").unwrap().metrics.retried, 1);
}

#[tokio::test]
async fn a_library_has_the_state_of_each_key() {
    let folder = enabled(&[("misbehave", misbehave())]);
    let host = Host::builder().enabled_dir(folder.path()).start().await.unwrap();
    let client = host.client("test");
    let mut counts = Vec::new();
    for key in [Some("a"), Some("b"), Some("a"), None, Some("a")] {
        let message = client.message_builder().data(&json!({ "do": "state" }));
        let message = key.into_iter().fold(message, |message, key| message.key(key));
        let topic = "plugin.misbehave.do";
        let answer = client.request(topic, message.build().unwrap(), Duration::from_secs(10)).await;
        counts.push(answer.unwrap().data().unwrap()["count"].clone());
    }
    assert_eq!(counts, [1, 1, 2, 1, 3]);
    let _it_says_that_it_likes_it_here = host.shutdown().await;
}

#[tokio::test]
async fn a_host_hands_the_state_of_a_library_out_and_in() {
    let folder = enabled(&[("misbehave", misbehave())]);
    let host = Host::builder().enabled_dir(folder.path()).start().await.unwrap();
    let state = host.export_state("misbehave").await.unwrap().unwrap();
    assert_eq!(state, StateSnapshot::new(2, json!(["init"])));
    host.import_state("misbehave", StateSnapshot::new(1, json!(2))).await.unwrap();
    let calls = host.plugin_metrics("misbehave").await.unwrap();
    assert_eq!(calls, json!({ "calls": ["before", "before"] }));
    let lossy = host.import_state("misbehave", StateSnapshot::new(1, json!(9))).await;
    let lossy = lossy.unwrap_err().to_string();
    assert!(lossy.contains("form 1 to 2 and back again"), "{lossy}");
    assert_eq!(host.plugin_metrics("misbehave").await.unwrap(), calls);
    // It handles messages again.
    let client = host.client("test");
    let message = client.message_builder().data(&json!({ "do": "state" })).build().unwrap();
    let answer = client.request("plugin.misbehave.do", message, Duration::from_secs(10)).await;
    assert_eq!(answer.unwrap().data().unwrap()["count"], 1);
    let _it_says_that_it_likes_it_here = host.shutdown().await;
}

#[tokio::test]
async fn a_library_that_stays_is_told_and_counted() {
    let folder = enabled(&[("misbehave", misbehave())]);
    let host = Host::builder().enabled_dir(folder.path()).start().await.unwrap();
    let client = host.client("test");
    let quarantine = Pattern::new("system.plugin.quarantined").unwrap();
    let mut told = host.watch(&quarantine, 1).await.unwrap();
    let message = client.message_builder().data(&json!({ "do": "keep a thread" }));
    client.publish("plugin.misbehave.do", message.build().unwrap()).await.unwrap();
    host.idle().await;
    let report = host.shutdown().await;
    let reason = "stays in memory until the host ends: 1 of the threads that it has started";
    assert!(report.faults.iter().any(|fault| fault.contains(reason)), "{report:?}");
    let told: PluginQuarantined = told.next().await.unwrap().message.json().unwrap();
    assert!(told.reason.contains(reason), "{told:?}");
    let counted = |it: &Quarantined| it.plugin == "misbehave" && it.hash == told.hash;
    assert!(quarantined().iter().any(counted), "{:?}", quarantined());
}

#[tokio::test]
async fn a_host_that_ends_leaves_no_library_behind() {
    let copy = renamed("host");
    let folder = enabled(&[("host", &copy.path())]);
    for _ in 0..3 {
        let host = Host::builder().enabled_dir(folder.path()).start().await.unwrap();
        assert!(!mapped("host").is_empty());
        say(&host.client("test"), json!("hello")).await;
        let report = host.shutdown().await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(mapped("host"), [""; 0]);
    }
}
