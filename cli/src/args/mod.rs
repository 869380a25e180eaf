//! The command line: what can be asked, before it is checked against anything else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use echo_core::config::BusUrl;

mod bus;
mod host;
mod plugin;
mod schema;
mod transition;

use crate::exit;
use crate::output::{ColorChoice, Verbosity};

pub use bus::{PublishArgs, RequestArgs, SubscribeArgs};
pub use host::{DeadCommand, DeadFilter, DeadPick, ServeArgs, TopicsArgs, UrlArgs};
pub use plugin::{PluginCommand, PluginLoadArgs, PluginOrderArgs, Profile, Template};
pub use schema::{Named, SchemaCommand, SchemaRegisterArgs};
pub use transition::{
    PluginReloadArgs, PluginRollbackArgs, PluginTransitionArgs, TransitionFollowing,
    TransitionGoing,
};

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
    /// Runs a host that stays: its plugins, and doors for other tools.
    Serve(ServeArgs),
    /// Prints the address of the running host with its token, for other tools.
    Url(UrlArgs),
    /// Publishes messages.
    Publish(PublishArgs),
    /// Prints messages, one JSON object a line: {"topic":…,"message":{…}}.
    Subscribe(SubscribeArgs),
    /// Asks a topic and prints the answer's data.
    Request(RequestArgs),
    /// Lists what the running hosts' plugins subscribe to, with rates, depth and drops.
    Topics(TopicsArgs),
    /// Lists dead letters, shows them, and brings them back.
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Lists, shows and registers the schemas of messages' data, and checks data against them.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Lists the types of services that suites can use.
    Services(TableArgs),
    /// Lists, writes, builds and activates plugins; pauses those of a running host, and puts new versions in their places.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Measures this program's own bus, one JSON object a line.
    Bench(echo_bench::Options),
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
    /// The bus to run on: `local`, or the address of a NATS server; without it, `bus.url` of the configuration.
    #[arg(long, value_name = "BUS")]
    pub bus: Option<BusUrl>,
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

/// Which running host a command speaks to.
#[derive(Debug, Args)]
pub struct At {
    /// The bus; without it the host that runs on this machine, or else nats://127.0.0.1:4222.
    #[arg(long, value_name = "URL", env = "ECHO_URL", hide_env_values = true)]
    pub url: Option<String>,
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
