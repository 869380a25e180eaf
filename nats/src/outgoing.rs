//! Messages as they go out.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::{Bytes, BytesMut};
use echo_bus::wire;
use echo_sdk::{BaseMessage, Topic};
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
        wire::headers(&self.message, |name, value| {
            // The server is to know it by another id than its own.
            if id.is_none() || name != wire::header::ID {
                append(&mut headers, name, value);
            }
        });
        if let Some(id) = id {
            let mut text = Uuid::encode_buffer();
            headers.insert(wire::header::ID, &*id.as_hyphenated().encode_lower(&mut text));
        }
        headers
    }
}

/// How many bytes a message's headers take.
pub(crate) fn headers_len(message: &BaseMessage) -> usize {
    let mut len = b"NATS/1.0\r\n\r\n".len();
    wire::headers(message, |name, value| len += name.len() + value.len() + b": \r\n".len());
    len
}

/// Adds a header, unless it can be none: what a message holds was checked when it was made.
fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (header_name(name), value.parse::<HeaderValue>()) {
        headers.append(name, value);
    }
}

/// The name of a header; those that most messages have take no memory of their own.
fn header_name(name: &str) -> Result<HeaderName, <HeaderName as std::str::FromStr>::Err> {
    use wire::header::{ATTEMPT, HOPS, KEY, SCHEMA, TRACEPARENT, TRACESTATE};
    let known = [TRACEPARENT, KEY, HOPS, SCHEMA, TRACESTATE, ATTEMPT];
    match known.into_iter().find(|known| *known == name) {
        Some(known) => Ok(HeaderName::from_static(known)),
        None => name.parse(),
    }
}

/// How many bytes the payloads of a thread share an allocation in.
const PACK: usize = 64 * 1024;

/// Payloads from this size on have an allocation of their own.
const LARGE: usize = 4 * 1024;

thread_local! {
    static ROOM: Cell<BytesMut> = Cell::new(BytesMut::new());
    static LAST: RefCell<Option<(Topic, Subject)>> = const { RefCell::new(None) };
}

/// The bytes of a payload, beside those of others: what one thread allocates and another frees costs more than the
/// copy does.
pub(crate) fn packed(payload: Cow<'_, [u8]>) -> Bytes {
    if payload.len() >= LARGE {
        return Bytes::from(payload.into_owned());
    }
    let mut room = ROOM.take();
    if room.capacity() < payload.len() {
        room = BytesMut::with_capacity(PACK);
    }
    room.extend_from_slice(&payload);
    let bytes = room.split().freeze();
    ROOM.set(room);
    bytes
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
        let all: Vec<Vec<u8>> =
            (0..400).map(|number| vec![number as u8; sizes[number % sizes.len()]]).collect();
        let packed: Vec<Bytes> = all.iter().map(|bytes| packed(Cow::Borrowed(bytes))).collect();
        assert!(packed.iter().zip(&all).all(|(packed, bytes)| packed == bytes));
    }

    #[test]
    fn a_topic_is_its_own_subject_each_time() {
        for text in ["a.b", "a.b", "a.c", "a.b"] {
            assert_eq!(subject(&Topic::new(text).unwrap()).as_str(), text);
        }
    }
}
