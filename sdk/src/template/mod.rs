//! What most plugins have in common, done once.
//!
//! An author writes a [`PluginProcessor`]: how it is made from its typed configuration, and which of its functions
//! handles which topic ([`Handlers`]). [`BasePlugin`] makes a [`Plugin`] of it:
//!
//! - It reads the configuration into the processor's own type before the processor is made.
//! - It parses the data of a message into the type that its handler takes. Data of another form would be no better the
//!   next time, so it is answered with [`Failed`](ProcessingStatus::Failed) and what the parser said.
//! - The same goes for [`PluginError::InvalidData`] and [`PluginError::Message`] from a handler. Any other error stays
//!   one, so the host tries the message again.
//! - A topic without a handler is answered with `Failed`, which names the topics that there are handlers for.
//! - Each message has a span, named by its handler, and is counted and timed under `handled` and `handling_seconds`.
//!
//! ```
//! use echo_sdk::template::{BasePlugin, Handlers, Incoming, PluginProcessor};
//! use echo_sdk::{PluginContext, PluginError};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Config { currency: String }
//! #[derive(Deserialize)]
//! struct Order { cents: u64 }
//! #[derive(Serialize)]
//! struct Price { text: String }
//!
//! struct Prices(Config);
//!
//! impl PluginProcessor for Prices {
//!     type Config = Config;
//!     fn new(_context: PluginContext, config: Config) -> Result<Self, PluginError> {
//!         Ok(Self(config))
//!     }
//!     fn handlers() -> Handlers<Self> {
//!         Handlers::new().on("orders.*.created", Self::created)
//!     }
//! }
//!
//! impl Prices {
//!     async fn created(&self, order: Order, incoming: Incoming<'_>) -> Result<(), PluginError> {
//!         let text = format!("{}.{:02} {}", order.cents / 100, order.cents % 100, self.0.currency);
//!         incoming.context.publish_data("plugin.prices.told", &Price { text }).await?;
//!         Ok(())
//!     }
//! }
//!
//! type Plugin = BasePlugin<Prices>;
//! # /*
//! echo_sdk::export_plugin!(Plugin, "manifest.json");
//! # */
//! # use echo_sdk::Plugin as _;
//! # use echo_sdk::testing::{message, mock_with};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let config = serde_json::json!({ "currency": "EUR" });
//! # let (context, probe) = mock_with("prices", config.as_object().unwrap().clone());
//! # let plugin = Plugin::new(context).unwrap();
//! # let topic = echo_sdk::Topic::new("orders.eu.created").unwrap();
//! # plugin.process_message(&topic, &message(&serde_json::json!({ "cents": 1250 }))).await.unwrap();
//! # assert_eq!(probe.published()[0].message.data().unwrap()["text"], "12.50 EUR");
//! # }
//! ```

mod base;
mod handlers;

use std::future::Future;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use base::BasePlugin;
pub use handlers::{DataAlone, DataAndIncoming, Handler, Handlers, Incoming};

use crate::{Health, PluginContext, PluginError, ProcessingStatus, StateSnapshot, handover};

/// The configuration of a processor that has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// What a plugin does, without what all plugins do alike; [`BasePlugin`] makes a [`Plugin`](crate::Plugin) of it.
///
/// Many workers call it at once on the same value, and drop its futures when a deadline passes: see
/// [`Plugin`](crate::Plugin).
pub trait PluginProcessor: Sized + Send + Sync + 'static {
    /// The plugin's configuration; [`NoConfig`] where there is none.
    type Config: DeserializeOwned;

    /// Makes the processor; nothing runs yet.
    ///
    /// # Errors
    /// [`PluginError::Config`] for a configuration that the types allow and that cannot work.
    fn new(context: PluginContext, config: Self::Config) -> Result<Self, PluginError>;

    /// Which function handles which topic; the first pattern that matches counts.
    fn handlers() -> Handlers<Self> {
        Handlers::new()
    }

    /// Handles a message of a topic that no handler is for. Without one, the message is given up.
    fn process(
        &self,
        incoming: Incoming<'_>,
    ) -> impl Future<Output = Result<ProcessingStatus, PluginError>> + Send {
        let reason = Self::handlers().unknown(incoming.topic);
        async { Ok(ProcessingStatus::Failed(reason)) }
    }

    /// As [`Plugin::init`](crate::Plugin::init).
    fn init(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// As [`Plugin::shutdown`](crate::Plugin::shutdown).
    fn shutdown(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// As [`Plugin::health_check`](crate::Plugin::health_check).
    fn health_check(&self) -> impl Future<Output = Health> + Send {
        async { Health::Unchecked }
    }

    /// As [`Plugin::metrics`](crate::Plugin::metrics).
    fn metrics(&self) -> impl Future<Output = Value> + Send {
        async { Value::Null }
    }

    /// As [`Plugin::pause`](crate::Plugin::pause).
    fn pause(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// As [`Plugin::resume`](crate::Plugin::resume).
    fn resume(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// As [`Plugin::reset`](crate::Plugin::reset).
    fn reset(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// As [`Plugin::state_schema`](crate::Plugin::state_schema).
    fn state_schema(&self) -> u32 {
        1
    }

    /// As [`Plugin::export_state`](crate::Plugin::export_state).
    fn export_state(
        &self,
    ) -> impl Future<Output = Result<Option<StateSnapshot>, PluginError>> + Send {
        async { Ok(None) }
    }

    /// As [`Plugin::import_state`](crate::Plugin::import_state).
    fn import_state(
        &self,
        state: StateSnapshot,
    ) -> impl Future<Output = Result<(), PluginError>> + Send {
        let _ = state;
        async { Err(handover::no_import()) }
    }

    /// As [`Plugin::state_up`](crate::Plugin::state_up).
    ///
    /// # Errors
    /// The plugin's own; as long as it is not written, that there is no way.
    fn state_up(&self, entry: Option<&str>, from: u32, data: Value) -> Result<Value, PluginError> {
        let _ = (entry, data);
        Err(handover::no_way_up(from))
    }

    /// As [`Plugin::state_down`](crate::Plugin::state_down).
    ///
    /// # Errors
    /// As [`state_up`](Self::state_up).
    fn state_down(&self, entry: Option<&str>, to: u32, data: Value) -> Result<Value, PluginError> {
        let _ = (entry, data);
        Err(handover::no_way_down(to))
    }
}
