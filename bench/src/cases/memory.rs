//! Whether a host that goes on and on takes more and more memory.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_sdk::{BaseMessage, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};
use tokio::runtime::Runtime;

use crate::BenchError;
use crate::harness::{Contender, OURS, Round};
use crate::ours::{Place, host};
use crate::tally::Tally;
use crate::work::{DATA, PATIENCE, TOPIC};

/// One message in so many is retried.
const RETRY_EVERY: u64 = 1_000;

/// One message in so many is a request.
const REQUEST_EVERY: u64 = 500;

/// One message in so many comes with a subscription that is made and dropped.
const SUBSCRIBE_EVERY: u64 = 10_000;

/// What a page of memory has, in bytes, on every machine that Linux calls by this name here.
const PAGE: u64 = 4096;

/// Handles all that can be asked of a handler, so that each of the bus's memories is used.
struct Handling {
    context: PluginContext,
    handled: Arc<Tally>,
}

impl Plugin for Handling {
    fn name(&self) -> &str {
        "bench"
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        if message.version() == "retried" && message.attempt() == 1 {
            return Ok(ProcessingStatus::RetryLater(Duration::from_millis(1)));
        }
        self.context.reply(message, &true).await?;
        self.handled.add(1);
        Ok(ProcessingStatus::Acknowledged)
    }
}

pub(super) fn sides(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![runtime.block_on(ours())?])
}

async fn ours() -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let counting = Arc::clone(&handled);
    let plugin = move |context| Ok(Handling { context, handled: Arc::clone(&counting) });
    let host = host(Place::default(), plugin).await?;
    let client = host.client("bench-client");
    Ok(Contender::new(OURS, move |messages| {
        // The host lives as long as the rounds.
        let _host = &host;
        let (client, handled) = (client.clone(), Arc::clone(&handled));
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            for number in 0..messages {
                send(&client, number).await?;
            }
            handled.reach(before + messages).await;
            Ok(Round { resident: resident(), ..Round::since(began, messages) })
        }
    }))
}

/// Every kind of message in turn: plain, with a key of its own, retried, answered.
async fn send(client: &PluginContext, number: u64) -> Result<(), BenchError> {
    let key = format!("key-{number}");
    let mut message = BaseMessage::builder("bench").data_json(DATA);
    if number.is_multiple_of(2) {
        message = message.key(&key);
    }
    if number % RETRY_EVERY == 1 {
        message = message.version("retried");
    }
    let message = message.build()?;
    if number % SUBSCRIBE_EVERY == 2 {
        drop(client.subscribe(&format!("bench.{number}.>")).await?);
    }
    if number % REQUEST_EVERY == 3 {
        client.request(TOPIC, message, PATIENCE).await?;
    } else {
        client.publish(TOPIC, message).await?;
    }
    Ok(())
}

/// The memory that the process has in use, in bytes, as Linux tells it.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<u64>().ok()? * PAGE)
}
