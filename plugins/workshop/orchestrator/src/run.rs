//! One run: its suites, a few at a time, and the removal of all that they left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use echo_sdk::contract::RunId;
use echo_sdk::contract::run::{self, Counts, Outcome, RunEnded, RunOptions, RunStart, RunStarted};
use echo_sdk::{PluginContext, Span};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::judge::whole;
use crate::link::Link;
use crate::plan::Plan;
use crate::stop::{Cause, Stop};
use crate::suite::{SuiteResult, SuiteRun, add_counts, millis};

/// A run on its way.
pub(crate) struct Run<'a> {
    pub(crate) link: Link,
    pub(crate) options: &'a RunOptions,
    pub(crate) stop: Stop,
    pub(crate) span: Span,
    /// The environment of whoever runs.
    pub(crate) env: BTreeMap<String, String>,
    failed: AtomicBool,
}

impl Run<'_> {
    /// Notes that something did not pass.
    pub(crate) fn note_failure(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether no further test is to begin because something did not pass.
    pub(crate) fn fails_fast(&self) -> bool {
        self.options.fail_fast && self.failed.load(Ordering::Relaxed)
    }

    async fn suites(&self, plan: &Plan<'_>) -> Vec<SuiteResult> {
        let suites = plan.suites.iter().map(|suite| async move {
            // Made here, so that a suite's time begins when its turn has come.
            SuiteRun::new(self, suite).execute().await
        });
        // A list, because a stream over a borrowing closure is no `Send` future in the compiler's eyes.
        let suites: Vec<_> = suites.collect();
        stream::iter(suites).buffer_unordered(self.options.jobs).collect().await
    }

    async fn tell_start(&self, plan: &Plan<'_>) {
        let event = RunStarted {
            run_id: self.link.run_id().clone(),
            suites: plan.suites.iter().map(|planned| planned.suite.name.clone()).collect(),
            tests: plan.chosen().count(),
            steps: plan.chosen().map(|test| test.steps.len()).sum(),
        };
        self.link.tell(run::STARTED, &self.span, &event).await;
    }
}

/// Runs what is planned, tells all that happens, and gives what it came to.
pub(crate) async fn execute(
    context: &PluginContext,
    start: &RunStart,
    plan: &Plan<'_>,
) -> RunEnded {
    let started = Instant::now();
    let options = &start.options;
    let stop = match Stop::of_run(context, &start.run_id, options.timeout).await {
        Ok(stop) => stop,
        Err(error) => {
            let reason =
                format!("the run could not be started, since nothing could end it: {error}");
            return errored(start.run_id.clone(), reason);
        }
    };
    let mut run = Run {
        link: Link::new(context.clone(), start.run_id.clone()),
        options,
        stop,
        span: context.create_span("test.run", &[("run_id", start.run_id.as_str())]),
        env: crate::scope::environment(),
        failed: AtomicBool::new(false),
    };
    run.tell_start(plan).await;
    let suites = run.suites(plan).await;
    let left = run.link.clean_up(&run.span).await;
    let mut ended = ended(&start.run_id, &suites, left, run.link.lost());
    ended.duration_ms = millis(started.elapsed());
    if ended.outcome != Outcome::Passed {
        run.span.set_error(ended.reason.as_deref().unwrap_or("a suite did not pass"));
    }
    run.link.tell(run::ENDED, &run.span, &ended).await;
    ended
}

/// The end of a run that never began.
pub(crate) fn errored(run_id: RunId, reason: String) -> RunEnded {
    RunEnded {
        run_id,
        outcome: Outcome::Errored,
        tests: Counts::default(),
        steps: Counts::default(),
        duration_ms: 0.0,
        reason: Some(reason),
    }
}

/// What a run came to, by its suites, by what it left behind and by what it could not tell.
fn ended(
    run_id: &RunId,
    suites: &[SuiteResult],
    left: Vec<String>,
    lost: Option<String>,
) -> RunEnded {
    let (mut tests, mut steps) = (Counts::default(), Counts::default());
    for suite in suites {
        add_counts(&mut tests, &suite.tests);
        add_counts(&mut steps, &suite.steps);
    }
    let mut outcome = whole(suites.iter().map(|suite| suite.outcome));
    let mut reasons = causes(suites);
    let red = |suite: &&SuiteResult| !matches!(suite.outcome, Outcome::Passed | Outcome::Skipped);
    for suite in suites.iter().filter(red) {
        reasons.extend(suite.reasons.iter().map(|why| format!("suite `{}`: {why}", suite.name)));
    }
    if outcome == Outcome::Skipped {
        reasons.push("nothing was run, so nothing was shown".to_owned());
    }
    for trouble in left.into_iter().chain(lost) {
        outcome = whole([outcome, Outcome::Errored]);
        reasons.push(trouble);
    }
    let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
    RunEnded { run_id: run_id.clone(), outcome, tests, steps, duration_ms: 0.0, reason }
}

/// What ended suites before they were done, each cause once.
fn causes(suites: &[SuiteResult]) -> Vec<String> {
    let mut causes: Vec<String> =
        suites.iter().filter_map(|suite| suite.cut.as_ref()).map(Cause::to_string).collect();
    causes.sort();
    causes.dedup();
    causes
}
