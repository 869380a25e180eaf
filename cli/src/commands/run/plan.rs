//! What would run, in order: for `--dry-run`, and to see whether there is anything to run at all.

use std::collections::BTreeSet;
use std::fmt::Write;

use echo_sdk::contract::suite::{ServiceSpec, Suite};
use regex::Regex;
use serde::Serialize;

use crate::output::{Palette, Style};
use crate::suites::shown;
use crate::summary::shell_words;

/// What would run.
#[derive(Debug, Serialize)]
pub struct Plan<'a> {
    suites: Vec<PlannedSuite<'a>>,
}

#[derive(Debug, Serialize)]
struct PlannedSuite<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Services that start at the same time, group after group.
    services: Vec<Vec<PlannedService<'a>>>,
    tests: Vec<PlannedTest<'a>>,
}

#[derive(Debug, Serialize)]
struct PlannedService<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    service_type: &'a str,
}

#[derive(Debug, Serialize)]
struct PlannedTest<'a> {
    name: &'a str,
    steps: Vec<PlannedStep<'a>>,
}

#[derive(Debug, Serialize)]
struct PlannedStep<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    command: &'a [String],
}

impl<'a> Plan<'a> {
    /// The tests that `filter` leaves, in the order of their suites.
    pub fn new(suites: &'a [Suite], filter: Option<&Regex>) -> Self {
        let planned = suites.iter().map(|suite| PlannedSuite::new(suite, filter));
        Self { suites: planned.filter(|suite| !suite.tests.is_empty()).collect() }
    }

    /// Whether nothing would run.
    pub fn is_empty(&self) -> bool {
        self.suites.is_empty()
    }

    /// The plan for people.
    pub fn show(&self, palette: Palette) -> String {
        let mut text = String::new();
        for suite in &self.suites {
            suite.show(&mut text, palette);
        }
        text
    }
}

impl<'a> PlannedSuite<'a> {
    fn new(suite: &'a Suite, filter: Option<&Regex>) -> Self {
        let wanted = |test: &str| {
            filter.is_none_or(|filter| filter.is_match(&format!("{}/{test}", suite.name)))
        };
        let tests = suite.all_tests().filter(|(name, _)| wanted(name)).map(|(name, steps)| {
            let steps = steps.iter().map(|step| PlannedStep {
                name: &step.name,
                service: step.service.as_deref(),
                command: &step.command,
            });
            PlannedTest { name, steps: steps.collect() }
        });
        Self {
            name: &suite.name,
            file: suite.file.as_deref().map(shown),
            services: start_groups(suite),
            tests: tests.collect(),
        }
    }

    fn show(&self, text: &mut String, palette: Palette) {
        let strong = |name: &str| palette.paint(Style::Strong, name);
        let file = self.file.as_ref().map(|file| format!("  ({file})")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}{file}", strong(self.name));
        for group in &self.services {
            let names = group.iter().map(|it| format!("{} ({})", it.name, it.service_type));
            let _ = writeln!(text, "  start {}", names.collect::<Vec<_>>().join(", "));
        }
        for test in &self.tests {
            let _ = writeln!(text, "  test {}", strong(test.name));
            for step in &test.steps {
                let place = step.service.map(|it| format!("   (in {it})")).unwrap_or_default();
                let command = shell_words(step.command);
                let _ = writeln!(text, "    {}: {command}{place}", step.name);
            }
        }
        for group in self.services.iter().rev() {
            let names = group.iter().map(|it| it.name).collect::<Vec<_>>();
            let _ = writeln!(text, "  stop {}", names.join(", "));
        }
    }
}

/// Services in groups: those of a group start at once, when all that they depend on is ready. A suite that
/// was checked has no cycle; of one that has, the services within it are left out.
fn start_groups(suite: &Suite) -> Vec<Vec<PlannedService<'_>>> {
    let mut ready: BTreeSet<&str> = BTreeSet::new();
    let mut groups = Vec::new();
    loop {
        let can_start = |(name, spec): &(&String, &ServiceSpec)| {
            !ready.contains(name.as_str())
                && spec.depends_on.iter().all(|it| ready.contains(it.as_str()))
        };
        let group: Vec<PlannedService<'_>> = suite
            .services
            .iter()
            .filter(can_start)
            .map(|(name, spec)| PlannedService { name, service_type: &spec.service_type })
            .collect();
        if group.is_empty() {
            return groups;
        }
        ready.extend(group.iter().map(|service| service.name));
        groups.push(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn suite() -> Suite {
        let step = |name| json!({ "name": name, "command": ["sh", "-c", "a b"], "service": "api" });
        serde_json::from_value(json!({
            "name": "shop",
            "services": {
                "api": { "type": "process", "depends_on": ["cache", "db"] },
                "cache": { "type": "process" },
                "db": { "type": "generic_container", "depends_on": ["disk"] },
                "disk": { "type": "process" },
            },
            "tests": [
                { "name": "browse", "steps": [step("look")] },
                { "name": "buy", "steps": [step("pay")] },
            ],
        }))
        .unwrap()
    }

    #[test]
    fn the_plan_is_in_the_order_of_the_run() {
        let suites = [suite()];
        let expected = "\
shop
  start cache (process), disk (process)
  start db (generic_container)
  start api (process)
  test buy
    pay: sh -c 'a b'   (in api)
  stop api
  stop db
  stop cache, disk
";
        let filter = Regex::new("shop/buy").unwrap();
        assert_eq!(Plan::new(&suites, Some(&filter)).show(Palette::PLAIN), expected);
        let nothing = Regex::new("shoe").unwrap();
        assert!(Plan::new(&suites, Some(&nothing)).is_empty());
        assert!(!Plan::new(&suites, None).is_empty());
    }
}
