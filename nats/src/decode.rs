//! Messages as they come over the connection.

use std::cell::RefCell;

use async_nats::Message;
use echo_bus::wire::{self, Incoming};
use echo_sdk::{BaseMessage, Received, Topic, TopicError};

use crate::subject;

/// Whoever sent a message that does not say so itself.
const SOURCE: &str = "nats";

/// Why what came is no message of the bus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Wire(#[from] wire::WireError),
}

/// Reads a message of a subscription; its reply subject is where an answer is wanted.
pub(crate) fn core(message: &Message) -> Result<Received, DecodeError> {
    read(message, message.reply.as_ref().map(|reply| reply.as_str()))
}

/// Reads a message of a stream; its reply subject is where it is acknowledged.
pub(crate) fn durable(message: &Message) -> Result<Received, DecodeError> {
    read(message, None)
}

/// Reads an answer.
pub(crate) fn answer(message: &Message) -> Result<BaseMessage, wire::WireError> {
    wire::read(incoming(message, None))
}

fn read(message: &Message, reply: Option<&str>) -> Result<Received, DecodeError> {
    let topic = topic(subject::topic_text(&message.subject))?;
    Ok(Received { topic, message: wire::read(incoming(message, reply))? })
}

thread_local! {
    static LAST: RefCell<Option<Topic>> = const { RefCell::new(None) };
}

/// The topic that a subject is; the one that this thread read last is known to be one.
fn topic(subject: &str) -> Result<Topic, TopicError> {
    LAST.with_borrow_mut(|last| match last {
        Some(known) if known.as_str() == subject => Ok(known.clone()),
        _ => Ok(last.insert(Topic::new(subject)?).clone()),
    })
}

fn incoming<'a>(
    message: &'a Message,
    reply: Option<&'a str>,
) -> Incoming<'a, impl Iterator<Item = (&'a str, &'a str)> + Clone> {
    let headers = message.headers.iter().flat_map(|headers| headers.iter());
    let headers = headers.flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    });
    Incoming { payload: &message.payload, headers, reply, source: SOURCE }
}
