//! `subscribe`: the messages of a running host as lines.

use async_nats::{Event, Message, ServerError};
use echo_sdk::{Pattern, is_name};
use futures_util::StreamExt;

use crate::args::SubscribeArgs;
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure, chain};
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::remote::{RemoteError, received};
use crate::stream::Line;

/// Prints messages until there were enough, or a signal comes. A connection that is lost is made again.
pub async fn subscribe(talk: &Talk<'_>, args: SubscribeArgs) -> CommandResult {
    let pattern = Pattern::new(&args.pattern).map_err(Failure::usage)?;
    if let Some(group) = args.queue.as_deref().filter(|group| !is_name(group)) {
        let rule = "a group's name is made of letters, digits, `-` and `_`";
        return Err(Failure::usage(format!("`{group}` names no group; {rule}")));
    }
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let mut remote = talk.connect(args.at.url.as_deref()).await?;
    let mut messages = remote.subscribe(&pattern, args.queue.as_deref()).await?;
    if let Some(count) = args.count {
        // The server sends no more than that, which leaves the rest to the others of a group.
        let limited = messages.unsubscribe_after(count).await;
        limited.map_err(|_| RemoteError::Lost { at: remote.at().to_owned() })?;
    }
    talk.output.say(format_args!("listening on {pattern} at {}", remote.at()));
    let mut left = args.count;
    while left != Some(0) {
        tokio::select! {
            message = messages.next() => {
                let message =
                    message.ok_or_else(|| RemoteError::Lost { at: remote.at().to_owned() })?;
                if !print(talk.output, &message, args.raw).map_err(Failure::surroundings)? {
                    break;
                }
                left = left.map(|left| left - 1);
            }
            event = remote.event() => tell(talk.output, remote.at(), event)?,
            _ = interrupts.next() => return Ok(Exit::Interrupted),
        }
    }
    Ok(Exit::Success)
}

/// Prints a message; whether somebody reads it still.
fn print(output: &Output, message: &Message, raw: bool) -> std::io::Result<bool> {
    if raw {
        return output.bytes_line(&message.payload);
    }
    match received(message) {
        Ok(received) => output.json_line(&Line::from(&received)),
        Err(error) => {
            let (topic, error) = (&message.subject, chain(&error));
            output.complain(format_args!("what came on `{topic}` is no message: {error}\n"));
            Ok(true)
        }
    }
}

/// Says what happens to the connection; an error where it means that no more messages come.
fn tell(output: &Output, at: &str, event: Option<Event>) -> Result<(), RemoteError> {
    let at = at.to_owned();
    match event {
        None | Some(Event::Closed) => return Err(RemoteError::Lost { at }),
        Some(Event::ServerError(ServerError::AuthorizationViolation)) => {
            return Err(RemoteError::Refused { at });
        }
        Some(Event::ServerError(error)) if error.to_string().contains("ermissions") => {
            return Err(RemoteError::Server { at, error });
        }
        Some(Event::Disconnected) => {
            output.say(format_args!("the connection to {at} was lost; trying again"));
        }
        Some(Event::Connected) => output.say(format_args!("connected to {at} again")),
        Some(Event::SlowConsumer(_)) => {
            output.complain("messages were dropped: they came faster than they were printed\n");
        }
        Some(other) => output.say(format_args!("{at}: {other}")),
    }
    Ok(())
}
