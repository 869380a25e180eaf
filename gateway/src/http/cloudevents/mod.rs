//! CloudEvents 1.0, in their JSON form and, coming in, as HTTP headers around the data (binary mode).
//!
//! | CloudEvents | message |
//! |---|---|
//! | `id` | id, when it is a UUID; else an id made from `source` and `id`, so that the same event has the same |
//! | `source` | source |
//! | `type` | topic |
//! | `time` | timestamp |
//! | `dataschema` | schema |
//! | `data`, `data_base64`, `datacontenttype` | data, and the form in which it was written |
//! | `traceparent`, `tracestate` | trace context |
//! | `partitionkey` | ordering key |
//! | `replyto`, `hops`, `attempt`, `echoversion` | reply topic, hops, attempt, the version of the data's form |
//! | any other, such as `subject` | the field `ce-<name>` |
//! | `echofields` | all other fields, as JSON |
//!
//! What the right side cannot hold as it was, such as an `id` that is no UUID or a `type` that is not the topic, is
//! kept as a field `ce-<name>` as well, which goes before what the message says by itself. So an event goes out
//! as it came in, and a message that crosses as an event stays the message that it was.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use read::{CloudEventError, from_headers, from_json, is_binary};
pub(crate) use write::to_event;

/// The media type of one event in JSON.
pub(crate) const MEDIA_TYPE: &str = "application/cloudevents+json";

/// The only version that there is.
const SPEC_VERSION: &str = "1.0";

/// What the names of fields begin with that hold attributes.
const FIELD_PREFIX: &str = "ce-";

/// The names of attributes that a message has a place for, beside those of the specification's core.
mod name {
    pub(super) const KEY: &str = "partitionkey";
    pub(super) const REPLY_TO: &str = "replyto";
    pub(super) const HOPS: &str = "hops";
    pub(super) const ATTEMPT: &str = "attempt";
    pub(super) const VERSION: &str = "echoversion";
    pub(super) const SOURCE: &str = "echosource";
    pub(super) const FIELDS: &str = "echofields";
    pub(super) const TRACEPARENT: &str = "traceparent";
    pub(super) const TRACESTATE: &str = "tracestate";
}

/// Whether a media type says that what it describes is JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type).to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// A media type without its parameters.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether a text can be the name of an attribute.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// What data of each form says of itself when its sender said nothing.
fn default_content_type(form: echo_sdk::Form) -> &'static str {
    match form {
        echo_sdk::Form::Text => "text/plain",
        echo_sdk::Form::Bytes => "application/octet-stream",
        _ => "application/json",
    }
}

/// A source as the URI reference that an event asks for: what cannot stand in one is written as `%XX`.
fn reference(source: &str) -> std::borrow::Cow<'_, str> {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const NOT_IN_URIS: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'<')
        .add(b'>')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    if source.is_empty() { "/".into() } else { utf8_percent_encode(source, NOT_IN_URIS).into() }
}
