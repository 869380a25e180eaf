//! Functions that handle the messages of topics, each with the type that it takes.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{
    BaseMessage, BoxFuture, Pattern, PluginContext, PluginError, ProcessingStatus, PublishError,
    Topic, TopicError,
};

/// A message as a handler gets it beside its data.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The topic that it came on.
    pub topic: &'a Topic,
    /// The whole message.
    pub message: &'a BaseMessage,
    /// The plugin's way to everything outside of it.
    pub context: &'a PluginContext,
}

impl<'a> Incoming<'a> {
    /// A token of the topic, from 0: what stands for a `*` of the pattern.
    pub fn token(&self, index: usize) -> Option<&'a str> {
        self.topic.tokens().nth(index)
    }

    /// Answers the message; does nothing when no answer is wanted.
    ///
    /// # Errors
    /// As [`PluginContext::reply`].
    pub async fn reply<T: Serialize + Sync + ?Sized>(&self, data: &T) -> Result<(), PublishError> {
        self.context.reply(self.message, data).await
    }
}

/// An `async fn(&self, data)` of the processor.
#[derive(Debug)]
pub struct DataAlone;

/// An `async fn(&self, data, incoming)` of the processor.
#[derive(Debug)]
pub struct DataAndIncoming;

/// A function that handles messages whose data is a `T`.
///
/// It is implemented for `async fn(&self, data: T)` and `async fn(&self, data: T, incoming: Incoming<'_>)` of the
/// processor `P`, whose result holds `()` or a [`ProcessingStatus`], and an error that becomes a [`PluginError`]. `Form`
/// tells the two apart and is inferred.
pub trait Handler<'a, P, T, Form>: Send + Sync + 'static {
    /// Handles one message.
    fn handle(
        &self,
        processor: &'a P,
        data: T,
        incoming: Incoming<'a>,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>>;
}

impl<'a, P, T, F, Handling, S, E> Handler<'a, P, T, DataAlone> for F
where
    P: 'a,
    F: Fn(&'a P, T) -> Handling + Send + Sync + 'static,
    Handling: Future<Output = Result<S, E>> + Send + 'a,
    S: Into<ProcessingStatus>,
    E: Into<PluginError>,
{
    fn handle(
        &self,
        processor: &'a P,
        data: T,
        _incoming: Incoming<'a>,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>> {
        let handling = self(processor, data);
        Box::pin(async move { handling.await.map(Into::into).map_err(Into::into) })
    }
}

impl<'a, P, T, F, Handling, S, E> Handler<'a, P, T, DataAndIncoming> for F
where
    P: 'a,
    F: Fn(&'a P, T, Incoming<'a>) -> Handling + Send + Sync + 'static,
    Handling: Future<Output = Result<S, E>> + Send + 'a,
    S: Into<ProcessingStatus>,
    E: Into<PluginError>,
{
    fn handle(
        &self,
        processor: &'a P,
        data: T,
        incoming: Incoming<'a>,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>> {
        let handling = self(processor, data, incoming);
        Box::pin(async move { handling.await.map(Into::into).map_err(Into::into) })
    }
}

/// A handler that parses the data itself.
trait Parsing<P>: Send + Sync {
    fn handle<'a>(
        &self,
        processor: &'a P,
        incoming: Incoming<'a>,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>>;
}

struct Typed<H, T, Form> {
    handler: H,
    types: PhantomData<fn(T) -> Form>,
}

impl<P, T, Form, H> Parsing<P> for Typed<H, T, Form>
where
    T: DeserializeOwned,
    H: for<'h> Handler<'h, P, T, Form>,
{
    fn handle<'a>(
        &self,
        processor: &'a P,
        incoming: Incoming<'a>,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>> {
        match incoming.message.json() {
            Ok(data) => self.handler.handle(processor, data, incoming),
            Err(error) => Box::pin(async { Err(PluginError::Message(error)) }),
        }
    }
}

/// Which function of a processor handles which topics.
pub struct Handlers<P> {
    entries: Vec<(Pattern, Box<dyn Parsing<P>>)>,
    fault: Option<TopicError>,
}

impl<P: 'static> Handlers<P> {
    /// No handlers yet.
    pub fn new() -> Self {
        Self { entries: Vec::new(), fault: None }
    }

    /// Has `handler` handle the messages of the topics that `pattern` matches, unless one before it does. The manifest
    /// has to subscribe to them. A malformed pattern is an error when the plugin is made.
    #[must_use]
    pub fn on<T, Form>(
        mut self,
        pattern: &str,
        handler: impl for<'h> Handler<'h, P, T, Form>,
    ) -> Self
    where
        T: DeserializeOwned + 'static,
        Form: 'static,
    {
        match Pattern::new(pattern) {
            Ok(pattern) => {
                self.entries.push((pattern, Box::new(Typed { handler, types: PhantomData })));
            }
            Err(error) => self.fault = self.fault.or(Some(error)),
        }
        self
    }

    /// The patterns that there are handlers for, in their order.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.entries.iter().map(|(pattern, _)| pattern)
    }

    /// The same, where all of them were well-formed.
    ///
    /// # Errors
    /// The fault of the first that is not.
    pub(super) fn checked(self) -> Result<Self, TopicError> {
        self.fault.map_or(Ok(Self { fault: None, ..self }), Err)
    }

    /// Handles a message, where there is a handler for it: the handler's pattern, and what it gives.
    pub(super) fn handle<'a>(
        &self,
        processor: &'a P,
        incoming: Incoming<'a>,
    ) -> Option<(&Pattern, BoxFuture<'a, Result<ProcessingStatus, PluginError>>)> {
        let (pattern, handler) =
            self.entries.iter().find(|(pattern, _)| pattern.matches(incoming.topic))?;
        Some((pattern, handler.handle(processor, incoming)))
    }

    /// Why a message of this topic is given up.
    pub(super) fn unknown(&self, topic: &Topic) -> String {
        let known: Vec<String> = self.patterns().map(|pattern| format!("`{pattern}`")).collect();
        match known.is_empty() {
            true => format!("there is no handler for `{topic}`, nor for any other topic"),
            false => {
                format!(
                    "there is no handler for `{topic}`; there are some for {}",
                    known.join(", ")
                )
            }
        }
    }
}

impl<P: 'static> Default for Handlers<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> fmt::Debug for Handlers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|(pattern, _)| pattern)).finish()
    }
}
