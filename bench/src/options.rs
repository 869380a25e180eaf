//! What a run of the measurements can be told.

use std::path::PathBuf;
use std::time::Duration;

use echo_sdk::TransitionStrategy;
use echo_test_ledger::Fault;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What to measure, and how long. Also the arguments of the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// The cases to measure; all of them without a name.
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,
    /// Lists the cases and measures nothing.
    #[arg(long)]
    pub list: bool,
    /// How many messages a round has; without it, as many as take a quarter of a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// How many rounds each side runs, of which the median counts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: Option<u32>,
    /// How many cycles `unload` has, 2,000 without it; how many transitions `transition` has, 1,000 without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// The plugin library that `unload` loads; without it, one that is built from this project's sources.
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// How versions change in `transition`: immediate, graceful, gradual or blue-green; without it, all of them in turn.
    #[arg(long, value_parser = named::<TransitionStrategy>)]
    pub strategy: Option<TransitionStrategy>,
    /// What is wrong with the new version in `transition`: panic, errors or hang (at one message in 20), slow (three
    /// times) or later (always); nothing without it.
    #[arg(long, value_parser = named::<Fault>)]
    pub fault: Option<Fault>,
    /// How many messages a second are published in `transition`; 50,000 without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// How many ordering keys `transition` has; 2,000 without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: Option<u64>,
    /// Measures shortly: for a look, not for figures to quote.
    #[arg(long)]
    pub quick: bool,
    /// Measures these sides alone, such as `echo-core`, or in `pool` these handlers. May be repeated.
    #[arg(long, value_name = "PEER")]
    pub peer: Vec<String>,
    /// Compares the medians with the bars that the project has set itself, and fails where one is missed.
    #[arg(long)]
    pub check: bool,
    /// What the program allocates with, for the first line.
    #[arg(skip = None)]
    pub allocator: Option<&'static str>,
}

impl Options {
    /// How long a round is to take.
    pub(crate) fn round(&self) -> Duration {
        Duration::from_millis(if self.quick { 40 } else { 250 })
    }

    /// How many rounds each side runs.
    pub(crate) fn rounds(&self) -> u32 {
        self.repeats.unwrap_or(if self.quick { 3 } else { 7 })
    }

    /// Whether a side is to be measured.
    pub(crate) fn wants(&self, peer: &str) -> bool {
        self.peer.is_empty() || self.peer.iter().any(|wanted| wanted == peer)
    }
}

/// What has this name in files too.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}
