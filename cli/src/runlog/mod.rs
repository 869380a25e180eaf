//! What is known of a run, folded from the messages on the bus and from nothing else.
//!
//! Progress, summary and reports all read this one record. It serialises to the JSON report, whose form
//! `docs/contracts/reports.md` describes.

mod event;
mod fold;
#[cfg(test)]
pub mod sample;

use chrono::{DateTime, Utc};
use echo_sdk::contract::RunId;
use echo_sdk::contract::run::{Counts, Outcome};
use serde::Serialize;

pub use event::Event;

/// A run as it has been seen so far.
#[derive(Debug, Clone, Serialize)]
pub struct RunLog {
    /// The run.
    pub run_id: RunId,
    /// How it came out; missing until it has ended.
    pub outcome: Option<Outcome>,
    /// Why, where one sentence says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub duration_ms: Option<f64>,
    /// What came out how, counted.
    pub counts: Tally,
    /// The steps that were to run.
    #[serde(skip)]
    pub planned_steps: usize,
    /// Its suites, in the order in which they began.
    pub suites: Vec<SuiteLog>,
}

/// Tests and steps, counted by their outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The tests.
    pub tests: Counts,
    /// The steps.
    pub steps: Counts,
}

/// A suite of a run.
#[derive(Debug, Clone, Serialize)]
pub struct SuiteLog {
    /// Its name.
    pub name: String,
    /// The file that it was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How it came out; missing until it has ended.
    pub outcome: Option<Outcome>,
    /// Why, where no step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub duration_ms: Option<f64>,
    /// Its services, in the order in which they were asked to start.
    pub services: Vec<ServiceLog>,
    /// Its tests, in the order in which they ran.
    pub tests: Vec<TestLog>,
}

/// A service of a suite.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceLog {
    /// Its name in the suite.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub service_type: String,
    /// How far it came.
    pub state: ServiceState,
    /// Whether it is gone: it was stopped, or it never came up.
    pub gone: bool,
    /// How long it took to become ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<f64>,
    /// What showed that it was ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Why it did not come up, or how it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it wrote last, where something went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// How far a service came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// It was asked to start.
    Starting,
    /// Its process or container runs.
    Started,
    /// Its readiness check has passed.
    Ready,
    /// It did not come up.
    Failed,
    /// It ended by itself after it was ready.
    Died,
}

/// A test of a suite.
#[derive(Debug, Clone, Serialize)]
pub struct TestLog {
    /// Its name.
    pub name: String,
    /// How it came out; missing until it has ended.
    pub outcome: Option<Outcome>,
    /// Why, where no step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub duration_ms: Option<f64>,
    /// Its steps, in order.
    pub steps: Vec<StepLog>,
}

/// A step of a test.
#[derive(Debug, Clone, Serialize)]
pub struct StepLog {
    /// Its place in the test, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The service that it ran in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The command, argument by argument.
    pub command: Vec<String>,
    /// How it came out; missing until it has ended.
    pub outcome: Option<Outcome>,
    /// What the command came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// The expectations that were not met, or why it was not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// How long it took.
    pub duration_ms: Option<f64>,
}

impl RunLog {
    /// Nothing is known yet of `run_id`.
    pub fn new(run_id: RunId) -> Self {
        Self {
            run_id,
            outcome: None,
            reason: None,
            started_at: None,
            duration_ms: None,
            counts: Tally::default(),
            planned_steps: 0,
            suites: Vec::new(),
        }
    }

    /// How the run came out: what it says of itself, or what one of its suites, tests or steps says where
    /// that is worse. `None` when no end was seen.
    pub fn verdict(&self) -> Option<Outcome> {
        let parts = self.suites.iter().flat_map(SuiteLog::outcomes);
        self.outcome.map(|whole| parts.fold(whole, Outcome::and))
    }

    /// What is known of a suite.
    pub fn suite(&self, name: &str) -> Option<&SuiteLog> {
        self.suites.iter().find(|suite| suite.name == name)
    }

    /// The services that were asked to start and not yet seen to be gone, each with its suite.
    pub fn live_services(&self) -> impl Iterator<Item = (&SuiteLog, &ServiceLog)> {
        self.suites.iter().flat_map(|suite| {
            suite
                .services
                .iter()
                .filter(|service| !service.gone)
                .map(move |service| (suite, service))
        })
    }
}

impl SuiteLog {
    fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        let tests = self.tests.iter();
        let steps = tests.clone().flat_map(|test| &test.steps).filter_map(|step| step.outcome);
        self.outcome.into_iter().chain(tests.filter_map(|test| test.outcome)).chain(steps)
    }

    /// Whether the suite did not pass for a reason that none of its tests shows.
    pub fn failed_by_itself(&self) -> bool {
        let red = |outcome: Option<Outcome>| outcome.is_some_and(is_red);
        red(self.outcome) && !self.tests.iter().any(|test| red(test.outcome))
    }
}

impl TestLog {
    /// Why the test did not pass: what its steps missed, each with the step's name, and the test's own reason.
    pub fn reasons(&self) -> Vec<String> {
        let red = self.steps.iter().filter(|step| step.outcome.is_some_and(is_red));
        let of_steps = red.flat_map(|step| {
            step.failures.iter().map(move |failure| format!("{}: {failure}", step.name))
        });
        of_steps.chain(self.reason.clone()).collect()
    }
}

/// A test as people read it; the test of a suite that has a single one has the suite's name.
pub fn title(suite: &str, test: &str) -> String {
    if suite == test { suite.to_owned() } else { format!("{suite} > {test}") }
}

/// Whether an outcome makes a run fail.
pub fn is_red(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Passed | Outcome::Skipped)
}

/// An outcome in a word.
pub fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Skipped => "skipped",
        Outcome::Failed => "failed",
        Outcome::Errored => "errored",
        Outcome::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sample::Story;

    #[test]
    fn the_record_holds_what_was_told() {
        let log = sample::shop();
        assert_eq!((log.outcome, log.duration_ms), (Some(Outcome::Failed), Some(1234.5)));
        assert_eq!(log.planned_steps, 3);
        let [shop, broken] = &log.suites[..] else { panic!("{log:?}") };
        let outcomes: Vec<_> = shop.tests.iter().map(|test| test.outcome).collect();
        let expected = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(Some);
        assert_eq!(outcomes, expected);
        let api = &shop.services[0];
        assert_eq!((api.state, api.ready_ms, api.gone), (ServiceState::Ready, Some(35.0), true));
        assert_eq!(api.log, ["GET /pay 402"]);
        let db = &broken.services[0];
        assert_eq!((db.state, db.gone), (ServiceState::Failed, true));
        assert!(broken.failed_by_itself() && !shop.failed_by_itself());
    }

    #[test]
    fn counts_go_along_with_the_run() {
        let mut story = Story::shop();
        story.messages.pop();
        let log = story.log();
        assert_eq!((log.outcome, log.verdict()), (None, None));
        assert_eq!((log.counts.tests.passed, log.counts.tests.failed), (1, 1));
        assert_eq!((log.counts.steps.skipped, log.counts.steps.failed), (1, 1));
    }

    #[test]
    fn a_run_that_says_passed_over_a_failed_part_has_failed() {
        let mut log = sample::shop();
        log.outcome = Some(Outcome::Passed);
        assert_eq!(log.verdict(), Some(Outcome::Errored));
        log.suites.pop();
        assert_eq!(log.verdict(), Some(Outcome::Failed));
    }

    #[test]
    fn a_service_lives_until_it_is_seen_to_be_gone() {
        let mut story = Story::shop();
        let stopped = |it: &echo_sdk::Received| it.topic.as_str() == "service.stopped";
        assert_eq!(story.log().live_services().count(), 0);
        story.messages.retain(|it| !stopped(it));
        let log = story.log();
        let live: Vec<_> = log.live_services().map(|(_, it)| it.name.as_str()).collect();
        assert_eq!(live, ["api"]);
    }

    #[test]
    fn other_runs_are_not_taken_in() {
        let mut log = RunLog::new(RunId::new("another").unwrap());
        for received in &Story::shop().messages {
            let event = Event::read(received).unwrap().unwrap();
            log.apply(&event, received.message.timestamp());
        }
        assert!(log.suites.is_empty() && log.outcome.is_none());
    }

    #[test]
    fn steps_stay_in_order() {
        let mut story = Story::shop();
        for index in [2, 0, 1] {
            let step = serde_json::json!({ "run_id": "run-1", "suite": "x", "test": "t",
                "step": format!("s{index}"), "index": index, "command": [] });
            story.tell("test.step.started", &step);
        }
        let log = story.log();
        let steps = &log.suites[2].tests[0].steps;
        assert_eq!(steps.iter().map(|it| it.index).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_malformed_event_is_an_error() {
        let mut story = Story::shop();
        story.tell("test.step.ended", &1);
        assert!(Event::read(story.messages.last().unwrap()).is_err());
        story.tell("plugin.other", &1);
        assert!(Event::read(story.messages.last().unwrap()).unwrap().is_none());
    }
}
