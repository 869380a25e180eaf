//! How a message stands in the log: a head of fixed size, then its texts and its data, one after another.
//!
//! Nothing is copied to write it: the log puts the parts together. Reading trusts no length.

use chrono::DateTime;
use echo_sdk::{BaseMessage, Form, Topic, TraceContext};
use uuid::Uuid;

/// The form that is written; another one, of a later version, is not read.
const VERSION: u8 = 1;

/// Texts and data behind the head: topic, source, version, schema, key, reply topic, trace state, fields, data.
const SECTIONS: usize = 9;

/// Version, form, hops, id, timestamp, trace, and the lengths of the sections.
const HEAD: usize = 1 + 1 + 2 + 16 + 8 + (16 + 8 + 1) + SECTIONS * 4;

/// The length of a section that a message does not have.
const ABSENT: u32 = u32::MAX;

/// A message as it is written.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    head: [u8; HEAD],
    topic: &'a Topic,
    message: &'a BaseMessage,
    reply_to: Option<Topic>,
    trace: Option<TraceContext>,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(topic: &'a Topic, message: &'a BaseMessage) -> Self {
        let (reply_to, trace) = (message.reply_to(), message.trace_context());
        let mut this = Self { head: [0; HEAD], topic, message, reply_to, trace };
        this.head = this.make_head();
        this
    }

    fn make_head(&self) -> [u8; HEAD] {
        let trace = self.trace.as_ref();
        let nanos = self.message.timestamp().timestamp_nanos_opt().unwrap_or_default();
        let mut head = [0; HEAD];
        let mut rest = &mut head[..];
        let mut put = |bytes: &[u8]| {
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            place.copy_from_slice(bytes);
            rest = behind;
        };
        put(&[VERSION, self.message.form() as u8]);
        put(&self.message.hops().to_le_bytes());
        put(self.message.id().as_bytes());
        put(&nanos.to_le_bytes());
        put(&trace.map_or([0; 16], |trace| trace.trace_id));
        put(&trace.map_or([0; 8], |trace| trace.span_id));
        put(&[trace.map_or(0, |trace| trace.flags)]);
        for section in self.sections() {
            // A message is smaller than 32 bits can say.
            put(&section.map_or(ABSENT, |section| section.len() as u32).to_le_bytes());
        }
        head
    }

    fn sections(&self) -> [Option<&[u8]>; SECTIONS] {
        let message = self.message;
        let lines = message.fields().as_lines();
        let state = self.trace.as_ref().and_then(|trace| trace.tracestate.as_deref());
        [
            Some(self.topic.as_str().as_bytes()),
            Some(message.source().as_bytes()),
            Some(message.version().as_bytes()),
            message.schema().map(str::as_bytes),
            message.key().map(str::as_bytes),
            self.reply_to.as_ref().map(|topic| topic.as_str().as_bytes()),
            state.map(str::as_bytes),
            (!lines.is_empty()).then_some(lines.as_bytes()),
            Some(message.data_bytes()),
        ]
    }

    /// All of it, in order.
    pub(crate) fn parts(&self) -> [&[u8]; 1 + SECTIONS] {
        let mut parts = [&self.head[..]; 1 + SECTIONS];
        for (part, section) in parts.iter_mut().skip(1).zip(self.sections()) {
            *part = section.unwrap_or_default();
        }
        parts
    }
}

/// By what the log knows a second publish of a message: its id, where and after how many hops, so that a message
/// may be forwarded; and with what follows from another one, that one's sequence, since that happens once.
pub(crate) fn identity(topic: &Topic, message: &BaseMessage, follows: u64) -> [u8; 16] {
    // FNV-1a: the same over restarts. The id makes it unique.
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let place = [&message.hops().to_le_bytes()[..], &follows.to_le_bytes()].concat();
    let topic = topic.as_str().as_bytes();
    let place = topic.iter().chain(&place).fold(0xcbf2_9ce4_8422_2325, hash);
    (message.id().as_u128() ^ u128::from(place)).to_le_bytes()
}

/// Reads a message back; `None` when the bytes are none, or of a later version.
pub(crate) fn read(bytes: &[u8]) -> Option<(Topic, BaseMessage)> {
    let mut reading = Reading(bytes);
    let [version, form] = *reading.array()?;
    if version != VERSION {
        return None;
    }
    let hops = u16::from_le_bytes(*reading.array()?);
    let id = Uuid::from_bytes(*reading.array()?);
    let nanos = i64::from_le_bytes(*reading.array()?);
    let (trace_id, span_id): (&[u8; 16], &[u8; 8]) = (reading.array()?, reading.array()?);
    let [flags] = *reading.array()?;
    let mut lens = [0; SECTIONS];
    for len in &mut lens {
        *len = u32::from_le_bytes(*reading.array()?);
    }
    let mut sections = [None; SECTIONS];
    for (section, len) in sections.iter_mut().zip(lens).filter(|(_, len)| *len != ABSENT) {
        *section = Some(reading.take(len as usize)?);
    }
    let [texts @ .., data] = sections;
    let mut read = [None; SECTIONS - 1];
    for (text, bytes) in read.iter_mut().zip(texts) {
        *text = bytes.map(str::from_utf8).transpose().ok()?;
    }
    let [topic, source, version, schema, key, reply_to, tracestate, fields] = read;
    let mut builder = BaseMessage::builder(source?)
        .version(version?)
        .id(id)
        .timestamp(DateTime::from_timestamp_nanos(nanos))
        .form(form_of(form)?)
        .data_json(data?);
    if let Some(schema) = schema {
        builder = builder.schema(schema);
    }
    if let Some(key) = key {
        builder = builder.key(key);
    }
    if let Some(reply_to) = reply_to {
        builder = builder.reply_to(Topic::new(reply_to).ok()?);
    }
    if *trace_id != [0; 16] {
        let tracestate = tracestate.map(str::to_owned);
        let (trace_id, span_id) = (*trace_id, *span_id);
        builder = builder.trace_context(TraceContext { trace_id, span_id, flags, tracestate });
    }
    for line in fields.unwrap_or_default().split_terminator("\r\n") {
        let (name, value) = line.split_once(':')?;
        builder = builder.field(name, value);
    }
    Some((Topic::new(topic?).ok()?, builder.build().ok()?.with_hops(hops)))
}

fn form_of(code: u8) -> Option<Form> {
    [Form::Message, Form::Json, Form::Text, Form::Bytes].into_iter().find(|it| *it as u8 == code)
}

struct Reading<'a>(&'a [u8]);

impl<'a> Reading<'a> {
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    fn written(topic: &Topic, message: &BaseMessage) -> Vec<u8> {
        Writing::new(topic, message).parts().concat()
    }

    fn full() -> BaseMessage {
        let context =
            TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        BaseMessage::builder("me")
            .data(&serde_json::json!({"text": "hällo", "n": [1, 2.5, null]}))
            .version("2.0")
            .schema("greeting/1")
            .field("Tenant", "a, b")
            .field("tenant", "c: d")
            .key("k")
            .reply_to(Topic::new("a.b").unwrap())
            .trace_context(TraceContext { tracestate: Some("v=1".into()), ..context })
            .form(Form::Json)
            .build()
            .unwrap()
            .with_hops(2)
    }

    #[test]
    fn a_message_reads_back_as_it_was() {
        let topic = Topic::new("orders.new").unwrap();
        for message in [full(), BaseMessage::builder("").build().unwrap()] {
            let bytes = written(&topic, &message);
            let (read_topic, read) = read(&bytes).unwrap();
            assert_eq!((&read_topic, &read), (&topic, &message));
            assert_eq!((read.hops(), read.form()), (message.hops(), message.form()));
        }
    }

    #[test]
    fn a_message_has_an_identity_at_each_place() {
        let (topic, message) = (Topic::new("a").unwrap(), full());
        let one = identity(&topic, &message, 0);
        assert_eq!(one, identity(&topic, &message.clone().with_attempt(3), 0));
        let others = [
            identity(&Topic::new("b").unwrap(), &message, 0),
            identity(&topic, &message.clone().with_hops(3), 0),
            identity(&topic, &message, 1),
            identity(&topic, &message.to_builder().id(Uuid::now_v7()).build().unwrap(), 0),
        ];
        assert!(others.iter().all(|other| *other != one));
    }

    #[test]
    fn what_is_cut_off_or_of_another_version_is_not_read() {
        let bytes = written(&Topic::new("a").unwrap(), &full());
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_none(), "{len}");
        }
        let mut later = bytes;
        later[0] = VERSION + 1;
        assert!(read(&later).is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes: Vec<u8>, at in 0usize..600, value: u8) {
            let _ = read(&bytes);
            bytes = written(&Topic::new("a").unwrap(), &full());
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read(&bytes);
        }
    }
}
