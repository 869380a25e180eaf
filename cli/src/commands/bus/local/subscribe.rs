//! `subscribe --local`: messages as lines.

use echo_sdk::{Pattern, Subscription};

use crate::args::SubscribeArgs;
use crate::commands::Setup;
use crate::exit::{CommandResult, Exit, Failure};
use crate::host::{self, CLIENT};
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::stream::Line;

/// Prints messages until there were enough, or a signal comes.
pub async fn subscribe(setup: &Setup<'_>, args: SubscribeArgs) -> CommandResult {
    let pattern = Pattern::new(&args.pattern).map_err(Failure::usage)?;
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let host = host::start(setup, setup.config.clone()).await?;
    let outcome = async {
        let mut messages =
            host.client(CLIENT).subscribe(pattern.as_str()).await.map_err(Failure::surroundings)?;
        setup.output.say(format_args!("listening on {pattern}"));
        tokio::select! {
            printed = print(&mut messages, setup.output, args.count) => {
                printed.map_err(Failure::surroundings)?;
                Ok(Exit::Success)
            }
            _ = interrupts.next() => Ok(Exit::Interrupted),
        }
    }
    .await;
    host::shut_down(setup.output, host).await;
    outcome
}

async fn print(
    messages: &mut Subscription,
    output: &Output,
    count: Option<u64>,
) -> std::io::Result<()> {
    let mut left = count;
    while left != Some(0) {
        let Some(received) = messages.next().await else { return Ok(()) };
        if !output.json_line(&Line::from(&received))? {
            break;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}
