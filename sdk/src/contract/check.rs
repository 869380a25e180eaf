//! What a suite must hold beyond its form: names that exist, an order that can be kept, texts that can be
//! read. The same checks judge a file before it runs and a suite that came over the bus.

mod services;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::reference::{Reference, Template};
use super::suite::{Step, Suite};
use crate::is_name;
use services::{ports, ports_help};

/// Something in a suite that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer into the suite, such as `/services/web/depends_on/0`.
    pub pointer: String,
    /// What is wrong: one sentence.
    pub message: String,
    /// The way out, where the message does not say it already.
    pub help: Option<String>,
}

/// Finds everything in a suite that cannot work. Regular expressions are checked with the feature `service`.
pub fn check(suite: &Suite) -> Vec<Fault> {
    let mut check = Check { suite, faults: Vec::new() };
    check.suite();
    check.services();
    check.order();
    check.steps();
    check.faults
}

/// The same for the suites of one run, which need names of their own; pointers begin with `/<index>`.
pub fn check_all(suites: &[Suite]) -> Vec<Fault> {
    let mut names = HashSet::new();
    let mut faults = Vec::new();
    for (index, suite) in suites.iter().enumerate() {
        if !names.insert(&suite.name) {
            faults.push(Fault {
                pointer: format!("/{index}/name"),
                message: format!("a second suite of the run is named `{}`", suite.name),
                help: Some("give each suite of a run a name of its own".to_owned()),
            });
        }
        let own = check(suite).into_iter();
        faults.extend(
            own.map(|fault| Fault { pointer: format!("/{index}{}", fault.pointer), ..fault }),
        );
    }
    faults
}

struct Check<'a> {
    suite: &'a Suite,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, pointer: String, message: String, help: impl Into<Option<String>>) {
        self.faults.push(Fault { pointer, message, help: help.into() });
    }

    fn suite(&mut self) {
        let suite = self.suite;
        self.name("/name".to_owned(), "suite", &suite.name);
        self.env("/env", &suite.env);
        if let Some(timeout) = suite.timeout {
            self.time("/timeout".to_owned(), "timeout", timeout);
        }
        if suite.steps.is_empty() && suite.tests.is_empty() {
            let help = "add a step: `[[steps]]` with a `name` and a `command`".to_owned();
            self.fault(String::new(), "the suite has no steps".to_owned(), help);
        }
    }

    fn name(&mut self, pointer: String, what: &str, name: &str) {
        if !is_name(name) {
            let message = format!("{name:?} cannot name a {what}");
            let help = "use up to 64 letters, digits, `-` and `_`".to_owned();
            self.fault(pointer, message, help);
        }
    }

    /// A test's or a step's name is a line for people.
    fn title(&mut self, pointer: String, what: &str, name: &str) {
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            let message = format!("{name:?} cannot name a {what}");
            self.fault(pointer, message, "write one line that says what it shows".to_owned());
        }
    }

    fn time(&mut self, pointer: String, key: &str, time: Duration) {
        if time.is_zero() {
            self.fault(pointer, format!("`{key}` is 0; nothing can be done in no time"), None);
        }
    }

    fn known_service(&mut self, pointer: String, service: &str, key: &str) -> bool {
        let known = self.suite.services.contains_key(service);
        if !known {
            let message =
                format!("`{key}` names the service `{service}`, which the suite does not have");
            self.fault(pointer, message, self.services_help());
        }
        known
    }

    fn services_help(&self) -> String {
        match list(self.suite.services.keys()) {
            names if names.is_empty() => "the suite has no services".to_owned(),
            names => format!("the suite's services are {names}"),
        }
    }

    fn command(&mut self, at: &str, command: &[String]) {
        if command.first().is_none_or(String::is_empty) {
            let help =
                "write the program and its arguments: [\"curl\", \"--fail\", \"…\"]".to_owned();
            self.fault(at.to_owned(), "`command` names no program".to_owned(), help);
        }
    }

    #[cfg(feature = "service")]
    fn regex(&mut self, pointer: String, pattern: &str) {
        if let Err(error) = regex::Regex::new(pattern) {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default();
            let why = last.strip_prefix("error: ").unwrap_or(last);
            self.fault(pointer, format!("{pattern:?} is no regular expression: {why}"), None);
        }
    }

    #[cfg(not(feature = "service"))]
    fn regex(&mut self, _: String, _: &str) {}

    fn steps(&mut self) {
        let suite = self.suite;
        let mut names = HashSet::new();
        if !suite.steps.is_empty() {
            names.insert(&suite.name);
            self.step_list("/steps", &suite.steps);
        }
        for (index, test) in suite.tests.iter().enumerate() {
            let at = format!("/tests/{index}");
            self.title(format!("{at}/name"), "test", &test.name);
            if !names.insert(&test.name) {
                self.twice(format!("{at}/name"), "test", &test.name, "suite");
            }
            if test.steps.is_empty() {
                let message = format!("the test `{}` has no steps", test.name);
                let help = "add `[[tests.steps]]` with a `name` and a `command`".to_owned();
                self.fault(at.clone(), message, help);
            }
            self.step_list(&format!("{at}/steps"), &test.steps);
        }
    }

    fn twice(&mut self, pointer: String, what: &str, name: &str, whole: &str) {
        let message = format!("a second {what} is named `{name}`");
        self.fault(pointer, message, format!("give each {what} of a {whole} a name of its own"));
    }

    fn step_list(&mut self, at: &str, steps: &[Step]) {
        let mut names = HashSet::new();
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{at}/{index}");
            self.title(format!("{at}/name"), "step", &step.name);
            if !names.insert(&step.name) {
                self.twice(format!("{at}/name"), "step", &step.name, "test");
            }
            self.step(&at, step);
        }
    }

    fn step(&mut self, at: &str, step: &Step) {
        self.command(&format!("{at}/command"), &step.command);
        for (index, argument) in step.command.iter().enumerate() {
            self.text(format!("{at}/command/{index}"), argument);
        }
        if let Some(service) = &step.service {
            self.known_service(format!("{at}/service"), service, "service");
        }
        self.env(&format!("{at}/env"), &step.env);
        if let Some(workdir) = &step.workdir {
            self.text(format!("{at}/workdir"), workdir);
        }
        self.time(format!("{at}/timeout"), "timeout", step.timeout);
        if let Some(pattern) = &step.expected_output_regex {
            self.regex(format!("{at}/expected_output_regex"), pattern);
        }
    }

    fn env(&mut self, at: &str, env: &BTreeMap<String, String>) {
        for (name, value) in env {
            let at = format!("{at}/{}", token(name));
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!("{name:?} cannot name an environment variable");
                self.fault(at.clone(), message, None);
            }
            self.text(at, value);
        }
    }

    fn texts(&mut self, at: &str, value: &Value) {
        match value {
            Value::String(text) => self.text(at.to_owned(), text),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.texts(&format!("{at}/{index}"), item);
                }
            }
            Value::Object(table) => {
                for (key, value) in table {
                    self.texts(&format!("{at}/{}", token(key)), value);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, pointer: String, text: &str) {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => return self.fault(pointer, error.to_string(), None),
        };
        for reference in template.references() {
            self.reference(pointer.clone(), reference);
        }
    }

    fn reference(&mut self, pointer: String, reference: &Reference) {
        let Some(service) = reference.service() else {
            return;
        };
        let Some(spec) = self.suite.services.get(service) else {
            let message = format!("`{reference}` names a service that the suite does not have");
            let help = self.services_help();
            return self.fault(pointer, message, help);
        };
        if let (Reference::Port { port, .. }, Some(known)) = (reference, ports(spec))
            && !known.contains(port)
        {
            let message = format!("`{reference}` names a port that `{service}` does not have");
            self.fault(pointer, message, ports_help(&known));
        }
    }
}

fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A key as a token of a JSON pointer.
fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn suite(name: &str, steps: Value, services: Value) -> Suite {
        serde_json::from_value(json!({ "name": name, "steps": steps, "services": services }))
            .unwrap()
    }

    fn told(faults: &[Fault]) -> Vec<(&str, &str)> {
        faults.iter().map(|fault| (fault.pointer.as_str(), fault.message.as_str())).collect()
    }

    #[test]
    fn a_suite_that_can_work_has_no_faults() {
        let steps = json!([{
            "name": "s",
            "command": ["curl", "${services.db.host}:${services.db.ports.53-udp}"],
            "service": "web",
        }]);
        let services = json!({
            "db": { "type": "container", "ports": ["53:53/udp", 80], "ready": { "port": "80" } },
            "web": { "type": "container", "depends_on": ["db"], "env": { "RUN": "$${x} ${run.id}" } },
        });
        assert_eq!(check(&suite("shop", steps, services)), []);
    }

    #[test]
    fn faults_point_into_the_suites_of_a_run() {
        let good = suite("a", json!([{ "name": "s", "command": ["true"] }]), json!({}));
        let bad = suite(
            "a",
            json!([{ "name": "s", "command": ["true"], "env": { "a/b": "${services.x~.host}" } }]),
            json!({ "x": { "type": "t", "depends_on": ["y"] } }),
        );
        let faults = check_all(&[good, bad]);
        let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/1/name", "/1/services/x/depends_on/0", "/1/steps/0/env/a~1b"]);
    }

    #[test]
    fn a_malformed_reference_is_told_once_and_hides_no_cycle_of_others() {
        let services = json!({
            "a": { "type": "t", "command": "${oops" },
            "b": { "type": "t", "depends_on": ["b"] },
        });
        let steps = json!([{ "name": "s", "command": ["true"] }]);
        let faults = check(&suite("shop", steps, services));
        let told = told(&faults);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0].0, "/services/a/command");
        assert_eq!(told[1], ("/services/b/depends_on", "the service `b` depends on itself"));
    }

    #[cfg(feature = "service")]
    #[test]
    fn regular_expressions_are_compiled() {
        let steps = json!([{ "name": "s", "command": ["x"], "expected_output_regex": "(" }]);
        let faults = check(&suite("shop", steps, json!({})));
        let expected =
            ("/steps/0/expected_output_regex", "\"(\" is no regular expression: unclosed group");
        assert_eq!(told(&faults), [expected]);
    }
}
