//! `publish`: a message, and all that it causes.

use echo_sdk::{PluginContext, Subscription};
use tokio::task::JoinSet;

use crate::args::PublishArgs;
use crate::commands::Setup;
use crate::exit::{CommandResult, Exit, Failure};
use crate::host::{self, CLIENT};
use crate::output::Output;
use crate::stream::Line;

/// Publishes, waits until all of it is handled, and prints what was asked for meanwhile.
pub async fn publish(setup: &Setup<'_>, args: PublishArgs) -> CommandResult {
    super::refuse_url()?;
    let data = super::read_data(args.json.as_deref())?;
    let mut config = setup.config.clone();
    config.shutdown.timeout = args.timeout;
    let host = host::start(setup, config).await?;
    let client = host.client(CLIENT);
    let mut printers = JoinSet::new();
    let published = async {
        for pattern in &args.subscribe {
            let messages = client.subscribe(pattern).await.map_err(Failure::usage)?;
            printers.spawn(print(messages, *setup.output));
        }
        send(&client, &args, &data).await
    }
    .await;
    // A host that shuts down takes no more from outside and handles what there is, and what that causes.
    let report = host.shutdown().await;
    let printed = printers.join_all().await;
    published?;
    printed.into_iter().collect::<Result<Vec<()>, _>>().map_err(Failure::surroundings)?;
    let unfinished = host::unfinished(&report);
    for sentence in &unfinished {
        setup.output.complain(format_args!("{sentence}\n"));
    }
    if unfinished.is_empty() { Ok(Exit::Success) } else { Err(Failure::said(Exit::Surroundings)) }
}

async fn send(client: &PluginContext, args: &PublishArgs, data: &str) -> Result<(), Failure> {
    let message = super::message(client, data, args.key.as_deref())?;
    client.publish(args.topic.as_str(), message).await.map_err(Failure::usage)
}

async fn print(mut messages: Subscription, output: Output) -> std::io::Result<()> {
    while let Some(received) = messages.next().await {
        output.json_line(&Line::from(&received))?;
    }
    Ok(())
}
