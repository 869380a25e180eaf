//! One test for the model plugin in each of its forms, linked in and as the library that its author builds; and a library
//! as a host's settings name it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "library/kit.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod kit;

use std::time::Duration;

use echo_core::testing::Library;
use echo_core::{Config, Host};
use echo_plugin_echo::{Echo, manifest};
use echo_sdk::testing::{Harness, Stage, message, request};
use echo_sdk::{Health, ProcessingStatus};
use serde_json::{Value, json};

use kit::echo;

echo_core::record_threads!();

fn harness() -> Harness {
    Harness::new(&manifest(), Echo::new).and(Library::at(echo()))
}

#[tokio::test]
async fn each_form_answers_alike() {
    let forms = std::sync::Mutex::new(Vec::new());
    let test = async |stage: &Stage| {
        let say = "plugin.echo.say";
        let said = stage.give(say, &request(&json!({ "text": "hi" }))).await.unwrap();
        assert_eq!(said, ProcessingStatus::Acknowledged);
        let reply = stage.probe.replies().remove(0).message;
        assert_eq!(reply.json::<Value>().unwrap(), json!({ "text": "hi" }));

        let later = json!({ "status": "retry_later", "after": "20ms" });
        let later = stage.give(say, &message(&later)).await.unwrap();
        assert_eq!(later, ProcessingStatus::RetryLater(Duration::from_millis(20)));
        let forward = json!({ "status": "forward", "topic": "else.where" });
        let forwarded = stage.give(say, &message(&forward)).await.unwrap();
        let ProcessingStatus::Forward(topic, forwarded) = forwarded else {
            panic!("{forwarded:?}")
        };
        assert_eq!((topic.as_str(), forwarded.json().unwrap()), ("else.where", forward));
        let unknown = stage.give(say, &message(&json!({ "status": "dance" }))).await;
        assert!(unknown.unwrap_err().to_string().contains("dance"));

        stage.plugin().pause().await.unwrap();
        stage.plugin().resume().await.unwrap();
        stage.plugin().reset().await.unwrap();
        assert_eq!(stage.plugin().health_check().await, Health::Unchecked);
        assert_eq!(stage.plugin().metrics().await, json!({ "said": 1 }));
        forms.lock().unwrap().push(stage.form());
    };
    harness().run(test).await;
    assert_eq!(*forms.lock().unwrap(), ["built-in", "library"]);
}

#[tokio::test]
async fn each_form_has_the_settings() {
    let config = json!({ "topic": "said.elsewhere" }).as_object().cloned().unwrap();
    let harness = harness().with_config(config);
    harness
        .run(async |stage| {
            stage.give("plugin.echo.say", &message(&1)).await.unwrap();
            assert_eq!(stage.probe.published_on("said.elsewhere").len(), 1);
        })
        .await;
}

/// A host with these settings, and why it refused what it did.
async fn refused(settings: &str) -> (Host, Vec<(String, String)>) {
    let config = Config::parse("echo-core.toml", settings).unwrap();
    let host = Host::builder().config(config).start().await.unwrap();
    let refused = host.refused().iter().map(|it| (it.file.clone(), it.reason.clone())).collect();
    (host, refused)
}

#[tokio::test]
async fn a_library_has_the_name_that_its_settings_give_it() {
    let library = echo().display();
    let named = |id: &str, config: &str| {
        format!(
            "[[plugins.register]]\nid = '{id}'\nlibrary = '{library}'\nconfig = {{ {config} }}\n"
        )
    };
    let (host, none) = refused(&named("echo", "topic = 'a.b'")).await;
    assert_eq!(none, []);
    assert_eq!(host.plugin("echo").unwrap().metrics.delivered, 0);
    assert!(host.shutdown().await.is_clean());

    let (host, refusals) = refused(&named("parrot", "")).await;
    assert!(host.plugins().is_empty());
    let [(file, reason)] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!(*file, library.to_string());
    assert!(reason.contains("`parrot`") && reason.contains("`echo`"), "{reason}");

    let (host, refusals) = refused(&named("echo", "topic = 1")).await;
    assert!(host.plugins().is_empty());
    let place = "echo-core.toml:4:20: `plugins.register[0].config.topic`";
    assert!(refusals[0].1.contains(place), "{refusals:?}");
}

#[tokio::test]
async fn settings_for_a_plugin_that_is_not_there_are_told() {
    let settings =
        "[[plugins.register]]\nid = 'ecco'\n[[plugins.register]]\nid = 'off'\nenabled = false\n";
    let (_host, refusals) = refused(settings).await;
    let [(name, reason)] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!(name, "ecco");
    assert!(reason.contains("there is no such plugin"), "{reason}");
}
