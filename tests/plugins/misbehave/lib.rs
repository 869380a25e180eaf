//! A plugin library that uses, and abuses, all that crosses the boundary. Tests load it.

#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "it is here to panic")]
#![allow(
    clippy::unwrap_used,
    reason = "a panic of its own is one more that the host has to contain"
)]

use std::future::{pending, poll_fn};
use std::panic::panic_any;
use std::sync::{Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use echo_sdk::{
    BaseMessage, Health, LogLevel, Plugin, PluginContext, PluginError, ProcessingStatus,
    StateSnapshot, Topic,
};
use serde_json::{Value, json};

echo_sdk::export_plugin!(Misbehave, "plugins/misbehave/manifest.json");

struct Misbehave {
    context: PluginContext,
    name: &'static str,
    calls: Mutex<Vec<&'static str>>,
    drops_badly: bool,
}

/// Outlives every plugin.
static KEPT: Mutex<Option<PluginContext>> = Mutex::new(None);

/// Panics when dropped, and again when the panic's payload is.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Self(self.0));
    }
}

/// Panics with a text when dropped.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        panic!("cut off");
    }
}

impl Misbehave {
    fn new(context: PluginContext) -> Result<Self, PluginError> {
        let create = context.config()["create"].as_str().unwrap_or_default().to_owned();
        match create.as_str() {
            "panic" => panic!("no constructor today"),
            "abort" => std::process::abort(),
            "hang" => hang(),
            "error" => return Err(PluginError::Config("`create` is `error`".into())),
            _ => {}
        }
        let name = if create == "name" { "somebody-else" } else { "misbehave" };
        let drops_badly = create == "drop";
        Ok(Self { context, name, calls: Mutex::default(), drops_badly })
    }

    fn called(&self, name: &'static str) {
        self.calls.lock().unwrap().push(name);
    }

    async fn obey(&self, order: &str, message: &BaseMessage) -> Result<(), PluginError> {
        let context = &self.context;
        match order {
            "panic" => panic!("told to panic on attempt {}", message.attempt()),
            "panic oddly" => panic_any(Bomb("odd")),
            "panic later" => {
                wake_up_from_a_thread().await;
                panic!("told to panic later");
            }
            "wait with a fuse" => {
                let _fuse = Fuse;
                context.publish_now("waiting", message.clone()).await?;
                pending::<()>().await;
            }
            "wait for a thread" => wake_up_from_a_thread().await,
            "err" => return Err(PluginError::InvalidData("told to fail".into())),
            "publish" => publish(context, message).await?,
            "request" => {
                let own = context.message_builder().data(&message.data()?["ask"]).build()?;
                let answer = context.request("oracle", own, Duration::from_secs(3)).await?;
                context.reply(message, &json!({ "answer": answer.data()? })).await?;
            }
            "subscribe" => {
                let mut subscription = context.subscribe("news.>").await?;
                context.publish_now("listening", message.clone()).await?;
                let heard = subscription.next().await.unwrap();
                context.reply(message, &json!([heard.topic, heard.message.data()?])).await?;
            }
            "measure" => measure(context),
            "state" => state(context, message).await?,
            "keep the context" => *KEPT.lock().unwrap() = Some(context.clone()),
            "keep a thread" => keep_a_thread(),
            other => return Err(PluginError::InvalidData(format!("no such order: {other}"))),
        }
        Ok(())
    }
}

async fn publish(context: &PluginContext, message: &BaseMessage) -> Result<(), PluginError> {
    let own = |n: u8| {
        let topic = Topic::new("a.reply")?;
        let builder = context.message_builder().data(&json!({ "n": n })).key("k").reply_to(topic);
        Ok::<_, PluginError>(builder.schema("s/1").build()?.with_hops(3))
    };
    context.publish("out.buffered", own(1)?).await?;
    context.publish_now("out.now", own(2)?).await?;
    context.try_publish("out.tried", own(3)?)?;
    context.publish("out.same", message.clone()).await?;
    Ok(())
}

async fn state(context: &PluginContext, message: &BaseMessage) -> Result<(), PluginError> {
    let state = context.state();
    let count = state.get::<u64>("count").await?.unwrap_or_default() + 1;
    state.set("count", &count).await?;
    state.set_json("raw", b"[1, 2]").await?;
    state.delete("old").await?;
    let (missing, raw) = (state.get::<Value>("missing").await?, state.get::<Value>("raw").await?);
    assert!(state.set("", &1).await.is_err());
    context
        .reply(message, &json!({ "count": count, "missing": missing, "raw": raw }))
        .await
        .map_err(PluginError::from)
}

fn measure(context: &PluginContext) {
    context.record_counter("hits", 2, &[("kind", "x"), ("other", "")]);
    context.record_gauge("level", 0.5, &[]);
    context.record_histogram("seconds", 1.25, &[("kind", "y")]);
    context.log(LogLevel::Warn, "careful");
    let mut span = context.create_span("work", &[("a", "b")]);
    span.set_attribute("c", "d");
    span.set_error("failed");
    let _below = context.create_span_below(span.context().as_ref(), "inner", &[]);
}

/// Never returns.
fn hang() -> ! {
    loop {
        thread::park();
    }
}

/// Leaves a thread behind that never ends, once it runs.
fn keep_a_thread() {
    let (started, starts) = mpsc::channel();
    thread::spawn(move || {
        started.send(()).unwrap();
        hang();
    });
    starts.recv().unwrap();
}

/// Is pending until a thread wakes it, as a timer or a socket would.
async fn wake_up_from_a_thread() {
    let mut thread = None;
    poll_fn(|cx| match thread.take() {
        None => {
            let waker = cx.waker().clone();
            thread = Some(thread::spawn(move || waker.wake()));
            Poll::Pending
        }
        Some(thread) => {
            thread.join().unwrap();
            Poll::Ready(())
        }
    })
    .await;
}

impl Plugin for Misbehave {
    fn name(&self) -> &str {
        self.name
    }

    async fn process_message(
        &self,
        _topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        let order = message.data()?["do"].as_str().unwrap_or_default();
        self.obey(order, message).await?;
        Ok(ProcessingStatus::Acknowledged)
    }

    async fn init(&self) -> Result<(), PluginError> {
        self.called("init");
        match self.context.config()["init"].as_str() {
            Some("wait") => pending().await,
            Some("hang") => hang(),
            _ => Ok(()),
        }
    }

    async fn shutdown(&self) -> Result<(), PluginError> {
        self.called("shutdown");
        Err(PluginError::ProcessingError("it likes it here".into()))
    }

    async fn health_check(&self) -> Health {
        match self.context.config()["init"].as_str() {
            Some("sick") => Health::Unhealthy("it has a cold".into()),
            _ => Health::Degraded("as ever".into()),
        }
    }

    async fn metrics(&self) -> Value {
        json!({ "calls": *self.calls.lock().unwrap() })
    }

    async fn pause(&self) -> Result<(), PluginError> {
        self.called("pause");
        Ok(())
    }

    async fn resume(&self) -> Result<(), PluginError> {
        self.called("resume");
        Ok(())
    }

    async fn reset(&self) -> Result<(), PluginError> {
        panic!("no reset");
    }

    /// Form 1 was the number of calls, form 2 is a list of them, of which the number can be told.
    fn state_schema(&self) -> u32 {
        2
    }

    async fn export_state(&self) -> Result<Option<StateSnapshot>, PluginError> {
        Ok(Some(StateSnapshot::new(2, json!(*self.calls.lock().unwrap()))))
    }

    async fn import_state(&self, state: StateSnapshot) -> Result<(), PluginError> {
        let calls = state.data.as_array().cloned().unwrap_or_default();
        *self.calls.lock().unwrap() = calls.iter().map(|_| "before").collect();
        Ok(())
    }

    fn state_up(&self, entry: Option<&str>, _: u32, data: Value) -> Result<Value, PluginError> {
        match (entry, data.as_u64()) {
            (Some(name), _) => Ok(json!({ name: data })),
            (None, Some(count)) => Ok((0..count).map(|_| "?").collect()),
            (None, None) => Err(PluginError::InvalidData(format!("{data} is no number of calls"))),
        }
    }

    fn state_down(&self, entry: Option<&str>, _: u32, data: Value) -> Result<Value, PluginError> {
        match entry {
            Some(name) => Ok(data[name].clone()),
            // It can count to three.
            None => Ok(json!(data.as_array().map_or(0, |calls| calls.len().min(3)))),
        }
    }
}

impl Drop for Misbehave {
    fn drop(&mut self) {
        if self.drops_badly {
            panic!("it does not want to go");
        }
    }
}
