//! The JUnit report, as build servers read it: a suite is a `testsuite`, a test a `testcase`.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use echo_sdk::contract::run::Outcome;
use quick_junit::{
    NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite,
};

use super::{SUITE_ITSELF, own_reason};
use crate::runlog::{RunLog, StepLog, SuiteLog, TestLog, is_red};
use crate::suites::shown;

/// Writes the report.
pub fn render(log: &RunLog) -> Result<String, SerializeError> {
    let mut report = Report::new("echo-core");
    if let Some(started) = log.started_at {
        report.set_timestamp(started);
    }
    report.set_time(time(log.duration_ms));
    report.add_test_suites(log.suites.iter().map(suite));
    report.to_string()
}

fn suite(log: &SuiteLog) -> TestSuite {
    let mut suite = TestSuite::new(&log.name);
    if let Some(started) = log.started_at {
        suite.set_timestamp(started);
    }
    suite.set_time(time(log.duration_ms));
    suite.add_properties(properties(log));
    suite.add_test_cases(log.tests.iter().map(|it| test(&log.name, it)));
    if log.failed_by_itself() {
        suite.add_test_case(suite_itself(log));
    }
    let logs = service_logs(log);
    if !logs.is_empty() {
        suite.set_system_out(logs);
    }
    suite
}

fn properties(log: &SuiteLog) -> Vec<Property> {
    let file = log.file.iter().map(|file| Property::new("file", shown(Path::new(file))));
    let services = log
        .services
        .iter()
        .map(|service| Property::new(format!("service.{}", service.name), &service.service_type));
    file.chain(services).collect()
}

/// A suite can fail though all of its tests passed or were skipped; readers look at test cases alone.
fn suite_itself(log: &SuiteLog) -> TestCase {
    let mut status = status_of(log.outcome);
    status.set_message(own_reason(log));
    let mut case = TestCase::new(SUITE_ITSELF, status);
    case.set_classname(&log.name);
    case
}

fn test(suite: &str, log: &TestLog) -> TestCase {
    let mut status = status_of(log.outcome);
    if log.outcome != Some(Outcome::Passed) {
        let lines = log.reasons();
        if let Some(first) = lines.first() {
            status.set_message(first);
        }
        if log.outcome.is_some_and(is_red) {
            status.set_description(lines.join("\n"));
        }
    }
    let mut case = TestCase::new(&log.name, status);
    case.set_classname(suite);
    case.set_time(time(log.duration_ms));
    if let Some(started) = log.started_at {
        case.set_timestamp(started);
    }
    let (out, err) = outputs(&log.steps);
    if !out.is_empty() {
        case.set_system_out(out);
    }
    if !err.is_empty() {
        case.set_system_err(err);
    }
    case
}

/// A test without an end was cut off: nothing shows that it passed.
fn status_of(outcome: Option<Outcome>) -> TestCaseStatus {
    let (kind, name) = match outcome {
        Some(Outcome::Passed) => return TestCaseStatus::success(),
        Some(Outcome::Skipped) => return TestCaseStatus::skipped(),
        Some(Outcome::Failed) => (NonSuccessKind::Failure, "failed"),
        Some(Outcome::Errored) => (NonSuccessKind::Error, "errored"),
        Some(Outcome::Interrupted) | None => (NonSuccessKind::Error, "interrupted"),
    };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(name);
    status
}

fn outputs(steps: &[StepLog]) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    // Writing to a string cannot fail.
    for step in steps.iter().filter(|step| step.outcome != Some(Outcome::Skipped)) {
        let code = step.exit_code.map(|code| format!(" = {code}")).unwrap_or_default();
        let _ = writeln!(out, "[{}] {}{code}", step.name, step.command.join(" "));
        push_block(&mut out, &step.stdout);
        if !step.stderr.is_empty() {
            let _ = writeln!(err, "[{}]", step.name);
            push_block(&mut err, &step.stderr);
        }
    }
    (out, err)
}

fn service_logs(log: &SuiteLog) -> String {
    let mut text = String::new();
    for service in log.services.iter().filter(|service| !service.log.is_empty()) {
        let _ = writeln!(text, "[service {}]", service.name);
        push_block(&mut text, &service.log.join("\n"));
    }
    text
}

fn push_block(text: &mut String, block: &str) {
    text.push_str(block);
    if !block.is_empty() && !block.ends_with('\n') {
        text.push('\n');
    }
}

fn time(duration_ms: Option<f64>) -> Duration {
    let seconds = duration_ms.unwrap_or_default() / 1000.0;
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::sample;

    #[test]
    fn each_outcome_has_its_element() {
        let xml = render(&sample::shop()).unwrap();
        for part in [
            r#"<testsuites name="echo-core" tests="4" skipped="1" failures="1" errors="1""#,
            r#"<testsuite name="shop" tests="3" skipped="1" errors="0" failures="1""#,
            r#"<property name="file" value="shop.toml"/>"#,
            r#"<testcase name="browse" classname="shop" timestamp="2027-01-15T08:00:04.000+00:00" time="0.012">"#,
            r#"<failure message="pay: the exit code is 4, expected 0" type="failed">"#,
            r#"<skipped message="the test before it failed"/>"#,
            "[pay] sh -c pay = 4",
            "no &lt;money&gt;",
            "[service api]",
        ] {
            assert!(xml.contains(part), "{part}\n{xml}");
        }
        assert!(!xml.contains("[send]"), "a step that was not run wrote nothing:\n{xml}");
    }

    #[test]
    fn a_suite_that_failed_by_itself_has_a_test_case() {
        let xml = render(&sample::shop()).unwrap();
        let case = r#"<testcase name="(suite)" classname="broken">"#;
        let error =
            r#"<error message="service db: the image `db:9` does not exist" type="errored"/>"#;
        assert!(xml.contains(case) && xml.contains(error), "{xml}");
    }

    #[test]
    fn a_test_that_was_cut_off_did_not_pass() {
        let mut log = sample::shop();
        log.suites[0].tests[0].outcome = None;
        assert!(render(&log).unwrap().contains(r#"<error type="interrupted"/>"#));
    }
}
