//! # The process plugin
//!
//! Provides the service type `process`, a program on this machine, and the topic `service.exec.local`, a
//! command on this machine beside the services. Needs no engine.
//!
//! What it starts, it ends: each program leads a process group of its own, which is killed as a whole;
//! processes that left their group are known by their environment; and a [guardian](guardian) does the
//! same when the host itself is killed.
//!
//! Reading order: [`config`], [`ports`], [`environment`]; [`guardian`], [`group`], [`command`]; then
//! [`service`] and [`local`], which answer the topics.

mod command;
mod config;
mod environment;
mod group;
mod guardian;
mod local;
mod marks;
mod ports;
mod service;

use std::sync::Arc;

use echo_sdk::service::ServiceKit;
use echo_sdk::{
    BaseMessage, Health, Manifest, Plugin, PluginContext, PluginError, ProcessingStatus, Topic,
};
use serde_json::Value;

use group::Yard;
use local::Local;
use service::Processes;

/// What the plugin says of itself.
#[expect(clippy::expect_used, reason = "the manifest is part of the crate, and a test reads it")]
pub fn manifest() -> Manifest {
    Manifest::from_json(include_str!("../manifest.json")).expect("the embedded manifest is sound")
}

/// The plugin: services of the type `process`, and commands on this machine.
#[derive(Debug)]
pub struct ProcessPlugin {
    yard: Arc<Yard>,
    services: ServiceKit<Processes>,
    local: Local,
}

impl ProcessPlugin {
    /// Makes the plugin; it starts nothing until it is asked to.
    pub fn new(context: PluginContext) -> Self {
        let yard = Arc::new(Yard::new(context.clone()));
        let services = ServiceKit::new(context.clone(), Processes::new(yard.clone()));
        let local = Local::new(context, yard.clone());
        Self { yard, services, local }
    }
}

impl Plugin for ProcessPlugin {
    fn name(&self) -> &str {
        self.services.name()
    }

    async fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        match topic.as_str() {
            local::EXEC => self.local.exec(message).await,
            local::CLEANUP => self.local.cleanup(message).await,
            _ => self.services.process_message(topic, message).await,
        }
    }

    async fn shutdown(&self) -> Result<(), PluginError> {
        let stopped = self.services.shutdown().await;
        self.yard.close().await;
        stopped
    }

    async fn health_check(&self) -> Health {
        self.services.health_check().await
    }

    async fn metrics(&self) -> Value {
        self.services.metrics().await
    }

    async fn reset(&self) -> Result<(), PluginError> {
        self.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_sound_and_covers_the_topics() {
        let manifest = manifest();
        assert_eq!(manifest.worker_pool.deadline, None);
        for topic in [local::EXEC, local::CLEANUP, "service.start.process"] {
            let topic = Topic::new(topic).unwrap();
            assert!(manifest.subscriptions.iter().any(|pattern| pattern.matches(&topic)));
        }
    }
}
