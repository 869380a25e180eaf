//! What a command's ending is worth: expected against found. Pure, so that every rule has its test.

use echo_sdk::contract::run::Outcome;
use echo_sdk::contract::service::ExecReply;
use regex::Regex;

use crate::plan::PlannedStep;

/// How many characters of an output a failure quotes; the whole stands beside it in the event.
const QUOTED: usize = 300;

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) exit_code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What was expected and not found, or why the command was not run: sentences.
    pub(crate) failures: Vec<String>,
}

impl Verdict {
    /// A step of which no ending was seen.
    pub(crate) fn without_ending(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self {
            outcome,
            exit_code: None,
            stdout: String::new(),
            stderr: String::new(),
            failures: vec![reason.into()],
        }
    }
}

/// Judges a step by the ending of its command. It passes only if the command exited, with the code that
/// is expected and an output that is expected.
pub(crate) fn judge(step: &PlannedStep<'_>, reply: ExecReply) -> Verdict {
    match reply {
        ExecReply::Exited { exit_code, stdout, stderr } => {
            let mut failures = Vec::new();
            failures.extend(exit_code_failure(step.step.expected_exit_code, exit_code));
            let expected = step.expected_output.as_ref();
            failures.extend(expected.and_then(|expected| output_failure(expected, &stdout)));
            let outcome = if failures.is_empty() { Outcome::Passed } else { Outcome::Failed };
            Verdict { outcome, exit_code: Some(exit_code), stdout, stderr, failures }
        }
        ExecReply::TimedOut { stdout, stderr } => {
            let limit = echo_sdk::duration::format(step.step.timeout);
            let failure = format!(
                "the command was expected to end within {limit}, but it still ran then and was killed"
            );
            let failures = vec![failure];
            Verdict { outcome: Outcome::Failed, exit_code: None, stdout, stderr, failures }
        }
        ExecReply::Failed { reason } => Verdict::without_ending(Outcome::Errored, reason),
    }
}

fn exit_code_failure(expected: i32, found: i32) -> Option<String> {
    let by_signal = match found {
        129..=192 => format!(", which stands for an end by signal {}", found - 128),
        _ => String::new(),
    };
    (expected != found).then(|| {
        format!("exit code {expected} was expected, but the command exited with {found}{by_signal}")
    })
}

fn output_failure(expected: &Regex, stdout: &str) -> Option<String> {
    if expected.is_match(stdout) {
        return None;
    }
    let found = match stdout {
        "" => "the command wrote nothing to it".to_owned(),
        _ => format!("it reads {}", quoted(stdout)),
    };
    Some(format!("`{expected}` was expected in the standard output, but {found}"))
}

/// The end of a text, in quotes.
fn quoted(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(QUOTED);
    if skipped == 0 {
        return format!("{text:?}");
    }
    let end: String = text.chars().skip(skipped).collect();
    format!("{end:?} at its end, after {skipped} more characters")
}

/// How a whole came out by its parts: the worst of those that ran, and skipped if none did.
pub(crate) fn whole(parts: impl IntoIterator<Item = Outcome>) -> Outcome {
    let ran = parts.into_iter().filter(|part| *part != Outcome::Skipped);
    ran.max().unwrap_or(Outcome::Skipped)
}

#[cfg(test)]
mod tests {
    use echo_sdk::contract::suite::Step;

    use super::*;

    fn step(json: serde_json::Value) -> Step {
        let mut step = serde_json::json!({ "name": "s", "command": ["true"] });
        step.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(step).unwrap()
    }

    fn exited(exit_code: i32, stdout: &str) -> ExecReply {
        ExecReply::Exited { exit_code, stdout: stdout.into(), stderr: "warned".into() }
    }

    fn verdict(expectations: serde_json::Value, reply: ExecReply) -> Verdict {
        let step = step(expectations);
        judge(&PlannedStep::new(&step).unwrap(), reply)
    }

    #[test]
    fn a_step_passes_by_its_exit_and_nothing_else() {
        let passed = verdict(serde_json::json!({}), exited(0, "out"));
        assert_eq!((passed.outcome, passed.exit_code), (Outcome::Passed, Some(0)));
        assert_eq!((passed.stdout.as_str(), passed.stderr.as_str()), ("out", "warned"));
        assert!(passed.failures.is_empty());

        let timed_out = ExecReply::TimedOut { stdout: "half".into(), stderr: String::new() };
        let late = verdict(serde_json::json!({ "timeout": "2s" }), timed_out);
        assert_eq!((late.outcome, late.exit_code), (Outcome::Failed, None));
        assert!(late.failures[0].contains("within 2s"), "{:?}", late.failures);
        assert_eq!(late.stdout, "half");

        let reason = ExecReply::Failed { reason: "there is no program `nope`".into() };
        let failed = verdict(serde_json::json!({}), reason);
        assert_eq!(failed.outcome, Outcome::Errored);
        assert_eq!(failed.failures, ["there is no program `nope`"]);
    }

    #[test]
    fn an_exit_code_is_compared_with_the_expected_one() {
        let expects_3 = serde_json::json!({ "expected_exit_code": 3 });
        assert_eq!(verdict(expects_3.clone(), exited(3, "")).outcome, Outcome::Passed);
        let other = verdict(expects_3, exited(0, ""));
        assert_eq!(other.outcome, Outcome::Failed);
        assert_eq!(other.failures, ["exit code 3 was expected, but the command exited with 0"]);
        let killed = verdict(serde_json::json!({}), exited(137, ""));
        assert!(killed.failures[0].ends_with("by signal 9"), "{:?}", killed.failures);
    }

    #[test]
    fn an_output_must_hold_what_is_expected() {
        let expects = serde_json::json!({ "expected_output_regex": "^rea+dy$" });
        assert_eq!(verdict(expects.clone(), exited(0, "reaady")).outcome, Outcome::Passed);
        let other = verdict(expects.clone(), exited(0, "not\nyet"));
        assert_eq!(
            other.failures,
            [r#"`^rea+dy$` was expected in the standard output, but it reads "not\nyet""#]
        );
        let silent = verdict(expects.clone(), exited(0, ""));
        assert!(silent.failures[0].ends_with("wrote nothing to it"), "{:?}", silent.failures);
        // Standard error is not what is looked at.
        let reply =
            ExecReply::Exited { exit_code: 0, stdout: String::new(), stderr: "ready".into() };
        assert_eq!(verdict(expects, reply).outcome, Outcome::Failed);
    }

    #[test]
    fn each_unmet_expectation_has_its_sentence() {
        let both = serde_json::json!({ "expected_output_regex": "yes" });
        assert_eq!(verdict(both, exited(1, "no")).failures.len(), 2);
    }

    #[test]
    fn of_a_long_output_the_end_is_quoted() {
        let long = format!("{}the end", "ä".repeat(10_000));
        let failures =
            verdict(serde_json::json!({ "expected_output_regex": "x" }), exited(0, &long)).failures;
        assert!(failures[0].len() < 1_000, "{}", failures[0].len());
        assert!(failures[0].contains("the end\" at its end, after 9707 more"), "{}", failures[0]);
    }

    #[test]
    fn a_whole_is_its_worst_part_and_nothing_is_not_passed() {
        use Outcome::{Errored, Failed, Interrupted, Passed, Skipped};
        assert_eq!(whole([]), Skipped);
        assert_eq!(whole([Skipped, Skipped]), Skipped);
        assert_eq!(whole([Passed, Skipped]), Passed);
        assert_eq!(whole([Passed, Failed, Skipped]), Failed);
        assert_eq!(whole([Errored, Failed, Passed]), Errored);
        assert_eq!(whole([Errored, Interrupted]), Interrupted);
    }
}
