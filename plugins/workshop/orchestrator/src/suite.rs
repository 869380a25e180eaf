//! One suite: its services come up, its tests run, its services go.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use echo_sdk::Span;
use echo_sdk::contract::run::{self, Counts, Outcome, SuiteEnded, SuiteStarted};
use echo_sdk::contract::suite::Suite;
use tokio::time::Instant;

use crate::deaths::Deaths;
use crate::judge::whole;
use crate::link::Link;
use crate::plan::{PlannedSuite, PlannedTest};
use crate::run::Run;
use crate::services::Services;
use crate::step;
use crate::stop::{Cause, Stop};
use crate::test::{self, TestResult};

/// What everything within a suite refers to.
pub(crate) struct Scene<'a> {
    pub(crate) link: &'a Link,
    pub(crate) suite: &'a Suite,
    pub(crate) stop: Stop,
}

/// What came of a suite.
#[derive(Debug)]
pub(crate) struct SuiteResult {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) tests: Counts,
    pub(crate) steps: Counts,
    /// What ended it before it was done.
    pub(crate) cut: Option<Cause>,
    /// Why else it came out so, where no step says it: sentences.
    pub(crate) reasons: Vec<String>,
    service_logs: BTreeMap<String, Vec<String>>,
}

impl SuiteResult {
    fn new(name: String) -> Self {
        Self {
            name,
            outcome: Outcome::Skipped,
            tests: Counts::default(),
            steps: Counts::default(),
            cut: None,
            reasons: Vec::new(),
            service_logs: BTreeMap::new(),
        }
    }

    fn add(&mut self, test: &TestResult) {
        self.outcome = whole([self.outcome, test.outcome]);
        self.tests.add(test.outcome);
        add_counts(&mut self.steps, &test.steps);
    }

    /// Takes in what befell the suite as a whole.
    fn blame(&mut self, outcome: Outcome, reason: String) {
        self.outcome = whole([self.outcome, outcome]);
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn cut_by(&mut self, cause: Cause) {
        self.outcome = whole([self.outcome, cause.outcome()]);
        self.cut.get_or_insert(cause);
    }

    fn reason(&self) -> Option<String> {
        let cut = self.cut.iter().map(Cause::to_string);
        let reasons: Vec<_> = cut.chain(self.reasons.iter().cloned()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Adds up counts.
pub(crate) fn add_counts(sum: &mut Counts, part: &Counts) {
    sum.passed += part.passed;
    sum.failed += part.failed;
    sum.errored += part.errored;
    sum.skipped += part.skipped;
    sum.interrupted += part.interrupted;
}

/// A duration as events give it.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Why a test is not begun.
#[derive(Debug, Clone)]
enum Skip {
    /// The run's filter leaves it out.
    Filtered(String),
    /// Suite or run were ended.
    Cut(Cause),
    /// A test before it did not pass, and the run is to end with the first such.
    FailFast,
    /// The suite cannot run its tests.
    Broken(String),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filtered(filter) => write!(f, "the filter `{filter}` leaves it out"),
            Self::Cut(cause) => cause.fmt(f),
            Self::FailFast => f.write_str("a test before it did not pass, and `fail_fast` is set"),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

/// A suite on its way.
pub(crate) struct SuiteRun<'a> {
    run: &'a Run<'a>,
    planned: &'a PlannedSuite<'a>,
    scene: Scene<'a>,
    result: SuiteResult,
}

impl<'a> SuiteRun<'a> {
    /// The suite's time begins now.
    pub(crate) fn new(run: &'a Run<'a>, planned: &'a PlannedSuite<'a>) -> Self {
        let suite = planned.suite;
        let name = suite.name.clone();
        let cause = |limit| Cause::SuiteTimeout(name, limit);
        let scene = Scene { link: &run.link, suite, stop: run.stop.or_after(suite.timeout, cause) };
        Self { run, planned, scene, result: SuiteResult::new(suite.name.clone()) }
    }

    /// Runs the suite from its first event to its last.
    pub(crate) async fn execute(mut self) -> SuiteResult {
        let started = Instant::now();
        let attributes = [("suite", self.scene.suite.name.as_str())];
        let mut span = self.scene.link.span(&self.run.span, "test.suite", &attributes);
        self.tell_start(&span).await;
        if self.planned.tests.iter().all(|test| self.skips(test).is_some()) {
            self.skip_all(&span, None).await;
            let first = self.planned.tests.first().and_then(|test| self.skips(test));
            let reason = first.filter(|skip| !matches!(skip, Skip::Cut(_)));
            self.result.reasons.extend(reason.map(|skip| format!("nothing of it was run: {skip}")));
        } else {
            self.with_services(&span).await;
        }
        let reason = self.result.reason();
        if self.result.outcome != Outcome::Passed {
            span.set_error(reason.as_deref().unwrap_or("a test did not pass"));
        }
        self.tell_end(&span, reason, millis(started.elapsed())).await;
        self.result
    }

    /// Brings the services up, runs the tests, and brings the services down whatever happened.
    async fn with_services(&mut self, span: &Span) {
        let suite = self.scene.suite;
        let mut deaths = match Deaths::watch(self.scene.link, &suite.name).await {
            Ok(deaths) => deaths,
            Err(error) => {
                let reason = format!("the suite cannot listen for services that die: {error}");
                return self.skip_all(span, Some(reason)).await;
            }
        };
        let mut services = Services::new(self.scene.link, suite, span, &self.run.env);
        match deaths.meanwhile(self.scene.stop.or(services.start())).await {
            Ok(Ok(())) => self.run_tests(span, &services, &mut deaths).await,
            Ok(Err(reason)) => self.skip_all(span, Some(reason)).await,
            // All tests are skipped for the cause.
            Err(_) => self.skip_all(span, None).await,
        }
        self.count_deaths(&mut deaths).await;
        if self.result.outcome != Outcome::Passed {
            let logs = services.logs().await;
            for (name, log) in logs {
                self.result.service_logs.entry(name).or_insert(log);
            }
        }
        for failure in deaths.meanwhile(services.stop()).await {
            self.result.blame(Outcome::Errored, failure);
        }
        // One that died while the last step ended was told of before its stop was answered.
        self.count_deaths(&mut deaths).await;
    }

    async fn run_tests(&mut self, span: &Span, services: &Services<'_>, deaths: &mut Deaths<'_>) {
        for test in &self.planned.tests {
            if let Some(skip) = self.skips(test) {
                self.skip(span, test, skip).await;
                continue;
            }
            let result = test::run(&self.scene, span, services, deaths, test).await;
            if !matches!(result.outcome, Outcome::Passed | Outcome::Skipped) {
                self.run.note_failure();
            }
            if let Some(cause) = &result.cut {
                self.result.cut_by(cause.clone());
            }
            self.result.add(&result);
        }
    }

    /// Skips all tests: for reasons of their own, and otherwise because the suite is `broken`.
    async fn skip_all(&mut self, span: &Span, broken: Option<String>) {
        for test in &self.planned.tests {
            let skip = self.skips(test).or_else(|| broken.clone().map(Skip::Broken));
            if let Some(skip) = skip {
                self.skip(span, test, skip).await;
            }
        }
        if let Some(reason) = broken {
            self.result.blame(Outcome::Errored, reason);
            self.run.note_failure();
        }
    }

    async fn skip(&mut self, span: &Span, test: &PlannedTest<'_>, skip: Skip) {
        let result = test::skip(&self.scene, span, test, &skip.to_string()).await;
        self.result.add(&result);
        if let Skip::Cut(cause) = skip {
            self.result.cut_by(cause);
        }
    }

    /// Why a test would not be begun now.
    fn skips(&self, test: &PlannedTest<'_>) -> Option<Skip> {
        if !test.chosen {
            let filter = self.run.options.filter.clone().unwrap_or_default();
            return Some(Skip::Filtered(filter));
        }
        let cut = self.scene.stop.raised().map(Skip::Cut);
        cut.or_else(|| self.run.fails_fast().then_some(Skip::FailFast))
    }

    /// A service that died makes the suite red, whatever its steps said. It is an error like that of a step
    /// which died with it, so that the outcome does not depend on which of the two was seen first.
    async fn count_deaths(&mut self, deaths: &mut Deaths<'_>) {
        for (name, died) in deaths.by_now().await {
            self.result.blame(Outcome::Errored, step::dead(died));
            self.result.service_logs.insert(name.clone(), died.log.clone());
        }
    }

    async fn tell_start(&self, span: &Span) {
        let suite = self.scene.suite;
        let event = SuiteStarted {
            run_id: self.scene.link.run_id().clone(),
            suite: suite.name.clone(),
            file: suite.file.as_ref().map(|file| file.to_string_lossy().into_owned()),
            tests: self.planned.tests.len(),
            services: suite.services.keys().cloned().collect(),
        };
        self.scene.link.tell(run::SUITE_STARTED, span, &event).await;
    }

    async fn tell_end(&self, span: &Span, reason: Option<String>, duration_ms: f64) {
        let event = SuiteEnded {
            run_id: self.scene.link.run_id().clone(),
            suite: self.scene.suite.name.clone(),
            outcome: self.result.outcome,
            tests: self.result.tests,
            duration_ms,
            reason,
            service_logs: self.result.service_logs.clone(),
        };
        self.scene.link.tell(run::SUITE_ENDED, span, &event).await;
    }
}
