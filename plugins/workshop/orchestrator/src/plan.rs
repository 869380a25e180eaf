//! What a run is to do, checked as a whole before anything starts.

use std::collections::BTreeSet;

use echo_sdk::contract::check::{Fault, check};
use echo_sdk::contract::run::RunStart;
use echo_sdk::contract::suite::{Step, Suite};
use regex::Regex;

/// The suites of a run.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) suites: Vec<PlannedSuite<'a>>,
}

/// A suite and its tests.
#[derive(Debug)]
pub(crate) struct PlannedSuite<'a> {
    pub(crate) suite: &'a Suite,
    pub(crate) tests: Vec<PlannedTest<'a>>,
}

/// A test and its steps.
#[derive(Debug)]
pub(crate) struct PlannedTest<'a> {
    pub(crate) name: &'a str,
    pub(crate) steps: Vec<PlannedStep<'a>>,
    /// Whether the run's filter leaves it in.
    pub(crate) chosen: bool,
}

/// A step, its expectation compiled.
#[derive(Debug)]
pub(crate) struct PlannedStep<'a> {
    pub(crate) step: &'a Step,
    pub(crate) expected_output: Option<Regex>,
}

impl<'a> Plan<'a> {
    /// Checks what is asked for.
    ///
    /// # Errors
    /// The faults, each a sentence that names the place.
    pub(crate) fn new(start: &'a RunStart) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        if start.options.jobs == 0 {
            faults.push("`jobs` is 0, and at least one suite must run at a time".to_owned());
        }
        let filter = start.options.filter.as_deref().map(|filter| regex("the filter", filter));
        let filter = filter.transpose().unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let mut names = BTreeSet::new();
        for suite in start.suites.iter().filter(|suite| !names.insert(&suite.name)) {
            let name = &suite.name;
            faults.push(format!("two suites are named `{name}`; give one of them another `name`"));
        }
        let mut suites = Vec::new();
        for suite in &start.suites {
            match PlannedSuite::new(suite, filter.as_ref()) {
                Ok(suite) => suites.push(suite),
                Err(of_suite) => faults.extend(of_suite),
            }
        }
        if faults.is_empty() { Ok(Self { suites }) } else { Err(faults) }
    }

    /// The tests that will run.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = &PlannedTest<'a>> {
        self.suites.iter().flat_map(PlannedSuite::chosen)
    }
}

impl<'a> PlannedSuite<'a> {
    fn new(suite: &'a Suite, filter: Option<&Regex>) -> Result<Self, Vec<String>> {
        let of_suite = |fault: String| format!("suite `{}`: {fault}", suite.name);
        let found = check(suite);
        if !found.is_empty() {
            return Err(found.into_iter().map(sentence).map(of_suite).collect());
        }
        let test = |(name, steps): (&'a str, &'a [Step])| {
            let steps = steps.iter().map(PlannedStep::new).collect::<Result<_, _>>();
            let steps = steps.map_err(|fault| vec![of_suite(format!("test `{name}`: {fault}"))])?;
            let full_name = format!("{}/{name}", suite.name);
            let chosen = filter.is_none_or(|filter| filter.is_match(&full_name));
            Ok(PlannedTest { name, steps, chosen })
        };
        let tests = suite.all_tests().map(test).collect::<Result<_, Vec<String>>>()?;
        Ok(Self { suite, tests })
    }

    /// The tests that will run.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = &PlannedTest<'a>> {
        self.tests.iter().filter(|test| test.chosen)
    }
}

impl<'a> PlannedStep<'a> {
    /// Compiles a step's expectation.
    ///
    /// # Errors
    /// The fault of its regular expression, as a sentence.
    pub(crate) fn new(step: &'a Step) -> Result<Self, String> {
        let compile = |pattern: &String| {
            regex(&format!("`expected_output_regex` of step `{}`", step.name), pattern)
        };
        let expected_output = step.expected_output_regex.as_ref().map(compile).transpose()?;
        Ok(Self { step, expected_output })
    }
}

/// A fault of the suite as one line.
fn sentence(fault: Fault) -> String {
    let Fault { pointer, message, help } = fault;
    let place = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
    let help = help.map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{place}{message}{help}")
}

/// Compiles a regular expression; one that is too large is refused like one that is malformed.
fn regex(what: &str, pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!(
                "{what} is too large a regular expression: it compiles to more than {limit} bytes"
            )
        }
        // The fault is drawn over several lines, and the last one says it in words.
        other => {
            let text = other.to_string();
            let fault = text.lines().last().unwrap_or_default();
            format!("{what}, `{pattern}`, is no regular expression: {fault}")
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn start(json: serde_json::Value) -> RunStart {
        serde_json::from_value(json).unwrap()
    }

    fn faults(json: serde_json::Value) -> String {
        Plan::new(&start(json)).unwrap_err().join("\n")
    }

    fn step(name: &str, regex: &str) -> serde_json::Value {
        json!({ "name": name, "command": ["true"], "expected_output_regex": regex })
    }

    #[test]
    fn the_filter_chooses_by_suite_and_test() {
        let start = start(json!({
            "suites": [
                { "name": "a", "tests": [
                    { "name": "one", "steps": [step("s", "")] },
                    { "name": "two", "steps": [step("s", "")] },
                ] },
                { "name": "b", "steps": [step("s", "")] },
            ],
            "options": { "filter": "^a/two$|^b/" },
        }));
        let plan = Plan::new(&start).unwrap();
        assert_eq!(plan.chosen().map(|test| test.name).collect::<Vec<_>>(), ["two", "b"]);
        assert_eq!(plan.suites[0].chosen().count(), 1);
    }

    #[test]
    fn every_fault_is_named_before_anything_starts() {
        let faults = faults(json!({
            "suites": [
                { "name": "a", "steps": [step("s", "(")] },
                { "name": "a", "steps": [step("s", r"(\w{999}){999}")] },
                { "name": "b", "steps": [{ "name": "s", "command": ["a"], "service": "web" }] },
            ],
            "options": { "jobs": 0, "filter": "[" },
        }));
        for part in [
            "`jobs` is 0",
            "the filter, `[`, is no regular expression: error: unclosed",
            "suite `a`",
            "(",
            "/steps/0/service: `service` names the service `web`",
            "two suites are named `a`",
        ] {
            assert!(faults.contains(part), "{part:?} is not in:\n{faults}");
        }
    }
}
