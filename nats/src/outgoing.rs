//! Messages as they go out.

use std::cell::RefCell;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::{Bytes, BytesMut};
use echo_bus::wire;
use echo_sdk::{BaseMessage, Form, MessageError, Topic};
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error;
use uuid::Uuid;

/// A message as it goes out.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) message: BaseMessage,
    pub(crate) payload: Bytes,
    pub(crate) way: Way,
}

#[derive(Debug, Clone)]
pub(crate) enum Way {
    Core {
        reply: Option<Subject>,
    },
    /// Messages of one partition go one after another.
    Durable {
        partition: Option<u16>,
        /// The id that the server knows it by, where it has not named itself.
        id: Option<Uuid>,
    },
}

impl Outgoing {
    /// Its headers; made for each time that it is sent, which is once for nearly all.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let id = match self.way {
            Way::Durable { id, .. } => id,
            Way::Core { .. } => None,
        };
        // What a tool has sent may have a header several times; ours stand for themselves.
        let is_ours = self.message.form() == Form::Message;
        wire::headers(&self.message, |name, value| {
            // The server is to know it by another id than its own.
            if id.is_some() && name == wire::header::ID {
                return;
            }
            let is_number = is_ours && matches!(name, wire::header::ID | wire::header::TRACEPARENT);
            // What a message holds was checked when it was made.
            let made = if is_number { number(value) } else { value.parse().ok() };
            let Some(value) = made else { return };
            match known(name) {
                Some(name) if is_ours => headers.insert(name, value),
                Some(name) => headers.append(name, value),
                None => {
                    if let Ok(name) = name.parse::<HeaderName>() {
                        headers.append(name, value);
                    }
                }
            }
        });
        if let Some(id) = id {
            let mut text = Uuid::encode_buffer();
            let text = id.as_hyphenated().encode_lower(&mut text);
            if let Some(value) = number(text) {
                headers.insert(NATS_MESSAGE_ID, value);
            }
        }
        headers
    }
}

/// A header of digits and dashes. To have it parsed is to have each of its characters looked at for line ends, which
/// takes longer than all else that is done for it.
fn number(text: &str) -> Option<HeaderValue> {
    let value: Result<HeaderValue, Error> =
        HeaderValue::deserialize(text.to_owned().into_deserializer());
    value.ok()
}

/// The headers that messages have of their own take fewer bytes than so many, texts of the message aside.
pub(crate) const HEADERS: usize = 512;

/// How many bytes a message's headers take.
pub(crate) fn headers_len(message: &BaseMessage) -> usize {
    let mut len = b"NATS/1.0\r\n\r\n".len();
    wire::headers(message, |name, value| len += name.len() + value.len() + b": \r\n".len());
    len
}

/// The headers that messages have of their own, which take no memory for their names.
fn known(name: &str) -> Option<HeaderName> {
    use wire::header::{ATTEMPT, HOPS, ID, KEY, SCHEMA, TRACEPARENT, TRACESTATE};
    Some(match name {
        ID => NATS_MESSAGE_ID,
        TRACEPARENT => const { HeaderName::from_static(TRACEPARENT) },
        KEY => const { HeaderName::from_static(KEY) },
        HOPS => const { HeaderName::from_static(HOPS) },
        SCHEMA => const { HeaderName::from_static(SCHEMA) },
        TRACESTATE => const { HeaderName::from_static(TRACESTATE) },
        ATTEMPT => const { HeaderName::from_static(ATTEMPT) },
        _ => return None,
    })
}

/// How many bytes the payloads of a thread share an allocation in.
const PACK: usize = 64 * 1024;

/// The payloads of messages from this size on have an allocation of their own.
const LARGE: usize = 4 * 1024;

/// What a thread keeps for the message after this one.
#[derive(Default)]
struct Workbench {
    /// Where the next payloads stand.
    room: BytesMut,
    /// Where a payload is written.
    scratch: Vec<u8>,
}

thread_local! {
    static WORKBENCH: RefCell<Workbench> = RefCell::default();
    static LAST: RefCell<Option<(Topic, Subject)>> = const { RefCell::new(None) };
}

/// The payload of a message, beside those of others: what one thread allocates and another frees costs more than a
/// copy does.
pub(crate) fn payload(message: &BaseMessage) -> Result<Bytes, MessageError> {
    if message.size() >= LARGE {
        return Ok(wire::payload(message)?.into_owned().into());
    }
    WORKBENCH.with_borrow_mut(|Workbench { room, scratch }| {
        let payload = wire::payload_in(message, scratch)?;
        if room.capacity() < payload.len() {
            *room = BytesMut::with_capacity(PACK.max(payload.len()));
        }
        room.extend_from_slice(&payload);
        Ok(room.split().freeze())
    })
}

/// A topic as a subject; that of the topic that this thread published to last is there already.
pub(crate) fn subject(topic: &Topic) -> Subject {
    LAST.with_borrow_mut(|last| match last {
        Some((known, subject)) if known == topic => subject.clone(),
        _ => {
            let subject = Subject::from(topic.as_str());
            *last = Some((topic.clone(), subject.clone()));
            subject
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_payload_keeps_its_bytes() {
        let sizes = [0, 1, 400, LARGE - 1, LARGE, 2 * PACK];
        let message = |number: usize| {
            let text = char::from(b'a' + (number % 26) as u8).to_string().repeat(sizes[number % 6]);
            let form = if number.is_multiple_of(7) { Form::Text } else { Form::Message };
            BaseMessage::builder("me").form(form).data_text(&text).build().unwrap()
        };
        let all: Vec<BaseMessage> = (0..400).map(message).collect();
        let payloads: Vec<Bytes> = all.iter().map(|message| payload(message).unwrap()).collect();
        for (payload, message) in payloads.iter().zip(&all) {
            assert_eq!(*payload, *wire::payload(message).unwrap());
        }
    }

    #[test]
    fn a_header_that_a_tool_sends_twice_stays_twice() {
        let message = BaseMessage::builder("me").form(Form::Text).data("x");
        let message = ["Echo-Key", "Tenant"]
            .into_iter()
            .fold(message, |message, name| message.field(name, "a").field(name, "b"));
        let message = message.build().unwrap();
        let way = Way::Core { reply: None };
        let outgoing = Outgoing { subject: "a.b".into(), message, payload: Bytes::new(), way };
        let headers = outgoing.headers();
        for name in ["Echo-Key", "Tenant"] {
            let values: Vec<&str> = headers.get_all(name).map(HeaderValue::as_str).collect();
            assert_eq!(values, ["a", "b"]);
        }
    }

    #[test]
    fn a_topic_is_its_own_subject_each_time() {
        for text in ["a.b", "a.b", "a.c", "a.b"] {
            assert_eq!(subject(&Topic::new(text).unwrap()).as_str(), text);
        }
    }
}
