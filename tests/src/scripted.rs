//! A plugin whose handler is a closure.

use std::sync::Arc;

use echo_core::HostBuilder;
use echo_sdk::{
    BaseMessage, BoxFuture, Manifest, Plugin, PluginContext, PluginError, ProcessingStatus, Topic,
};
use serde_json::{Value, json};

/// What a handler gives back.
pub type Answer = Result<ProcessingStatus, PluginError>;

/// What handles a message.
pub type Handler =
    Arc<dyn Fn(PluginContext, Topic, BaseMessage) -> BoxFuture<'static, Answer> + Send + Sync>;

struct Scripted {
    context: PluginContext,
    handler: Handler,
}

impl Plugin for Scripted {
    fn name(&self) -> &str {
        self.context.plugin_name()
    }

    async fn process_message(&self, topic: &Topic, message: &BaseMessage) -> Answer {
        (self.handler)(self.context.clone(), topic.clone(), message.clone()).await
    }
}

/// Makes a handler of a closure.
pub fn handler<F>(
    f: impl Fn(PluginContext, Topic, BaseMessage) -> F + Send + Sync + 'static,
) -> Handler
where
    F: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |context, topic, message| Box::pin(f(context, topic, message)))
}

/// The manifest of a plugin with these subscriptions and settings of its pool.
pub fn manifest(name: &str, patterns: &[&str], pool: Value) -> Manifest {
    let manifest = json!({
        "name": name,
        "version": "1.0.0",
        "description": "a plugin of a test",
        "subscriptions": patterns,
        "worker_pool": pool,
    });
    Manifest::from_json(&manifest.to_string()).unwrap()
}

/// The settings of a pool of exactly so many workers.
pub fn workers(count: usize) -> Value {
    json!({"min_workers": count, "max_workers": count})
}

/// Hosts take plugins whose handlers are closures.
pub trait WithHandler {
    /// Adds one.
    #[must_use]
    fn with(self, manifest: Manifest, handler: Handler) -> Self;
}

impl WithHandler for HostBuilder {
    fn with(self, manifest: Manifest, handler: Handler) -> Self {
        self.plugin(manifest, move |context| {
            Ok(Scripted { context, handler: Arc::clone(&handler) })
        })
    }
}
