//! Reports: the record of a run in forms that other programs read.

mod json;
mod junit;
mod tap;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use crate::output::Output;
use crate::runlog::{RunLog, SuiteLog};

/// The forms that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JUnit XML, as build servers read it.
    Junit,
    /// The whole record; `docs/contracts/reports.md` describes it.
    Json,
    /// The Test Anything Protocol, version 14.
    Tap,
}

/// A report that was asked for: its form and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSpec {
    format: Format,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Stdout,
    File(PathBuf),
}

/// Why a report was not understood or not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not written FORMAT=FILE.
    #[error("`--report {0}` names no file; write it as FORMAT=FILE, such as junit=report.xml")]
    NoFile(String),
    /// There is no such form.
    #[error("there is no report of the form `{0}`; there are junit, json and tap")]
    NoSuchFormat(String),
    /// The file cannot be written.
    #[error("the report {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The report cannot be put together.
    #[error("the {0} report cannot be put together: {1}")]
    Render(&'static str, String),
}

impl FromStr for ReportSpec {
    type Err = ReportError;

    fn from_str(text: &str) -> Result<Self, ReportError> {
        let (format, file) = text.split_once('=').unwrap_or((text, ""));
        let format = match format {
            "junit" => Format::Junit,
            "json" => Format::Json,
            "tap" => Format::Tap,
            other => return Err(ReportError::NoSuchFormat(other.to_owned())),
        };
        let target = match file {
            "" => return Err(ReportError::NoFile(text.to_owned())),
            "-" => Target::Stdout,
            file => Target::File(file.into()),
        };
        Ok(Self { format, target })
    }
}

impl ReportSpec {
    /// The JSON report on standard output.
    pub const JSON_TO_STDOUT: Self = Self { format: Format::Json, target: Target::Stdout };

    /// Whether it goes to standard output.
    pub fn is_stdout(&self) -> bool {
        self.target == Target::Stdout
    }

    /// Opens the file before the run, so that a wrong path shows at once and the report of an earlier run
    /// never stands for this one.
    ///
    /// # Errors
    /// [`ReportError::Write`] when the file cannot be made.
    pub fn open(self) -> Result<OpenReport, ReportError> {
        let file = match &self.target {
            Target::Stdout => None,
            Target::File(path) => Some(
                File::create(path)
                    .map_err(|source| ReportError::Write { path: path.clone(), source })?,
            ),
        };
        Ok(OpenReport { spec: self, file })
    }
}

/// A report whose file is open.
#[derive(Debug)]
pub struct OpenReport {
    spec: ReportSpec,
    file: Option<File>,
}

impl OpenReport {
    /// Writes the report of a run.
    ///
    /// # Errors
    /// [`ReportError`] when it cannot be put together or written.
    pub fn write(mut self, log: &RunLog, output: &Output) -> Result<(), ReportError> {
        let text = render(self.spec.format, log)?;
        let written = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => output.result(&text),
        };
        written.map_err(|source| match self.spec.target {
            Target::Stdout => ReportError::Write { path: "standard output".into(), source },
            Target::File(path) => ReportError::Write { path, source },
        })
    }
}

fn render(format: Format, log: &RunLog) -> Result<String, ReportError> {
    match format {
        Format::Junit => {
            junit::render(log).map_err(|e| ReportError::Render("JUnit", e.to_string()))
        }
        Format::Json => json::render(log).map_err(|e| ReportError::Render("JSON", e.to_string())),
        Format::Tap => Ok(tap::render(log)),
    }
}

/// The name of the test that stands in reports for a suite that failed by itself.
const SUITE_ITSELF: &str = "(suite)";

/// Why a suite that failed by itself did so.
fn own_reason(suite: &SuiteLog) -> String {
    let services = || {
        let reasons = suite.services.iter().filter_map(|service| {
            service.reason.as_ref().map(|reason| format!("service {}: {reason}", service.name))
        });
        reasons.collect::<Vec<_>>().join("; ")
    };
    let reason = suite.reason.clone().unwrap_or_else(services);
    if reason.is_empty() { "the suite did not pass".to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_asked_for_by_form_and_file() {
        let spec: ReportSpec = "junit=a=b.xml".parse().unwrap();
        let expected = ReportSpec { format: Format::Junit, target: Target::File("a=b.xml".into()) };
        assert_eq!(spec, expected);
        assert!("tap=-".parse::<ReportSpec>().unwrap().is_stdout());
        for (text, word) in [("html=x", "junit, json and tap"), ("json", "FORMAT=FILE"), ("", "``")]
        {
            let error = text.parse::<ReportSpec>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
