//! The JSON form of a message, which any tool can read and write.
//!
//! ```json
//! {"id":"…","timestamp":"2026-01-01T00:00:00.000000001Z","source":"me","version":"1.0","data":{},
//!  "headers":{"attempt":1,"hops":0,"key":"k","reply_to":"a.b","fields":{"Tenant":["t"]}}}
//! ```
//!
//! `schema` and `trace_context` stand beside `data` when present. On reading, all but `source` and `data`
//! may be missing; an unknown key is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::BaseMessage;
use crate::{Topic, TraceContext};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(default)]
    id: Option<Uuid>,
    #[serde(default)]
    timestamp: Option<DateTime<Utc>>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, default = "default_version")]
    version: Cow<'a, str>,
    data: Cow<'a, RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace_context: Option<TraceContext>,
    #[serde(borrow, default)]
    headers: Headers<'a>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers<'a> {
    #[serde(default)]
    attempt: u16,
    #[serde(default)]
    hops: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<Topic>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<Cow<'a, str>, Vec<Cow<'a, str>>>,
}

fn default_version() -> Cow<'static, str> {
    Cow::Borrowed("1.0")
}

impl Serialize for BaseMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data: &RawValue =
            serde_json::from_slice(self.data_bytes()).map_err(ser::Error::custom)?;
        Wire {
            id: Some(self.id()),
            timestamp: Some(self.timestamp()),
            source: self.source().into(),
            version: self.version().into(),
            data: Cow::Borrowed(data),
            schema: self.schema().map(Cow::from),
            trace_context: self.trace_context(),
            headers: Headers {
                attempt: self.attempt(),
                hops: self.hops(),
                key: self.key().map(Cow::from),
                reply_to: self.reply_to(),
                fields: fields(self),
            },
        }
        .serialize(serializer)
    }
}

/// The fields by name, each with its values in their order.
fn fields(message: &BaseMessage) -> BTreeMap<Cow<'_, str>, Vec<Cow<'_, str>>> {
    let mut fields: BTreeMap<Cow<'_, str>, Vec<Cow<'_, str>>> = BTreeMap::new();
    for (name, value) in message.fields() {
        fields.entry(name.into()).or_default().push(value.into());
    }
    fields
}

impl<'de> Deserialize<'de> for BaseMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let mut builder =
            BaseMessage::builder(&wire.source).version(&wire.version).data_raw(&wire.data);
        if let Some(id) = wire.id {
            builder = builder.id(id);
        }
        if let Some(timestamp) = wire.timestamp {
            builder = builder.timestamp(timestamp);
        }
        if let Some(schema) = wire.schema.as_deref() {
            builder = builder.schema(schema);
        }
        if let Some(context) = wire.trace_context {
            builder = builder.trace_context(context);
        }
        if let Some(key) = wire.headers.key.as_deref() {
            builder = builder.key(key);
        }
        if let Some(topic) = wire.headers.reply_to {
            builder = builder.reply_to(topic);
        }
        for (name, values) in &wire.headers.fields {
            builder = values.iter().fold(builder, |builder, value| builder.field(name, value));
        }
        let message = builder.build().map_err(de::Error::custom)?;
        Ok(message.with_attempt(wire.headers.attempt).with_hops(wire.headers.hops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn full() -> BaseMessage {
        let context =
            TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        BaseMessage::builder("me \"quoted\"")
            .data(&json!({"text": "hällo", "n": [1, 2.5, null]}))
            .schema("greeting/1")
            .field("Tenant", "a, b")
            .field("tenant", "c")
            .key("k")
            .reply_to(Topic::new("a.b").unwrap())
            .trace_context(TraceContext { tracestate: Some("v=1".into()), ..context })
            .build()
            .unwrap()
            .with_attempt(3)
            .with_hops(2)
    }

    #[test]
    fn the_json_form_reads_back_the_same() {
        let message = full();
        let text = serde_json::to_string(&message).unwrap();
        let back: BaseMessage = serde_json::from_str(&text).unwrap();
        assert_eq!(back, message);
        assert_eq!((back.attempt(), back.hops()), (3, 2));
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn the_least_message_has_a_source_and_data() {
        let message: BaseMessage = serde_json::from_str(r#"{"source":"sh","data":1}"#).unwrap();
        assert_eq!((message.source(), message.version()), ("sh", "1.0"));
        assert_eq!(message.id().get_version_num(), 7);
        assert!(message.key().is_none() && message.trace_context().is_none());
    }

    #[test]
    fn a_malformed_message_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"source":"sh"}"#,
            r#"{"source":"sh","data":}"#,
            r#"{"source":"sh","data":1,"topic":"x"}"#,
            r#"{"source":"sh","data":1,"headers":{"reply_to":"a.*"}}"#,
            r#"{"source":"sh","data":1,"headers":{"attempt":-1}}"#,
            r#"{"source":"sh","data":1,"headers":{"fields":{"a b":["c"]}}}"#,
            r#"{"source":"sh","data":1,"headers":{"fields":{"a":["c\r\nd: e"]}}}"#,
            r#"{"source":"sh","data":1,"trace_context":{"traceparent":"zz"}}"#,
        ] {
            assert!(serde_json::from_str::<BaseMessage>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn data_is_parsed_when_asked_for() {
        let message = full();
        assert_eq!(message.data().unwrap()["text"], "hällo");
        #[derive(serde::Deserialize)]
        struct Text<'a> {
            text: &'a str,
        }
        assert_eq!(message.json::<Text<'_>>().unwrap().text, "hällo");
        assert!(message.json::<Vec<u8>>().is_err());
        assert!(BaseMessage::builder("x").data_json(b"{").build().is_err());
        assert_eq!(BaseMessage::builder("x").build().unwrap().data_bytes(), b"null");
    }

    proptest::proptest! {
        #[test]
        fn any_texts_survive(source in ".*", key in ".*", data in ".*") {
            let message = BaseMessage::builder(&source).key(&key).data(&data).build().unwrap();
            let text = serde_json::to_vec(&message).unwrap();
            assert_eq!(serde_json::from_slice::<BaseMessage>(&text).unwrap(), message);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = serde_json::from_slice::<BaseMessage>(&bytes);
        }
    }
}
