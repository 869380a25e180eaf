//! `request`: a question to a running host, and the data of its answer.

use echo_sdk::{BaseMessage, Topic};

use super::data::{self, Source};
use crate::args::RequestArgs;
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure};
use crate::host::CLIENT;
use crate::interrupts::Interrupts;

/// Asks, and prints the answer's data.
pub async fn request(talk: &Talk<'_>, args: RequestArgs) -> CommandResult {
    let topic = Topic::new(&args.topic).map_err(Failure::usage)?;
    let data = data::one(args.json.as_deref()).await?;
    let message = BaseMessage::builder(CLIENT).data_json(data.as_bytes()).build();
    let message = message.map_err(|error| Source::Given(None).fault(&data, error))?;
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let mut remote = talk.connect(args.at.url.as_deref()).await?;
    let answer = tokio::select! {
        answer = remote.request(&topic, &message, args.timeout) => answer?,
        _ = interrupts.next() => return Ok(Exit::Interrupted),
    };
    let text = String::from_utf8_lossy(answer.data_bytes());
    talk.output.result(format_args!("{text}\n")).map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}
