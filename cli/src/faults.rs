//! Faults in files as people read them: each with its place in the file, underlined.

use std::fmt;

use echo_toml::{Fault, Faults};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};

use crate::summary::plural;

/// A fault with the file that it is in.
#[derive(Debug)]
struct Located<'a> {
    fault: &'a Fault,
    file: &'a Faults,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for Located<'_> {}

impl Diagnostic for Located<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Diagnostic::help(self.fault)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.file.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Diagnostic::labels(self.fault)
    }
}

/// All faults, one after another, and how many there are.
pub fn show(files: &[Faults], colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme);
    let mut text = String::new();
    let mut count = 0;
    for file in files {
        for fault in file {
            // Writing to a string cannot fail; what cannot be drawn is at least named.
            if handler.render_report(&mut text, &Located { fault, file }).is_err() {
                text.push_str(&format!("{}:{}: {fault}\n", file.file(), fault.line));
            }
            text.push('\n');
            count += 1;
        }
    }
    let names: Vec<&str> = files.iter().map(Faults::file).collect();
    format!("{text}error: {} in {}\n", plural(count, "fault"), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_stands_at_its_place() {
        let schema = echo_toml::Schema::new(serde_json::json!({
            "type": "object",
            "properties": { "port": { "type": "integer" }, "host": { "type": "string" } },
            "additionalProperties": false,
        }));
        let faults = echo_toml::read::<serde_json::Value>(
            "a.toml",
            "prot = 1\nhost = 2\n",
            &schema.unwrap(),
        );
        let text = show(&[faults.unwrap_err()], false);
        for part in
            ["a.toml:1:1", "did you mean `port`", "a.toml:2:8", "error: 2 faults in a.toml\n"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
