//! The command line: what can be asked, before it is checked against anything else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::exit;
use crate::output::{ColorChoice, Verbosity};

/// Runs integration tests as messages on a bus.
#[derive(Debug, Parser)]
#[command(name = "echo-core", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The configuration; without it, echo-core.toml or config/echo-core.toml where there is one.
    #[arg(long, global = true, value_name = "FILE", env = "ECHO_CONFIG")]
    pub config: Option<PathBuf>,
    /// Tells more: each step (-v), and the host's log (-vv, -vvv).
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Tells errors alone.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
}

impl Global {
    /// The log that is wished for, over the configuration's.
    pub fn log_filter(&self) -> Option<&'static str> {
        match (self.quiet, self.verbose) {
            (true, _) => Some("error"),
            (false, 0 | 1) => None,
            (false, 2) => Some("info"),
            (false, _) => Some("debug"),
        }
    }

    /// How much to tell on standard error.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs suites: files, or folders with files in them.
    Run(RunArgs),
    /// Checks suites without running them.
    Validate(ValidateArgs),
    /// Writes a first suite that runs as it is, and a commented configuration.
    Init(InitArgs),
    /// Publishes a message in a host of its own and waits until what it caused is handled.
    Publish(PublishArgs),
    /// Prints messages of a host of its own, one JSON object a line: {"topic":…,"message":{…}}.
    Subscribe(SubscribeArgs),
    /// Asks a topic in a host of its own and prints the answer's data.
    Request(RequestArgs),
    /// Lists the types of services that suites can use.
    Services(TableArgs),
    /// Lists, writes, builds and activates plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Shows what this machine has of what Echo Core can use, and what each missing thing costs.
    #[command(
        after_help = "Exits with 0 whatever it finds: nothing here is needed by every suite."
    )]
    Doctor(TableArgs),
    /// Prints the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `run`.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct RunArgs {
    /// Suites, or folders that hold some.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The bus to run on; `local` is the one there is by now.
    #[arg(long, default_value = "local", value_name = "BUS")]
    pub bus: String,
    /// Writes a report: junit=FILE, json=FILE or tap=FILE, with `-` for standard output. May be repeated.
    #[arg(long = "report", value_name = "FORMAT=FILE")]
    pub reports: Vec<String>,
    /// Writes every message on the bus, one JSON object a line; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// How many suites run at once; without it, `run.jobs` of the configuration.
    #[arg(short, long, value_name = "N", value_parser = at_least_one)]
    pub jobs: Option<usize>,
    /// Runs only the tests whose `suite/test` this regular expression finds.
    #[arg(long, value_name = "REGEX")]
    pub filter: Option<String>,
    /// Ends the run with the first test that does not pass.
    #[arg(long)]
    pub fail_fast: bool,
    /// How long the whole run may take, such as 90s or 5m; without it, `run.timeout` of the configuration.
    #[arg(long, value_name = "DURATION", value_parser = echo_sdk::duration::parse)]
    pub timeout: Option<Duration>,
    /// Shows what would run, in order, and runs nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Prints the JSON report instead of the summary.
    #[arg(long)]
    pub json: bool,
}

/// `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Suites, or folders that hold some.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Prints suites and faults as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder; it is made where it is missing.
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
}

/// A command that prints a table.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// `publish`.
#[derive(Debug, Args)]
#[command(after_help = OWN_HOST)]
pub struct PublishArgs {
    /// The topic.
    pub topic: String,
    /// The message's data; `-` reads it from standard input. Without it the data is null.
    pub json: Option<String>,
    /// The ordering key.
    #[arg(long)]
    pub key: Option<String>,
    /// Prints what is published on this pattern meanwhile, one JSON object a line. May be repeated.
    #[arg(short, long, value_name = "PATTERN")]
    pub subscribe: Vec<String>,
    /// How long to wait until all is handled.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = echo_sdk::duration::parse)]
    pub timeout: Duration,
}

/// `subscribe`.
#[derive(Debug, Args)]
#[command(after_help = OWN_HOST)]
pub struct SubscribeArgs {
    /// The pattern: a topic in which `*` stands for one token and `>` for all that follow.
    pub pattern: String,
    /// Ends after so many messages; without it, when interrupted.
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
}

/// `request`.
#[derive(Debug, Args)]
#[command(after_help = OWN_HOST)]
pub struct RequestArgs {
    /// The topic.
    pub topic: String,
    /// The message's data; `-` reads it from standard input. Without it the data is null.
    pub json: Option<String>,
    /// How long to wait for the answer.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = echo_sdk::duration::parse)]
    pub timeout: Duration,
}

const OWN_HOST: &str = "\
The command starts a host in its own process, with the built-in plugins and those of plugins/enabled, \
and ends with it. It sees and reaches these plugins alone: there is no way into a running host yet.";

/// `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Lists the built-in plugins, the enabled ones and the libraries that are built.
    List(TableArgs),
    /// Shows a plugin's manifest.
    Show {
        /// The plugin.
        name: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Writes a plugin that builds and passes its test, to plugins/workshop/NAME.
    New {
        /// The plugin's name: lower-case letters, digits and `-`.
        name: String,
    },
    /// Builds a plugin's library into plugins/libraries/PROFILE.
    Build {
        /// The plugin: a folder of plugins/workshop.
        name: String,
        /// How it is compiled.
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
    },
    /// Puts a built library into plugins/enabled, from where hosts load it.
    Activate {
        /// The plugin.
        name: String,
        /// Which of its libraries.
        #[arg(value_enum, default_value_t)]
        profile: Profile,
    },
    /// Takes a library out of plugins/enabled.
    Deactivate {
        /// The plugin.
        name: String,
    },
}

/// How a plugin is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Profile {
    /// Quickly, with checks.
    #[default]
    Development,
    /// Small and fast.
    Production,
}

impl Profile {
    /// The folder below plugins/libraries.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is no number from 1 up")),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
