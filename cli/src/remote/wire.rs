//! Messages as the client's library has them.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use echo_bus::wire::{self, Incoming};
use echo_sdk::{BaseMessage, Received, Topic};

use super::RemoteError;

/// Whoever sent a message that does not say so itself.
const UNKNOWN: &str = "nats";

/// A message's headers and payload.
pub(super) fn written(message: &BaseMessage) -> Result<(HeaderMap, Vec<u8>), RemoteError> {
    let mut headers = HeaderMap::new();
    let mut fault = None;
    wire::headers(message, |name, value| {
        match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => fault = Some(RemoteError::Header(name.to_owned())),
        }
    });
    let payload = wire::payload(message)?.into_owned();
    fault.map_or(Ok((headers, payload)), Err)
}

/// What came, as a message of ours.
///
/// # Errors
/// [`RemoteError`] when no message can be made of it.
pub fn received(message: &Message) -> Result<Received, RemoteError> {
    let topic = Topic::new(message.subject.as_str())?;
    Ok(Received { topic, message: read(message)? })
}

pub(super) fn read(message: &Message) -> Result<BaseMessage, RemoteError> {
    let all = message.headers.iter().flat_map(HeaderMap::iter);
    let headers = all
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())));
    let reply = message.reply.as_ref().map(|reply| reply.as_str());
    let payload = &message.payload;
    Ok(wire::read(Incoming { payload, headers, reply, source: UNKNOWN })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_crosses_and_comes_back() {
        let topic = Topic::new("a.b").unwrap();
        let builder = BaseMessage::builder("me").data(&1).key("k").field("Tenant", "t");
        let message = builder.build().unwrap();
        let (headers, payload) = written(&message).unwrap();
        let crossed = Message {
            subject: "a.b".into(),
            reply: None,
            payload: payload.into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        let back = received(&crossed).unwrap();
        assert_eq!((back.topic, back.message), (topic, message));
        let plain = Message { payload: "7".into(), headers: None, ..crossed };
        let back = received(&plain).unwrap().message;
        assert_eq!((back.data_bytes(), back.source()), (&b"7"[..], UNKNOWN));
    }
}
