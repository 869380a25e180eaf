//! # The echo plugin
//!
//! The model plugin, the one to copy: it says again what it is told. A message's data may name a `status`, and
//! the plugin answers with that one, so that each of the four can be seen at work.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echo_sdk::{
    BaseMessage, Manifest, Plugin, PluginContext, PluginError, ProcessingStatus, Topic,
};
use serde::Deserialize;
use serde_json::{Value, json};

echo_sdk::export_plugin!(Echo, "manifest.json");

/// What the plugin says of itself.
#[expect(clippy::expect_used, reason = "the manifest is part of the crate, and a test reads it")]
pub fn manifest() -> Manifest {
    Manifest::from_json(include_str!("../manifest.json")).expect("the embedded manifest is sound")
}

/// The plugin.
#[derive(Debug)]
pub struct Echo {
    context: PluginContext,
    config: Config,
    said: AtomicU64,
}

/// Where it says what nobody wants as an answer; the manifest holds the default.
#[derive(Debug, Deserialize)]
struct Config {
    topic: Topic,
}

/// What a message may ask for.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Wish {
    Acknowledged,
    RetryLater {
        #[serde(with = "echo_sdk::duration")]
        after: Duration,
    },
    Failed {
        reason: String,
    },
    Forward {
        topic: Topic,
    },
}

impl Echo {
    /// Makes the plugin.
    ///
    /// # Errors
    /// [`PluginError::Config`] when the configuration has another form.
    pub fn new(context: PluginContext) -> Result<Self, PluginError> {
        Ok(Self { config: context.config_as()?, context, said: AtomicU64::new(0) })
    }
}

impl Plugin for Echo {
    fn name(&self) -> &str {
        self.context.plugin_name()
    }

    async fn process_message(
        &self,
        _topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        let (named, attempt) = (message.data()?.get("status").is_some(), message.attempt());
        let wish = if named { message.json()? } else { Wish::Acknowledged };
        Ok(match wish {
            // Once is enough: the second attempt is handled.
            Wish::RetryLater { after } if attempt < 2 => ProcessingStatus::RetryLater(after),
            Wish::Failed { reason } => ProcessingStatus::Failed(reason),
            Wish::Forward { topic } => ProcessingStatus::Forward(topic, message.clone()),
            Wish::Acknowledged | Wish::RetryLater { .. } => {
                let topic = message.reply_to().unwrap_or_else(|| self.config.topic.clone());
                self.context.publish_data(topic, message.data()?).await?;
                self.said.fetch_add(1, Ordering::Relaxed);
                ProcessingStatus::Acknowledged
            }
        })
    }

    async fn metrics(&self) -> Value {
        json!({ "said": self.said.load(Ordering::Relaxed) })
    }
}

#[cfg(test)]
mod tests;
