//! One test: its steps, one after another.

use echo_sdk::Span;
use echo_sdk::contract::run::{self, Counts, Outcome, TestEnded, TestStarted};
use tokio::time::Instant;

use crate::deaths::Deaths;
use crate::judge::whole;
use crate::plan::PlannedTest;
use crate::services::Services;
use crate::step::StepRun;
use crate::stop::Cause;
use crate::suite::{Scene, millis};

/// What came of a test.
#[derive(Debug)]
pub(crate) struct TestResult {
    pub(crate) outcome: Outcome,
    pub(crate) steps: Counts,
    /// What kept steps of it from being run to their end.
    pub(crate) cut: Option<Cause>,
}

impl TestResult {
    fn add(&mut self, step: Outcome) {
        self.outcome = whole([self.outcome, step]);
        self.steps.add(step);
    }

    fn cut_by(&mut self, cause: Cause) {
        self.outcome = whole([self.outcome, cause.outcome()]);
        self.cut.get_or_insert(cause);
    }
}

/// Tells that a test is not run, and why.
pub(crate) async fn skip(
    scene: &Scene<'_>,
    span: &Span,
    test: &PlannedTest<'_>,
    reason: &str,
) -> TestResult {
    let steps = Counts { skipped: test.steps.len(), ..Counts::default() };
    let result = TestResult { outcome: Outcome::Skipped, steps, cut: None };
    tell_end(scene, span, test, &result, 0.0, Some(reason.to_owned())).await;
    result
}

/// Runs a test's steps until one does not pass and does not let the test go on.
pub(crate) async fn run(
    scene: &Scene<'_>,
    suite_span: &Span,
    services: &Services<'_>,
    deaths: &mut Deaths<'_>,
    test: &PlannedTest<'_>,
) -> TestResult {
    let started = Instant::now();
    let mut span = scene.link.span(suite_span, "test.test", &[("test", test.name)]);
    let event = TestStarted {
        run_id: scene.link.run_id().clone(),
        suite: scene.suite.name.clone(),
        test: test.name.to_owned(),
        steps: test.steps.len(),
    };
    scene.link.tell(run::TEST_STARTED, &span, &event).await;

    let mut result = TestResult { outcome: Outcome::Skipped, steps: Counts::default(), cut: None };
    let mut skips: Option<String> = None;
    for (index, planned) in test.steps.iter().enumerate() {
        let step = StepRun { scene, services, test: test.name, span: &span, index, planned };
        if skips.is_none()
            && let Some(cause) = scene.stop.raised()
        {
            skips = Some(cause.to_string());
            result.cut_by(cause);
        }
        if let Some(reason) = &skips {
            step.skip(reason).await;
            result.steps.skipped += 1;
            continue;
        }
        let (outcome, cut) = step.run(deaths).await;
        if outcome != Outcome::Passed && !planned.step.continue_on_failure {
            skips = Some(format!("step `{}` before it did not pass", planned.step.name));
        }
        result.add(outcome);
        cut.into_iter().for_each(|cause| result.cut_by(cause));
    }

    let reason = result.cut.as_ref().map(Cause::to_string);
    if result.outcome != Outcome::Passed {
        span.set_error(reason.as_deref().unwrap_or("a step did not pass"));
    }
    tell_end(scene, &span, test, &result, millis(started.elapsed()), reason).await;
    result
}

async fn tell_end(
    scene: &Scene<'_>,
    span: &Span,
    test: &PlannedTest<'_>,
    result: &TestResult,
    duration_ms: f64,
    reason: Option<String>,
) {
    let event = TestEnded {
        run_id: scene.link.run_id().clone(),
        suite: scene.suite.name.clone(),
        test: test.name.to_owned(),
        outcome: result.outcome,
        steps: result.steps,
        duration_ms,
        reason,
    };
    scene.link.tell(run::TEST_ENDED, span, &event).await;
}
