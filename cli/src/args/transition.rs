//! What can be asked about versions of plugins.

use std::time::Duration;

use clap::{Args, ValueEnum};
use echo_core::config::parse_size;
use echo_sdk::{TransitionSettings, TransitionStrategy, duration};

use super::At;

/// `plugin transition`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct PluginTransitionArgs {
    /// The plugin.
    pub name: String,
    /// The new version: the file of its library, within the folder of plugins; or `development` or `production`, for that
    /// build of the plugin.
    #[arg(value_name = "LIB")]
    pub library: String,
    /// How it goes.
    #[command(flatten)]
    pub going: TransitionGoing,
    /// What is told, and by which host.
    #[command(flatten)]
    pub following: TransitionFollowing,
}

/// `plugin reload`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct PluginReloadArgs {
    /// The plugin.
    pub name: String,
    /// How it goes.
    #[command(flatten)]
    pub going: TransitionGoing,
    /// What is told, and by which host.
    #[command(flatten)]
    pub following: TransitionFollowing,
}

/// `plugin rollback`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 when the version before handles the messages again, with 1 when it does not."
)]
pub struct PluginRollbackArgs {
    /// The plugin.
    pub name: String,
    /// What is told, and by which host.
    #[command(flatten)]
    pub following: TransitionFollowing,
}

const EXIT_CODES: &str = "\
Exits with 0 when the new version stays, with 1 when it was rolled back or refused. Ctrl-C ends the following, not the \
transition.";

/// How a transition goes; what is left out is up to the configuration and the new version's manifest.
#[derive(Debug, Args)]
pub struct TransitionGoing {
    /// How messages pass over: cut off at once, once what is in hand is finished, part by part, or after a comparison.
    #[arg(long, value_enum)]
    pub strategy: Option<Strategy>,
    /// The percentages of the messages that the new version gets, one after the other [gradual].
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',')]
    pub steps: Option<Vec<u8>>,
    /// How long each of these steps is judged [gradual].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub interval: Option<Duration>,
    /// How long the new version is judged once it gets all messages.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub trial: Option<Duration>,
    /// How long the old version may take to finish what it has in hand.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub patience: Option<Duration>,
    /// How many messages are compared [blue-green].
    #[arg(long, value_name = "N")]
    pub compare: Option<u32>,
    /// The share of them, 0 to 1, for which the versions may do something else [blue-green].
    #[arg(long, value_name = "SHARE")]
    pub differences: Option<f64>,
    /// By how much, 0 to 1, the share of attempts that fail may be above the old version's.
    #[arg(long, value_name = "SHARE")]
    pub errors: Option<f64>,
    /// How many times as long as with the old version handling may take.
    #[arg(long, value_name = "FACTOR")]
    pub latency: Option<f64>,
    /// By how much the host's memory may grow meanwhile, such as 512mb.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Waits where another transition of the plugin goes on; it is refused without this.
    #[arg(long)]
    pub queue: bool,
}

impl TransitionGoing {
    /// The settings, and whether it waits for another.
    pub fn settings(self) -> (TransitionSettings, bool) {
        let settings = TransitionSettings {
            strategy: self.strategy.map(Strategy::of_contract),
            steps: self.steps,
            interval: self.interval,
            trial: self.trial,
            patience: self.patience,
            compare: self.compare,
            differences: self.differences,
            errors: self.errors,
            latency: self.latency,
            memory: self.memory,
        };
        (settings, self.queue)
    }
}

/// What is told of a transition, and by which host.
#[derive(Debug, Args)]
pub struct TransitionFollowing {
    /// Ends once the host has taken the order, and does not follow what becomes of it.
    #[arg(long)]
    pub no_wait: bool,
    /// Prints each step as a line of JSON.
    #[arg(long)]
    pub json: bool,
    /// The host.
    #[command(flatten)]
    pub at: At,
}

/// How messages pass from one version to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// At once: what the old version has in hand is cut off, and the new one gets it.
    Immediate,
    /// The old version finishes what it has in hand, then the new one goes on.
    Graceful,
    /// The new version gets a part of the messages, which grows step by step.
    Gradual,
    /// The new version first handles copies, and goes on where it does what the old one does.
    BlueGreen,
}

impl Strategy {
    fn of_contract(self) -> TransitionStrategy {
        match self {
            Self::Immediate => TransitionStrategy::Immediate,
            Self::Graceful => TransitionStrategy::Graceful,
            Self::Gradual => TransitionStrategy::Gradual,
            Self::BlueGreen => TransitionStrategy::BlueGreen,
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write a number and a unit, such as 512mb or 1gb");
    parse_size(text).and_then(|size| u64::try_from(size).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PluginTransitionArgs,
    }

    #[test]
    fn what_is_asked_for_is_what_the_host_is_told() {
        let line = "x prices ./new.so --strategy blue-green --steps 1,25,100 --interval 10s --trial 1m --patience 5s \
                    --compare 7 --differences 0.05 --errors 0.02 --latency 2.5 --memory 512mb --queue --json";
        let PluginTransitionArgs { name, library, going, following } =
            Line::try_parse_from(line.split_whitespace()).unwrap().args;
        assert_eq!((name.as_str(), library.as_str()), ("prices", "./new.so"));
        assert!(following.json && !following.no_wait);
        let (settings, queue) = going.settings();
        let expected: TransitionSettings = serde_json::from_value(serde_json::json!({
            "strategy": "blue-green", "steps": [1, 25, 100], "interval": "10s", "trial": "1m", "patience": "5s",
            "compare": 7, "differences": 0.05, "errors": 0.02, "latency": 2.5, "memory": 512 << 20
        }))
        .unwrap();
        assert!(queue);
        assert_eq!(settings, expected);
    }

    #[test]
    fn what_nobody_says_is_left_to_the_host() {
        let line = Line::try_parse_from(["x", "prices", "production"]).unwrap();
        assert_eq!(line.args.going.settings(), (TransitionSettings::default(), false));
        for wrong in ["--strategy=fast", "--steps=1,300", "--trial=soon", "--memory=big"] {
            assert!(Line::try_parse_from(["x", "prices", "a.so", wrong]).is_err(), "{wrong}");
        }
    }
}
