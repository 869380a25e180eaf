//! How the program ends: the exit codes that scripts rely on, and the errors that lead to them.
//!
//! | code | means |
//! |---|---|
//! | 0 | all that was asked for is done; all tests passed |
//! | 1 | a test failed |
//! | 2 | the command, the configuration or a suite is wrong, or there was nothing to run |
//! | 3 | the surroundings failed: no engine, no bus, a file that cannot be written |
//! | 130 | somebody interrupted it |
//!
//! They are the same whatever the report's format.

use std::error::Error;
use std::process::ExitCode;

use echo_sdk::contract::run::Outcome;
use echo_toml::Faults;

use crate::output::{Palette, Style};

/// The codes as `--help` shows them.
pub const HELP: &str = "\
Exit codes:
  0    all that was asked for is done; all tests passed
  1    a test failed
  2    the command, the configuration or a suite is wrong, or there was nothing to run
  3    the surroundings failed: no engine, no bus, a file that cannot be written
  130  interrupted";

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is done.
    Success,
    /// A test failed.
    TestFailed,
    /// The command, the configuration or a suite is wrong.
    Usage,
    /// The surroundings failed.
    Surroundings,
    /// Somebody interrupted it.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::TestFailed => 1,
            Self::Usage => 2,
            Self::Surroundings => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::Success,
            // A run in which nothing was run has shown nothing.
            Outcome::Skipped => Self::Usage,
            Outcome::Failed => Self::TestFailed,
            Outcome::Errored => Self::Surroundings,
            Outcome::Interrupted => Self::Interrupted,
        }
    }
}

/// Why a command could not do what it was asked: what is printed, and the code that follows.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    report: Report,
}

#[derive(Debug)]
enum Report {
    /// A sentence, with its causes.
    Sentence(String),
    /// Faults that point into files.
    Faults(Vec<Faults>),
    /// All was said already.
    Said,
}

/// What a command comes to.
pub type CommandResult = Result<Exit, Failure>;

impl Failure {
    /// The command, the configuration or a suite is wrong.
    pub fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Usage, &*error.into())
    }

    /// The surroundings failed.
    pub fn surroundings(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Surroundings, &*error.into())
    }

    /// Files hold faults, each of which points at its place.
    pub fn faults(faults: Vec<Faults>) -> Self {
        Self { exit: Exit::Usage, report: Report::Faults(faults) }
    }

    /// The program ends so, and what there was to say was said.
    pub fn said(exit: Exit) -> Self {
        Self { exit, report: Report::Said }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    fn new(exit: Exit, error: &dyn Error) -> Self {
        Self { exit, report: Report::Sentence(chain(error)) }
    }
}

impl Failure {
    /// What is printed, in colour or not.
    pub fn show(&self, palette: Palette) -> String {
        match &self.report {
            Report::Sentence(text) => format!("{} {text}\n", palette.paint(Style::Bad, "error:")),
            Report::Faults(faults) => crate::faults::show(faults, palette.is_on()),
            Report::Said => String::new(),
        }
    }
}

/// An error with its causes, in one line; a cause that the text above it holds already is not repeated.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file `a` cannot be read")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_names_its_causes_once() {
        let cause = std::io::Error::other("the disk is gone");
        let failure = Failure::surroundings(Outer(cause));
        let expected = "error: the file `a` cannot be read: the disk is gone\n";
        assert_eq!((failure.exit.code(), failure.show(Palette::PLAIN).as_str()), (3, expected));
    }

    #[test]
    fn each_outcome_has_its_code() {
        for (outcome, code) in [
            (Outcome::Passed, 0),
            (Outcome::Failed, 1),
            (Outcome::Skipped, 2),
            (Outcome::Errored, 3),
            (Outcome::Interrupted, 130),
        ] {
            assert_eq!(Exit::from(outcome).code(), code, "{outcome:?}");
        }
    }

    #[test]
    fn the_help_lists_every_code() {
        for exit in
            [Exit::Success, Exit::TestFailed, Exit::Usage, Exit::Surroundings, Exit::Interrupted]
        {
            let line = format!("\n  {:<5}", exit.code());
            assert!(HELP.contains(&line), "{exit:?}");
        }
    }
}
