//! Events as lines of text.

use echo_sdk::contract::run::Outcome;

use crate::output::{Output, Style, Verbosity};
use crate::runlog::{Event, RunLog, SuiteLog, is_red, title, word};
use crate::summary::{elapsed, plural, shell_words, style};

/// The line for an event that `log` has taken in, where it is worth one.
pub fn line(event: &Event, log: &RunLog, output: &Output) -> Option<String> {
    let palette = output.err;
    let verbose = output.verbosity >= Verbosity::Verbose;
    let outcome = |it| palette.paint(style(it), format_args!("{:<11}", word(it)));
    let doing = |it: &str| palette.paint(Style::Dim, format_args!("{it:<11}"));
    let bad = |it: &str| palette.paint(Style::Bad, format_args!("{it:<11}"));
    Some(match event {
        Event::RunStarted(run) if verbose => {
            let (tests, steps) = (plural(run.tests, "test"), plural(run.steps, "step"));
            format!("{} {}: {tests}, {steps}", doing("run"), run.run_id)
        }
        Event::ServiceStarting { id, service_type } => {
            format!("{} {} > {} ({service_type})", doing("starting"), id.suite, id.service)
        }
        Event::ServiceReady(ready) => format!(
            "{} {} > {} in {}: {}",
            doing("ready"),
            ready.id.suite,
            ready.id.service,
            elapsed(ready.duration_ms),
            ready.evidence.join(", ")
        ),
        Event::ServiceFailed(it) => {
            format!("{} {} > {}: {}", bad("not ready"), it.id.suite, it.id.service, it.reason)
        }
        Event::ServiceDied(it) => {
            format!("{} {} > {}: {}", bad("died"), it.id.suite, it.id.service, it.ending)
        }
        Event::ServiceStopped(it) if verbose => format!(
            "{} {} > {} in {}",
            doing("stopped"),
            it.id.suite,
            it.id.service,
            elapsed(it.duration_ms)
        ),
        Event::StepStarted(it) if verbose => {
            let (test, command) = (title(&it.suite, &it.test), shell_words(&it.command));
            format!("{} {test} > {}: {command}", doing("step"), it.step)
        }
        Event::StepEnded(it) if verbose || is_red(it.outcome) => {
            let (test, took) = (title(&it.suite, &it.test), elapsed(it.duration_ms));
            format!("{} {test} > {} in {took}", outcome(it.outcome), it.step)
        }
        Event::TestEnded(it) if verbose || it.outcome != Outcome::Skipped => {
            let reason = it.reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            let (test, took) = (title(&it.suite, &it.test), elapsed(it.duration_ms));
            format!("{} {test} in {took}{reason}", outcome(it.outcome))
        }
        // What befell the suite as a whole; what its tests missed was told by then.
        Event::SuiteEnded(it) if log.suite(&it.suite).is_some_and(SuiteLog::failed_by_itself) => {
            let reason = it.reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            format!("{} {}{reason}", outcome(it.outcome), it.suite)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Palette;
    use crate::runlog::sample::Story;

    fn lines(verbosity: Verbosity) -> Vec<String> {
        let output = Output { out: Palette::PLAIN, err: Palette::PLAIN, verbosity };
        let story = Story::shop();
        let log = story.log();
        let events = story.messages.iter().filter_map(|it| Event::read(it).unwrap());
        events.filter_map(|event| line(&event, &log, &output)).collect()
    }

    #[test]
    fn the_lines_tell_the_run() {
        let expected = [
            "ready       shop > api in 35 ms: port 8080 accepts connections",
            "passed      shop > browse in 12 ms",
            "failed      shop > buy > pay in 10 ms",
            "failed      shop > buy in 12 ms",
            "starting    broken > db (generic_container)",
            "not ready   broken > db: the image `db:9` does not exist",
            "errored     broken",
        ];
        assert_eq!(lines(Verbosity::Normal), expected);
    }

    #[test]
    fn steps_are_told_on_request() {
        let lines = lines(Verbosity::Verbose);
        for expected in [
            "step        shop > browse > look: sh -c look",
            "passed      shop > browse > look in 10 ms",
            "skipped     shop > return in 12 ms: the test before it failed",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
        }
    }
}
