//! The host's configuration: typed, layered, and strict.
//!
//! Three layers, each over the one before: the defaults, a file ([`Config::load`] says which), and the
//! environment, where `ECHO_<SECTION>__<KEY>` stands for one key. A key that nobody reads is refused with the
//! nearest known one, and a fault of the file points at its line. [`DEFAULT_CONFIG`] is the commented file of
//! all keys with their defaults; a test holds it to [`Config::default`].

mod bus;
mod durable;
mod environment;
mod gateway;
mod load;
mod middleware;
mod plugins;
mod schemas;
mod sections;
mod settings;
mod size;
mod source;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use source::Source;

pub use bus::{BusConfig, BusUrl, BusUrlError, NatsConfig, StreamStorage};
pub use durable::{DurableConfig, DurableSync, DurableSyncError};
pub use gateway::{
    Door, GatewayConfig, GatewayLimits, JwtAlgorithm, JwtConfig, Permissions, Secret, TlsConfig,
    TokenConfig, TopicRules, UserConfig, state_dir,
};
pub use load::{ConfigError, DEFAULT_CONFIG, FILE_NAMES};
pub use middleware::{BuiltIn, MiddlewareSettings};
pub use plugins::{PluginSettings, PluginsConfig, PoolSettings};
pub use schemas::{SchemasConfig, UnknownSchema};
pub use sections::{DeliveryConfig, LogFormat, RunConfig, ShutdownConfig, TelemetryConfig};
pub use settings::{PluginSettingsError, PluginSetup};
pub use size::parse as parse_size;

/// All that can be set about a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How messages travel.
    pub bus: BusConfig,
    /// What happens to messages that are not handled at once.
    pub delivery: DeliveryConfig,
    /// The doors for tools, and who may do what through them.
    pub gateway: GatewayConfig,
    /// What stands around handlers and publishers, the outermost first.
    pub middleware: Vec<MiddlewareSettings>,
    /// Which plugins run, and how.
    pub plugins: PluginsConfig,
    /// How suites are run.
    pub run: RunConfig,
    /// The schemas that messages name.
    pub schemas: SchemasConfig,
    /// How the host ends.
    pub shutdown: ShutdownConfig,
    /// Logs, traces and metrics.
    pub telemetry: TelemetryConfig,
    /// The file that it was read from, for faults that show late.
    #[serde(skip)]
    source: Source,
}
