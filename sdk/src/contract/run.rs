//! `test.>`: runs, suites, tests and steps.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RunId;
use super::suite::Suite;

/// Asks for a run.
pub const START: &str = "test.run.start";
/// Asks for a run to end early.
pub const CANCEL: &str = "test.run.cancel";
/// A run has begun.
pub const STARTED: &str = "test.run.started";
/// A run is over.
pub const ENDED: &str = "test.run.ended";
/// A suite has begun.
pub const SUITE_STARTED: &str = "test.suite.started";
/// A suite is over.
pub const SUITE_ENDED: &str = "test.suite.ended";
/// A test has begun.
pub const TEST_STARTED: &str = "test.test.started";
/// A test is over.
pub const TEST_ENDED: &str = "test.test.ended";
/// A step has begun.
pub const STEP_STARTED: &str = "test.step.started";
/// A step is over.
pub const STEP_ENDED: &str = "test.step.ended";

/// How something that was run came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// All that was expected was seen.
    Passed,
    /// It was not run, because something before it failed or a filter left it out.
    Skipped,
    /// Something that was expected was not seen.
    Failed,
    /// The surroundings failed: no engine, no such service type, a service that did not start or that died.
    Errored,
    /// Somebody ended the run.
    Interrupted,
}

impl Outcome {
    /// The worse of two, as a whole is judged by its parts: skipped parts leave a whole passed.
    #[must_use]
    pub fn and(self, part: Self) -> Self {
        match (self, part) {
            (whole, Self::Skipped) => whole,
            (whole, part) => whole.max(part),
        }
    }
}

/// Asks for a run of suites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = without_fresh_id))]
pub struct RunStart {
    /// The id that all of the run's messages carry; made when missing.
    #[serde(default = "RunId::fresh")]
    pub run_id: RunId,
    /// The suites.
    pub suites: Vec<Suite>,
    /// How to go about it.
    #[serde(default)]
    pub options: RunOptions,
}

/// The id that stands in when none is given is a new one each time, so no schema can name it.
#[cfg(feature = "schema")]
fn without_fresh_id(schema: &mut schemars::Schema) {
    if let Some(run_id) = schema.pointer_mut("/properties/run_id").and_then(|it| it.as_object_mut())
    {
        run_id.remove("default");
    }
}

/// How a run goes about its suites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunOptions {
    /// How many suites run at once; at least 1.
    pub jobs: usize,
    /// Whether the first test that does not pass ends the run: tests in progress finish, the rest are skipped.
    pub fail_fast: bool,
    /// How long the whole run may take.
    #[serde(with = "crate::duration::option")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub timeout: Option<Duration>,
    /// Only tests whose `suite/test` this regular expression finds are run.
    pub filter: Option<String>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { jobs: 1, fail_fast: false, timeout: None, filter: None }
    }
}

/// Ends a run early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunCancel {
    /// The run.
    pub run_id: RunId,
    /// Why, for the report.
    pub reason: String,
}

/// The answer to [`RunCancel`], from the run itself: it ends now. Nobody answers for a run that is not in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CancelReply {
    /// The run.
    pub run_id: RunId,
}

/// A run has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunStarted {
    /// The run.
    pub run_id: RunId,
    /// The names of its suites.
    pub suites: Vec<String>,
    /// The tests that will run.
    pub tests: usize,
    /// The steps that will run.
    pub steps: usize,
}

/// How many of each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// All expectations were met.
    pub passed: usize,
    /// An expectation was not met.
    pub failed: usize,
    /// The surroundings failed.
    pub errored: usize,
    /// Not run.
    pub skipped: usize,
    /// Ended by somebody.
    pub interrupted: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Errored => self.errored += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::Interrupted => self.interrupted += 1,
        }
    }
}

/// A run is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunEnded {
    /// The run.
    pub run_id: RunId,
    /// How it came out.
    pub outcome: Outcome,
    /// Its tests, counted.
    pub tests: Counts,
    /// Its steps, counted.
    pub steps: Counts,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Why it came out so, where one sentence says it: what was cancelled, or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A suite has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SuiteStarted {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// The file that it was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its tests.
    pub tests: usize,
    /// The names of its services.
    pub services: Vec<String>,
}

/// A suite is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SuiteEnded {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// How it came out.
    pub outcome: Outcome,
    /// Its tests, counted.
    pub tests: Counts,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Why it failed, where no step says so: a service that did not start, or died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last lines of the services that ran, by name, when the suite did not pass.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_logs: BTreeMap<String, Vec<String>>,
}

/// A test has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TestStarted {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// Its steps.
    pub steps: usize,
}

/// A test is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TestEnded {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// How it came out.
    pub outcome: Outcome,
    /// Its steps, counted.
    pub steps: Counts,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Why, where no step says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A step has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepStarted {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// The step.
    pub step: String,
    /// Its place in the test, from 0.
    pub index: usize,
    /// The service that it runs in; without one it runs on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The command, argument by argument.
    pub command: Vec<String>,
}

/// A step is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepEnded {
    /// The run.
    pub run_id: RunId,
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// The step.
    pub step: String,
    /// Its place in the test, from 0.
    pub index: usize,
    /// The service that it ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The command, argument by argument.
    pub command: Vec<String>,
    /// How it came out.
    pub outcome: Outcome,
    /// What the command came to; missing when it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What it wrote to standard output; the last part of it where it is long.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// What it wrote to standard error; likewise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// The expectations that were not met, or why it was not run: each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
}
