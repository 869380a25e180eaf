//! What clients send, read as messages.
//!
//! A body is JSON: the data of a message, or a whole message, which says its source and data itself. With the
//! media type `application/cloudevents+json`, or `ce-` headers, it is a CloudEvent. With another media type than
//! JSON's it is taken as text or bytes. The headers `Echo-Key`, `Echo-Schema`, `Nats-Msg-Id`, `traceparent` and
//! `tracestate` mean for the data what they mean to NATS clients.

use echo_bus::wire::{self, Incoming, WireError};
use echo_sdk::{BaseMessage, Topic};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::de::IgnoredAny;

use super::cloudevents::{self, CloudEventError};
use super::problem::Problem;
use super::query::Format;
use crate::auth::Access;

/// The headers that say something about the data.
const HEADERS: [&str; 5] = [
    wire::header::KEY,
    wire::header::SCHEMA,
    wire::header::ID,
    wire::header::TRACEPARENT,
    wire::header::TRACESTATE,
];

impl From<CloudEventError> for Problem {
    fn from(error: CloudEventError) -> Self {
        Self::bad_request(error)
    }
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        Self::bad_request(error)
    }
}

/// Reads the body of a request, to be published to `topic`.
pub(super) fn from_body(
    access: &Access,
    topic: &Topic,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<BaseMessage, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = cloudevents::essence(content_type.unwrap_or("application/json"));
    let message = if kind.eq_ignore_ascii_case(cloudevents::MEDIA_TYPE) {
        cloudevents::from_json(topic, body)?
    } else if cloudevents::is_binary(headers) {
        cloudevents::from_headers(topic, headers, body)?
    } else if kind.starts_with("application/cloudevents") || kind.starts_with("multipart/") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            format!("a body of `{kind}` is not taken; send one message, as JSON"),
        ));
    } else {
        // What a form's media type says is what curl says when it is told nothing.
        if cloudevents::is_json(kind) || kind == "application/x-www-form-urlencoded" {
            check_json(body)?;
        }
        let header = |name: &&'static str| {
            headers.get(*name).and_then(|value| Some((*name, value.to_str().ok()?)))
        };
        let headers = HEADERS.iter().filter_map(header);
        wire::read(Incoming { payload: body, headers, reply: None, source: access.name() })?
    };
    with_allowed_reply(access, message)
}

/// Reads JSON that stands in a frame, to be published to `topic`.
pub(super) fn from_json(
    access: &Access,
    topic: &Topic,
    format: Format,
    json: &[u8],
) -> Result<BaseMessage, Problem> {
    let message = match format {
        Format::CloudEvents => cloudevents::from_json(topic, json)?,
        Format::Message => {
            let headers = std::iter::empty();
            wire::read(Incoming { payload: json, headers, reply: None, source: access.name() })?
        }
    };
    with_allowed_reply(access, message)
}

fn check_json(body: &[u8]) -> Result<(), Problem> {
    serde_json::from_slice::<IgnoredAny>(body).map(drop).map_err(|error| {
        Problem::bad_request(format!(
            "the body is no JSON: {error}; send text with `Content-Type: text/plain`"
        ))
    })
}

/// Lets a message through whose answer goes where its sender may have it.
fn with_allowed_reply(access: &Access, message: BaseMessage) -> Result<BaseMessage, Problem> {
    match message.reply_to().filter(|reply| !access.may_be_answered_at(reply)) {
        None => Ok(message),
        Some(reply) => Err(Problem::forbidden(format!(
            "`{}` may not have answers sent to `{reply}`; it may where it may publish, and to its inboxes",
            access.name()
        ))),
    }
}
