//! A bus for tests: records all that happens on it in one list, and answers requests as a script says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use echo_plugin_orchestrator::Orchestrator;
use echo_sdk::contract::run::RunEnded;
use echo_sdk::{
    Attribute, BaseMessage, BoxFuture, LogLevel, MessageStream, MessageTransport, Pattern, Plugin,
    PluginContext, ProcessingStatus, PublishError, Received, RequestError, SpanHandle,
    Subscription, Telemetry, Topic, TraceContext,
};
use serde_json::{Map, Value, json};
use tokio::sync::{oneshot, watch};

/// What the script does with a request.
pub enum Answer {
    /// Answers at once.
    Now(Value),
    /// Leaves it in flight until the test answers.
    Held,
    /// Nobody serves the topic.
    Nobody,
}

/// A request that is in flight.
pub struct InFlight {
    pub topic: String,
    pub data: Value,
    answer: oneshot::Sender<Value>,
}

impl InFlight {
    /// What the request is about.
    pub fn name(&self) -> String {
        name(&self.data)
    }

    pub fn answer(self, reply: Value) {
        self.answer.send(reply).expect("whoever asked still waits");
    }
}

type Script = dyn Fn(&str, &Value) -> Answer + Send + Sync;

/// The bus. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    script: Box<Script>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    spans: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Events by topic and name, `> ` asked, `< ` answered, `x ` given up.
    lines: Vec<String>,
    events: Vec<(String, BaseMessage)>,
    replies: Vec<Value>,
    asked: Vec<(String, BaseMessage)>,
    in_flight: Vec<InFlight>,
    subscriptions: Vec<(Pattern, Arc<Mutex<Mailbox>>)>,
    spans: Vec<SpanSeen>,
    refused_topic: Option<String>,
}

/// A span that was started.
#[derive(Debug, Clone)]
pub struct SpanSeen {
    pub name: String,
    pub id: [u8; 8],
    pub parent: Option<[u8; 8]>,
    pub error: Option<String>,
}

#[derive(Default)]
struct Mailbox {
    messages: VecDeque<Received>,
    waker: Option<Waker>,
}

impl Bus {
    pub fn new(script: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            script: Box::new(script),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            spans: AtomicU64::new(1),
        }))
    }

    /// A bus on which all goes well.
    pub fn kind() -> Self {
        Self::new(|topic, data| Answer::Now(kind(topic, data)))
    }

    pub fn plugin(&self) -> Orchestrator {
        let (transport, telemetry) = (Arc::new(self.clone()), Arc::new(self.clone()));
        Orchestrator::new(PluginContext::new(
            "orchestrator",
            "0.0.0",
            Map::new(),
            transport,
            telemetry,
        ))
    }

    /// Runs to the end and gives the answer.
    pub async fn run(&self, start: Value) -> RunEnded {
        let status = handle(&self.plugin(), start).await;
        assert_eq!(status, ProcessingStatus::Acknowledged);
        let reply = self.state().replies.last().cloned();
        serde_json::from_value(reply.expect("there is an answer")).unwrap()
    }

    pub fn publish(&self, topic: &str, data: Value) {
        let message = BaseMessage::builder("test").data(&data).build().unwrap();
        self.deliver(&Topic::new(topic).unwrap(), message);
    }

    /// As [`publish`](Self::publish), and wants an answer.
    pub fn request(&self, topic: &str, data: Value) {
        let reply_to = Topic::new("reply.test").unwrap();
        let message = BaseMessage::builder("test").data(&data).reply_to(reply_to).build().unwrap();
        self.deliver(&Topic::new(topic).unwrap(), message);
    }

    /// The lines up to now.
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// The lines that begin so.
    pub fn lines_of(&self, start: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with(start)).collect()
    }

    /// Where a line stands.
    pub fn position(&self, line: &str) -> usize {
        let lines = self.lines();
        let found = lines.iter().position(|other| other == line);
        found.unwrap_or_else(|| panic!("{line:?} is not in:\n{}", lines.join("\n")))
    }

    /// The data of the events of a topic.
    pub fn events(&self, topic: &str) -> Vec<Value> {
        let state = self.state();
        let events = state.events.iter().filter(|(other, _)| other == topic);
        events.map(|(_, message)| message.json().unwrap()).collect()
    }

    /// The one event of a topic that has this value.
    pub fn event(&self, topic: &str, key: &str, value: &str) -> Value {
        let mut events = self.events(topic).into_iter().filter(|event| event[key] == value);
        let event = events.next().unwrap_or_else(|| panic!("no {topic} with {key} {value}"));
        assert!(events.next().is_none(), "several {topic} with {key} {value}");
        event
    }

    pub fn messages(&self) -> Vec<(String, BaseMessage)> {
        self.state().events.clone()
    }

    /// The messages that asked something.
    pub fn asked(&self) -> Vec<(String, BaseMessage)> {
        self.state().asked.clone()
    }

    /// The data of the one request to a topic.
    pub fn asked_of(&self, topic: &str) -> Value {
        let asked = self.asked();
        let mut asked = asked.iter().filter(|(other, _)| other == topic);
        let (_, message) = asked.next().unwrap_or_else(|| panic!("{topic} was not asked"));
        assert!(asked.next().is_none(), "{topic} was asked several times");
        message.json().unwrap()
    }

    pub fn spans(&self) -> Vec<SpanSeen> {
        self.state().spans.clone()
    }

    pub fn replies(&self) -> Vec<Value> {
        self.state().replies.clone()
    }

    /// Refuses what is published to a topic from now on.
    pub fn refuse(&self, topic: &str) {
        self.state().refused_topic = Some(topic.to_owned());
    }

    /// Waits until this line has been seen.
    pub async fn seen(&self, line: &str) {
        self.until(|state| state.lines.iter().any(|other| other == line).then_some(())).await;
    }

    /// Waits until so many requests are in flight, and takes them, by name.
    pub async fn in_flight(&self, count: usize) -> Vec<InFlight> {
        self.until(|state| {
            (state.in_flight.len() >= count).then(|| {
                let mut taken = std::mem::take(&mut state.in_flight);
                taken.sort_by_key(|asked| name(&asked.data));
                taken
            })
        })
        .await
    }

    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.0.changes.subscribe();
        loop {
            let found = look(&mut self.state());
            if let Some(found) = found {
                return found;
            }
            changes.changed().await.unwrap();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn note(&self, line: String) {
        self.state().lines.push(line);
        self.0.changes.send_modify(|count| *count += 1);
    }

    fn deliver(&self, topic: &Topic, message: BaseMessage) {
        let state = self.state();
        for (_, mailbox) in state.subscriptions.iter().filter(|(it, _)| it.matches(topic)) {
            let mut mailbox = mailbox.lock().unwrap();
            mailbox.messages.push_back(Received { topic: topic.clone(), message: message.clone() });
            mailbox.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// Gives the start of a run to the plugin.
pub async fn handle(plugin: &Orchestrator, start: Value) -> ProcessingStatus {
    let message = BaseMessage::builder("test").data(&start);
    let message = message.reply_to(Topic::new("reply.test").unwrap()).build().unwrap();
    let topic = Topic::new("test.run.start").unwrap();
    plugin.process_message(&topic, &message).await.unwrap()
}

/// The answer when all goes well.
pub fn kind(topic: &str, _: &Value) -> Value {
    match topic.split('.').nth(1).unwrap() {
        "start" => ready(4711),
        "exec" => exited(0),
        "logs" => json!({ "lines": ["a line"] }),
        "stop" => json!({ "result": "stopped" }),
        "cleanup" => json!({ "service_type": "t", "removed": [], "failures": [] }),
        other => panic!("nobody answers to {other}"),
    }
}

pub fn ready(port: u16) -> Value {
    let address = json!({ "host": "127.0.0.1", "ports": { "80": port }, "instance": "i" });
    json!({ "result": "ready", "address": address })
}

pub fn exited(exit_code: i32) -> Value {
    json!({ "result": "exited", "exit_code": exit_code, "stdout": "out", "stderr": "" })
}

/// A step that runs this one word on this machine.
pub fn step(name: &str) -> Value {
    json!({ "name": name, "command": [name] })
}

/// A service of the type `t`.
pub fn service(needs: &[&str]) -> Value {
    json!({ "type": "t", "depends_on": needs })
}

/// What an event or a request is about.
fn name(data: &Value) -> String {
    let own = ["step", "test", "service"].iter().find_map(|key| data[*key].as_str());
    let name = match (data["command"].get(0), own) {
        (Some(program), None) => program.as_str().unwrap(),
        (_, Some(own)) => own,
        (None, None) => data["suite"].as_str().unwrap_or("run"),
    };
    match data["outcome"].as_str() {
        Some(outcome) => format!("{name} {outcome}"),
        None => name.to_owned(),
    }
}

/// Notes when a request is given up.
struct Asking<'a> {
    bus: &'a Bus,
    line: Option<String>,
}

impl Asking<'_> {
    fn answered(mut self) {
        if let Some(line) = self.line.take() {
            self.bus.note(format!("< {line}"));
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            self.bus.note(format!("x {line}"));
        }
    }
}

impl MessageTransport for Bus {
    fn try_publish(&self, _: &Topic, _: BaseMessage) -> Result<(), PublishError> {
        panic!("the orchestrator waits for room");
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        assert_eq!(topic, "reply.test", "only the answer goes out with the acknowledgement");
        self.state().replies.push(message.json().unwrap());
        Box::pin(async { Ok(()) })
    }

    fn publish_now<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            if topic.as_str().starts_with("reply.") {
                self.state().replies.push(message.json().unwrap());
                return Ok(());
            }
            if self.state().refused_topic.as_deref() == Some(topic.as_str()) {
                return Err(PublishError::Closed);
            }
            let line = format!("{topic} {}", name(&message.json().unwrap()));
            self.state().events.push((topic.to_string(), message.clone()));
            self.deliver(topic, message);
            self.note(line);
            Ok(())
        })
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        Box::pin(async move {
            let data: Value = message.json().unwrap();
            let line = format!("{topic} {}", name(&data));
            let answer = (self.0.script)(topic.as_str(), &data);
            self.state().asked.push((topic.to_string(), message));
            let asking = Asking { bus: self, line: Some(line.clone()) };
            self.note(format!("> {line}"));
            let (sender, receiver) = oneshot::channel();
            match answer {
                Answer::Nobody => {
                    return Err(RequestError::NoResponders { topic: topic.clone() });
                }
                Answer::Now(value) => sender.send(value).unwrap(),
                Answer::Held => {
                    let topic = topic.to_string();
                    self.state().in_flight.push(InFlight { topic, data, answer: sender });
                    self.0.changes.send_modify(|count| *count += 1);
                }
            }
            let answer = tokio::time::timeout(timeout, receiver).await;
            let Ok(answer) = answer else {
                return Err(RequestError::TimedOut { topic: topic.clone(), timeout });
            };
            asking.answered();
            let data = answer.expect("the test answers");
            Ok(BaseMessage::builder("service").data(&data).build().unwrap())
        })
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>> {
        let mailbox = Arc::<Mutex<Mailbox>>::default();
        self.state().subscriptions.push((pattern.clone(), mailbox.clone()));
        Box::pin(async { Ok(Subscription::new(Inbox(mailbox))) })
    }
}

struct Inbox(Arc<Mutex<Mailbox>>);

impl MessageStream for Inbox {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let mut mailbox = self.0.lock().unwrap();
        if let Some(received) = mailbox.messages.pop_front() {
            return Poll::Ready(Some(received));
        }
        mailbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Telemetry for Bus {
    fn counter(&self, _: &str, _: u64, _: &[Attribute<'_>]) {}
    fn gauge(&self, _: &str, _: f64, _: &[Attribute<'_>]) {}
    fn histogram(&self, _: &str, _: f64, _: &[Attribute<'_>]) {}
    fn log(&self, _: LogLevel, _: &str) {}

    fn start_span(
        &self,
        name: &str,
        parent: Option<&TraceContext>,
        _: &[Attribute<'_>],
    ) -> Box<dyn SpanHandle> {
        let id = self.0.spans.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let parent = parent.map(|parent| parent.span_id);
        let span = SpanSeen { name: name.to_owned(), id, parent, error: None };
        self.state().spans.push(span);
        Box::new(BusSpan { bus: self.clone(), id })
    }

    fn current_trace(&self) -> Option<TraceContext> {
        None
    }
}

struct BusSpan {
    bus: Bus,
    id: [u8; 8],
}

impl SpanHandle for BusSpan {
    fn set_attribute(&mut self, _: &str, _: &str) {}

    fn set_error(&mut self, reason: &str) {
        let mut state = self.bus.state();
        let span = state.spans.iter_mut().find(|span| span.id == self.id);
        span.unwrap().error = Some(reason.to_owned());
    }

    fn context(&self) -> Option<TraceContext> {
        Some(TraceContext { trace_id: [7; 16], span_id: self.id, flags: 1, tracestate: None })
    }
}
