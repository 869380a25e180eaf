//! A queue that workers share.

use std::sync::Arc;
use std::time::Instant;

use echo_sdk::{BaseMessage, Plugin, PluginError, ProcessingStatus, Topic};
use tokio::runtime::Runtime;

use crate::BenchError;
use crate::harness::{Contender, OURS, Round};
use crate::ours::{Place, host};
use crate::tally::Tally;
use crate::work::{Making, Reading, TOPIC, message};

/// How many messages the publisher hands over at once.
pub(super) const BATCH: u64 = 64;

pub(super) fn prebuilt(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    sides(runtime, Making::Prebuilt)
}

/// No peer but the hand-made bus publishes in batches, so the others are as in `work_queue`.
pub(super) fn one_by_one(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![runtime.block_on(ours(Making::Prebuilt, 1))?])
}

pub(super) fn fresh(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    sides(runtime, Making::Fresh)
}

fn sides(runtime: &Runtime, making: Making) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = vec![ours(making, BATCH).await?];
        #[cfg(feature = "bench-peers")]
        sides.extend(crate::peers::work_queue(making).await?);
        Ok(sides)
    })
}

/// Counts what it handles; reads a field of what was made for it.
pub(super) struct Working {
    making: Making,
    handled: Arc<Tally>,
}

impl Working {
    pub(super) fn new(making: Making, handled: Arc<Tally>) -> Self {
        Self { making, handled }
    }
}

impl Plugin for Working {
    fn name(&self) -> &str {
        "bench"
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        if self.making == Making::Fresh {
            let reading: Reading = message.json()?;
            std::hint::black_box(reading.number);
        }
        std::hint::black_box(message);
        self.handled.add(1);
        Ok(ProcessingStatus::Acknowledged)
    }
}

/// A publisher that hands over so many messages at once.
pub(super) async fn ours(making: Making, batch: u64) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let counting = Arc::clone(&handled);
    let plugin = move |_| Ok(Working::new(making, Arc::clone(&counting)));
    let host = host(Place::default(), plugin).await?;
    let client = host.client("bench-client");
    let topic = Topic::new(TOPIC)?;
    let prebuilt = message()?;
    Ok(Contender::new(OURS, move |messages| {
        // The host lives as long as the rounds.
        let _host = &host;
        let (client, topic, prebuilt) = (client.clone(), topic.clone(), prebuilt.clone());
        let handled = Arc::clone(&handled);
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            let make = || match making {
                Making::Prebuilt => Ok(prebuilt.clone()),
                Making::Fresh => message(),
            };
            let mut left = messages;
            while left > 0 {
                let count = left.min(batch);
                if batch == 1 {
                    client.publish(&topic, make()?).await?;
                } else {
                    let mut messages = Vec::with_capacity(count as usize);
                    for _ in 0..count {
                        messages.push(make()?);
                    }
                    client.publish_batch(&topic, messages).await?;
                }
                left -= count;
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}
