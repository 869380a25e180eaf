//! What a plugin can reach: the bus, its configuration, and telemetry.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::publish_error::{PublishError, RequestError};
use crate::state::{State, StateAccess};
use crate::transport::{Asked, MessageTransport, Offer};
use crate::{
    BaseMessage, IntoTopic, MessageBuilder, Pattern, PluginError, Topic, TopicError, TraceContext,
};

/// A future behind a pointer, for the traits that hosts implement.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A message with the topic that it came on.
#[derive(Debug, Clone)]
pub struct Received {
    /// The topic that it was published to.
    pub topic: Topic,
    /// The message.
    pub message: BaseMessage,
}

/// Where a [`Subscription`] takes its messages from; implemented by hosts.
pub trait MessageStream: Send {
    /// The next message, or `None` once the bus is closed.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>>;
}

/// A plugin's own subscription, beside those of its manifest. A message counts as handled when it is taken.
pub struct Subscription(Box<dyn MessageStream>);

impl Subscription {
    /// Wraps a host's stream.
    pub fn new(stream: impl MessageStream + 'static) -> Self {
        Self(Box::new(stream))
    }

    /// Waits for the next message; `None` once the bus is closed. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Received> {
        std::future::poll_fn(|cx| self.0.poll_next(cx)).await
    }

    /// The next message if there is one by now.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.0.poll_next(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// A name and a value that describe a measurement or a span.
pub type Attribute<'a> = (&'a str, &'a str);

/// How urgent a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// What only the author wants to see.
    Debug = 0,
    /// What happened.
    Info = 1,
    /// What someone should look at.
    Warn = 2,
    /// What went wrong.
    Error = 3,
}

/// Metrics, spans and logs as a plugin sees them; implemented by hosts and by the test kit.
pub trait Telemetry: Send + Sync {
    /// Adds to a counter.
    fn counter(&self, name: &str, value: u64, attributes: &[Attribute<'_>]);
    /// Sets a gauge.
    fn gauge(&self, name: &str, value: f64, attributes: &[Attribute<'_>]);
    /// Records a value in a histogram.
    fn histogram(&self, name: &str, value: f64, attributes: &[Attribute<'_>]);
    /// Writes a log line.
    fn log(&self, level: LogLevel, text: &str);
    /// Starts a span, below `parent` or else below the span of the message in hand.
    fn start_span(
        &self,
        name: &str,
        parent: Option<&TraceContext>,
        attributes: &[Attribute<'_>],
    ) -> Box<dyn SpanHandle>;
    /// Where the message in hand stands in its trace.
    fn current_trace(&self) -> Option<TraceContext>;
}

/// A span that a host records; it ends when dropped.
pub trait SpanHandle: Send + Sync {
    /// Adds an attribute.
    fn set_attribute(&mut self, key: &str, value: &str);
    /// Marks the span as failed.
    fn set_error(&mut self, reason: &str);
    /// The span's place in its trace, for messages that belong below it.
    fn context(&self) -> Option<TraceContext>;
}

/// A span that is being recorded; ends when dropped.
#[must_use = "a span ends when it is dropped"]
pub struct Span(Box<dyn SpanHandle>);

impl Span {
    /// Adds an attribute.
    pub fn set_attribute(&mut self, key: &str, value: &str) {
        self.0.set_attribute(key, value);
    }

    /// Marks the span as failed.
    pub fn set_error(&mut self, reason: &str) {
        self.0.set_error(reason);
    }

    /// The span's place in its trace, for messages that belong below it.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.context()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.context()).finish()
    }
}

/// A plugin's way to everything outside of it. Cheap to clone.
#[derive(Clone)]
pub struct PluginContext(Arc<Inner>);

struct Inner {
    name: String,
    version: String,
    config: Map<String, Value>,
    transport: Arc<dyn MessageTransport>,
    telemetry: Arc<dyn Telemetry>,
    state: Option<Arc<dyn StateAccess>>,
}

impl PluginContext {
    /// Puts a context together; hosts and the test kit do this, plugins receive one.
    pub fn new(
        name: impl Into<String>,
        version: impl Into<String>,
        config: Map<String, Value>,
        transport: Arc<dyn MessageTransport>,
        telemetry: Arc<dyn Telemetry>,
    ) -> Self {
        let (name, version) = (name.into(), version.into());
        Self(Arc::new(Inner { name, version, config, transport, telemetry, state: None }))
    }

    /// The same with the managed state of what its handler has in hand; hosts and the test kit do this.
    #[must_use]
    pub fn with_state(self, state: Arc<dyn StateAccess>) -> Self {
        let Inner { name, version, config, transport, telemetry, .. } = &*self.0;
        Self(Arc::new(Inner {
            name: name.clone(),
            version: version.clone(),
            config: config.clone(),
            transport: Arc::clone(transport),
            telemetry: Arc::clone(telemetry),
            state: Some(state),
        }))
    }

    /// The managed state behind the context; for hosts that pass it on.
    #[doc(hidden)]
    pub fn state_access(&self) -> Option<&Arc<dyn StateAccess>> {
        self.0.state.as_ref()
    }

    /// The bus behind the context; for hosts that pass it on.
    #[doc(hidden)]
    pub fn transport(&self) -> &Arc<dyn MessageTransport> {
        &self.0.transport
    }

    /// The telemetry behind the context; for hosts that pass it on.
    #[doc(hidden)]
    pub fn telemetry(&self) -> &Arc<dyn Telemetry> {
        &self.0.telemetry
    }

    /// The plugin's name.
    pub fn plugin_name(&self) -> &str {
        &self.0.name
    }

    /// The plugin's version.
    pub fn plugin_version(&self) -> &str {
        &self.0.version
    }

    /// The plugin's configuration: the manifest's defaults under the host's settings.
    pub fn config(&self) -> &Map<String, Value> {
        &self.0.config
    }

    /// The configuration as a type of the plugin's own.
    ///
    /// # Errors
    /// [`PluginError::Config`] when the configuration has another form.
    pub fn config_as<T: DeserializeOwned>(&self) -> Result<T, PluginError> {
        serde_json::from_value(Value::Object(self.0.config.clone()))
            .map_err(|error| PluginError::Config(error.to_string()))
    }

    /// Starts a message from this plugin, in the trace of the message in hand.
    pub fn message_builder(&self) -> MessageBuilder<'_> {
        let builder = BaseMessage::builder(&self.0.name);
        match self.0.telemetry.current_trace() {
            Some(context) => builder.trace_context(context),
            None => builder,
        }
    }

    /// The plugin's own topic, `plugin.<name>`.
    ///
    /// # Errors
    /// [`TopicError`] when the name makes no topic, which a registered plugin's does.
    pub fn topic(&self) -> Result<Topic, TopicError> {
        Topic::new(format!("plugin.{}", self.0.name))
    }

    /// A topic below the plugin's own, `plugin.<name>.<subcategory>`.
    ///
    /// # Errors
    /// [`TopicError`] when the subcategory is no token or several.
    pub fn topic_subcategory(&self, subcategory: &str) -> Result<Topic, TopicError> {
        Topic::new(format!("plugin.{}.{subcategory}", self.0.name))
    }

    /// Publishes a message, waiting for room where a queue is full.
    ///
    /// Within a handler it takes effect along with the acknowledgement, or not at all.
    ///
    /// # Errors
    /// [`PublishError`] when the topic is malformed, the message too large, or the bus closed.
    pub async fn publish(
        &self,
        topic: impl IntoTopic,
        message: BaseMessage,
    ) -> Result<(), PublishError> {
        let topic = topic.into_topic()?;
        match self.0.transport.offer(&topic, message) {
            Offer::Taken => Ok(()),
            Offer::Refused(error) => Err(error),
            Offer::Busy(message) => self.0.transport.publish(&topic, message).await,
        }
    }

    /// Publishes messages on one topic in their order, waiting for room where a queue is full. It costs less than to
    /// [`publish`](Self::publish) them one by one: where the topic is durable they are confirmed together.
    ///
    /// Within a handler they take effect along with the acknowledgement, or not at all. Elsewhere, when one is not
    /// taken or the future is dropped, some of them are published: those before it, at least.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), for the first that is not taken.
    pub async fn publish_batch(
        &self,
        topic: impl IntoTopic,
        messages: Vec<BaseMessage>,
    ) -> Result<(), PublishError> {
        self.0.transport.publish_batch(&topic.into_topic()?, messages).await
    }

    /// Publishes without waiting.
    ///
    /// # Errors
    /// [`PublishError::Full`] when a queue has no room, and as [`publish`](Self::publish).
    pub fn try_publish(
        &self,
        topic: impl IntoTopic,
        message: BaseMessage,
    ) -> Result<(), PublishError> {
        self.0.transport.try_publish(&topic.into_topic()?, message)
    }

    /// Publishes at once, whatever becomes of the message in hand: for the progress of long work.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_now(
        &self,
        topic: impl IntoTopic,
        message: BaseMessage,
    ) -> Result<(), PublishError> {
        self.0.transport.publish_now(&topic.into_topic()?, message).await
    }

    /// Publishes `data` as [`publish`](Self::publish) does.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and when `data` does not serialise.
    pub async fn publish_data<T: Serialize + Sync + ?Sized>(
        &self,
        topic: impl IntoTopic,
        data: &T,
    ) -> Result<(), PublishError> {
        let message = self.message_builder().data(data).build()?;
        self.publish(topic, message).await
    }

    /// Asks a topic and waits for the first answer. The request is published at once.
    ///
    /// # Errors
    /// [`RequestError`] when nobody subscribes, or no answer comes within `timeout`.
    pub async fn request(
        &self,
        topic: impl IntoTopic,
        message: BaseMessage,
        timeout: Duration,
    ) -> Result<BaseMessage, RequestError> {
        let topic = topic.into_topic().map_err(PublishError::from)?;
        match self.0.transport.ask(&topic, message, timeout) {
            Asked::Done(answer) => answer,
            Asked::Waiting(answer) => answer.await,
        }
    }

    /// Answers `message` with `data`; does nothing when no answer is wanted.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and when `data` does not serialise.
    pub async fn reply<T: Serialize + Sync + ?Sized>(
        &self,
        message: &BaseMessage,
        data: &T,
    ) -> Result<(), PublishError> {
        match message.reply_to() {
            Some(topic) => self.publish_data(topic, data).await,
            None => Ok(()),
        }
    }

    /// The managed state of the message in hand: that of its ordering key, or of all messages without one where the
    /// manifest says `"state": "shared"`. What is set takes effect along with the acknowledgement, or not at all.
    pub fn state(&self) -> State<'_> {
        State(self.0.state.as_deref())
    }

    /// Subscribes to more than the manifest names.
    ///
    /// # Errors
    /// [`PublishError`] when the pattern is malformed or the bus is closed.
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription, PublishError> {
        let pattern = Pattern::new(pattern)?;
        self.0.transport.subscribe(&pattern).await
    }

    /// Starts a span below that of the message in hand.
    pub fn create_span(&self, name: &str, attributes: &[Attribute<'_>]) -> Span {
        Span(self.0.telemetry.start_span(name, None, attributes))
    }

    /// Starts a span below another place in a trace.
    pub fn create_span_below(
        &self,
        parent: Option<&TraceContext>,
        name: &str,
        attributes: &[Attribute<'_>],
    ) -> Span {
        Span(self.0.telemetry.start_span(name, parent, attributes))
    }

    /// Adds to a counter of the plugin's.
    pub fn record_counter(&self, name: &str, value: u64, attributes: &[Attribute<'_>]) {
        self.0.telemetry.counter(name, value, attributes);
    }

    /// Sets a gauge of the plugin's.
    pub fn record_gauge(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        self.0.telemetry.gauge(name, value, attributes);
    }

    /// Records a value in a histogram of the plugin's; durations in seconds.
    pub fn record_histogram(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        self.0.telemetry.histogram(name, value, attributes);
    }

    /// Writes a log line in the plugin's name.
    pub fn log(&self, level: LogLevel, text: &str) {
        self.0.telemetry.log(level, text);
    }
}

impl fmt::Debug for PluginContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginContext")
            .field("plugin_name", &self.0.name)
            .field("plugin_version", &self.0.version)
            .finish_non_exhaustive()
    }
}
