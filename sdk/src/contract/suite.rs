//! A suite: what a TOML file says of an integration test, and what `test.run.start` carries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A suite: services, tests, and what is expected of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Suite {
    /// The suite's name: letters, digits, `-` and `_`. A file without one is named after itself.
    pub name: String,
    /// What it shows, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The folder that relative paths start from; a file's own folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The file that it was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Environment variables of every step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How long the suite may take, services included.
    #[serde(default, with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub timeout: Option<Duration>,
    /// The services, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceSpec>,
    /// The steps of a suite that is a single test; the test has the suite's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The tests of a suite that has several; they run one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
}

/// A named list of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Test {
    /// The test's name, unique in its suite.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// A service of a suite. Keys beside these belong to the service's type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceSpec {
    /// The type; `echo-core services` lists them.
    #[serde(rename = "type")]
    pub service_type: String,
    /// The services that must be ready before this one starts. Services that nothing orders start at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// How to see that it is ready. Without it, the type's own check counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Readiness>,
    /// How long it may take to become ready.
    #[serde(default = "default_start_timeout", with = "crate::duration")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub start_timeout: Duration,
    /// How long it may take to end when asked, before it is killed.
    #[serde(default = "default_stop_timeout", with = "crate::duration")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub stop_timeout: Duration,
    /// The keys of the service's type.
    #[serde(flatten)]
    pub config: Map<String, Value>,
}

fn default_start_timeout() -> Duration {
    Duration::from_secs(60)
}

fn default_stop_timeout() -> Duration {
    Duration::from_secs(2)
}

/// A readiness check: each part that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Readiness {
    /// This port of the service accepts a connection: a name or a number from its `ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// A line of the service's output matches this regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// This command, run within the service, exits with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// This path answers an HTTP GET on `port` (or the service's only port) with a status of 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
}

/// One command and what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// The step's name, unique in its test.
    pub name: String,
    /// The program and its arguments, each as it is: nothing is split or unquoted, no shell is involved.
    pub command: Vec<String>,
    /// The service that it runs in; without one it runs on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Environment variables, over the suite's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The folder that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// How long it may take.
    #[serde(default = "default_step_timeout", with = "crate::duration")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub timeout: Duration,
    /// The exit code that is expected.
    #[serde(default)]
    pub expected_exit_code: i32,
    /// A regular expression that is found in what the command writes to standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_output_regex: Option<String>,
    /// Whether the test's later steps run even if this one fails; the test fails all the same.
    #[serde(default)]
    pub continue_on_failure: bool,
}

fn default_step_timeout() -> Duration {
    Duration::from_secs(30)
}

impl Suite {
    /// The tests, with top-level `steps` as a test of the suite's name.
    pub fn all_tests(&self) -> impl Iterator<Item = (&str, &[Step])> {
        let own = (!self.steps.is_empty()).then_some((self.name.as_str(), self.steps.as_slice()));
        own.into_iter().chain(self.tests.iter().map(|test| (test.name.as_str(), &test.steps[..])))
    }
}
