//! `publish --local`: messages, and all that they cause.

use echo_sdk::{Pattern, Subscription, Topic};
use tokio::task::JoinSet;

use crate::args::PublishArgs;
use crate::commands::Setup;
use crate::commands::bus::data::{Envelope, Source};
use crate::exit::{CommandResult, Failure};
use crate::host::{self, CLIENT};
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::stream::Line;

/// How many messages the plugins may be ahead of what prints them, before they wait.
const MAX_BEHIND: usize = 4096;

/// Publishes, waits until all of it is handled, and prints what was asked for meanwhile.
pub async fn publish(setup: &Setup<'_>, args: PublishArgs) -> CommandResult {
    let topic = Topic::new(&args.topic).map_err(Failure::usage)?;
    let patterns: Result<Vec<Pattern>, _> = args.subscribe.iter().map(Pattern::new).collect();
    let patterns = patterns.map_err(Failure::usage)?;
    let envelope = Envelope::new(&args)?;
    let mut source = Source::new(args.json.as_deref());
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let host = host::start_brief(setup).await?;
    let client = host.client(CLIENT);
    let mut printers = JoinSet::new();
    let published = async {
        for pattern in &patterns {
            // One that is waited for, so that nothing is left out.
            let messages = host.watch(pattern, MAX_BEHIND).await.map_err(Failure::surroundings)?;
            printers.spawn(print(messages, *setup.output));
        }
        while let Some(data) = source.next().await? {
            for _ in 0..args.count {
                let message = envelope.message(client.message_builder(), &data);
                let message = message.map_err(|error| source.fault(&data, error))?;
                let published = client.publish(topic.clone(), message).await;
                published.map_err(Failure::surroundings)?;
            }
        }
        Ok::<(), Failure>(())
    }
    .await;
    let exit = host::finish(setup.output, host, args.timeout, &mut interrupts).await;
    let printed = printers.join_all().await;
    published?;
    printed.into_iter().collect::<Result<Vec<()>, _>>().map_err(Failure::surroundings)?;
    Ok(exit)
}

async fn print(mut messages: Subscription, output: Output) -> std::io::Result<()> {
    while let Some(received) = messages.next().await {
        if !output.json_line(&Line::from(&received))? {
            break;
        }
    }
    Ok(())
}
