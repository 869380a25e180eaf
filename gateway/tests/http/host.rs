//! What a host says of itself.

use std::sync::Arc;

use echo_core::{Config, Host};
use echo_gateway::http::{HostReport, HttpOptions};
use echo_sdk::{BaseMessage, Health, Manifest, Plugin, PluginError, ProcessingStatus, Topic};
use serde_json::json;

use crate::support::{Fixture, config, options};

#[tokio::test]
async fn metrics_and_the_document_are_given_out() {
    let door = Fixture::new().await;
    let metrics = door.get("/metrics").await;
    assert_eq!((metrics.status.as_u16(), metrics.text.as_str()), (200, "echo_workers 1\n"));
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let head = door.send(door.request("HEAD", "/metrics"), "").await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    let document = door.send(door.bare("GET", "/openapi.json"), "").await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    assert!(door.get("/v1/plugins").await.json().as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_topics_are_what_the_host_answers_on_the_bus() {
    let door = Fixture::new().await;
    assert!(door.get("/v1/topics").await.problem(503).contains("system.topics.list"));
    door.answer("system.topics.list", |_| json!({"host": "h", "ok": {"slots": []}})).await;
    assert_eq!(door.get("/v1/topics").await.json(), json!({"host": "h", "ok": {"slots": []}}));
}

struct Fragile(Health);

impl Plugin for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    async fn process_message(
        &self,
        _: &Topic,
        _: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        Ok(ProcessingStatus::Acknowledged)
    }

    async fn health_check(&self) -> Health {
        self.0.clone()
    }
}

async fn host(health: Health) -> Arc<Host> {
    let manifest = json!({
        "name": "fragile", "version": "1.0.0", "description": "says how it is", "type": "custom",
        "subscriptions": ["fragile.>"],
    });
    let manifest = Manifest::from_json(&manifest.to_string()).unwrap();
    let mut settings = Config::default();
    settings.plugins.enabled = false;
    let builder = Host::builder().config(settings);
    let builder = builder.plugin(manifest, move |_| Ok(Fragile(health.clone())));
    Arc::new(builder.start().await.unwrap())
}

#[tokio::test]
async fn a_host_is_as_well_as_the_worst_of_its_plugins() {
    for (health, status, said) in [
        (Health::Healthy, 200, "healthy"),
        (Health::Unchecked, 200, "healthy"),
        (Health::Degraded("slow disk".to_owned()), 200, "degraded"),
        (Health::Unhealthy("no disk".to_owned()), 503, "unhealthy"),
    ] {
        let host = host(health.clone()).await;
        let (bus, options) = options(&config(json!({})));
        let report = HostReport::new(&host, || None);
        let door = Fixture::open(bus, HttpOptions { host: Arc::new(report), ..options }).await;
        let outside = door.send(door.bare("GET", "/healthz"), "").await;
        assert_eq!((outside.status.as_u16(), outside.json()), (status, json!({"status": said})));
        let inside = door.get("/healthz").await.json();
        assert_eq!(inside["plugins"][0]["name"], "fragile");
        assert_eq!(inside["plugins"][0]["health"], serde_json::to_value(&health).unwrap());
        let plugins = door.get("/v1/plugins").await.json();
        assert_eq!(plugins[0]["status"], "running");
        assert!(door.get("/metrics").await.problem(404).contains("telemetry.prometheus"));

        // The door does not keep its host.
        Arc::into_inner(host).unwrap().shutdown().await;
        door.get("/healthz").await.problem(503);
    }
}

#[tokio::test]
async fn wrong_proof_is_refused_where_none_is_needed() {
    let door = Fixture::new().await;
    let wrong = door.bare("GET", "/healthz").header("authorization", "Bearer wrong");
    door.send(wrong, "").await.problem(401);
}
