//! `request --local`: a question, and the data of its answer.

use std::time::Duration;

use echo_sdk::Topic;

use crate::args::RequestArgs;
use crate::commands::Setup;
use crate::commands::bus::data::{self, Source};
use crate::exit::{CommandResult, Exit, Failure};
use crate::host::{self, CLIENT};
use crate::interrupts::Interrupts;

/// Asks, and prints the answer's data.
pub async fn request(setup: &Setup<'_>, args: RequestArgs) -> CommandResult {
    let topic = Topic::new(&args.topic).map_err(Failure::usage)?;
    let source = Source::Given(None);
    let data = data::one(args.json.as_deref()).await?;
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let host = host::start_brief(setup).await?;
    let client = host.client(CLIENT);
    let asking = async {
        let message = client.message_builder().data_json(data.as_bytes()).build();
        let message = message.map_err(|error| source.fault(&data, error))?;
        let asked = client.request(topic, message, args.timeout).await;
        asked.map_err(Failure::surroundings)
    };
    let answer = tokio::select! {
        answer = asking => answer,
        _ = interrupts.next() => Err(Failure::said(Exit::Interrupted)),
    };
    // What the answer does not wait for, such as events, is handled all the same.
    let patience = if answer.is_ok() { args.timeout } else { Duration::ZERO };
    let exit = host::finish(setup.output, host, patience, &mut interrupts).await;
    let answer = answer?;
    let text = String::from_utf8_lossy(answer.data_bytes());
    setup.output.result(format_args!("{text}\n")).map_err(Failure::surroundings)?;
    Ok(exit)
}
