//! A queue that workers share.

use std::sync::Arc;
use std::time::Instant;

use echo_sdk::{BaseMessage, Plugin, PluginError, ProcessingStatus, Topic};
use tokio::runtime::Runtime;

use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::ours::{Place, host, name, publish};
use crate::tally::Tally;
use crate::work::{BATCH, Making, Reading, TOPIC, message};

pub(super) fn prebuilt(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    sides(runtime, Making::Prebuilt)
}

pub(super) fn fresh(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    sides(runtime, Making::Fresh)
}

fn sides(runtime: &Runtime, making: Making) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = both(making).await?;
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

/// A publisher that hands over several messages at once, and one that publishes each by itself.
pub(super) async fn both(making: Making) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![ours(making, BATCH).await?, ours(making, 1).await?])
}

async fn ours(making: Making, batch: u64) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let counting = Arc::clone(&handled);
    let plugin = move |_| Ok(Working::new(making, Arc::clone(&counting)));
    let host = host(Place::default(), plugin).await?;
    let client = host.client("bench-client");
    let topic = Topic::new(TOPIC)?;
    let prebuilt = message()?;
    Ok(Contender::new(name(batch), move |messages| {
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
            publish(&client, &topic, messages, batch, make).await?;
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}
