//! `validate`: checks suites, and runs nothing.

use echo_suite::ServiceTypes;
use serde_json::{Value, json};

use crate::args::ValidateArgs;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::{Output, Style};
use crate::suites::{self, NoSuites, shown};
use crate::summary::plural;

/// Checks suites.
pub fn validate(output: &Output, args: &ValidateArgs, types: &ServiceTypes) -> CommandResult {
    let loaded = suites::load(&args.paths, types);
    if args.json {
        let (suites, faults) = match &loaded {
            Ok(suites) => (suites.iter().map(|it| json!(it)).collect(), Vec::new()),
            Err(NoSuites::Faults(files)) => (Vec::new(), files.iter().flat_map(of_file).collect()),
            Err(NoSuites::Find(error)) => {
                (Vec::new(), vec![json!({ "message": error.to_string() })])
            }
        };
        let valid = faults.is_empty();
        let report = json!({ "valid": valid, "suites": Value::Array(suites), "faults": faults });
        output.json(&report).map_err(Failure::surroundings)?;
        return if valid { Ok(Exit::Success) } else { Err(Failure::said(Exit::Usage)) };
    }
    for suite in loaded? {
        let (tests, steps) = suite
            .all_tests()
            .fold((0, 0), |(tests, all), (_, steps)| (tests + 1, all + steps.len()));
        let file = suite.file.as_deref().map(shown).unwrap_or_default();
        let valid = output.out.paint(Style::Good, "valid");
        let name = output.out.paint(Style::Strong, &suite.name);
        let counts = [(suite.services.len(), "service"), (tests, "test"), (steps, "step")];
        let counts = counts.map(|(number, thing)| plural(number, thing)).join(", ");
        let line = format!("{valid}  {name}  {file}: {counts}\n");
        output.result(line).map_err(Failure::surroundings)?;
    }
    Ok(Exit::Success)
}

/// The faults of a file, each with the file.
fn of_file(faults: &echo_toml::Faults) -> Vec<Value> {
    let with_file = |fault: &echo_toml::Fault| {
        let mut value = json!(fault);
        value["file"] = json!(faults.file());
        value
    };
    faults.iter().map(with_file).collect()
}
