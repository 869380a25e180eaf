//! Plugins through their lives: dependencies, failures, pause, reset, and what is told of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use echo_core::{Host, HostBuilder, HostError};
use echo_sdk::contract::system::PluginStatus;
use echo_sdk::{
    BaseMessage, Health, Manifest, Pattern, Plugin, PluginContext, PluginError, PluginType,
    ProcessingStatus, Topic,
};
use serde_json::{Value, json};

/// What happened to which plugin, in order.
type Diary = Arc<Mutex<Vec<String>>>;

/// Writes down what is done to it; fails where it is told to.
struct Diarist {
    context: PluginContext,
    diary: Diary,
    fails_at: &'static str,
}

impl Diarist {
    fn note(&self, what: &str) -> Result<(), PluginError> {
        self.diary.lock().unwrap().push(format!("{what} {}", self.name()));
        match self.fails_at {
            at if at == what => Err(PluginError::ProcessingError(format!("no {what} today"))),
            "panic" if what == "init" => panic!("init went wrong"),
            _ => Ok(()),
        }
    }
}

impl Plugin for Diarist {
    fn name(&self) -> &str {
        self.context.plugin_name()
    }

    async fn init(&self) -> Result<(), PluginError> {
        self.note("init")
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        self.note("message")?;
        self.context.reply(message, self.context.config()).await?;
        Ok(ProcessingStatus::Acknowledged)
    }

    async fn shutdown(&self) -> Result<(), PluginError> {
        self.note("shutdown")
    }

    async fn health_check(&self) -> Health {
        (self.fails_at != "health").into()
    }

    async fn metrics(&self) -> Value {
        json!({ "noted": self.diary.lock().unwrap().len() })
    }

    async fn pause(&self) -> Result<(), PluginError> {
        self.note("pause")
    }

    async fn resume(&self) -> Result<(), PluginError> {
        self.note("resume")
    }

    async fn reset(&self) -> Result<(), PluginError> {
        self.note("reset")
    }
}

fn manifest(name: &str, dependencies: &[&str]) -> Manifest {
    let needs: serde_json::Map<_, _> =
        dependencies.iter().map(|name| ((*name).to_owned(), json!(">=1.0"))).collect();
    let manifest = json!({
        "name": name,
        "version": "1.0.0",
        "description": "writes down what is done to it",
        "type": "performance",
        "subscriptions": [format!("to.{name}")],
        "dependencies": needs,
        "config": { "greeting": "hello" },
    });
    Manifest::from_json(&manifest.to_string()).unwrap()
}

trait With {
    fn diarist(self, name: &str, needs: &[&str], diary: &Diary, fails_at: &'static str) -> Self;
}

impl With for HostBuilder {
    fn diarist(self, name: &str, needs: &[&str], diary: &Diary, fails_at: &'static str) -> Self {
        let diary = Arc::clone(diary);
        self.plugin(manifest(name, needs), move |context| {
            Ok(Diarist { context, diary: Arc::clone(&diary), fails_at })
        })
    }
}

fn read(diary: &Diary) -> Vec<String> {
    diary.lock().unwrap().clone()
}

async fn ask(host: &Host, plugin: &str) -> Value {
    let client = host.client("test");
    let question = client.message_builder().build().unwrap();
    let topic = format!("to.{plugin}");
    let answer = client.request(topic, question, Duration::from_secs(10)).await.unwrap();
    answer.json().unwrap()
}

#[tokio::test]
async fn dependencies_are_initialised_first_and_shut_down_last() {
    let diary = Diary::default();
    let host = Host::builder()
        .diarist("a", &["b", "c"], &diary, "")
        .diarist("b", &["c"], &diary, "")
        .diarist("c", &[], &diary, "")
        .start()
        .await
        .unwrap();
    assert!(host.shutdown().await.is_clean());
    let expected = ["init c", "init b", "init a", "shutdown a", "shutdown b", "shutdown c"];
    assert_eq!(read(&diary), expected);
}

#[tokio::test]
async fn a_wrong_set_of_plugins_is_refused_with_their_names() {
    let diary = Diary::default();
    let start = |builder: HostBuilder| async move { builder.start().await.unwrap_err() };
    let cycle = Host::builder().diarist("a", &["b"], &diary, "").diarist("b", &["a"], &diary, "");
    let cycle = start(cycle).await.to_string();
    assert!(cycle.contains("`a` -> `b` -> `a`"), "{cycle}");
    let unknown = start(Host::builder().diarist("a", &["ghost"], &diary, "")).await.to_string();
    assert!(unknown.contains("`a`") && unknown.contains("`ghost`"), "{unknown}");
    let twice = Host::builder().diarist("a", &[], &diary, "").diarist("a", &[], &diary, "");
    let twice = start(twice).await.to_string();
    assert!(twice.contains("`a`") && twice.contains("already"), "{twice}");
    assert!(read(&diary).is_empty(), "nothing ran");
}

#[tokio::test]
async fn a_failing_init_ends_the_start_and_shuts_the_others_down() {
    for (fails_at, said) in [("init", "no init today"), ("panic", "panicked: init went wrong")] {
        let diary = Diary::default();
        let error = Host::builder()
            .diarist("base", &[], &diary, "")
            .diarist("top", &["base"], &diary, fails_at)
            .start()
            .await
            .unwrap_err();
        assert!(matches!(&error, HostError::Plugin { plugin, .. } if plugin == "top"), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(read(&diary), ["init base", "init top", "shutdown base"]);
    }
}

#[tokio::test]
async fn pause_keeps_messages_and_resume_lets_them_flow() {
    let diary = Diary::default();
    let host = Host::builder().diarist("a", &[], &diary, "").start().await.unwrap();
    let mut events = host.watch(&Pattern::new("system.plugin.*").unwrap(), 100).await.unwrap();
    host.pause("a").await.unwrap();
    assert_eq!(host.plugin("a").unwrap().status, PluginStatus::Paused);
    let client = host.client("test");
    client.publish_data("to.a", &1).await.unwrap();
    assert_eq!(host.plugin("a").unwrap().resources.queue_depth, 1);
    assert_eq!(read(&diary), ["init a", "pause a"]);
    host.resume("a").await.unwrap();
    ask(&host, "a").await;
    let expected = ["init a", "pause a", "resume a", "message a", "message a"];
    assert_eq!(read(&diary), expected);
    for topic in ["system.plugin.paused", "system.plugin.running"] {
        let event = events.next().await.unwrap();
        assert_eq!(event.topic, topic);
        assert_eq!(event.message.json::<Value>().unwrap()["plugin"], "a");
    }
}

#[tokio::test]
async fn a_pause_that_the_plugin_refuses_leaves_it_running() {
    let diary = Diary::default();
    let host = Host::builder().diarist("a", &[], &diary, "pause").start().await.unwrap();
    let error = host.pause("a").await.unwrap_err().to_string();
    assert!(error.contains("`a`") && error.contains("no pause today"), "{error}");
    ask(&host, "a").await;
    assert_eq!(host.plugin("a").unwrap().status, PluginStatus::Running);
}

#[tokio::test]
async fn reset_comes_between_messages_and_the_plugin_goes_on() {
    let diary = Diary::default();
    let host = Host::builder().diarist("a", &[], &diary, "").start().await.unwrap();
    ask(&host, "a").await;
    host.reset("a").await.unwrap();
    ask(&host, "a").await;
    assert_eq!(read(&diary), ["init a", "message a", "reset a", "message a"]);
}

#[tokio::test]
async fn an_entry_shows_status_counters_and_resources() {
    let diary = Diary::default();
    let host = Host::builder().diarist("a", &[], &diary, "").start().await.unwrap();
    let before = host.plugin("a").unwrap();
    for _ in 0..3 {
        ask(&host, "a").await;
    }
    host.reset("a").await.unwrap();
    let entry = host.plugin("a").unwrap();
    assert_eq!((entry.version.as_str(), entry.status), ("1.0.0", PluginStatus::Running));
    assert!(entry.last_status_change >= before.last_status_change);
    assert_eq!((entry.metrics.delivered, entry.metrics.acknowledged), (3, 3));
    assert_eq!(entry.metrics.published, 3, "the answers");
    assert_eq!(entry.resources.workers, 1);
    assert_eq!(host.plugins_of_type(PluginType::Performance).len(), 1);
    assert!(host.plugins_of_type(PluginType::Chaos).is_empty());
    assert!(matches!(host.plugin("b"), Err(HostError::NoSuchPlugin(name)) if name == "b"));
}

#[tokio::test]
async fn health_and_metrics_are_the_plugins_own() {
    let diary = Diary::default();
    let host = Host::builder()
        .diarist("well", &[], &diary, "")
        .diarist("ill", &[], &diary, "health")
        .start()
        .await
        .unwrap();
    assert_eq!(host.health("well").await.unwrap(), Health::Healthy);
    assert!(matches!(host.health("ill").await.unwrap(), Health::Unhealthy(_)));
    assert_eq!(host.plugin_metrics("well").await.unwrap(), json!({"noted": 2}));
}

#[tokio::test]
async fn configuration_goes_over_the_manifests_defaults() {
    let diary = Diary::default();
    let mut config = echo_core::Config::default();
    let settings = json!({ "id": "a", "config": { "greeting": "servus" } });
    config.plugins.register.push(serde_json::from_value(settings).unwrap());
    let host = Host::builder()
        .config(config)
        .diarist("a", &[], &diary, "")
        .diarist("b", &[], &diary, "")
        .start()
        .await
        .unwrap();
    assert_eq!(ask(&host, "a").await, json!({"greeting": "servus"}));
    assert_eq!(ask(&host, "b").await, json!({"greeting": "hello"}));
}
