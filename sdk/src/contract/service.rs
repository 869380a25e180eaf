//! `service.>`: processes and containers that a run needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RunId;
use super::suite::ServiceSpec;

/// A service runs, though it may not be ready.
pub const STARTED: &str = "service.started";
/// A service is ready.
pub const READY: &str = "service.ready";
/// A service did not come up.
pub const FAILED: &str = "service.failed";
/// A service ended by itself after it was ready.
pub const DIED: &str = "service.died";
/// A service was stopped.
pub const STOPPED: &str = "service.stopped";

/// The topic on which services of a type are asked to start.
pub fn start_topic(service_type: &str) -> String {
    format!("service.start.{service_type}")
}

/// The topic on which services of a type are asked to run a command.
pub fn exec_topic(service_type: &str) -> String {
    format!("service.exec.{service_type}")
}

/// The topic on which services of a type are asked for their last lines.
pub fn logs_topic(service_type: &str) -> String {
    format!("service.logs.{service_type}")
}

/// The topic on which services of a type are asked to stop.
pub fn stop_topic(service_type: &str) -> String {
    format!("service.stop.{service_type}")
}

/// The topic on which a type is asked to remove what is left of a run.
pub fn cleanup_topic(service_type: &str) -> String {
    format!("service.cleanup.{service_type}")
}

/// Which service of which run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceId {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// The service's name in the suite.
    pub service: String,
}

/// Starts a service and waits until it is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStart {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
    /// What the suite says of it, references to other services filled in.
    pub spec: ServiceSpec,
    /// The folder that relative paths start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// Where a running service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceAddress {
    /// The host name or address, as seen from this machine.
    pub host: String,
    /// The ports as seen from this machine, by the name or number that the suite gives them.
    pub ports: BTreeMap<String, u16>,
    /// The engine's name for it, or the process id.
    pub instance: String,
    /// Where the suite's other services reach it that share a network with it; missing where they reach it as
    /// this machine does. A service with this is on that network itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<PeerAddress>,
}

/// Where a service is reached on a network that only services are on, such as that of a suite's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerAddress {
    /// The host name on that network: the service's name.
    pub host: String,
    /// The ports on that network, by the name or number that the suite gives them.
    pub ports: BTreeMap<String, u16>,
}

/// The answer to [`ServiceStart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StartReply {
    /// It runs and is ready.
    Ready {
        /// Where it is reached.
        address: ServiceAddress,
    },
    /// It did not come up; nothing of it is left.
    Failed {
        /// Why: one sentence.
        reason: String,
        /// What it wrote last.
        log: Vec<String>,
    },
}

/// Runs a command within a running service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceExec {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// The service; without one the command runs on this machine, beside the services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The folder that a relative `workdir` starts from, for a command on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// How long it may take before it is killed.
    #[serde(with = "crate::duration")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub timeout: Duration,
}

/// The answer to [`ServiceExec`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExecReply {
    /// The command ran and ended.
    Exited {
        /// Its exit code; 128 and the signal's number when a signal ended it.
        exit_code: i32,
        /// What it wrote to standard output; the last part of it where it is long.
        stdout: String,
        /// What it wrote to standard error; likewise.
        stderr: String,
    },
    /// It did not end in time and was killed.
    TimedOut {
        /// What it wrote to standard output until then.
        stdout: String,
        /// What it wrote to standard error until then.
        stderr: String,
    },
    /// It could not be run: no such program, no such service, or the service has died.
    Failed {
        /// Why: one sentence.
        reason: String,
    },
}

/// Asks for the last lines that a service wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceLogs {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
    /// How many lines at most.
    pub lines: usize,
}

/// The answer to [`ServiceLogs`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogsReply {
    /// The lines, oldest first.
    pub lines: Vec<String>,
}

/// Stops a service and removes what it left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStop {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
}

/// The answer to [`ServiceStop`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StopReply {
    /// It is gone; so it was if it did not run.
    Stopped,
    /// Something of it may be left.
    Failed {
        /// What, and why.
        reason: String,
    },
}

/// Removes whatever is left of a run: its services of the type, and the commands that still run for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceCleanup {
    /// The run.
    pub run_id: RunId,
}

/// The answer to [`ServiceCleanup`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CleanupReply {
    /// The type of service that answers.
    pub service_type: String,
    /// What was removed.
    pub removed: Vec<String>,
    /// What could not be removed, and why.
    pub failures: Vec<String>,
}

/// A service runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStarted {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
    /// Its type.
    pub service_type: String,
    /// Where it is reached.
    pub address: ServiceAddress,
    /// How long the start took, in milliseconds.
    pub duration_ms: f64,
}

/// A service is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceReady {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
    /// Its type.
    pub service_type: String,
    /// What was seen: "port 8080 accepts connections".
    pub evidence: Vec<String>,
    /// How long it took from the request, in milliseconds.
    pub duration_ms: f64,
}

/// A service did not come up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceFailed {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
    /// Its type.
    pub service_type: String,
    /// Why.
    pub reason: String,
    /// What it wrote last.
    pub log: Vec<String>,
}

/// A service ended by itself after it was ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceDied {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
    /// Its type.
    pub service_type: String,
    /// How it ended: "exit code 3", "signal 9".
    pub ending: String,
    /// What it wrote last.
    pub log: Vec<String>,
}

/// A service was stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStopped {
    /// The service.
    #[serde(flatten)]
    pub id: ServiceId,
    /// Its type.
    pub service_type: String,
    /// How long the stop took, in milliseconds.
    pub duration_ms: f64,
}
