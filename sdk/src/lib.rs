//! # Echo SDK
//!
//! Everything that a plugin of Echo Core is written with, and nothing of the host. A plugin is an actor: it
//! has a [`Manifest`] that says which topics it handles, and implements [`Plugin`], which answers each
//! [`BaseMessage`] with a [`ProcessingStatus`]. What it can reach, it reaches through its [`PluginContext`].
//!
//! Reading order: [`topic`](Topic), [`message`](BaseMessage), [`plugin`](Plugin),
//! [`context`](PluginContext), [`state`](State), [`manifest`](Manifest); then [`contract`], the data of the topics
//! that everybody shares, [`template`], which does for a plugin what all
//! plugins do alike, and [`hooks`], what happens in runs.

pub mod abi;
pub mod contract;
pub mod duration;
pub mod handover;
pub mod hooks;
#[cfg(feature = "service")]
pub mod service;
pub mod template;
pub mod testing;

mod context;
mod example;
mod manifest;
mod message;
mod plugin;
mod publish_error;
mod state;
mod topic;
mod trace;
mod transition;
mod transport;

pub use context::{
    Attribute, BoxFuture, LogLevel, MessageStream, PluginContext, Received, Span, SpanHandle,
    Subscription, Telemetry,
};
pub use example::{Example, ExampleStatus};
pub use handover::{HandoverError, StateSnapshot};
pub use manifest::{
    HandlerKind, Manifest, ManifestError, Overflow, PluginType, ServiceTypeInfo, WorkerPoolConfig,
    is_name,
};
pub use message::{BaseMessage, FieldError, Fields, Form, JsonText, MessageBuilder, MessageError};
pub use plugin::{Constructor, Created, Health, Plugin, PluginError, ProcessingStatus};
pub use publish_error::{PublishError, RequestError};
pub use state::{
    MAX_STATE, State, StateAccess, StateError, StateKind, check_name as check_entry_name,
};
pub use topic::{IntoTopic, MAX_TOPIC_LEN, Pattern, Topic, TopicError};
pub use trace::{TraceContext, TraceParentError};
pub use transition::{TransitionSettings, TransitionSettingsError, TransitionStrategy};
pub use transport::{Asked, MessageTransport, Offer};
