//! One publisher and many readers, many publishers and one reader.

use std::sync::Arc;
use std::time::Instant;

use echo_core::{Config, Host};
use echo_sdk::{BaseMessage, Plugin, PluginError, ProcessingStatus, Topic};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::ours::{Place, exports, host, name, publish};
use crate::tally::Tally;
use crate::work::{BATCH, FAN, TOPIC, message};

/// Counts what it handles.
struct Counting {
    name: String,
    handled: Arc<Tally>,
}

impl Plugin for Counting {
    fn name(&self) -> &str {
        &self.name
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        std::hint::black_box(message);
        self.handled.add(1);
        Ok(ProcessingStatus::Acknowledged)
    }
}

pub(super) fn out(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = vec![ours_out(BATCH).await?, ours_out(1).await?];
        #[cfg(feature = "bench-peers")]
        sides.push(crate::peers::fan_out());
        Ok(sides)
    })
}

pub(super) fn into_one(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = vec![ours_in(BATCH).await?, ours_in(1).await?];
        #[cfg(feature = "bench-peers")]
        sides.extend(crate::peers::fan_in());
        Ok(sides)
    })
}

/// Plugins of one worker each, all subscribed to the topic.
async fn ours_out(batch: u64) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let mut builder = Host::builder().config(Config::default()).telemetry(exports()?);
    for number in 0..FAN {
        let name = format!("bench-{number}");
        let place = Place { name: &name, workers: 1, ..Place::default() };
        let (manifest, counting) = (place.manifest()?, Arc::clone(&handled));
        builder = builder.plugin(manifest, move |_| {
            Ok(Counting { name: name.clone(), handled: Arc::clone(&counting) })
        });
    }
    let host = builder.start().await?;
    let client = host.client("bench-client");
    let (topic, prebuilt) = (Topic::new(TOPIC)?, message()?);
    Ok(Contender::new(name(batch), move |messages| {
        // The host lives as long as the rounds.
        let _host = &host;
        let (client, topic, prebuilt) = (client.clone(), topic.clone(), prebuilt.clone());
        let handled = Arc::clone(&handled);
        async move {
            let deliveries = messages * FAN as u64;
            let (before, began) = (handled.sum(), Instant::now());
            publish(&client, &topic, messages, batch, || Ok(prebuilt.clone())).await?;
            handled.reach(before + deliveries).await;
            Ok(Round::since(began, deliveries))
        }
    }))
}

/// A plugin of one worker, and publishers that are tasks.
async fn ours_in(batch: u64) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let counting = Arc::clone(&handled);
    let place = Place { workers: 1, ..Place::default() };
    let plugin = move |_| Ok(Counting { name: "bench".to_owned(), handled: Arc::clone(&counting) });
    let host = host(place, plugin).await?;
    let (topic, prebuilt) = (Topic::new(TOPIC)?, message()?);
    Ok(Contender::new(name(batch), move |messages| {
        let clients: Vec<_> = (0..FAN).map(|_| host.client("bench-client")).collect();
        let (topic, prebuilt, handled) = (topic.clone(), prebuilt.clone(), Arc::clone(&handled));
        async move {
            let each = messages.div_ceil(FAN as u64);
            let (before, began) = (handled.sum(), Instant::now());
            let mut publishers = JoinSet::new();
            for client in clients {
                let (topic, prebuilt) = (topic.clone(), prebuilt.clone());
                publishers.spawn(async move {
                    publish(&client, &topic, each, batch, || Ok(prebuilt.clone())).await
                });
            }
            while let Some(published) = publishers.join_next().await {
                published.map_err(std::io::Error::from)??;
            }
            let delivered = each * FAN as u64;
            handled.reach(before + delivered).await;
            Ok(Round::since(began, delivered))
        }
    }))
}
