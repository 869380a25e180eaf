//! Messages that go out as events.

use std::borrow::Cow;

use chrono::SecondsFormat;
use echo_sdk::{BaseMessage, Form, MessageError, Topic};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{FIELD_PREFIX, SPEC_VERSION, default_content_type, is_name, name, reference};

/// An event, as it is written as JSON.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    attributes: Vec<(Cow<'a, str>, Value<'a>)>,
    data: (&'static str, &'a RawValue),
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u16),
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.attributes.len() + 1))?;
        for (name, value) in &self.attributes {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry(self.data.0, self.data.1)?;
        map.end()
    }
}

impl<'a> Event<'a> {
    fn set(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        self.attributes.push((name.into(), Value::Text(value.into())));
    }

    fn set_optional(&mut self, name: &'a str, value: Option<impl Into<Cow<'a, str>>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn set_count(&mut self, name: &'a str, count: u16) {
        if count > 0 {
            self.attributes.push((name.into(), Value::Number(count)));
        }
    }

    /// Puts what the sender of an event said in place of what the message says.
    fn override_with(&mut self, name: &'a str, value: &'a str) {
        let value = Value::Text(value.into());
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.attributes.push((name.into(), value)),
        }
    }
}

/// A message of a topic as an event.
///
/// # Errors
/// [`MessageError`] when the message's data cannot be read.
pub(crate) fn to_event<'a>(
    topic: &'a Topic,
    message: &'a BaseMessage,
) -> Result<Event<'a>, MessageError> {
    let place = if message.form() == Form::Bytes { "data_base64" } else { "data" };
    let mut event = Event { attributes: Vec::with_capacity(16), data: (place, message.json()?) };
    let source = reference(message.source());
    let is_reference = source == message.source();
    event.set("specversion", SPEC_VERSION);
    event.set("id", message.id().to_string());
    event.set("source", source);
    event.set("type", topic.as_str());
    event.set("time", message.timestamp().to_rfc3339_opts(SecondsFormat::AutoSi, true));
    event.set("datacontenttype", default_content_type(message.form()));
    event.set_optional("dataschema", message.schema());
    if let Some(trace) = message.trace_context() {
        event.set(name::TRACEPARENT, trace.traceparent());
        event.set_optional(name::TRACESTATE, trace.tracestate);
    }
    event.set_optional(name::KEY, message.key());
    event.set_optional(name::REPLY_TO, message.reply_to().map(|topic| topic.as_str().to_owned()));
    event.set_count(name::HOPS, message.hops());
    event.set_count(name::ATTEMPT, message.attempt());
    if message.version() != "1.0" {
        event.set(name::VERSION, message.version());
    }
    if !is_reference {
        event.set(name::SOURCE, message.source());
    }
    let mut others = Vec::new();
    for (field, value) in message.fields() {
        match attribute(field) {
            Some(name) => event.override_with(name, value),
            None => others.push((field, value)),
        }
    }
    if !others.is_empty() {
        event.set(name::FIELDS, serde_json::to_string(&others).map_err(MessageError::Data)?);
    }
    Ok(event)
}

/// The attribute that a field stands for.
fn attribute(field: &str) -> Option<&str> {
    let name = field.strip_prefix(FIELD_PREFIX)?;
    (is_name(name) && !matches!(name, "specversion" | "data" | name::FIELDS)).then_some(name)
}
