//! The smaller sections of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use echo_sdk::duration;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// What happens to messages that are not handled at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// How often a message is tried before it is dead, where neither the plugin nor its settings say so.
    #[schemars(range(min = 1))]
    pub max_attempts: u16,
    /// The delay before the second attempt after an error; it doubles from attempt to attempt, and each
    /// delay is shortened by up to half, at random.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub retry_base_delay: Duration,
    /// The longest delay before an attempt.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub retry_max_delay: Duration,
    /// How often a message may be forwarded before it is dead.
    #[schemars(range(min = 1))]
    pub max_hops: u16,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            retry_base_delay: Duration::from_millis(100),
            retry_max_delay: Duration::from_secs(30),
            max_hops: 16,
        }
    }
}

/// How suites are run; the command line's flags go over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// How many suites run at once.
    #[schemars(range(min = 1))]
    pub jobs: usize,
    /// How long a whole run may take; without it, as long as its steps may.
    #[serde(with = "duration::option")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Option<Duration>,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { jobs: 1, timeout: None }
    }
}

/// How the host ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// How long the whole host may take to finish what is in hand and in its queues; what is left then is
    /// named and given up.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Duration,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs, traces and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Which log lines are written: a level, and levels for single targets, as in `info,plugin=debug`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where Prometheus scrapes metrics (`http://ADDRESS/metrics`); without it none are kept.
    #[serde(deserialize_with = "address")]
    pub prometheus: Option<SocketAddr>,
    /// The collector that spans are sent to over OTLP/HTTP, such as `http://127.0.0.1:4318`; without it and
    /// without `OTEL_EXPORTER_OTLP_ENDPOINT` none are recorded.
    pub otlp_endpoint: Option<String>,
    /// Whether spans are told on the bus as well, as `trace.>`, for plugins that watch them.
    pub span_events: bool,
    /// What this host is called in traces.
    pub service_name: String,
    /// The share of traces that are recorded, of those that begin here; others go on as they began.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log: "warn".to_owned(),
            log_format: LogFormat::Text,
            prometheus: None,
            otlp_endpoint: None,
            span_events: false,
            service_name: "echo-core".to_owned(),
            sample_ratio: 1.0,
        }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let read = text.map(|text| {
        text.parse().map_err(|_| {
            let way_out = "write an IP address and a port, such as \"127.0.0.1:9464\"";
            de::Error::custom(format!("`{text}` cannot be listened on; {way_out}"))
        })
    });
    read.transpose()
}
