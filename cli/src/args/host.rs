//! What can be asked of a host that stays.

use std::time::Duration;

use clap::{Args, Subcommand};
use echo_core::config::BusUrl;
use echo_sdk::Pattern;
use uuid::Uuid;

use super::At;

/// `serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints one line when it is ready: `ready`, then the addresses of its doors. SIGTERM or SIGINT ends it: it takes no \
more, finishes what it has within `shutdown.timeout`, and says what it could not finish; once more ends it at once.")]
pub struct ServeArgs {
    /// The bus to run on: `local`, or the address of a NATS server; without it, `bus.url` of the configuration.
    #[arg(long, value_name = "BUS")]
    pub bus: Option<BusUrl>,
    /// Lets everybody in who reaches the doors, without a token: whoever is let in may run programs.
    #[arg(long)]
    pub open: bool,
}

/// `url`.
#[derive(Debug, Args)]
pub struct UrlArgs {
    /// The address for HTTP clients, without the token: it goes into a header, `Authorization: Bearer TOKEN`.
    #[arg(long, conflicts_with = "json")]
    pub http: bool,
    /// Prints all addresses and the token as JSON.
    #[arg(long)]
    pub json: bool,
    /// Which host, by the port of one of its doors, where several run.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

/// `topics`.
#[derive(Debug, Args)]
pub struct TopicsArgs {
    /// Prints JSON: one object, or with --watch one a line.
    #[arg(long)]
    pub json: bool,
    /// Goes on until interrupted.
    #[arg(short, long)]
    pub watch: bool,
    /// How long the rates are taken over.
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = echo_sdk::duration::parse)]
    pub interval: Duration,
    /// The host.
    #[command(flatten)]
    pub at: At,
}

/// `dead`.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// Lists dead letters, oldest first.
    List {
        /// Which.
        #[command(flatten)]
        filter: DeadFilter,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// The host.
        #[command(flatten)]
        at: At,
    },
    /// Shows a dead letter with its message.
    Show {
        /// The letter's id, as `dead list` shows it.
        id: Uuid,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// The host.
        #[command(flatten)]
        at: At,
    },
    /// Publishes the messages of dead letters again, each on its topic, for all who subscribe to it.
    Replay {
        /// Which.
        #[command(flatten)]
        pick: DeadPick,
        /// Gives the messages new ids. They get some in any case on durable topics.
        #[arg(long)]
        new_id: bool,
    },
    /// Forgets dead letters.
    Discard {
        /// Which.
        #[command(flatten)]
        pick: DeadPick,
    },
}

/// Which dead letters; all that is given has to fit.
#[derive(Debug, Args)]
pub struct DeadFilter {
    /// Those of this slot.
    #[arg(long)]
    pub slot: Option<String>,
    /// Those whose message came on a topic that this pattern matches.
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| Pattern::new(text))]
    pub topic: Option<Pattern>,
    /// This one. May be repeated.
    #[arg(long = "id", value_name = "ID")]
    pub ids: Vec<Uuid>,
}

/// Which dead letters something is done to.
#[derive(Debug, Args)]
pub struct DeadPick {
    /// Which.
    #[command(flatten)]
    pub filter: DeadFilter,
    /// All of them.
    #[arg(long, conflicts_with_all = ["slot", "topic", "ids"])]
    pub all: bool,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// The host.
    #[command(flatten)]
    pub at: At,
}
