//! A version that does what another does, without anybody getting to see it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echo_bus::Side;
use echo_sdk::contract::transition::Comparison;
use echo_sdk::{
    BaseMessage, Manifest, Plugin, PluginContext, PluginError, ProcessingStatus, Received, Topic,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Host;
use super::candidate::Candidate;
use crate::actor::Actor;
use crate::config::Config;
use crate::middleware::{Deduplicate, DeduplicateOptions, Layer, On};
use crate::registry::Version;
use crate::transition::shadow::Shadow;

const PATIENCE: Duration = Duration::from_secs(60);

/// Adds up in form `form`, and does as its messages say.
struct Doing {
    context: PluginContext,
    /// A number in form 1, `{"n": number}` in form 2.
    form: u32,
    /// What this version does in another way.
    otherwise: &'static str,
    /// Handlers that have ended, and in the upper half tasks of theirs.
    ended: Arc<AtomicU64>,
    /// Handlers that hang wait here.
    gate: Arc<Semaphore>,
}

impl Doing {
    async fn add(&self, by: i64) -> Result<i64, PluginError> {
        let state = self.context.state();
        let sum = match self.form {
            1 => state.get::<i64>("sum").await?.unwrap_or_default() + by,
            _ => {
                let sum = state.get::<Value>("sum").await?;
                sum.and_then(|sum| sum["n"].as_i64()).unwrap_or_default() + by
            }
        };
        let stored = if self.form == 1 { json!(sum) } else { json!({ "n": sum }) };
        state.set("sum", &stored).await?;
        Ok(sum)
    }

    async fn act(&self, action: &str) -> Result<ProcessingStatus, PluginError> {
        let message = |data: Value| self.context.message_builder().data(&data).build();
        match action {
            "sum" => {
                let sum = self.add(1).await?;
                self.context.publish("out.sum", message(json!({ "sum": sum }))?).await?;
            }
            "wrong sum" => {
                self.add(2).await?;
                let sum = self.context.state().get::<Value>("sum").await?;
                let sum = sum.and_then(|sum| sum["n"].as_i64().or(sum.as_i64())).unwrap() - 1;
                self.context.publish("out.sum", message(json!({ "sum": sum }))?).await?;
            }
            "now" => self.context.publish_now("out.now", message(json!(1))?).await?,
            "now otherwise" => self.context.publish_now("out.now", message(json!(2))?).await?,
            "try" => self.context.try_publish("out.try", message(json!(1))?)?,
            "batch" => {
                let two = vec![message(json!(1))?, message(json!(2))?];
                self.context.publish_batch("out.batch", two).await?;
            }
            "nothing" => {}
            "ask" => {
                self.context.request("answer", message(json!(1))?, PATIENCE).await?;
            }
            "subscribe" => drop(self.context.subscribe("out.>").await?),
            "fail" => return Err(PluginError::InvalidData("this one".into())),
            "give up" => return Ok(ProcessingStatus::Failed("of no use".into())),
            "later" => return Ok(ProcessingStatus::RetryLater(Duration::from_secs(600))),
            "forward" => {
                let topic = Topic::new("out.forwarded")?;
                return Ok(ProcessingStatus::Forward(topic, message(json!("on"))?));
            }
            "panic" => panic!("a handler"),
            "hang" => drop(self.gate.acquire().await),
            "spawn" => {
                let (context, ended) = (self.context.clone(), Arc::clone(&self.ended));
                tokio::spawn(async move {
                    let message = context.message_builder().data(&1).build().unwrap();
                    let _ = context.publish("out.spawned", message).await;
                    ended.fetch_add(1 << 32, Ordering::Relaxed);
                });
            }
            other => return Err(PluginError::InvalidData(format!("what is {other}?"))),
        }
        Ok(ProcessingStatus::Acknowledged)
    }
}

impl Plugin for Doing {
    fn name(&self) -> &str {
        "doing"
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        self.context.record_counter("handled", 1, &[]);
        let action: String = message.json()?;
        let action = match action.split_once(" | ") {
            Some((_, otherwise)) if self.otherwise == "does" => otherwise,
            Some((action, _)) => action,
            None => &action,
        };
        let _ended = Ended(&self.ended);
        self.act(action).await
    }

    fn state_schema(&self) -> u32 {
        self.form
    }

    fn state_up(&self, _: Option<&str>, _: u32, data: Value) -> Result<Value, PluginError> {
        Ok(json!({ "n": data }))
    }

    fn state_down(&self, _: Option<&str>, _: u32, mut data: Value) -> Result<Value, PluginError> {
        Ok(data["n"].take())
    }
}

/// Counts a handler that ends, in whatever way.
struct Ended<'a>(&'a AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A host with a version of the plugin, and another beside it.
struct Bed {
    host: Host,
    old: Arc<Version>,
    new: Arc<Version>,
    /// Handlers of both that have ended.
    ended: [Arc<AtomicU64>; 2],
    gate: Arc<Semaphore>,
}

fn manifest(version: &str, handler: &str) -> Manifest {
    let manifest = json!({
        "name": "doing", "version": version, "description": "does as it is told", "state": "keyed",
        "subscriptions": ["do"],
        "worker_pool": {"min_workers": 2, "max_workers": 2, "max_attempts": 1, "handler": handler},
    });
    Manifest::from_json(&manifest.to_string()).unwrap()
}

impl Bed {
    async fn new(layer: Option<Layer>, handler: &str) -> Self {
        Self::with(layer, handler, [1, 2]).await
    }

    async fn with(layer: Option<Layer>, handler: &str, forms: [u32; 2]) -> Self {
        let ended = [Arc::<AtomicU64>::default(), Arc::default()];
        let gate = Arc::new(Semaphore::new(0));
        let make = |form, otherwise, ended: &Arc<AtomicU64>| {
            let (ended, gate) = (Arc::clone(ended), Arc::clone(&gate));
            move |context| {
                let (ended, gate) = (Arc::clone(&ended), Arc::clone(&gate));
                Ok(Doing { context, form, otherwise, ended, gate })
            }
        };
        let builder = Host::builder().config(Config::default());
        let builder = layer.into_iter().fold(builder, |builder, layer| builder.middleware(layer));
        let first = make(forms[0], "", &ended[0]);
        let host = builder.plugin(manifest("1.0.0", handler), first).start().await.unwrap();
        let old = host.shared.managed("doing").unwrap().current();
        let (second, manifest) = (make(forms[1], "does", &ended[1]), manifest("2.0.0", handler));
        let setup = host.shared.parts.config.plugin_setup(&manifest).unwrap();
        let made = move |context| Ok(Arc::new(second(context)?) as Arc<dyn Actor>);
        let candidate = Candidate::built_in(manifest, Box::new(made));
        let new =
            host.shared.parts.make_beside(candidate, setup, &old.slot, Side::First).await.unwrap();
        new.init(PATIENCE).await.unwrap();
        old.slot.forms.store_in(1);
        new.slot.forms.store_in(1);
        Self { host, old, new, ended, gate }
    }

    async fn say(&self, action: &str) {
        let client = self.host.client("test");
        let message = client.message_builder().data(&action).key("k").build().unwrap();
        client.publish("do", message).await.unwrap();
    }

    /// Has both do the same, until so many messages were compared.
    async fn compare(&self, actions: &[&str], compare: u32, differences: f64) -> Comparison {
        let [before, _] = self.ended();
        let mut shadow = Shadow::start(&self.old, &self.new, compare, differences);
        for action in actions {
            self.say(action).await;
        }
        let found = tokio::time::timeout(PATIENCE, shadow.done()).await.unwrap();
        // The next one is not to see what is left of these.
        self.until_ended(before + actions.len() as u64).await;
        found
    }

    fn ended(&self) -> [u64; 2] {
        self.ended.each_ref().map(|ended| ended.load(Ordering::Relaxed))
    }

    /// Waits until the old version has handled so many messages.
    async fn until_ended(&self, handled: u64) {
        while self.ended()[0] < handled {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.gate.close();
        drop((self.old, self.new));
        self.host.shutdown().await;
    }
}

/// What the versions do in the same way, whatever their state looks like.
const SAME: [&str; 9] =
    ["sum", "sum", "now", "try", "batch", "nothing", "forward", "sum", "give up"];

#[tokio::test]
async fn what_is_done_in_the_same_way_is_no_difference_and_is_done_once() {
    for handler in ["async", "blocking"] {
        let bed = Bed::new(None, handler).await;
        let client = bed.host.client("test");
        let mut out = client.subscribe("out.>").await.unwrap();
        bed.say("sum").await;
        bed.until_ended(1).await;
        let found = bed.compare(&SAME, SAME.len() as u32, 0.0).await;
        let all = Comparison { compared: SAME.len() as u64, ..Comparison::default() };
        assert_eq!(found, all);
        assert_eq!(bed.ended(), [SAME.len() as u64 + 1, SAME.len() as u64]);
        // Nothing of it went out twice, and the state is the old version's.
        bed.say("sum").await;
        let mut topics = Vec::new();
        let mut sum = json!(null);
        while sum["sum"] != json!(5) {
            let received = out.next().await.unwrap();
            topics.push(received.topic.to_string());
            sum = received.message.json().unwrap();
        }
        topics.sort_unstable();
        let expected = [
            "out.batch",
            "out.batch",
            "out.forwarded",
            "out.now",
            "out.sum",
            "out.sum",
            "out.sum",
            "out.sum",
            "out.sum",
            "out.try",
        ];
        assert_eq!(topics, expected);
        let figures = bed.new.slot.measured.snapshot();
        assert_eq!(figures, crate::actor::Figures::default(), "a rehearsal counts as nothing");
        bed.end().await;
    }
}

#[tokio::test]
async fn each_difference_is_told_in_a_sentence() {
    let bed = Bed::new(None, "async").await;
    for (action, sentence) in [
        ("nothing | fail", "the old version acknowledged it, the new one failed ("),
        (
            "nothing | give up",
            "the old version acknowledged it, the new one gave it up (of no use)",
        ),
        ("nothing | later", "the new one asked to be retried after 10m"),
        ("nothing | panic", "the old version acknowledged it, the new one panicked (a handler)"),
        ("fail | nothing", "this one), the new one acknowledged it"),
        ("nothing | try", "the old version published 0 messages, the new one 1"),
        ("batch | try", "the old version published to `out.batch`, the new one to `out.try`"),
        ("batch | nothing", "the old version published 2 messages, the new one 0"),
        ("now | nothing", "the old version published at once 1 messages, the new one 0"),
        ("now | now otherwise", "published at once to `out.now` with 1, the new one with 2"),
        ("now | forward", "the old version acknowledged it, the new one forwarded it to"),
        ("sum | wrong sum", "in the state's `sum`, the new one"),
    ] {
        let found = bed.compare(&[action], 10, 0.0).await;
        assert_eq!((found.compared, found.different), (1, 1), "{action}: {found:?}");
        let first = found.first.unwrap();
        assert!(first.contains(sentence) && first.starts_with("for "), "{action}: {first}");
    }
    bed.end().await;
}

#[tokio::test]
async fn an_earlier_version_is_held_to_what_a_later_one_stores() {
    let bed = Bed::with(None, "async", [2, 1]).await;
    let found = bed.compare(&SAME, SAME.len() as u32, 0.0).await;
    assert_eq!(found, Comparison { compared: SAME.len() as u64, ..Comparison::default() });
    let found = bed.compare(&["sum | wrong sum"], 1, 0.0).await;
    let first = found.first.unwrap();
    assert!(first.contains("left 4 in the state's `sum`, the new one 5"), "{first}");
    bed.end().await;
}

#[tokio::test]
async fn nobody_is_asked_for_a_rehearsal() {
    let bed = Bed::new(None, "async").await;
    let answering = bed.host.client("answering");
    let mut asked = answering.subscribe("answer").await.unwrap();
    let answers = tokio::spawn(async move {
        let mut count = 0;
        while count < 3 {
            let Received { message, .. } = asked.next().await.unwrap();
            answering.reply(&message, &1).await.unwrap();
            count += 1;
        }
        asked
    });
    for action in ["ask", "nothing | subscribe", "nothing | sum"] {
        let found = bed.compare(&[action; 3], 3, 0.0).await;
        let expected = Comparison { incomparable: 3, ..Comparison::default() };
        assert_eq!(found, expected, "{action}");
    }
    let mut asked = answers.await.unwrap();
    assert!(futures_util::poll!(std::pin::pin!(asked.next())).is_pending(), "nobody else asked");
    // A task that it leaves behind is not heard either; what the old version's does is.
    let client = bed.host.client("test");
    let mut out = client.subscribe("out.spawned").await.unwrap();
    let mut shadow = Shadow::start(&bed.old, &bed.new, 100, 0.0);
    bed.say("spawn").await;
    while bed.ended().iter().any(|ended| *ended < 1 << 32) {
        tokio::task::yield_now().await;
    }
    assert_eq!(shadow.end().await.compared, 1);
    assert!(out.next().await.is_some());
    bed.say("spawn").await;
    assert!(out.next().await.is_some());
    assert!(futures_util::poll!(std::pin::pin!(out.next())).is_pending());
    bed.end().await;
}

#[tokio::test]
async fn some_differences_may_be_allowed_and_a_panic_is_not() {
    let bed = Bed::new(None, "async").await;
    let actions = ["nothing", "nothing | try", "nothing", "nothing"];
    let found = bed.compare(&actions, 4, 0.25).await;
    assert_eq!((found.compared, found.different), (4, 1));
    let found = bed.compare(&["nothing | try", "nothing | try", "nothing"], 4, 0.25).await;
    assert_eq!((found.compared, found.different), (2, 2));
    let found = bed.compare(&["panic", "nothing | panic", "nothing"], 10, 1.0).await;
    assert_eq!(found.compared, 2, "one that panics both is no reason to end");
    bed.end().await;
}

#[tokio::test]
async fn ended_in_the_middle_it_lets_go_and_the_old_version_goes_on() {
    let bed = Bed::new(None, "async").await;
    let mut shadow = Shadow::start(&bed.old, &bed.new, 100, 0.0);
    bed.say("nothing | hang").await;
    // More than wait for the new version: the old one does not wait for it.
    for _ in 0..200 {
        bed.say("nothing").await;
    }
    bed.until_ended(201).await;
    let found = tokio::time::timeout(PATIENCE, shadow.end()).await.unwrap();
    assert_eq!(found, Comparison::default());
    drop(shadow);
    assert!(!bed.new.slot.measured.is_shadow());
    assert!(!bed.old.slot.measured.asked().anything());
    bed.say("nothing").await;
    bed.until_ended(202).await;
    assert_eq!(bed.ended()[1], 1, "the handler that hung was cut off, and no other began");
    // Another comparison is another beginning, and dropping one ends it as well.
    let found = bed.compare(&["nothing"; 3], 3, 0.0).await;
    assert_eq!(found.compared, 3);
    drop(Shadow::start(&bed.old, &bed.new, 1, 0.0));
    assert!(!bed.old.slot.measured.asked().anything());
    bed.end().await;
}

#[tokio::test]
async fn a_rehearsal_passes_by_middleware() {
    // It would take the message for one that it has let through already.
    let layer = Deduplicate::new(DeduplicateOptions::default());
    let layer = Layer::shared(layer).on(On::Delivery);
    let bed = Bed::new(Some(layer), "async").await;
    let actions = ["sum", "nothing | try", "fail", "sum"];
    let found = bed.compare(&actions, 4, 1.0).await;
    assert_eq!((found.compared, found.different), (4, 1), "{found:?}");
    bed.end().await;
}
