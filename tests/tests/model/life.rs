//! A host that lives through a plan, and what is seen of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use echo_bus::{LocalOptions, LocalTransport, Transport};
use echo_core::{Config, Host};
use echo_sdk::contract::dead::DeadLetter;
use echo_sdk::{
    BaseMessage, Manifest, Pattern, PluginContext, PluginError, ProcessingStatus, StateKind, Topic,
};
use echo_tests::scripted::{Handler, WithHandler, handler, manifest, workers};
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::LONGEST;
use crate::crashing::Crashing;
use crate::plan::{Answer, KEYS, Message, Plan, SLOTS};

/// What a handler says when it panics as it is to.
pub const PLANNED: &str = "planned";

/// A handler was called.
#[derive(Debug)]
pub struct Call {
    pub slot: usize,
    pub message: usize,
    pub attempt: u16,
    pub began: Instant,
    pub ended: Option<Instant>,
}

/// A dead letter was published.
#[derive(Debug)]
pub struct Letter {
    pub slot: usize,
    pub message: usize,
    pub attempts: u16,
    pub reason: String,
}

/// What is seen of a host's life.
#[derive(Debug, Default)]
pub struct Seen {
    /// In the order in which they began.
    pub calls: Vec<Call>,
    /// The numbers of the messages and their hops, in the order of their publication.
    pub published: Vec<(usize, u16)>,
    pub dead: Vec<Letter>,
    /// What may never be, whatever the plan.
    pub faults: Vec<String>,
    /// What the managed state of each key has counted in each slot.
    pub counted: HashMap<(usize, u8), usize>,
    running: [usize; 4],
    paused: [bool; 4],
}

/// What handlers and whoever watches them share.
struct Stage {
    plan: Plan,
    seen: Mutex<Seen>,
}

impl Stage {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn begins(&self, slot: usize, message: usize, attempt: u16) -> usize {
        let mut seen = self.seen();
        let began = Instant::now();
        seen.running[slot] += 1;
        let name = SLOTS[slot].0;
        if seen.paused[slot] {
            seen.faults.push(format!("{name} was called for {message} while it was paused"));
        }
        if seen.running[slot] > self.plan.workers[slot] {
            seen.faults.push(format!("{name} has more workers than it was to have"));
        }
        seen.calls.push(Call { slot, message, attempt, began, ended: None });
        seen.calls.len() - 1
    }

    fn ends(&self, slot: usize, call: usize) {
        let mut seen = self.seen();
        seen.running[slot] -= 1;
        seen.calls[call].ended = Some(Instant::now());
    }
}

/// Runs a host through a plan.
pub async fn live(plan: &Plan) -> Seen {
    let stage = Arc::new(Stage { plan: plan.clone(), seen: Mutex::default() });
    let bus = LocalTransport::new(LocalOptions::default()).unwrap();
    let host = start(&stage, bus.clone()).await;
    let mut published = host.watch(&Pattern::new(">").unwrap(), 1_000_000).await.unwrap();
    tokio::join!(publish(&host, plan), pause(&host, &stage));
    let report = host.shutdown().await;
    if !report.is_clean() {
        stage.seen().faults.push(format!("{report:?}"));
    }
    while let Some(received) = published.next().await {
        note(&mut stage.seen(), &received.topic, &received.message);
    }
    let counted = counted(&bus).await;
    Seen { counted, ..std::mem::take(&mut *stage.seen()) }
}

/// What the states hold in the end.
async fn counted(bus: &LocalTransport) -> HashMap<(usize, u8), usize> {
    let mut counted = HashMap::new();
    for (slot, (name, ..)) in SLOTS.into_iter().enumerate() {
        for key in 0..KEYS {
            let document = bus.states(name).load(Some(&format!("key-{key}"))).await.unwrap();
            if let Some(json) = document.entries.get("count") {
                counted.insert((slot, key), serde_json::from_slice(json).unwrap());
            }
        }
    }
    counted
}

async fn start(stage: &Arc<Stage>, bus: LocalTransport) -> Host {
    let plan = &stage.plan;
    let mut config = Config::default();
    config.shutdown.timeout = LONGEST;
    let mut builder =
        Host::builder().config(config).transport(Arc::new(Crashing::new(bus, plan.clone())));
    for (slot, (name, patterns, is_scarce)) in SLOTS.into_iter().enumerate() {
        let mut pool = workers(plan.workers[slot]);
        pool["queue_size"] = json!(if is_scarce { plan.room } else { 100_000 });
        let manifest = Manifest { state: StateKind::Keyed, ..manifest(name, patterns, pool) };
        builder = builder.with(manifest, acting(stage, slot));
    }
    builder.start().await.unwrap()
}

/// A handler that does as the plan says.
fn acting(stage: &Arc<Stage>, slot: usize) -> Handler {
    let stage = Arc::clone(stage);
    handler(move |context, _, message| {
        let stage = Arc::clone(&stage);
        async move {
            let (number, attempt) = (message.json::<usize>()?, message.attempt());
            let call = stage.begins(slot, number, attempt);
            if message.key().is_some() {
                let count = context.state().get::<usize>("count").await?.unwrap_or_default();
                context.state().set("count", &(count + 1)).await?;
            }
            let returned = act(&stage, &context, slot, number, attempt).await;
            stage.ends(slot, call);
            match returned {
                Ok(None) => panic!("{PLANNED}"),
                Ok(Some(status)) => Ok(status),
                Err(error) => Err(error),
            }
        }
    })
}

/// What the handler answers; `None` to panic.
async fn act(
    stage: &Stage,
    context: &PluginContext,
    slot: usize,
    number: usize,
    attempt: u16,
) -> Result<Option<ProcessingStatus>, PluginError> {
    let messages = stage.plan.messages();
    let Some(script) = messages[&number].attempt(slot, attempt) else {
        return Ok(Some(ProcessingStatus::Acknowledged));
    };
    let (before, after) = script.effects.split_at(script.effects.len() / 2);
    for effect in before {
        context.publish(effect.to.topic(), built(effect)).await?;
    }
    if !script.work.is_zero() {
        sleep(script.work).await;
    }
    for effect in after {
        context.publish(effect.to.topic(), built(effect)).await?;
    }
    Ok(Some(match &script.answer {
        Answer::Acknowledge => ProcessingStatus::Acknowledged,
        Answer::RetryLater(delay) => ProcessingStatus::RetryLater(*delay),
        Answer::Fail => ProcessingStatus::Failed("given up".into()),
        Answer::Error => {
            return Err(PluginError::ProcessingError("an error as planned".into()));
        }
        Answer::Panic => return Ok(None),
        Answer::Forward(forwarded) => {
            ProcessingStatus::Forward(Topic::new(forwarded.to.topic())?, built(forwarded))
        }
    }))
}

/// A message that carries its number.
fn built(message: &Message) -> BaseMessage {
    let key = message.key.map(|key| format!("key-{key}"));
    // The id decides the jitter of retries, so that a plan goes the same way each time.
    let id = Uuid::from_u128(message.number as u128);
    let builder = BaseMessage::builder("plan").id(id).data(&message.number);
    key.iter().fold(builder, |builder, key| builder.key(key)).build().unwrap()
}

async fn publish(host: &Host, plan: &Plan) {
    let client = host.client("plan");
    for (after, message) in &plan.published {
        pass(*after).await;
        client.publish(message.to.topic(), built(message)).await.unwrap();
    }
}

async fn pause(host: &Host, stage: &Stage) {
    for pause in &stage.plan.pauses {
        let name = SLOTS[pause.slot].0;
        pass(pause.after).await;
        host.pause(name).await.unwrap();
        stage.seen().paused[pause.slot] = true;
        pass(pause.length).await;
        stage.seen().paused[pause.slot] = false;
        host.resume(name).await.unwrap();
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn note(seen: &mut Seen, topic: &Topic, message: &BaseMessage) {
    let slots: HashMap<_, _> = SLOTS.iter().enumerate().map(|(at, slot)| (slot.0, at)).collect();
    match topic.as_str().split('.').next() {
        Some("dead") => {
            let letter: DeadLetter = message.json().unwrap();
            let expected = format!("dead.{}.{}", letter.slot, letter.topic);
            if *topic != *expected {
                seen.faults.push(format!("{letter:?} came on {topic}"));
            }
            seen.dead.push(Letter {
                slot: slots[letter.slot.as_str()],
                message: letter.message.json().unwrap(),
                attempts: letter.attempts,
                reason: letter.reason,
            });
        }
        Some("t" | "c") => seen.published.push((message.json().unwrap(), message.hops())),
        // What the host says of itself.
        _ => {}
    }
}
