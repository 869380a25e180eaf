//! Testing a plugin without a host: a context for the plugin, and a probe for the test.
//!
//! ```
//! use echo_sdk::testing::{When, mock, request};
//! # use echo_sdk::{BaseMessage, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};
//! # struct Echo(PluginContext);
//! # impl Plugin for Echo {
//! #     fn name(&self) -> &str { "echo" }
//! #     async fn process_message(&self, _: &Topic, m: &BaseMessage) -> Result<ProcessingStatus, PluginError> {
//! #         self.0.reply(m, m.data()?).await?;
//! #         Ok(ProcessingStatus::Acknowledged)
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (context, probe) = mock("echo");
//! let plugin = Echo(context);
//! let topic = Topic::new("echo.say").unwrap();
//! let status = plugin.process_message(&topic, &request(&"hello")).await.unwrap();
//! assert_eq!(status, ProcessingStatus::Acknowledged);
//! let reply = probe.replies().remove(0);
//! assert_eq!(reply.message.json::<String>().unwrap(), "hello");
//! assert_eq!(reply.when, When::WithAcknowledgement);
//! # }
//! ```
//!
//! [`example_faults`] holds a plugin against the examples of its manifest, and [`Harness`] runs one test with the plugin
//! in each of its forms: linked in, and as the library that hosts load.
//!
//! Nothing here needs an async runtime; bring one where the plugin does.

mod examples;
mod harness;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Attribute, BaseMessage, BoxFuture, LogLevel, MessageStream, MessageTransport, Pattern,
    PluginContext, PublishError, Received, RequestError, SpanHandle, StateAccess, StateError,
    Subscription, Telemetry, Topic, TraceContext,
};

pub use examples::{Seen, example_faults};
pub use harness::{Driven, Form, Harness, Stage, Staged};

/// The reply topic of a message made by [`request`].
pub const REPLY_TOPIC: &str = "reply.test";

/// A context for a plugin of this name without configuration, and the probe that sees what it does.
pub fn mock(name: &str) -> (PluginContext, Probe) {
    mock_with(name, Map::new())
}

/// As [`mock`], with the plugin's configuration.
pub fn mock_with(name: &str, config: Map<String, Value>) -> (PluginContext, Probe) {
    let probe = Probe(Arc::default());
    let bus: Arc<dyn MessageTransport> = Arc::new(probe.clone());
    let context = PluginContext::new(name, "0.0.0", config, bus, Arc::new(probe.clone()));
    (context.with_state(Arc::new(probe.clone())), probe)
}

/// A message with this data that wants no answer.
///
/// # Panics
/// When the data does not serialise.
pub fn message<T: Serialize + ?Sized>(data: &T) -> BaseMessage {
    made(BaseMessage::builder("test").data(data).build())
}

/// A message with this data that wants its answer on [`REPLY_TOPIC`].
///
/// # Panics
/// When the data does not serialise.
pub fn request<T: Serialize + ?Sized>(data: &T) -> BaseMessage {
    let builder = BaseMessage::builder("test").data(data);
    made(builder.reply_to(checked(Topic::new(REPLY_TOPIC))).build())
}

/// When a message that a plugin published goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Along with the acknowledgement of the message in hand, or not at all.
    WithAcknowledgement,
    /// At once.
    Now,
    /// At once, and an answer is waited for.
    Request,
}

/// What a plugin published.
#[derive(Debug, Clone)]
pub struct Published {
    /// The topic.
    pub topic: Topic,
    /// The message.
    pub message: BaseMessage,
    /// When it goes out.
    pub when: When,
}

/// A counter's addend, a gauge's value or a histogram's, as a plugin recorded it.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The name of the counter, gauge or histogram.
    pub name: String,
    /// The value.
    pub value: f64,
    /// The attributes.
    pub attributes: Vec<(String, String)>,
}

type Answerer = dyn Fn(&Topic, &BaseMessage) -> Option<Value> + Send + Sync;

/// Sees all that a plugin does through its context, and plays the rest of the bus. Cheap to clone.
#[derive(Clone)]
pub struct Probe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    published: Vec<Published>,
    /// For each of `published`, whether [`Probe::next`] has given it.
    given: Vec<bool>,
    subscriptions: Vec<(Pattern, Arc<Mutex<Mailbox>>)>,
    measured: Vec<Measured>,
    logs: Vec<(LogLevel, String)>,
    spans: Vec<String>,
    answerer: Option<Arc<Answerer>>,
    entries: BTreeMap<String, Arc<[u8]>>,
    wakers: Vec<Waker>,
}

#[derive(Default)]
struct Mailbox {
    messages: VecDeque<Received>,
    waker: Option<Waker>,
}

impl Probe {
    /// All that was published up to now, in order.
    pub fn published(&self) -> Vec<Published> {
        lock(&self.0).published.clone()
    }

    /// What was published to topics of this pattern up to now.
    ///
    /// # Panics
    /// When the pattern is malformed.
    pub fn published_on(&self, pattern: &str) -> Vec<Published> {
        let pattern = checked(Pattern::new(pattern));
        self.published().into_iter().filter(|published| pattern.matches(&published.topic)).collect()
    }

    /// The answers to messages made by [`request`], up to now.
    pub fn replies(&self) -> Vec<Published> {
        self.published_on(REPLY_TOPIC)
    }

    /// Waits for the next message to a topic of this pattern that was not given before. It waits forever
    /// when none comes; put a time limit around it.
    ///
    /// # Panics
    /// When the pattern is malformed.
    pub async fn next(&self, pattern: &str) -> Published {
        let pattern = checked(Pattern::new(pattern));
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.0);
            let State { published, given, wakers, .. } = &mut *state;
            for (published, given) in published.iter().zip(given) {
                if !*given && pattern.matches(&published.topic) {
                    *given = true;
                    return Poll::Ready(published.clone());
                }
            }
            wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Answers the plugin's requests from now on; where this gives nothing, nobody answers.
    pub fn answer_with(
        &self,
        answer: impl Fn(&Topic, &BaseMessage) -> Option<Value> + Send + Sync + 'static,
    ) {
        lock(&self.0).answerer = Some(Arc::new(answer));
    }

    /// Gives a message to the plugin's own subscriptions; says to how many.
    ///
    /// # Panics
    /// When the topic is malformed.
    pub fn deliver(&self, topic: &str, message: BaseMessage) -> usize {
        let topic = checked(Topic::new(topic));
        let state = lock(&self.0);
        let wanted = state.subscriptions.iter().filter(|(pattern, _)| pattern.matches(&topic));
        wanted
            .map(|(_, mailbox)| {
                let mut mailbox = lock(mailbox);
                let received = Received { topic: topic.clone(), message: message.clone() };
                mailbox.messages.push_back(received);
                if let Some(waker) = mailbox.waker.take() {
                    waker.wake();
                }
            })
            .count()
    }

    /// An entry of the managed state, as the plugin set it. All messages have one state here, whatever their keys.
    ///
    /// # Panics
    /// When the entry is no JSON, which only a host's could be.
    pub fn state(&self, name: &str) -> Option<Value> {
        let entry = lock(&self.0).entries.get(name).cloned();
        entry.map(|json| parsed(&json))
    }

    /// Sets an entry of the managed state, before the plugin reads it.
    ///
    /// # Panics
    /// When the value does not serialise.
    pub fn set_state<T: Serialize + ?Sized>(&self, name: &str, value: &T) {
        let json = message(value).data_bytes().into();
        lock(&self.0).entries.insert(name.to_owned(), json);
    }

    /// What was recorded under this name, in order.
    pub fn measured(&self, name: &str) -> Vec<Measured> {
        let state = lock(&self.0);
        state.measured.iter().filter(|measured| measured.name == name).cloned().collect()
    }

    /// The lines that were logged.
    pub fn logs(&self) -> Vec<(LogLevel, String)> {
        lock(&self.0).logs.clone()
    }

    /// The names of the spans that were started.
    pub fn spans(&self) -> Vec<String> {
        lock(&self.0).spans.clone()
    }

    fn record(&self, topic: &Topic, message: BaseMessage, when: When) {
        let mut state = lock(&self.0);
        state.published.push(Published { topic: topic.clone(), message, when });
        state.given.push(false);
        state.wakers.drain(..).for_each(Waker::wake);
    }

    fn measure(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        let attributes = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let measured = Measured { name: name.to_owned(), value, attributes: attributes.collect() };
        lock(&self.0).measured.push(measured);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("published", &self.published()).finish_non_exhaustive()
    }
}

impl MessageTransport for Probe {
    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        self.record(topic, message, When::WithAcknowledgement);
        Ok(())
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        self.record(topic, message, When::WithAcknowledgement);
        Box::pin(async { Ok(()) })
    }

    fn publish_now<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        self.record(topic, message, When::Now);
        Box::pin(async { Ok(()) })
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        self.record(topic, message.clone(), When::Request);
        let answerer = lock(&self.0).answerer.clone();
        let answer = answerer.and_then(|answerer| answerer(topic, &message));
        Box::pin(async move {
            let data = answer.ok_or_else(|| RequestError::NoResponders { topic: topic.clone() })?;
            let built = BaseMessage::builder("test").data(&data).build();
            built.map_err(|error| PublishError::from(error).into())
        })
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>> {
        let mailbox = Arc::<Mutex<Mailbox>>::default();
        lock(&self.0).subscriptions.push((pattern.clone(), mailbox.clone()));
        Box::pin(async { Ok(Subscription::new(Inbox(mailbox))) })
    }
}

impl StateAccess for Probe {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<[u8]>>, StateError>> {
        let entry = lock(&self.0).entries.get(name).cloned();
        Box::pin(async { Ok(entry) })
    }

    fn set<'a>(
        &'a self,
        name: &'a str,
        value: Option<Arc<[u8]>>,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let entries = &mut lock(&self.0).entries;
        match value {
            Some(value) => drop(entries.insert(name.to_owned(), value)),
            None => drop(entries.remove(name)),
        }
        Box::pin(async { Ok(()) })
    }
}

struct Inbox(Arc<Mutex<Mailbox>>);

impl MessageStream for Inbox {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let mut mailbox = lock(&self.0);
        if let Some(received) = mailbox.messages.pop_front() {
            return Poll::Ready(Some(received));
        }
        mailbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Telemetry for Probe {
    fn counter(&self, name: &str, value: u64, attributes: &[Attribute<'_>]) {
        self.measure(name, value as f64, attributes);
    }

    fn gauge(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        self.measure(name, value, attributes);
    }

    fn histogram(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        self.measure(name, value, attributes);
    }

    fn log(&self, level: LogLevel, text: &str) {
        lock(&self.0).logs.push((level, text.to_owned()));
    }

    fn start_span(
        &self,
        name: &str,
        _parent: Option<&TraceContext>,
        _attributes: &[Attribute<'_>],
    ) -> Box<dyn SpanHandle> {
        lock(&self.0).spans.push(name.to_owned());
        Box::new(SilentSpan)
    }

    fn current_trace(&self) -> Option<TraceContext> {
        None
    }
}

/// A span that only its name was kept of.
struct SilentSpan;

impl SpanHandle for SilentSpan {
    fn set_attribute(&mut self, _key: &str, _value: &str) {}
    fn set_error(&mut self, _reason: &str) {}
    fn context(&self) -> Option<TraceContext> {
        None
    }
}

#[expect(clippy::expect_used, reason = "a test that cannot make its message has failed")]
fn made(message: Result<BaseMessage, crate::MessageError>) -> BaseMessage {
    message.expect("the data of a test's message serialises")
}

#[expect(clippy::expect_used, reason = "a test whose state is no JSON has failed")]
fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("the state is JSON")
}

#[expect(clippy::panic, reason = "a test with a malformed topic has failed")]
fn checked<T>(parsed: Result<T, crate::TopicError>) -> T {
    parsed.unwrap_or_else(|error| panic!("{error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn the_probe_sees_what_is_published_and_when() {
        let (context, probe) = mock("x");
        context.publish_data("a.b", &1).await.unwrap();
        context.publish_now("a.c", message(&2)).await.unwrap();
        let seen: Vec<_> = probe.published_on("a.*").iter().map(|p| p.when).collect();
        assert_eq!(seen, [When::WithAcknowledgement, When::Now]);
        assert_eq!(probe.next("a.c").await.message.json::<u8>().unwrap(), 2);
        assert_eq!(probe.next("a.>").await.topic.as_str(), "a.b");
        let (later, ()) = tokio::join!(probe.next("a.c"), async {
            context.publish_now("a.c", message(&3)).await.unwrap();
        });
        assert_eq!(later.message.json::<u8>().unwrap(), 3);
    }

    #[tokio::test]
    async fn requests_are_answered_as_the_test_says() {
        let (context, probe) = mock("x");
        let ask = || context.request("sum", message(&[1, 2]), Duration::from_secs(1));
        assert!(matches!(ask().await, Err(RequestError::NoResponders { .. })));
        probe.answer_with(|_, message| {
            Some(json!(message.json::<Vec<u8>>().ok()?.iter().sum::<u8>()))
        });
        assert_eq!(ask().await.unwrap().json::<u8>().unwrap(), 3);
        assert_eq!(probe.published()[0].when, When::Request);
    }

    #[tokio::test]
    async fn the_state_is_read_and_set_and_bounded_in_form() {
        let (context, probe) = mock("x");
        let state = context.state();
        assert_eq!(state.get::<u64>("count").await.unwrap(), None);
        probe.set_state("count", &41);
        let count: u64 = state.get("count").await.unwrap().unwrap();
        state.set("count", &(count + 1)).await.unwrap();
        assert_eq!(probe.state("count"), Some(json!(42)));
        state.set_json("raw", b"{\"a\": 1}").await.unwrap();
        assert_eq!(&*state.get_json("raw").await.unwrap().unwrap(), b"{\"a\": 1}");
        assert!(matches!(state.get::<u64>("raw").await, Err(StateError::Form { .. })));
        assert!(matches!(state.set_json("raw", b"{").await, Err(StateError::NotJson(_))));
        assert!(matches!(state.set("", &1).await, Err(StateError::Name(_))));
        state.delete("raw").await.unwrap();
        assert_eq!(probe.state("raw"), None);
    }

    #[tokio::test]
    async fn subscriptions_get_what_the_test_delivers() {
        let (context, probe) = mock_with("x", Map::from_iter([("key".into(), json!(1))]));
        assert_eq!(context.config()["key"], 1);
        let mut subscription = context.subscribe("a.>").await.unwrap();
        assert_eq!((probe.deliver("a.b", message(&1)), probe.deliver("b", message(&2))), (1, 0));
        assert_eq!(subscription.next().await.unwrap().topic.as_str(), "a.b");
        context.record_counter("hits", 2, &[("kind", "x")]);
        assert_eq!(probe.measured("hits")[0].attributes, [("kind".into(), "x".into())]);
        context.log(LogLevel::Warn, "careful");
        drop(context.create_span("work", &[]));
        assert_eq!(probe.logs(), [(LogLevel::Warn, "careful".to_owned())]);
        assert_eq!(probe.spans(), ["work"]);
    }
}
