//! `doctor`: what this machine has of what Echo Core can use, and what each missing thing costs.

mod bus;
mod kernel;
mod tools;

use serde::Serialize;

use crate::args::TableArgs;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::{Output, Palette, Style};

/// Something that Echo Core can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked for.
    name: &'static str,
    /// Whether it is there.
    present: bool,
    /// What was found, or why it counts as missing.
    detail: String,
    /// What cannot be done without it.
    costs: &'static str,
    /// How to get it.
    remedy: &'static str,
}

/// What was looked for, before it is said what its absence costs.
type Looked = Result<String, String>;

impl Finding {
    fn new(name: &'static str, looked: Looked, costs: &'static str, remedy: &'static str) -> Self {
        let (present, detail) = match looked {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        Self { name, present, detail, costs, remedy }
    }
}

/// Looks at the machine and prints what was found.
pub async fn doctor(output: &Output, args: &TableArgs) -> CommandResult {
    let mut findings = vec![Finding::new(
        "container engine",
        engine().await,
        "suites with services of the type `generic_container` do not run",
        "install Docker (`apt-get install docker.io`) or Podman, and start its service",
    )];
    findings.extend(tools::look());
    findings.extend(kernel::look());
    findings.push(bus::look().await);
    let printed = if args.json {
        output.json(&findings)
    } else {
        output.result(findings.iter().map(|it| show(it, output.out)).collect::<String>())
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

fn show(finding: &Finding, palette: Palette) -> String {
    let Finding { name, present, detail, costs, remedy } = finding;
    let mark = match present {
        true => palette.paint(Style::Good, "yes"),
        false => palette.paint(Style::Warn, "no "),
    };
    let name = palette.paint(Style::Strong, format_args!("{name:<17}"));
    let indent = " ".repeat(23);
    let first = format!("{name} {mark}  {detail}\n");
    match present {
        true => first,
        false => format!("{first}{indent}costs: {costs}\n{indent}get it: {remedy}\n"),
    }
}

async fn engine() -> Looked {
    let engine = echo_plugin_container::probe().await.map_err(|error| error.to_string())?;
    Ok(format!(
        "{} {}, API {}, on {}",
        engine.name, engine.version, engine.api_version, engine.host
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_it_costs() {
        let missing = Finding::new("thing", Err("not there".into()), "much", "buy it");
        let expected = "thing             no   not there\n                       costs: much\n                       get it: buy it\n";
        assert_eq!(show(&missing, Palette::PLAIN), expected);
        let there = Finding::new("thing", Ok("v1".into()), "much", "buy it");
        assert_eq!(show(&there, Palette::PLAIN), "thing             yes  v1\n");
    }
}
