//! Making messages.

use std::borrow::Cow;
use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::fields::{self, FieldError, Fields};
use super::id;
use super::json::JsonText;
use super::raw::{Fixed, MAX_BODY, MessageRef, TraceIds};
use super::{BaseMessage, Form};
use crate::{Topic, TraceContext};

/// What is wrong with a message or its data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The data does not have the form that was asked for, or cannot be written as JSON.
    #[error("the message's data cannot be read or written as the type that was asked for: {0}")]
    Data(#[source] serde_json::Error),
    /// The bytes that were given are not one JSON value.
    #[error("the message's data is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// A field's name or value cannot stand on a wire.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Data and texts are larger than a message can be.
    #[error("the message of {len} bytes is larger than the {MAX_BODY} that one can have")]
    TooLarge {
        /// The bytes of data and texts together.
        len: usize,
    },
}

thread_local! {
    /// The buffer in which this thread's messages are put together, so that a message costs one
    /// allocation, its own.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A scratch buffer that grew beyond this goes back to the allocator.
const SCRATCH_KEPT: usize = 64 * 1024;

/// Puts a message together; ends with [`build`](MessageBuilder::build).
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MessageBuilder<'a> {
    source: &'a str,
    version: &'a str,
    schema: Option<&'a str>,
    key: Option<&'a str>,
    reply_to: Option<Topic>,
    trace_context: Option<TraceContext>,
    id: Option<Uuid>,
    timestamp: Option<DateTime<Utc>>,
    form: Form,
    fields: Result<String, FieldError>,
    data: Result<Cow<'a, [u8]>, MessageError>,
}

impl<'a> MessageBuilder<'a> {
    #[inline]
    pub(super) fn new(source: &'a str) -> Self {
        Self {
            source,
            version: "1.0",
            schema: None,
            key: None,
            reply_to: None,
            trace_context: None,
            id: None,
            timestamp: None,
            form: Form::Message,
            fields: Ok(String::new()),
            data: Ok(Cow::Borrowed(b"")),
        }
    }

    /// The data: anything that serialises to JSON. Without data a message carries `null`.
    pub fn data<T: Serialize + ?Sized>(mut self, data: &T) -> Self {
        let mut buffer = self.take_buffer();
        self.data = match serde_json::to_writer(&mut buffer, data) {
            Ok(()) => Ok(buffer.into()),
            Err(error) => Err(MessageError::Data(error)),
        };
        self
    }

    /// Data that is JSON text already; it is checked, not parsed, and kept as it stands.
    pub fn data_json(mut self, json: &[u8]) -> Self {
        if JsonText::check(json).is_some() {
            return self.data_copied(json);
        }
        // The other parser says what is wrong with it.
        let error = serde_json::from_slice::<&RawValue>(json).err();
        let error = error.unwrap_or_else(|| serde::de::Error::custom("it is no JSON"));
        self.data = Err(MessageError::NotJson(error));
        self
    }

    /// Data that a parser has already seen to be JSON.
    pub fn data_raw(self, json: &RawValue) -> Self {
        self.data_copied(json.get().as_bytes())
    }

    /// Data that was checked to be JSON, kept as it stands.
    #[inline]
    pub fn data_checked(self, json: JsonText<'a>) -> Self {
        self.data_trusted(json.as_bytes())
    }

    /// Data that is a text; the same as [`data`](Self::data), faster.
    pub fn data_text(mut self, text: &str) -> Self {
        // Looks at all of it, so that several bytes are looked at at once.
        let is_odd = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
        if text.bytes().fold(false, |odd, byte| odd | is_odd(byte)) {
            return self.data(text);
        }
        let mut buffer = self.take_buffer();
        buffer.reserve(text.len() + 2);
        buffer.push(b'"');
        buffer.extend_from_slice(text.as_bytes());
        buffer.push(b'"');
        self.data = Ok(buffer.into());
        self
    }

    /// Data of another message, which was JSON there.
    #[inline]
    pub(super) fn data_trusted(mut self, json: &'a [u8]) -> Self {
        self.data = Ok(Cow::Borrowed(json));
        self
    }

    fn data_copied(mut self, json: &[u8]) -> Self {
        let mut buffer = self.take_buffer();
        buffer.extend_from_slice(json);
        self.data = Ok(buffer.into());
        self
    }

    /// The fields of another message.
    pub(super) fn fields_trusted(mut self, fields: Fields<'_>) -> Self {
        self.fields = Ok(fields.as_lines().to_owned());
        self
    }

    /// The version of the data's form, `"1.0"` by default.
    #[inline]
    pub fn version(mut self, version: &'a str) -> Self {
        self.version = version;
        self
    }

    /// The schema that the data keeps to.
    #[inline]
    pub fn schema(mut self, schema: &'a str) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The ordering key: messages of one topic and key are handled one after another.
    #[inline]
    pub fn key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    /// A field beside what every message has, such as a header of a NATS client's. The same name may come
    /// several times.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        if let Ok(lines) = &mut self.fields
            && let Err(error) = fields::add(lines, name, value)
        {
            self.fields = Err(error);
        }
        self
    }

    /// How the message was written outside; for gateways and transports.
    #[inline]
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Where an answer is to be published.
    #[inline]
    pub fn reply_to(mut self, topic: Topic) -> Self {
        self.reply_to = Some(topic);
        self
    }

    /// Where in a distributed trace the message is made.
    #[inline]
    pub fn trace_context(mut self, context: TraceContext) -> Self {
        self.trace_context = Some(context);
        self
    }

    /// An id of one's own instead of a fresh UUIDv7.
    #[inline]
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// A time of one's own instead of now.
    #[inline]
    pub fn timestamp(mut self, timestamp: DateTime<Utc>) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Makes the message.
    ///
    /// # Errors
    /// [`MessageError`] when the data could not be written as JSON, is not JSON, or is too large.
    pub fn build(self) -> Result<BaseMessage, MessageError> {
        let data = self.data?;
        let fields = self.fields?;
        let timestamp_nanos = self.timestamp.map_or_else(now, nanos);
        let id = self.id.unwrap_or_else(|| id::fresh(timestamp_nanos));
        let trace = self.trace_context.as_ref();
        let fixed = Fixed {
            id: id.into_bytes(),
            timestamp_nanos,
            trace: trace.map_or_else(TraceIds::default, |trace| TraceIds {
                trace_id: trace.trace_id,
                span_id: trace.span_id,
                flags: trace.flags,
            }),
            form: self.form as u8,
        };
        let text = |text: Option<&'a str>| text.map(str::as_bytes);
        let parts = [
            Some(if data.is_empty() { b"null" } else { &*data }),
            Some(self.source.as_bytes()),
            Some(self.version.as_bytes()),
            text(self.schema),
            text(self.key),
            self.reply_to.as_ref().map(|topic| topic.as_str().as_bytes()),
            trace.and_then(|trace| trace.tracestate.as_deref()).map(str::as_bytes),
            (!fields.is_empty()).then_some(fields.as_bytes()),
        ];
        let content = MessageRef::build(&fixed, parts);
        let len = parts.iter().flatten().map(|part| part.len()).sum();
        if let Cow::Owned(data) = data
            && data.capacity() <= SCRATCH_KEPT
        {
            SCRATCH.set(data);
        }
        content.map(BaseMessage::from_content).ok_or(MessageError::TooLarge { len })
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = SCRATCH.take();
        buffer.clear();
        buffer
    }
}

/// The time, in nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970; a time outside of the years 1677 to 2262 becomes the nearest inside.
fn nanos(timestamp: DateTime<Utc>) -> i64 {
    timestamp.timestamp_nanos_opt().unwrap_or(if timestamp < DateTime::UNIX_EPOCH {
        i64::MIN
    } else {
        i64::MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_value_is_kept() {
        let text = b" {\"a\": 1}\r\n";
        let message = BaseMessage::builder("me").data_json(text).build().unwrap();
        assert_eq!(message.data_bytes(), text);
        let error = BaseMessage::builder("me").data_json(b"{\"a\" 1}").build().unwrap_err();
        assert!(error.to_string().contains("column 6"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn a_text_is_written_as_json(text in ".*") {
            let fast = BaseMessage::builder("me").data_text(&text).build().unwrap();
            let slow = BaseMessage::builder("me").data(&text).build().unwrap();
            assert_eq!(fast.data_bytes(), slow.data_bytes());
        }
    }
}
