//! How a message stands on a NATS wire: a payload, headers, a reply subject.
//!
//! What a plugin sends crosses as its JSON form, which any tool can read; the headers repeat what brokers and
//! tools look at without parsing: id, hops, ordering key, schema and trace context. A tool may send the
//! JSON form of a whole message, plain JSON, text or bytes, each with any headers. Plugins see a message in each
//! case, other tools see what was sent ([`Form`]).

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use echo_sdk::{BaseMessage, Form, MessageError, Topic, TopicError, TraceContext};
use serde_json::value::RawValue;
use uuid::Uuid;

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
    let Incoming { payload, headers, reply, source } = incoming;
    let reply = reply.map(Topic::new).transpose().map_err(WireError::Reply)?;
    if let Some(message) = whole(payload) {
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
    let find = |wanted: &str| {
        let mut headers = headers.clone();
        headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let mut builder = data(BaseMessage::builder(source), payload);
    let optional = (find(header::KEY), find(header::SCHEMA));
    builder = optional.0.into_iter().fold(builder, echo_sdk::MessageBuilder::key);
    builder = optional.1.into_iter().fold(builder, echo_sdk::MessageBuilder::schema);
    if let Some(id) = find(header::ID).and_then(|text| Uuid::try_parse(text).ok()) {
        builder = builder.id(id);
    }
    let trace = find(header::TRACEPARENT).and_then(|text| TraceContext::parse(text).ok());
    if let Some(trace) = trace {
        let tracestate = find(header::TRACESTATE).map(str::to_owned);
        builder = builder.trace_context(TraceContext { tracestate, ..trace });
    }
    builder = reply.into_iter().fold(builder, |builder, reply| builder.reply_to(reply));
    let hops = find(header::HOPS).and_then(|text| text.parse().ok()).unwrap_or_default();
    for (name, value) in headers {
        builder = builder.field(name, value);
    }
    Ok(builder.build()?.with_hops(hops))
}

/// Whether a message has a field of its own that a header repeats.
fn has_field(message: &BaseMessage, name: &str, value: &str) -> bool {
    message.fields().any(|(known, own)| known.eq_ignore_ascii_case(name) && own == value)
}

/// A payload that is the JSON form of a whole message.
fn whole(payload: &[u8]) -> Option<BaseMessage> {
    let begins = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    // A look at the first byte spares most payloads the parser.
    (begins == Some(&b'{')).then(|| serde_json::from_slice(payload).ok()).flatten()
}

/// A payload that is the data.
fn data<'a>(builder: echo_sdk::MessageBuilder<'a>, payload: &[u8]) -> echo_sdk::MessageBuilder<'a> {
    if let Ok(json) = serde_json::from_slice::<&RawValue>(payload) {
        let builder = builder.form(Form::Json);
        // White space around it, such as the end of a line, is kept too.
        let is_bare = json.get().len() == payload.len();
        return if is_bare { builder.data_raw(json) } else { builder.data_json(payload) };
    }
    match std::str::from_utf8(payload) {
        Ok(text) => builder.form(Form::Text).data(text),
        Err(_) => builder.form(Form::Bytes).data(&BASE64_STANDARD.encode(payload)),
    }
}

/// Whether a header is one that [`headers`] writes from the message itself.
fn is_own(name: &str) -> bool {
    use header::{ATTEMPT, HOPS, ID, KEY, SCHEMA, TRACEPARENT, TRACESTATE};
    [ID, HOPS, ATTEMPT, KEY, SCHEMA, TRACEPARENT, TRACESTATE]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
}

/// A message's payload as it is given out.
///
/// # Errors
/// [`MessageError`] when the message cannot be written as JSON.
pub fn payload(message: &BaseMessage) -> Result<Cow<'_, [u8]>, MessageError> {
    let text = || message.json::<Cow<'_, str>>().map(Cow::into_owned);
    match message.form() {
        Form::Json => Ok(Cow::Borrowed(message.data_bytes())),
        Form::Text => Ok(Cow::Owned(text()?.into_bytes())),
        Form::Bytes => {
            let text = text()?;
            // Nobody but `read` makes this form, yet what a library hands over may say so as well.
            let bytes = BASE64_STANDARD.decode(&text).unwrap_or_else(|_| text.into_bytes());
            Ok(Cow::Owned(bytes))
        }
        Form::Message => serde_json::to_vec(message).map(Cow::Owned).map_err(MessageError::Data),
    }
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
            write(header::TRACEPARENT, &trace.traceparent());
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
        for payload in
            [&b"{\"a\": 1 }"[..], b"hello", b"\xff\xfe", b"", b"7", b" {}\r\n", b"{\"source\":1}"]
        {
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
    fn a_reply_subject_that_is_no_topic_is_refused() {
        let refused = read(Incoming { reply: Some("a..b"), ..incoming(b"1", &[]) });
        assert!(matches!(refused, Err(WireError::Reply(_))));
    }
}
