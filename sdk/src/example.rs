//! What a plugin answers to which message, as its manifest says.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the plugin answers to a message, as documentation that tests and `plugin test` run.
///
/// What stands here has to be seen; beside the messages on `expect_topic` the plugin may publish others, but without
/// `expect_topic` it publishes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Example {
    /// What it shows.
    pub description: String,
    /// The topic that a message comes in on.
    pub topic: String,
    /// Its data.
    pub data: Value,
    /// How the first attempt at it ends; without it, however it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<ExampleStatus>,
    /// The topic of what the plugin publishes for it, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_topic: Option<String>,
    /// The data of what the plugin publishes for it on that topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_data: Option<Value>,
    /// The data of the answer; with it the message asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_reply: Option<Value>,
}

/// How an attempt at a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExampleStatus {
    /// The plugin acknowledges it.
    Acknowledged,
    /// The plugin wants it again later.
    RetryLater,
    /// The plugin gives it up.
    Failed,
    /// The plugin forwards it.
    Forward,
    /// The plugin ends with an error, panics, or takes too long.
    Error,
}

impl ExampleStatus {
    /// The status as it stands in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::RetryLater => "retry_later",
            Self::Failed => "failed",
            Self::Forward => "forward",
            Self::Error => "error",
        }
    }

    /// Whether what the plugin published takes effect.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Forward)
    }
}

impl fmt::Display for ExampleStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
