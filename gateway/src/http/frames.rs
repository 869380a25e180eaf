//! What client and host say to each other over a WebSocket: one JSON object a text frame.
//!
//! ```json
//! {"op":"publish","id":"1","topic":"a.b","data":{"n":1}}
//! {"op":"subscribe","id":"2","pattern":"a.>"}
//! {"op":"unsubscribe","id":"2"}
//! {"op":"request","id":"3","topic":"a.b","data":{},"timeout":"5s"}
//! ```
//!
//! The host answers each that has an `id` with `done`, `answer` or `error` and that id; a subscription's messages
//! carry the id that it was asked for with. `data` is what the body of a publish over HTTP is: data, or a whole
//! message. With `"format":"cloudevents"` it is a CloudEvent, and messages come as such, as `event`.
//!
//! ```json
//! {"op":"done","id":"1"}
//! {"op":"message","id":"2","topic":"a.b","message":{}}
//! {"op":"answer","id":"3","message":{}}
//! {"op":"error","id":"3","problem":{"type":"…","title":"…","status":504,"detail":"…"}}
//! {"op":"end","reason":"slow","detail":"…"}
//! ```

use echo_sdk::{BaseMessage, Topic};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::events::{self, End};
use super::problem::Problem;
use super::query::Format;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    Publish,
    Subscribe,
    Unsubscribe,
    Request,
}

/// A frame of a client's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask<'a> {
    pub(super) op: Op,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) topic: Option<String>,
    #[serde(default)]
    pub(super) pattern: Option<String>,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) timeout: Option<String>,
    #[serde(default)]
    pub(super) format: Format,
}

impl Ask<'_> {
    /// What has to be there for this operation.
    pub(super) fn need<'f>(name: &str, field: Option<&'f str>) -> Result<&'f str, Problem> {
        field.ok_or_else(|| Problem::bad_request(format!("the frame has no `{name}`")))
    }

    /// The data; `null` when there is none.
    pub(super) fn json(&self) -> &[u8] {
        self.data.map_or(b"null", |data| data.get().as_bytes())
    }
}

/// A frame of the host's.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Say<'a> {
    Done {
        id: &'a str,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        problem: &'a Problem,
    },
    End {
        reason: End,
        detail: &'static str,
    },
}

fn say(frame: &Say<'_>) -> Bytes {
    // Texts and numbers always serialise.
    serde_json::to_vec(frame).unwrap_or_default().into()
}

/// It is done.
pub(super) fn done(id: &str) -> Bytes {
    say(&Say::Done { id })
}

/// It is not done.
pub(super) fn error(id: Option<&str>, problem: &Problem) -> Bytes {
    say(&Say::Error { id, problem })
}

/// Nothing more comes.
pub(super) fn end(reason: End) -> Bytes {
    say(&Say::End { reason, detail: reason.detail() })
}

/// A message of a subscription.
pub(super) fn message(
    id: &str,
    format: Format,
    topic: &Topic,
    message: &BaseMessage,
) -> Result<Bytes, serde_json::Error> {
    carry("message", id, format, Some(topic), topic, message)
}

/// The answer to a request.
pub(super) fn answer(
    id: &str,
    format: Format,
    topic: &Topic,
    message: &BaseMessage,
) -> Result<Bytes, serde_json::Error> {
    carry("answer", id, format, None, topic, message)
}

fn carry(
    op: &'static str,
    id: &str,
    format: Format,
    shown: Option<&Topic>,
    topic: &Topic,
    message: &BaseMessage,
) -> Result<Bytes, serde_json::Error> {
    #[derive(Serialize)]
    struct Carried<'a> {
        op: &'static str,
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a Topic>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a RawValue>,
    }
    let text = RawValue::from_string(events::text(format, topic, message)?)?;
    let (message, event) = match format {
        Format::Message => (Some(&*text), None),
        Format::CloudEvents => (None, Some(&*text)),
    };
    serde_json::to_vec(&Carried { op, id, topic: shown, message, event }).map(Bytes::from)
}
