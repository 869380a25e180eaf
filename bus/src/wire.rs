//! How a message stands on a NATS wire: a payload, headers, a reply subject.
//!
//! What a plugin sends crosses as its JSON form, which any tool can read; the headers repeat what brokers and
//! tools look at without parsing: id, hops, ordering key, schema and trace context. A tool may send the
//! JSON form of a whole message, plain JSON, text or bytes, each with any headers. Plugins see a message in each
//! case, other tools see what was sent ([`Form`]).

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use echo_sdk::{BaseMessage, Form, JsonText, MessageError, Topic, TopicError, TraceContext};
use memchr::memmem::Finder;
use uuid::Uuid;

mod json;

/// The names of the headers that a message crosses with.
pub mod header {
    /// The message's id; servers drop a second message of the same id from a durable stream.
    pub const ID: &str = "Nats-Msg-Id";
    /// How often the message was forwarded; left out when it was not.
    pub const HOPS: &str = "Echo-Hops";
    /// Which delivery to its slot it is, where one is counted.
    pub const ATTEMPT: &str = "Echo-Attempt";
    /// The ordering key.
    pub const KEY: &str = "Echo-Key";
    /// The schema that the data keeps to.
    pub const SCHEMA: &str = "Echo-Schema";
    /// Where in a distributed trace the message was made (W3C).
    pub const TRACEPARENT: &str = "traceparent";
    /// What tracing systems add to it (W3C).
    pub const TRACESTATE: &str = "tracestate";
}

/// Why what came over a wire is no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The reply subject is no topic.
    #[error("its reply subject cannot be published to: {0}")]
    Reply(#[source] TopicError),
    /// A header or the data cannot be part of a message.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// What came over a wire.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a, H> {
    /// The bytes.
    pub payload: &'a [u8],
    /// The headers, names and values.
    pub headers: H,
    /// The reply subject, when an answer is wanted.
    pub reply: Option<&'a str>,
    /// Whoever sent it, as far as the connection knows; a whole message says so itself.
    pub source: &'a str,
}

/// Reads a message.
///
/// The reply subject of the wire goes before one in the message, since an answer has to find its way back over
/// the same wire.
///
/// # Errors
/// [`WireError`] when the reply subject is no topic, or a header holds what no message can.
pub fn read<'h, H>(incoming: Incoming<'_, H>) -> Result<BaseMessage, WireError>
where
    H: Iterator<Item = (&'h str, &'h str)> + Clone,
{
    read_at(incoming, None)
}

/// As [`read`], where it is known when the message came: a reader of many need not look at the clock for each. A whole
/// message keeps its own time.
///
/// # Errors
/// As [`read`].
pub fn read_at<'h, H>(
    incoming: Incoming<'_, H>,
    came: Option<DateTime<Utc>>,
) -> Result<BaseMessage, WireError>
where
    H: Iterator<Item = (&'h str, &'h str)> + Clone,
{
    let Incoming { payload, headers, reply, source } = incoming;
    let reply = reply.map(Topic::new).transpose().map_err(WireError::Reply)?;
    if let Some(message) = json::read(payload).or_else(|| whole(payload)) {
        let says = |(name, value): &(&str, &str)| is_own(name) || has_field(&message, name, value);
        let is_plain = headers.clone().all(|header| says(&header));
        return match reply {
            None if is_plain => Ok(message),
            Some(reply) if is_plain => Ok(message.with_reply_to(&reply)?),
            reply => {
                let mut builder = message.to_builder();
                for (name, value) in headers.filter(|header| !says(header)) {
                    builder = builder.field(name, value);
                }
                let builder = reply.into_iter().fold(builder, |b, reply| b.reply_to(reply));
                let (attempt, hops) = (message.attempt(), message.hops());
                Ok(builder.build()?.with_attempt(attempt).with_hops(hops))
            }
        };
    }
    let mut builder = data(BaseMessage::builder(source), payload);
    if let Some(came) = came {
        builder = builder.timestamp(came);
    }
    let mut said = Said::default();
    for (name, value) in headers {
        said.note(name, value);
        builder = builder.field(name, value);
    }
    // A builder is large, and is not passed round for what most messages do not have.
    if let Some(key) = said.key {
        builder = builder.key(key);
    }
    if let Some(schema) = said.schema {
        builder = builder.schema(schema);
    }
    if let Some(id) = said.id.and_then(|text| Uuid::try_parse(text).ok()) {
        builder = builder.id(id);
    }
    if let Some(trace) = said.traceparent.and_then(|text| TraceContext::parse(text).ok()) {
        let tracestate = said.tracestate.map(str::to_owned);
        builder = builder.trace_context(TraceContext { tracestate, ..trace });
    }
    if let Some(reply) = reply {
        builder = builder.reply_to(reply);
    }
    let hops = said.hops.and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(builder.build()?.with_hops(hops))
}

/// What headers say about data: the first of each name counts.
#[derive(Default)]
struct Said<'h> {
    id: Option<&'h str>,
    hops: Option<&'h str>,
    key: Option<&'h str>,
    schema: Option<&'h str>,
    traceparent: Option<&'h str>,
    tracestate: Option<&'h str>,
}

impl<'h> Said<'h> {
    fn note(&mut self, name: &str, value: &'h str) {
        let places = [
            (header::ID, &mut self.id),
            (header::HOPS, &mut self.hops),
            (header::KEY, &mut self.key),
            (header::SCHEMA, &mut self.schema),
            (header::TRACEPARENT, &mut self.traceparent),
            (header::TRACESTATE, &mut self.tracestate),
        ];
        for (own, place) in places {
            if own.eq_ignore_ascii_case(name) {
                place.get_or_insert(value);
            }
        }
    }
}

/// Whether a message has a field of its own that a header repeats.
fn has_field(message: &BaseMessage, name: &str, value: &str) -> bool {
    message.fields().any(|(known, own)| known.eq_ignore_ascii_case(name) && own == value)
}

/// A payload that is the JSON form of a whole message.
fn whole(payload: &[u8]) -> Option<BaseMessage> {
    // A look for what each of them has spares most payloads the parser.
    let may_be = payload.trim_ascii_start().first() == Some(&b'{')
        && SOURCE_KEY.find(payload).is_some()
        && DATA_KEY.find(payload).is_some();
    may_be.then(|| serde_json::from_slice(payload).ok()).flatten()
}

static SOURCE_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"source\""));
static DATA_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"data\""));

/// A payload that is the data.
fn data<'a>(
    builder: echo_sdk::MessageBuilder<'a>,
    payload: &'a [u8],
) -> echo_sdk::MessageBuilder<'a> {
    if let Some(json) = JsonText::check(payload) {
        return builder.form(Form::Json).data_checked(json);
    }
    match std::str::from_utf8(payload) {
        Ok(text) => builder.form(Form::Text).data_text(text),
        Err(_) => builder.form(Form::Bytes).data_text(&BASE64_STANDARD.encode(payload)),
    }
}

/// A message's payload as it is given out.
///
/// # Errors
/// [`MessageError`] when the message cannot be written as JSON.
pub fn payload(message: &BaseMessage) -> Result<Cow<'_, [u8]>, MessageError> {
    match message.form() {
        Form::Json => Ok(Cow::Borrowed(message.data_bytes())),
        Form::Text => text(message),
        Form::Bytes => {
            let text = text(message)?;
            // Nobody but `read` makes this form, yet what a library hands over may say so as well.
            Ok(BASE64_STANDARD.decode(&text).map_or(text, Cow::Owned))
        }
        Form::Message => {
            let mut out = Vec::new();
            json::write(message, &mut out)?;
            Ok(Cow::Owned(out))
        }
    }
}

/// As [`payload`], with what has to be written standing in `scratch`, whose memory serves for the next one.
///
/// # Errors
/// [`MessageError`] when the message cannot be written as JSON.
pub fn payload_in<'a>(
    message: &'a BaseMessage,
    scratch: &'a mut Vec<u8>,
) -> Result<Cow<'a, [u8]>, MessageError> {
    if message.form() != Form::Message {
        return payload(message);
    }
    scratch.clear();
    json::write(message, scratch)?;
    Ok(Cow::Borrowed(scratch))
}

/// Data that is a text, without the quotes and the escapes of JSON.
fn text(message: &BaseMessage) -> Result<Cow<'_, [u8]>, MessageError> {
    let data = message.data_bytes();
    let quoted = data.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match quoted.filter(|text| !text.contains(&b'\\')) {
        Some(text) => Ok(Cow::Borrowed(text)),
        None => Ok(Cow::Owned(message.json::<String>()?.into_bytes())),
    }
}

/// Whether a header is one that [`headers`] writes from the message itself.
fn is_own(name: &str) -> bool {
    use header::{ATTEMPT, HOPS, ID, KEY, SCHEMA, TRACEPARENT, TRACESTATE};
    // As they are written here, which takes one look.
    matches!(name, ID | HOPS | ATTEMPT | KEY | SCHEMA | TRACEPARENT | TRACESTATE)
        || [ID, HOPS, ATTEMPT, KEY, SCHEMA, TRACEPARENT, TRACESTATE]
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
}

/// Tells `write` each of a message's headers, as it is given out: name and value.
///
/// What came from a tool goes out with that tool's headers alone.
pub fn headers(message: &BaseMessage, mut write: impl FnMut(&str, &str)) {
    if message.form() == Form::Message {
        let mut id = Uuid::encode_buffer();
        write(header::ID, message.id().as_hyphenated().encode_lower(&mut id));
        if message.hops() > 0 {
            write(header::HOPS, &message.hops().to_string());
        }
        if message.attempt() > 0 {
            write(header::ATTEMPT, &message.attempt().to_string());
        }
        // A key may hold what no header can; the payload has it in any case.
        let is_writable = |text: &&str| !text.chars().any(char::is_control);
        if let Some(key) = message.key().filter(is_writable) {
            write(header::KEY, key);
        }
        if let Some(schema) = message.schema().filter(is_writable) {
            write(header::SCHEMA, schema);
        }
        if let Some(trace) = message.trace_context() {
            write(header::TRACEPARENT, trace.encode(&mut [0; TraceContext::TRACEPARENT_LEN]));
            if let Some(state) = trace.tracestate.as_deref().filter(is_writable) {
                write(header::TRACESTATE, state);
            }
        }
    }
    for (name, value) in message.fields() {
        if message.form() != Form::Message || !is_own(name) {
            write(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn incoming<'a>(
        payload: &'a [u8],
        headers: &'a [(&'a str, &'a str)],
    ) -> Incoming<'a, impl Iterator<Item = (&'a str, &'a str)> + Clone> {
        Incoming {
            payload,
            headers: headers.iter().copied(),
            reply: Some("_INBOX.1"),
            source: "sh",
        }
    }

    fn written(message: &BaseMessage) -> Vec<(String, String)> {
        let mut all = Vec::new();
        headers(message, |name, value| all.push((name.to_owned(), value.to_owned())));
        all
    }

    #[test]
    fn what_a_tool_sends_goes_out_as_it_came() {
        let sent = [("Tenant", "a"), ("Echo-Key", "k"), ("traceparent", "no such thing")];
        for payload in [
            &b"{\"a\": 1 }"[..],
            b"hello",
            b"\xff\xfe",
            b"",
            b"7",
            b" {}\r\n",
            b"{\"source\":1}",
            b"a\\\"b",
            b"\"q\"",
            b"nullx",
        ] {
            let message = read(incoming(payload, &sent)).unwrap();
            assert_eq!(super::payload(&message).unwrap(), payload, "{payload:?}");
            let out = written(&message);
            let out: Vec<_> = out.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(out, sent);
            assert_eq!((message.source(), message.key()), ("sh", Some("k")));
            assert_eq!(message.reply_to().unwrap().as_str(), "_INBOX.1");
        }
    }

    #[test]
    fn plugins_see_json_in_each_case() {
        let data = |payload: &[u8]| read(incoming(payload, &[])).unwrap().data().unwrap().clone();
        assert_eq!(data(b"{\"a\":1}"), json!({"a": 1}));
        assert_eq!(data(b"hello"), json!("hello"));
        assert_eq!(data(b"\xff"), json!("/w=="));
        assert_eq!(data(b""), json!(""));
        assert_eq!(data(b"a\\b \"c\"\n"), json!("a\\b \"c\"\n"));
        for (payload, value) in [(&b" true"[..], json!(true)), (b"null\n", json!(null))] {
            assert_eq!(data(payload), value);
        }
        assert_eq!(data(b"truly"), json!("truly"));
        assert_eq!(data(b"-x"), json!("-x"));
    }

    #[test]
    fn a_whole_message_stays_what_it_is() {
        let message = BaseMessage::builder("me")
            .data(&json!({"n": 1}))
            .key("k")
            .field("Tenant", "t")
            .build()
            .unwrap()
            .with_hops(2);
        let sent = written(&message);
        assert_eq!(sent[0], (header::ID.to_owned(), message.id().to_string()));
        let sent: Vec<_> = sent.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(sent[1..], [(header::HOPS, "2"), (header::KEY, "k"), ("Tenant", "t")]);
        let payload = super::payload(&message).unwrap();
        // What its headers repeat is not there twice.
        let back = read(Incoming { reply: None, ..incoming(&payload, &sent) }).unwrap();
        assert_eq!(back, message);
        assert_eq!((back.hops(), back.form()), (2, Form::Message));
        let with_more = read(incoming(&payload, &[("More", "x")])).unwrap();
        assert_eq!((with_more.field("more"), with_more.id()), (Some("x"), message.id()));
    }

    #[test]
    fn data_is_of_when_it_came_and_a_whole_message_of_its_own_time() {
        let came = DateTime::from_timestamp_nanos(1_700_000_000_000_000_000);
        let data = read_at(incoming(b"1", &[]), Some(came)).unwrap();
        assert_eq!(data.timestamp(), came);
        let own = BaseMessage::builder("me").data(&1).build().unwrap();
        let payload = super::payload(&own).unwrap();
        let whole = read_at(incoming(&payload, &[]), Some(came)).unwrap();
        assert_eq!((whole.timestamp(), whole.id()), (own.timestamp(), own.id()));
    }

    #[test]
    fn a_reply_subject_that_is_no_topic_is_refused() {
        let refused = read(Incoming { reply: Some("a..b"), ..incoming(b"1", &[]) });
        assert!(matches!(refused, Err(WireError::Reply(_))));
    }
}
