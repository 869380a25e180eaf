//! The Test Anything Protocol, version 14: a line for each test.

use std::fmt::Write;

use echo_sdk::contract::run::Outcome;

use super::{SUITE_ITSELF, own_reason};
use crate::runlog::{RunLog, SuiteLog, word};

/// Writes the report.
pub fn render(log: &RunLog) -> String {
    let mut points = Points::default();
    for suite in &log.suites {
        for test in &suite.tests {
            let reason = test.reason.as_deref().unwrap_or_default();
            points.add(suite, &test.name, test.outcome, reason, &test.reasons());
        }
        if suite.failed_by_itself() {
            points.add(suite, SUITE_ITSELF, suite.outcome, "", &[own_reason(suite)]);
        }
    }
    let Points { count, text } = points;
    let end = if log.outcome.is_none() { "Bail out! the run was cut off\n" } else { "" };
    format!("TAP version 14\n1..{count}\n{text}{end}")
}

/// The test points so far.
#[derive(Default)]
struct Points {
    count: usize,
    text: String,
}

impl Points {
    fn add(
        &mut self,
        suite: &SuiteLog,
        test: &str,
        outcome: Option<Outcome>,
        skipped: &str,
        failures: &[String],
    ) {
        self.count += 1;
        let name = format!("{} - {}/{test}", self.count, suite.name).replace('#', r"\#");
        // Writing to a string cannot fail.
        let _ = match outcome {
            Some(Outcome::Passed) => writeln!(self.text, "ok {name}"),
            Some(Outcome::Skipped) => writeln!(self.text, "ok {name} # SKIP {}", one_line(skipped)),
            other => {
                let outcome = other.map_or("cut off", word);
                let diagnostics = diagnostics(outcome, failures);
                writeln!(self.text, "not ok {name}\n{diagnostics}")
            }
        };
    }
}

/// A YAML block below a test point.
fn diagnostics(outcome: &str, failures: &[String]) -> String {
    // A JSON string is a YAML string.
    let lines =
        failures.iter().map(|it| format!("    - {}\n", serde_json::Value::from(it.as_str())));
    let heading = if failures.is_empty() { "" } else { "  failures:\n" };
    format!("  ---\n  outcome: {outcome}\n{heading}{}  ...", lines.collect::<String>())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::sample;

    #[test]
    fn each_test_has_a_line() {
        let expected = r#"TAP version 14
1..4
ok 1 - shop/browse
not ok 2 - shop/buy
  ---
  outcome: failed
  failures:
    - "pay: the exit code is 4, expected 0"
  ...
ok 3 - shop/return # SKIP the test before it failed
not ok 4 - broken/(suite)
  ---
  outcome: errored
  failures:
    - "service db: the image `db:9` does not exist"
  ...
"#;
        assert_eq!(render(&sample::shop()), expected);
    }
}
