//! What a person reads at the end of a run: what failed and all that helps to see why, then the counts.

use std::fmt::Write;
use std::path::Path;

use echo_sdk::contract::run::{Counts, Outcome};

use crate::output::{Palette, Style};
use crate::runlog::{
    RunLog, ServiceLog, ServiceState, StepLog, SuiteLog, TestLog, is_red, title, word,
};
use crate::suites::shown;

/// Puts the summary together.
pub fn summary(log: &RunLog, palette: Palette) -> String {
    let mut summary = Summary { text: String::new(), palette };
    for suite in &log.suites {
        summary.suite(suite);
    }
    summary.leftovers(log);
    summary.counts(log);
    summary.text
}

/// A duration in milliseconds, as people read it.
pub fn elapsed(duration_ms: f64) -> String {
    match duration_ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{:.0} min {:02.0} s", (ms / 60_000.0).floor(), (ms % 60_000.0) / 1000.0),
    }
}

/// A number of things.
pub fn plural(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// The style in which an outcome is shown.
pub fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Passed => Style::Good,
        Outcome::Skipped | Outcome::Interrupted => Style::Warn,
        Outcome::Failed | Outcome::Errored => Style::Bad,
    }
}

/// A command as one would type it into a shell.
pub fn shell_words(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let quote = |word: &String| match word {
        word if !word.is_empty() && word.chars().all(plain) => word.clone(),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}

struct Summary {
    text: String,
    palette: Palette,
}

impl Summary {
    fn line(&mut self, text: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{text}");
    }

    fn suite(&mut self, suite: &SuiteLog) {
        if suite.outcome.is_none_or(|outcome| !is_red(outcome)) && !has_red_test(suite) {
            return;
        }
        let reason = suite.reason.as_deref().unwrap_or_default();
        for test in &suite.tests {
            self.test(suite, test, reason);
        }
        if suite.failed_by_itself() || !reason.is_empty() {
            let outcome = suite.outcome.unwrap_or(Outcome::Interrupted);
            self.heading(outcome, &suite.name, suite.reason.as_deref());
        }
        for service in &suite.services {
            self.service(service, reason);
        }
        if let Some(file) = &suite.file {
            self.field("suite", shown(Path::new(file)));
        }
        self.line("");
    }

    /// The steps of a test that did not pass, and its own reason where the suite does not give the same.
    fn test(&mut self, suite: &SuiteLog, test: &TestLog, said: &str) {
        let Some(outcome) = test.outcome.filter(|outcome| is_red(*outcome)) else { return };
        let name = title(&suite.name, &test.name);
        let red = || test.steps.iter().filter(|step| step.outcome.is_some_and(is_red));
        for step in red() {
            self.step(&name, test.steps.len(), step);
        }
        let unsaid = test.reason.as_deref().filter(|reason| !said.contains(reason));
        if unsaid.is_some() || red().next().is_none() {
            self.heading(outcome, &name, unsaid);
        }
    }

    fn heading(&mut self, outcome: Outcome, name: &str, reason: Option<&str>) {
        let word = self.palette.paint(style(outcome), word(outcome).to_uppercase());
        let name = self.palette.paint(Style::Strong, name);
        match reason {
            Some(reason) => self.line(format_args!("{word} {name}: {reason}")),
            None => self.line(format_args!("{word} {name}")),
        }
    }

    fn step(&mut self, test: &str, steps: usize, step: &StepLog) {
        let outcome = step.outcome.unwrap_or(Outcome::Interrupted);
        let name = format!("{test} > {} (step {} of {steps})", step.name, step.index + 1);
        self.heading(outcome, &name, None);
        let place = step.service.as_ref().map(|service| format!("   (in service {service})"));
        let command = shell_words(&step.command);
        self.field("command", format!("{command}{}", place.unwrap_or_default()));
        for failure in &step.failures {
            let failure = self.palette.paint(Style::Bad, failure);
            self.field("failed", failure);
        }
        self.block("stdout", step.stdout.lines());
        self.block("stderr", step.stderr.lines());
    }

    /// A service's own fault, where the suite's reason does not say it already, and its log.
    fn service(&mut self, service: &ServiceLog, said: &str) {
        let ServiceLog { name, service_type, .. } = service;
        if let Some(reason) = service.reason.as_ref().filter(|reason| !said.contains(*reason)) {
            self.field("service", format!("{name} ({service_type}): {reason}"));
        }
        self.block(&format!("log of {name}"), service.log.iter().map(String::as_str));
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        let name = self.palette.paint(Style::Dim, format_args!("{name:<9}"));
        self.line(format_args!("  {name} {value}"));
    }

    fn block<'a>(&mut self, name: &str, lines: impl Iterator<Item = &'a str>) {
        let bar = self.palette.paint(Style::Dim, "|");
        let mut lines = lines.peekable();
        if lines.peek().is_some() {
            let name = self.palette.paint(Style::Dim, name);
            self.line(format_args!("  {name}"));
        }
        for line in lines {
            self.line(format_args!("    {bar} {line}"));
        }
    }

    fn leftovers(&mut self, log: &RunLog) {
        for (suite, service) in log.live_services() {
            let warning = self.palette.paint(Style::Warn, "LEFT");
            let ServiceLog { name, service_type, state, .. } = service;
            let what = if *state == ServiceState::Died { "died" } else { "was started" };
            self.line(format_args!(
                "{warning} service {name} ({service_type}) of {} {what} and was not seen to be \
                 cleaned up",
                suite.name
            ));
        }
    }

    fn counts(&mut self, log: &RunLog) {
        let outcome = log.verdict().unwrap_or(Outcome::Interrupted);
        let verdict = self.palette.paint(style(outcome), word(outcome));
        let reason = match unsaid_reason(log) {
            reason if reason.is_empty() => reason,
            reason => format!(": {reason}"),
        };
        let suites = log.suites.len();
        self.line(format_args!(
            "{verdict} in {}{reason}",
            elapsed(log.duration_ms.unwrap_or_default())
        ));
        self.line(format_args!(
            "  {}; tests: {}; steps: {}",
            plural(suites, "suite"),
            count(log.counts.tests),
            count(log.counts.steps)
        ));
    }
}

/// The parts of the run's reason that no suite has given for itself.
fn unsaid_reason(log: &RunLog) -> String {
    let of_suites = || log.suites.iter().filter_map(|suite| suite.reason.as_deref());
    let said =
        |part: &&str| of_suites().any(|reason| reason.split("; ").any(|it| part.ends_with(it)));
    let parts = log.reason.iter().flat_map(|reason| reason.split("; "));
    parts.filter(|part| !said(part)).collect::<Vec<_>>().join("; ")
}

fn has_red_test(suite: &SuiteLog) -> bool {
    suite.tests.iter().any(|test| test.outcome.is_some_and(is_red))
}

/// Counts in words, those that are not 0; those that passed always.
fn count(counts: Counts) -> String {
    let Counts { passed, failed, errored, skipped, interrupted } = counts;
    let others = [
        (failed, "failed"),
        (errored, "errored"),
        (skipped, "skipped"),
        (interrupted, "interrupted"),
    ];
    let others = others.into_iter().filter(|(number, _)| *number > 0);
    others
        .fold(format!("{passed} passed"), |text, (number, word)| format!("{text}, {number} {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::sample;

    #[test]
    fn a_failing_step_is_shown_with_all_that_helps() {
        let expected = "\
FAILED shop > buy > pay (step 1 of 1)
  command   sh -c pay   (in service api)
  failed    the exit code is 4, expected 0
  stderr
    | no <money>
  log of api
    | GET /pay 402
  suite     shop.toml

ERRORED broken
  service   db (generic_container): the image `db:9` does not exist

errored in 1.2 s
  2 suites; tests: 1 passed, 1 failed, 1 skipped; steps: 1 passed, 1 failed, 1 skipped
";
        assert_eq!(summary(&sample::shop(), Palette::PLAIN), expected);
    }

    #[test]
    fn a_green_run_is_two_lines() {
        let mut log = sample::shop();
        log.suites.truncate(1);
        log.suites[0].tests.truncate(1);
        log.suites[0].outcome = Some(Outcome::Passed);
        log.outcome = Some(Outcome::Passed);
        let text = summary(&log, Palette::PLAIN);
        assert!(text.starts_with("passed in 1.2 s\n") && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn what_was_not_cleaned_up_is_said() {
        let mut log = sample::shop();
        log.suites[0].services[0].gone = false;
        let text = summary(&log, Palette::PLAIN);
        assert!(text.contains("LEFT service api (process) of shop"), "{text}");
    }

    #[test]
    fn a_reason_is_given_once() {
        let mut log = sample::shop();
        let reason = "service `db` did not come up: the image `db:9` does not exist";
        log.suites[1].reason = Some(reason.into());
        log.reason = Some(format!("suite `broken`: {reason}; a folder is left"));
        let text = summary(&log, Palette::PLAIN);
        assert_eq!(text.matches("does not exist").count(), 1, "{text}");
        assert!(text.contains("errored in 1.2 s: a folder is left\n"), "{text}");
    }

    #[test]
    fn commands_are_shown_as_a_shell_takes_them() {
        let words = ["sh", "-c", "echo 'a'", ""].map(str::to_owned);
        assert_eq!(shell_words(&words), r"sh -c 'echo '\''a'\''' ''");
    }

    #[test]
    fn times_are_short() {
        let shown = [1.23, 42.0, 1234.0, 61_000.0].map(elapsed);
        assert_eq!(shown, ["1.2 ms", "42 ms", "1.2 s", "1 min 01 s"]);
    }
}
