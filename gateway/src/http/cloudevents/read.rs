//! Events that come in.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::DateTime;
use echo_sdk::{BaseMessage, Form, MessageBuilder, MessageError, Topic, TopicError, TraceContext};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use percent_encoding::percent_decode_str;
use ring::digest;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{FIELD_PREFIX, SPEC_VERSION, default_content_type, is_json, is_name, name, reference};

/// Why something is no event that can be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CloudEventError {
    #[error("the event is no JSON object: {0}")]
    NotJson(serde_json::Error),
    #[error("the event has no `{0}`; each has `specversion`, `id`, `source` and `type`")]
    Missing(&'static str),
    #[error("the event is of CloudEvents {0}; this host takes 1.0")]
    Version(String),
    #[error(
        "the event's `{0}` is no attribute: names are of small letters and digits, values texts, numbers or booleans"
    )]
    Attribute(String),
    #[error("the event's `{name}` is `{value}`, which is none")]
    Value { name: &'static str, value: String },
    #[error("the event has both `data` and `data_base64`; leave one out")]
    TwiceData,
    #[error("the event's data is not what its content type says: {0}")]
    Data(String),
    #[error("the event's `replyto` is no topic: {0}")]
    Reply(TopicError),
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// The data of an event, as it is put into a message.
enum Data {
    Json(Box<RawValue>),
    Text(String),
    Bytes(Vec<u8>),
}

impl Data {
    /// Data of bytes, as their content type says.
    fn of_bytes(bytes: &[u8], content_type: Option<&str>) -> Result<Self, CloudEventError> {
        if bytes.is_empty() && content_type.is_none() {
            return Ok(Self::Json(RawValue::NULL.to_owned()));
        }
        if content_type.is_none_or(is_json) {
            let read = serde_json::from_slice(bytes);
            return read.map(Self::Json).map_err(|error| CloudEventError::Data(error.to_string()));
        }
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_owned()),
        })
    }

    fn form(&self) -> Form {
        match self {
            Self::Json(_) => Form::Json,
            Self::Text(_) => Form::Text,
            Self::Bytes(_) => Form::Bytes,
        }
    }

    fn put_into<'a>(&self, builder: MessageBuilder<'a>) -> MessageBuilder<'a> {
        let builder = builder.form(self.form());
        match self {
            Self::Json(value) => builder.data_raw(value),
            Self::Text(text) => builder.data(text),
            Self::Bytes(bytes) => builder.data(&BASE64_STANDARD.encode(bytes)),
        }
    }
}

/// Reads one event in JSON, to be published to `topic`.
pub(crate) fn from_json(topic: &Topic, json: &[u8]) -> Result<BaseMessage, CloudEventError> {
    let mut parts: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(json).map_err(CloudEventError::NotJson)?;
    let (data, base64) = (parts.remove("data"), parts.remove("data_base64"));
    let mut attributes = BTreeMap::new();
    for (name, raw) in parts {
        let value = match serde_json::from_str(raw.get()) {
            Ok(Value::Null) => continue,
            Ok(Value::String(text)) => text,
            Ok(other @ (Value::Number(_) | Value::Bool(_))) => other.to_string(),
            _ => return Err(CloudEventError::Attribute(name)),
        };
        attributes.insert(name, value);
    }
    let content_type = attributes.get("datacontenttype").map(String::as_str);
    let data = match (data, base64) {
        (Some(_), Some(_)) => return Err(CloudEventError::TwiceData),
        (None, Some(base64)) => {
            let text: String = serde_json::from_str(base64.get()).unwrap_or_default();
            let bytes = BASE64_STANDARD.decode(text);
            let bytes = bytes.map_err(|error| CloudEventError::Data(error.to_string()))?;
            match content_type {
                None => Data::Bytes(bytes),
                Some(kind) if is_json(kind) => Data::of_bytes(&bytes, content_type)?,
                Some(_) => Data::Bytes(bytes),
            }
        }
        (Some(data), None) => match serde_json::from_str::<String>(data.get()) {
            Ok(text) if content_type.is_some_and(|kind| !is_json(kind)) => Data::Text(text),
            _ => Data::Json(data),
        },
        (None, None) => Data::Json(RawValue::NULL.to_owned()),
    };
    build(topic, attributes, &data)
}

/// Whether headers say that what they stand before is an event's data.
pub(crate) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// Reads an event whose attributes are headers, to be published to `topic`.
pub(crate) fn from_headers(
    topic: &Topic,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<BaseMessage, CloudEventError> {
    let mut attributes = BTreeMap::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(FIELD_PREFIX) else { continue };
        let value = value.to_str().ok();
        let value = value.and_then(|value| percent_decode_str(value).decode_utf8().ok());
        let value = value.ok_or_else(|| CloudEventError::Attribute(name.to_owned()))?;
        attributes.insert(name.to_owned(), value.into_owned());
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(content_type) = content_type {
        attributes.insert("datacontenttype".to_owned(), content_type.to_owned());
    }
    build(topic, attributes, &Data::of_bytes(body, content_type)?)
}

/// Puts a message together of what an event says.
fn build(
    topic: &Topic,
    mut attributes: BTreeMap<String, String>,
    data: &Data,
) -> Result<BaseMessage, CloudEventError> {
    let is_control = |value: &str| value.chars().any(char::is_control);
    if let Some((name, _)) =
        attributes.iter().find(|(name, value)| !is_name(name) || is_control(value))
    {
        return Err(CloudEventError::Attribute(name.clone()));
    }
    let mut take = |name: &str| attributes.remove(name);
    let mut required =
        |name| take(name).filter(|value| !value.is_empty()).ok_or(CloudEventError::Missing(name));
    let version = required("specversion")?;
    if version != SPEC_VERSION {
        return Err(CloudEventError::Version(version));
    }
    let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
    let own_source = take(name::SOURCE).unwrap_or_else(|| source.clone());
    let texts = [name::VERSION, "dataschema", name::KEY].map(&mut take);
    let [data_version, schema, key] = &texts;

    let mut builder = data.put_into(BaseMessage::builder(&own_source));
    builder = data_version.iter().fold(builder, |builder, version| builder.version(version));
    builder = schema.iter().fold(builder, |builder, schema| builder.schema(schema));
    builder = key.iter().fold(builder, |builder, key| builder.key(key));
    let own_id = message_id(&source, &id);
    builder = builder.id(own_id);
    if own_id.to_string() != id {
        builder = kept(builder, "id", &id);
    }
    if reference(&own_source) != source {
        builder = kept(builder, "source", &source);
    }
    if kind != *topic.as_str() {
        builder = kept(builder, "type", &kind);
    }
    if let Some(time) = take("time") {
        builder = builder.timestamp(parse("time", &time, DateTime::parse_from_rfc3339)?.to_utc());
    }
    if let Some(reply) = take(name::REPLY_TO) {
        builder = builder.reply_to(Topic::new(reply).map_err(CloudEventError::Reply)?);
    }
    let hops: u16 = take(name::HOPS).map_or(Ok(0), |text| parse(name::HOPS, &text, str::parse))?;
    let attempt =
        take(name::ATTEMPT).map_or(Ok(0), |text| parse(name::ATTEMPT, &text, str::parse))?;
    if let Some(trace) = take(name::TRACEPARENT) {
        let trace = parse(name::TRACEPARENT, &trace, TraceContext::parse)?;
        let tracestate = take(name::TRACESTATE);
        builder = builder.trace_context(TraceContext { tracestate, ..trace });
    }
    if let Some(fields) = take(name::FIELDS) {
        let read = |text: &str| serde_json::from_str::<Vec<(String, String)>>(text);
        let fields = parse(name::FIELDS, &fields, read)?;
        builder = fields.iter().fold(builder, |builder, (name, value)| builder.field(name, value));
    }
    if attributes
        .get("datacontenttype")
        .is_some_and(|kind| kind == default_content_type(data.form()))
    {
        attributes.remove("datacontenttype");
    }
    builder = attributes.iter().fold(builder, |builder, (name, value)| kept(builder, name, value));
    Ok(builder.build()?.with_hops(hops).with_attempt(attempt))
}

/// Keeps what the message cannot say as the event said it.
fn kept<'a>(builder: MessageBuilder<'a>, name: &str, value: &str) -> MessageBuilder<'a> {
    builder.field(&format!("{FIELD_PREFIX}{name}"), value)
}

fn parse<'t, T, E>(
    name: &'static str,
    text: &'t str,
    read: impl FnOnce(&'t str) -> Result<T, E>,
) -> Result<T, CloudEventError> {
    read(text).map_err(|_| CloudEventError::Value { name, value: text.to_owned() })
}

/// An event's id, when it is a UUID; else one made from what tells events apart, the same each time.
fn message_id(source: &str, id: &str) -> Uuid {
    if let Ok(uuid) = Uuid::try_parse(id) {
        return uuid;
    }
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(source.as_bytes());
    digest.update(&[0]);
    digest.update(id.as_bytes());
    let mut bytes = [0; 16];
    for (byte, of_digest) in bytes.iter_mut().zip(digest.finish().as_ref()) {
        *byte = *of_digest;
    }
    uuid::Builder::from_bytes(bytes)
        .with_variant(uuid::Variant::RFC4122)
        .with_version(uuid::Version::Custom)
        .into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_from_source_and_id() {
        let made = message_id("/a", "1");
        assert_eq!(made, message_id("/a", "1"));
        assert_ne!(made, message_id("/a", "2"));
        assert_ne!(made, message_id("/a1", ""));
        assert_eq!(made.get_version_num(), 8);
    }
}
