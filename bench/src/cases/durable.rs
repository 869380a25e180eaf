//! Publishes that are confirmed once they are on disk, 256 of them outstanding.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use echo_core::Config;
use echo_log::{Durable, Log, LogError, Message, Options, Placed, Settlement, SlotId, Transaction};
use echo_sdk::{Pattern, Topic};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::BenchError;
use crate::harness::{Contender, OURS, Round};
use crate::ours::{Place, host_with};
use crate::tally::Tally;
use crate::work::{DATA, Making, OUTSTANDING, TOPIC, message};

use super::work_queue::Working;

pub(super) fn sides(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = vec![ours().await?, log()?];
        #[cfg(feature = "bench-peers")]
        sides.extend(crate::peers::durable().await?);
        Ok(sides)
    })
}

/// A host with a durable topic: a publish is confirmed once it is on disk, and each message is handled and
/// acknowledged. So many tasks publish as there are publishes outstanding.
async fn ours() -> Result<Contender, BenchError> {
    let dir = tempfile::tempdir()?;
    let handled = Arc::<Tally>::default();
    let counting = Arc::clone(&handled);
    let plugin = move |_| Ok(Working::new(Making::Prebuilt, Arc::clone(&counting)));
    let mut config = Config::default();
    config.bus.durable.topics = vec![Pattern::new(TOPIC)?];
    config.bus.durable.dir = dir.path().to_owned();
    let host = host_with(config, Place::default(), plugin).await?;
    let client = host.client("bench-client");
    let topic = Topic::new(TOPIC)?;
    Ok(Contender::new(OURS, move |messages| {
        // The host and its files live as long as the rounds.
        let _alive = (&host, &dir);
        let (client, topic, handled) = (client.clone(), topic.clone(), Arc::clone(&handled));
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            let mut publishers = JoinSet::new();
            for publisher in 0..OUTSTANDING as u64 {
                let (client, topic) = (client.clone(), topic.clone());
                publishers.spawn(async move {
                    for _ in (publisher..messages).step_by(OUTSTANDING) {
                        client.publish(&topic, message()?).await?;
                    }
                    Ok::<_, BenchError>(())
                });
            }
            while let Some(publisher) = publishers.join_next().await {
                publisher.map_err(|error| BenchError::peer(OURS, error))??;
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}

/// The log under durable topics, by itself: each message is settled once it is confirmed.
fn log() -> Result<Contender, BenchError> {
    let dir = tempfile::tempdir()?;
    let (log, _) = Log::open(dir.path(), Options::default()).map_err(BenchError::log)?;
    let (slot, _registered) = log.register("bench", b"").map_err(BenchError::log)?;
    let next = Arc::new(AtomicU64::new(1));
    Ok(Contender::new("echo-log", move |messages| {
        // The files live as long as the rounds.
        let _dir = &dir;
        let (log, next) = (log.clone(), Arc::clone(&next));
        async move {
            let began = Instant::now();
            let first = next.fetch_add(messages, Ordering::Relaxed);
            let mut outstanding = VecDeque::with_capacity(OUTSTANDING);
            for number in first..first + messages {
                if outstanding.len() == OUTSTANDING
                    && let Some(oldest) = outstanding.pop_front()
                {
                    confirmed(&log, slot, oldest).await.map_err(BenchError::log)?;
                }
                outstanding.push_back(append(&log, slot, number).await.map_err(BenchError::log)?);
            }
            for each in outstanding {
                confirmed(&log, slot, each).await.map_err(BenchError::log)?;
            }
            Ok(Round::since(began, messages))
        }
    }))
}

async fn append(
    log: &Log,
    slot: SlotId,
    number: u64,
) -> Result<(Option<Placed>, Durable), LogError> {
    let id = u128::from(number).to_be_bytes();
    let message = Message { id, slots: &[slot], body: &[DATA] };
    let receipt = log.commit(&Transaction { messages: &[message], ..Default::default() }).await?;
    Ok((receipt.placed.first().copied(), receipt.durable))
}

async fn confirmed(
    log: &Log,
    slot: SlotId,
    (placed, durable): (Option<Placed>, Durable),
) -> Result<(), LogError> {
    durable.await?;
    if let Some(Placed::New(sequence)) = placed {
        log.settle(slot, sequence, Settlement::Done);
    }
    Ok(())
}
