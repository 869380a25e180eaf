//! What can be asked of the bus: `publish`, `subscribe`, `request`.

use std::time::Duration;

use clap::Args;

use super::{At, at_least_one};

const WHICH_BUS: &str = "\
The command speaks to the host that runs on this machine, or to the bus that ECHO_URL names, as any NATS client \
does; it finds a local host's token by itself. With --local it starts a host in its own process instead, with the \
built-in plugins and those of plugins/enabled, and ends with it.";

/// `publish`.
#[derive(Debug, Args)]
#[command(after_help = WHICH_BUS)]
pub struct PublishArgs {
    /// The topic.
    pub topic: String,
    /// The message's data; `-` reads one message's data from each line of standard input. Without it the data is
    /// null.
    pub json: Option<String>,
    /// The ordering key.
    #[arg(long)]
    pub key: Option<String>,
    /// The schema that the data keeps to.
    #[arg(long, value_name = "NAME")]
    pub schema: Option<String>,
    /// A field beside the data, as headers are. May be repeated.
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = field)]
    pub fields: Vec<(String, String)>,
    /// The topic that answers are to be published to.
    #[arg(long, value_name = "TOPIC")]
    pub reply: Option<String>,
    /// Sends the data as it is rather than within a whole message, the rest as headers.
    #[arg(long)]
    pub plain: bool,
    /// Publishes each message so many times, each time with an id of its own.
    #[arg(short = 'n', long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    pub count: usize,
    /// How many messages a second are published at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Publishes in a host of the command's own, and waits until all that the messages caused is handled.
    #[arg(long, conflicts_with = "url")]
    pub local: bool,
    /// With --local: prints what is published on this pattern meanwhile, one JSON object a line. May be
    /// repeated.
    #[arg(short, long, value_name = "PATTERN", requires = "local")]
    pub subscribe: Vec<String>,
    /// With --local: how long to wait until all is handled.
    #[arg(
        long, default_value = "30s", value_name = "DURATION", requires = "local",
        value_parser = echo_sdk::duration::parse
    )]
    pub timeout: Duration,
    /// The host.
    #[command(flatten)]
    pub at: At,
}

/// `subscribe`.
#[derive(Debug, Args)]
#[command(after_help = WHICH_BUS)]
pub struct SubscribeArgs {
    /// The pattern: a topic in which `*` stands for one token and `>` for all that follow.
    pub pattern: String,
    /// Ends after so many messages; without it, when interrupted.
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Prints each message's payload as it came, and no topic.
    #[arg(long, conflicts_with = "local")]
    pub raw: bool,
    /// Shares the messages with all who subscribe in this group.
    #[arg(long, value_name = "GROUP", conflicts_with = "local")]
    pub queue: Option<String>,
    /// Prints the messages of a host of the command's own.
    #[arg(long, conflicts_with = "url")]
    pub local: bool,
    /// The host.
    #[command(flatten)]
    pub at: At,
}

/// `request`.
#[derive(Debug, Args)]
#[command(after_help = WHICH_BUS)]
pub struct RequestArgs {
    /// The topic.
    pub topic: String,
    /// The message's data; `-` reads it from standard input. Without it the data is null.
    pub json: Option<String>,
    /// How long to wait for the answer.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = echo_sdk::duration::parse)]
    pub timeout: Duration,
    /// Asks in a host of the command's own.
    #[arg(long, conflicts_with = "url")]
    pub local: bool,
    /// The host.
    #[command(flatten)]
    pub at: At,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a field is written as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
