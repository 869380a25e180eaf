//! What `run` was asked, checked.

use std::path::PathBuf;

use echo_core::config::RunConfig;
use echo_sdk::contract::run::RunOptions;
use regex::Regex;

use crate::args::RunArgs;
use crate::report::{ReportError, ReportSpec};

/// What `run` was asked, checked.
#[derive(Debug)]
pub struct RunSettings {
    /// What the run itself is told.
    pub options: RunOptions,
    /// The tests that are to run.
    pub filter: Option<Regex>,
    /// The reports to write.
    pub reports: Vec<ReportSpec>,
    /// Where every message goes.
    pub events: Option<PathBuf>,
    /// Whether nothing is run.
    pub dry_run: bool,
    /// Whether a person's text is wanted on standard output, rather than something for programs.
    pub summary_on_stdout: bool,
    /// Whether the plan of a dry run is wanted as JSON.
    pub json: bool,
}

/// What was asked of `run` cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The filter is no regular expression.
    #[error("`--filter {filter}` is no regular expression")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: regex::Error,
    },
    /// A report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Several texts for programs would run into each other.
    #[error("only one of --json, --report FORMAT=- and --events - can go to standard output")]
    Stdout,
}

impl RunSettings {
    /// Checks what was asked; what was left open is as configured.
    ///
    /// # Errors
    /// [`SettingsError`] that names what cannot be done.
    pub fn new(args: &RunArgs, config: &RunConfig) -> Result<Self, SettingsError> {
        let filter = match &args.filter {
            Some(filter) => Some(
                Regex::new(filter)
                    .map_err(|source| SettingsError::Filter { filter: filter.clone(), source })?,
            ),
            None => None,
        };
        let mut reports: Vec<ReportSpec> =
            args.reports.iter().map(|it| it.parse()).collect::<Result<_, _>>()?;
        if args.json {
            reports.push(ReportSpec::JSON_TO_STDOUT);
        }
        let to_stdout = reports.iter().filter(|it| it.is_stdout()).count()
            + usize::from(args.events.as_ref().is_some_and(|path| path.as_os_str() == "-"));
        if to_stdout > 1 {
            return Err(SettingsError::Stdout);
        }
        let options = RunOptions {
            jobs: args.jobs.unwrap_or(config.jobs),
            fail_fast: args.fail_fast,
            timeout: args.timeout.or(config.timeout),
            filter: args.filter.clone(),
        };
        Ok(Self {
            options,
            filter,
            reports,
            events: args.events.clone(),
            dry_run: args.dry_run,
            summary_on_stdout: to_stdout == 0,
            json: args.json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn settings(args: &[&str]) -> Result<RunSettings, SettingsError> {
        let args = ["echo-core", "run", "x.toml"].into_iter().chain(args.iter().copied());
        let Command::Run(args) = Cli::parse_from(args).command else { panic!("no run") };
        RunSettings::new(&args, &RunConfig { jobs: 2, ..RunConfig::default() })
    }

    #[test]
    fn what_is_asked_reaches_the_run() {
        let args = ["-j", "3", "--fail-fast", "--timeout", "2m", "--filter", "^a/"];
        let settings = settings(&args).unwrap();
        let expected = RunOptions {
            jobs: 3,
            fail_fast: true,
            timeout: Some(std::time::Duration::from_secs(120)),
            filter: Some("^a/".into()),
        };
        assert_eq!(settings.options, expected);
        assert!(settings.summary_on_stdout && settings.filter.unwrap().is_match("a/b"));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (args, word) in [
            (&["--report", "html=x"][..], "junit, json and tap"),
            (&["--filter", "("], "`--filter (`"),
            (&["--json", "--events", "-"], "standard output"),
            (&["--report", "tap=-", "--report", "junit=-"], "standard output"),
        ] {
            let error = settings(args).unwrap_err().to_string();
            assert!(error.contains(word), "{args:?}: {error}");
        }
        let settings = settings(&["--json"]).unwrap();
        assert_eq!((settings.summary_on_stdout, settings.options.jobs), (false, 2));
    }
}
