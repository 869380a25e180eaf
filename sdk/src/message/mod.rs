//! The message that plugins exchange.

mod builder;
mod fields;
mod form;
mod id;
mod json;
mod pool;
pub(crate) mod raw;
mod wire;

use std::fmt;

use chrono::{DateTime, Utc};
use once_cell::race::OnceBox;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

pub use builder::{MessageBuilder, MessageError};
pub use fields::{FieldError, Fields};
pub use form::Form;
pub use json::JsonText;
use raw::{MessageRef, Part, TraceIds};

use crate::{Topic, TraceContext};

/// A message: who sent what, when, and how it is to be handled.
///
/// The content is one shared, immutable allocation that keeps the data as raw JSON; cloning a message
/// counts a reference up. Data is parsed when it is asked for: [`json`](Self::json) reads it straight into
/// a type, which costs a fraction of [`data`](Self::data)'s generic tree.
///
/// `attempt` and `hops` belong to the delivery, not to the content: the same message may be on its first
/// attempt in one slot and on its third in another.
pub struct BaseMessage {
    content: MessageRef,
    attempt: u16,
    hops: u16,
    has: Has,
    parsed: OnceBox<Value>,
}

/// What a message has of what few have. It stands in the handle, so that whoever passes messages on need not
/// touch the content, which another core wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Has(u8);

impl Has {
    const KEY: u8 = 1;
    const SCHEMA: u8 = 2;
    const TRACE: u8 = 4;
    const REPLY_TO: u8 = 8;

    fn of(content: &MessageRef) -> Self {
        let bit = |bit: u8, part: Part| if content.part(part).is_some() { bit } else { 0 };
        let traced = if content.trace().trace_id == [0; 16] { 0 } else { Self::TRACE };
        Self(
            bit(Self::KEY, Part::Key)
                | bit(Self::SCHEMA, Part::Schema)
                | bit(Self::REPLY_TO, Part::ReplyTo)
                | traced,
        )
    }

    #[inline]
    fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

impl BaseMessage {
    /// Starts a message from `source`, the name of whoever sends it.
    #[inline]
    pub fn builder(source: &str) -> MessageBuilder<'_> {
        MessageBuilder::new(source)
    }

    /// Starts a message with all that this one has, attempt and hops aside, to change some of it.
    pub fn to_builder(&self) -> MessageBuilder<'_> {
        let optional = |part: Part| self.content.text(part);
        let mut builder = Self::builder(self.source())
            .version(self.version())
            .data_trusted(self.data_bytes())
            .id(self.id())
            .timestamp(self.timestamp())
            .form(self.form())
            .fields_trusted(self.fields());
        builder = optional(Part::Schema).into_iter().fold(builder, MessageBuilder::schema);
        builder = optional(Part::Key).into_iter().fold(builder, MessageBuilder::key);
        builder = self.reply_to().into_iter().fold(builder, MessageBuilder::reply_to);
        self.trace_context().into_iter().fold(builder, MessageBuilder::trace_context)
    }

    /// The message's own identity, a UUIDv7; durable topics drop a second message of the same id.
    pub fn id(&self) -> Uuid {
        Uuid::from_bytes(self.content.id())
    }

    /// When the message was made.
    pub fn timestamp(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.content.timestamp_nanos())
    }

    /// Who sent it: the plugin's name, or whatever a tool calls itself.
    pub fn source(&self) -> &str {
        self.content.text(Part::Source).unwrap_or_default()
    }

    /// The version of the data's form; `"1.0"` unless the sender says otherwise.
    pub fn version(&self) -> &str {
        self.content.text(Part::Version).unwrap_or_default()
    }

    /// The schema that the data keeps to, if it names one.
    pub fn schema(&self) -> Option<&str> {
        self.text_of(Has::SCHEMA, Part::Schema)
    }

    /// The ordering key: messages of one topic and key are handled one after another.
    #[inline]
    pub fn key(&self) -> Option<&str> {
        self.text_of(Has::KEY, Part::Key)
    }

    /// Where an answer is to be published, if one is wanted.
    pub fn reply_to(&self) -> Option<Topic> {
        // Checked when it was built, so it is a topic.
        self.text_of(Has::REPLY_TO, Part::ReplyTo).map(Topic::trusted)
    }

    /// Whether it says where in a distributed trace it was made.
    #[inline]
    pub fn is_traced(&self) -> bool {
        self.has.any(Has::TRACE)
    }

    /// Where in a distributed trace the message was made, if its sender says so.
    pub fn trace_context(&self) -> Option<TraceContext> {
        if !self.is_traced() {
            return None;
        }
        let TraceIds { trace_id, span_id, flags } = *self.content.trace();
        let tracestate = self.content.text(Part::TraceState).map(str::to_owned);
        Some(TraceContext { trace_id, span_id, flags, tracestate })
    }

    /// The fields that the sender added beside what every message has: names and values, as headers of NATS
    /// and HTTP are.
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(self.content.text(Part::Fields).unwrap_or_default())
    }

    /// The first value of a field; names are compared without regard to case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// How the message was written by whoever sent it.
    pub fn form(&self) -> Form {
        Form::from_code(self.content.form())
    }

    /// Which delivery to this slot it is, from 1; 0 for a message that was never delivered.
    #[inline]
    pub fn attempt(&self) -> u16 {
        self.attempt
    }

    /// How often the message was forwarded.
    #[inline]
    pub fn hops(&self) -> u16 {
        self.hops
    }

    /// The data as it stands in the message: JSON text.
    pub fn data_bytes(&self) -> &[u8] {
        self.content.part(Part::Data).unwrap_or(b"null")
    }

    /// The data as a tree, parsed once for this handle. Prefer [`json`](Self::json) where the form is known.
    ///
    /// # Errors
    /// [`MessageError::Data`] when the JSON is nested deeper than the parser goes (128 levels).
    pub fn data(&self) -> Result<&Value, MessageError> {
        if let Some(value) = self.parsed.get() {
            return Ok(value);
        }
        let value = self.json()?;
        Ok(self.parsed.get_or_init(|| Box::new(value)))
    }

    /// The data as a `T`, which may borrow from the message.
    ///
    /// # Errors
    /// [`MessageError::Data`] when the data has another form.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, MessageError> {
        serde_json::from_slice(self.data_bytes()).map_err(MessageError::Data)
    }

    /// The memory that the content takes, in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.content.block_len()
    }

    /// The same content on another attempt; for transports.
    #[inline]
    #[must_use]
    pub fn with_attempt(mut self, attempt: u16) -> Self {
        self.attempt = attempt;
        self
    }

    /// Says which attempt it is on; for transports.
    #[inline]
    pub fn set_attempt(&mut self, attempt: u16) {
        self.attempt = attempt;
    }

    /// So many handles to the content, this one included, at the price of one; for transports.
    pub fn shares(self, count: usize) -> impl Iterator<Item = Self> + Send {
        let Self { content, attempt, hops, has, .. } = self;
        let handle = move |content| Self { content, attempt, hops, has, parsed: OnceBox::new() };
        content.shares(count).map(handle)
    }

    /// Drops handles. Neighbours that share their content let go of it in one step, so that cores which handle
    /// copies of one message do not fight over its count; for transports.
    pub fn let_go(messages: impl IntoIterator<Item = Self>) {
        raw::let_go_all(messages.into_iter().map(Self::into_content));
    }

    /// Keeps the memory of messages that were let go of for the next ones, from now on and for the whole process. For
    /// hosts, where messages go from core to core; not for plugins, whose libraries come and go.
    pub fn recycle() {
        pool::turn_on();
    }

    /// The same content after so many hops; for transports.
    #[must_use]
    pub fn with_hops(mut self, hops: u16) -> Self {
        self.hops = hops;
        self
    }

    /// The same message, content and delivery alike, with another reply topic.
    ///
    /// # Errors
    /// [`MessageError::TooLarge`] when the reply topic takes it past the largest size.
    pub fn with_reply_to(&self, topic: &Topic) -> Result<Self, MessageError> {
        let reply_to = topic.as_str();
        let content = self.content.with_text(Part::ReplyTo, reply_to).ok_or_else(|| {
            MessageError::TooLarge { len: self.size().saturating_add(reply_to.len()) }
        })?;
        let has = Has(self.has.0 | Has::REPLY_TO);
        let (attempt, hops, parsed) = (self.attempt, self.hops, OnceBox::new());
        Ok(Self { content, attempt, hops, has, parsed })
    }

    #[inline]
    fn text_of(&self, bit: u8, part: Part) -> Option<&str> {
        if self.has.any(bit) { self.content.text(part) } else { None }
    }

    pub(crate) fn content(&self) -> &MessageRef {
        &self.content
    }

    pub(crate) fn into_content(self) -> MessageRef {
        self.content
    }

    pub(crate) fn from_content(content: MessageRef) -> Self {
        let has = Has::of(&content);
        Self { content, attempt: 0, hops: 0, has, parsed: OnceBox::new() }
    }
}

impl Clone for BaseMessage {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            content: self.content.clone(),
            attempt: self.attempt,
            hops: self.hops,
            has: self.has,
            parsed: OnceBox::new(),
        }
    }
}

impl fmt::Debug for BaseMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BaseMessage")
            .field("id", &self.id())
            .field("source", &self.source())
            .field("attempt", &self.attempt)
            .field("hops", &self.hops)
            .field("key", &self.key())
            .field("data", &String::from_utf8_lossy(self.data_bytes()))
            .finish()
    }
}

/// Equal when all that a receiver can read is equal, the delivery's attempt and hops aside.
impl PartialEq for BaseMessage {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.timestamp() == other.timestamp()
            && self.source() == other.source()
            && self.version() == other.version()
            && self.schema() == other.schema()
            && self.key() == other.key()
            && self.reply_to() == other.reply_to()
            && self.trace_context() == other.trace_context()
            && self.fields().eq(other.fields())
            && self.data_bytes() == other.data_bytes()
    }
}
