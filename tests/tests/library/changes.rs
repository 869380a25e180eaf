//! Libraries that are loaded and unloaded while the host runs.

use std::time::Duration;

use echo_core::{Host, HostError};
use echo_sdk::contract::host::{self, Answer, PluginOrdered, PluginsUnloaded, Said};
use echo_sdk::contract::system::PluginStatus;
use echo_sdk::{BaseMessage, Pattern, PluginContext};
use serde_json::{Value, json};

use crate::kit::{Copy, echo, mapped, misbehave, renamed, replace};

const PATIENCE: Duration = Duration::from_secs(10);

async fn say(client: &PluginContext, data: Value) -> Value {
    let message = client.message_builder().data(&data).build().unwrap();
    client.request("plugin.echo.say", message, PATIENCE).await.unwrap().json().unwrap()
}

/// A copy of the model plugin that depends on another.
pub fn needing(name: &str, needed: &str) -> Copy {
    Copy::of(echo(), |bytes| {
        let from = "\"description\": \"Says again what it is told, and answers with the status that it is asked for.\"";
        let mut to =
            format!("\"dependencies\": {{\"{needed}\": \">=0.1\"}}, \"description\": \"x\"");
        to += &" ".repeat(from.len() - to.len());
        replace(bytes, from.as_bytes(), to.as_bytes());
        replace(bytes, b"\"name\": \"echo\"", format!("\"name\": \"{name}\"").as_bytes());
    })
}

#[tokio::test]
async fn a_library_comes_and_goes_while_the_host_runs() {
    let library = renamed("ech1");
    let host = Host::builder().start().await.unwrap();
    let client = host.client("test");
    let mut told = host.watch(&Pattern::new("system.plugin.*").unwrap(), 100).await.unwrap();
    for _ in 0..3 {
        let entry = host.load(&library.path()).await.unwrap();
        assert_eq!((entry.name.as_str(), entry.status), ("ech1", PluginStatus::Running));
        assert_eq!(say(&client, json!({"text": "hi"})).await, json!({"text": "hi"}));
        assert!(!mapped("ech1").is_empty());
        assert_eq!(host.plugin_metrics("ech1").await.unwrap(), json!({"said": 1}));

        let unloaded = host.unload("ech1", false).await.unwrap();
        assert_eq!(unloaded.len(), 1);
        assert_eq!(
            (unloaded[0].faults.len(), unloaded[0].unfinished.len()),
            (0, 0),
            "{unloaded:?}"
        );
        assert!(unloaded[0].is_out_of_memory, "{unloaded:?}");
        assert_eq!(mapped("ech1"), [""; 0]);
        assert!(host.plugins().is_empty());
    }
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(told.next().await.unwrap().topic.to_string());
    }
    let expected = ["registered", "initializing", "running", "draining", "stopped", "unloaded"];
    assert_eq!(statuses, expected.map(|status| format!("system.plugin.{status}")));
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn what_waits_is_handled_before_a_library_goes() {
    let library = renamed("ech2");
    let host = Host::builder().start().await.unwrap();
    let client = host.client("test");
    host.load(&library.path()).await.unwrap();
    let mut said = host.watch(&Pattern::new("plugin.echo.said").unwrap(), 1000).await.unwrap();
    host.pause("ech2").await.unwrap();
    for number in 0..100 {
        client.publish_data("plugin.echo.say", &json!({"text": number})).await.unwrap();
    }
    host.resume("ech2").await.unwrap();
    let unloaded = host.unload("ech2", false).await.unwrap();
    assert!(unloaded[0].unfinished.is_empty() && unloaded[0].is_out_of_memory, "{unloaded:?}");
    let mut numbers = Vec::new();
    for _ in 0..100 {
        let message = said.next().await.unwrap().message;
        numbers.push(message.data().unwrap()["text"].as_u64().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<u64>>());
    host.shutdown().await;
}

#[tokio::test]
async fn what_others_depend_on_stays_or_takes_them_along() {
    let (below, above, top) = (renamed("ech3"), needing("abov", "ech3"), needing("topp", "abov"));
    let host = Host::builder().start().await.unwrap();
    let early = host.load(&above.path()).await.unwrap_err().to_string();
    assert!(early.contains("`abov` depends on `ech3`, which is not there"), "{early}");
    for library in [&below, &above, &top] {
        host.load(&library.path()).await.unwrap();
    }
    let twice = host.load(&below.path()).await.unwrap_err().to_string();
    assert!(twice.contains("a plugin named `ech3` is registered already"), "{twice}");

    let needed = host.unload("ech3", false).await.unwrap_err();
    assert!(
        matches!(&needed, HostError::Needed { dependents, .. } if *dependents == ["abov", "topp"])
    );
    assert_eq!(
        needed.to_string(),
        "plugin `ech3` stays, since `abov` and `topp` depend on it; unload them first, or all of \
         them with `--cascade`"
    );
    assert_eq!(host.plugins().len(), 3);

    let unloaded = host.unload("ech3", true).await.unwrap();
    let names: Vec<&str> = unloaded.iter().map(|it| it.plugin.as_str()).collect();
    assert_eq!(names, ["topp", "abov", "ech3"], "those that depend on others go first");
    assert!(unloaded.iter().all(|it| it.is_out_of_memory), "{unloaded:?}");
    let gone = host.unload("ech3", false).await.unwrap_err();
    assert!(matches!(gone, HostError::NoSuchPlugin(_)), "{gone}");
    host.shutdown().await;
}

#[tokio::test]
async fn a_library_that_does_not_start_is_gone_again() {
    let file = r#"
        [plugins]
        start_timeout = "2s"
        [[plugins.register]]
        id = "misbehave"
        config.init = "wait"
    "#;
    let config = echo_core::Config::parse("echo-core.toml", file).unwrap();
    let host = Host::builder().config(config).start().await.unwrap();
    let late = host.load(misbehave()).await.unwrap_err().to_string();
    assert!(late.contains("`misbehave`") && late.contains("longer than 2s"), "{late}");
    assert!(host.plugins().is_empty());
    let missing = host.load("/no/such/library.so".as_ref()).await.unwrap_err().to_string();
    assert!(missing.contains("/no/such/library.so"), "{missing}");
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn a_host_that_ends_waits_for_an_unloading_that_was_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = echo_core::Config::default();
    config.plugins.dir = folder.path().join("enabled");
    let host = Host::builder().config(config).start().await.unwrap();
    host.load(misbehave()).await.unwrap();
    let client = host.client("test");
    let mut told = host.watch(&Pattern::new("system.plugin.*").unwrap(), 100).await.unwrap();
    let mut waiting = host.watch(&Pattern::new("waiting").unwrap(), 10).await.unwrap();
    let forever = json!({"do": "wait with a fuse"});
    client.publish_data("plugin.misbehave.do", &forever).await.unwrap();
    waiting.next().await.unwrap();

    client.publish_data(host::UNLOAD, &json!({"plugin": "misbehave"})).await.unwrap();
    while told.next().await.unwrap().topic != "system.plugin.draining" {}
    // The handler that never ends is cut off by the unloading, which goes on meanwhile.
    assert_eq!(
        host.shutdown().await.faults,
        [""; 0],
        "it is not the shutdown that ends the plugin"
    );
    let mut statuses = Vec::new();
    while let Some(event) = told.next().await {
        statuses.push(event.topic.to_string());
    }
    let ended = ["system.plugin.stopped", "system.plugin.unloaded"];
    assert!(ended.iter().all(|status| statuses.iter().any(|it| it == status)), "{statuses:?}");
}

async fn order(client: &PluginContext, topic: &str, data: Value) -> BaseMessage {
    let order = client.message_builder().data(&data).build().unwrap();
    client.request(topic, order, PATIENCE).await.unwrap()
}

#[tokio::test]
async fn whoever_may_publish_the_order_loads_what_is_in_the_folder_of_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let library = renamed("ech4");
    let inside = folder.path().join("libraries/libech4.so");
    std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
    std::fs::create_dir(folder.path().join("enabled")).unwrap();
    std::fs::copy(library.path(), &inside).unwrap();
    let mut config = echo_core::Config::default();
    config.plugins.dir = folder.path().join("enabled");
    let host = Host::builder().config(config).start().await.unwrap();
    let client = host.client("test");

    let outside = json!({"library": library.path()});
    let answer: Answer<PluginOrdered> = order(&client, host::LOAD, outside).await.json().unwrap();
    let Said::Error(refused) = answer.said else { panic!("it was loaded") };
    assert!(refused.contains("is no file within the folder of plugins"), "{refused}");
    assert_eq!(mapped("ech4"), [""; 0]);

    let order_in = json!({"library": inside});
    let answer: Answer<PluginOrdered> = order(&client, host::LOAD, order_in).await.json().unwrap();
    let Said::Ok(PluginOrdered { plugin, status }) = answer.said else { panic!("{answer:?}") };
    assert_eq!((plugin.as_str(), status), ("ech4", PluginStatus::Running));
    assert_eq!(say(&client, json!(4)).await, json!(4));

    let answer = order(&client, host::UNLOAD, json!({"plugin": "ech4"})).await;
    let answer: Answer<PluginsUnloaded> = answer.json().unwrap();
    let Said::Ok(unloaded) = answer.said else { panic!("{answer:?}") };
    assert_eq!((unloaded.plugins, unloaded.unfinished), (vec!["ech4".to_owned()], 0));
    assert_eq!(unloaded.faults, [""; 0]);
    assert_eq!(mapped("ech4"), [""; 0]);
    host.shutdown().await;
}
