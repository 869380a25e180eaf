//! Ours beside NATS: in process beside a server on loopback, and over a server beside its bare client.

use tokio::runtime::Runtime;

use super::work_queue as queue;
use crate::BenchError;
use crate::harness::Contender;
use crate::work::Making;

/// The work queue in process, beside the same messages through a server.
pub(super) fn core(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = queue::both(Making::Prebuilt).await?;
        #[cfg(feature = "bench-peers")]
        sides.push(crate::peers::nats::core().await?);
        Ok(sides)
    })
}

#[cfg(feature = "bench-peers")]
pub(super) use over_a_server::{publish, work_queue};

/// Our transport over a server; only there where the bare client is.
#[cfg(feature = "bench-peers")]
mod over_a_server {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use echo_bus::{SubscribeOptions, Transport};
    use echo_core::{Config, Host};
    use echo_nats::{DurableOptions, DurableTopics, NatsOptions, NatsTransport};
    use echo_sdk::{Pattern, Topic};
    use futures_util::StreamExt as _;
    use futures_util::stream::FuturesUnordered;
    use tokio::runtime::Runtime;
    use tokio::task::JoinSet;

    use crate::BenchError;
    use crate::cases::work_queue::Working;
    use crate::harness::{Contender, OURS, Round};
    use crate::ours::{Place, exports};
    use crate::peers::nats::{self, AHEAD, LOOK_EVERY, Sending};
    use crate::peers::nats_server::NatsServer;
    use crate::tally::Tally;
    use crate::work::{Making, OUTSTANDING, TOPIC, message};

    /// A topic that does not last: one host publishes, another subscribes.
    pub(crate) fn publish(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
        runtime.block_on(async {
            let bare = nats::publish("async-nats", Sending::data()).await?;
            let same_bytes = nats::publish("async-nats_same_bytes", Sending::message()?).await?;
            Ok(vec![publish_ours().await?, bare, same_bytes])
        })
    }

    /// A work queue on JetStream.
    pub(crate) fn work_queue(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
        runtime.block_on(async {
            let bare = nats::work_queue("async-nats", Sending::data()).await?;
            let same_bytes = nats::work_queue("async-nats_same_bytes", Sending::message()?).await?;
            Ok(vec![work_queue_ours().await?, bare, same_bytes])
        })
    }

    async fn connect(server: &NatsServer, is_durable: bool) -> Result<NatsTransport, BenchError> {
        let patterns = vec![Pattern::new(TOPIC)?];
        let topics = DurableTopics { stream: "bench".to_owned(), patterns };
        let topics = if is_durable { vec![topics] } else { Vec::new() };
        // Ids are made up, so that nothing is gained from remembering them for long; the peer's default is the same.
        let duplicate_window = Duration::from_secs(120);
        let durable = DurableOptions { topics, duplicate_window, ..DurableOptions::default() };
        let options = NatsOptions { urls: vec![server.url()], durable, ..NatsOptions::default() };
        NatsTransport::connect(options).await.map_err(|error| BenchError::peer(OURS, error))
    }

    async fn publish_ours() -> Result<Contender, BenchError> {
        let server = NatsServer::start()?;
        let (publisher, reader) = (connect(&server, false).await?, connect(&server, false).await?);
        let pattern = Pattern::new(TOPIC)?;
        let subscribed = reader.subscribe(&pattern, SubscribeOptions::default()).await;
        let mut subscription = subscribed.map_err(|error| BenchError::peer(OURS, error))?;
        let handled = Arc::<Tally>::default();
        let counting = Arc::clone(&handled);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Some(received) = subscription.next().await {
                std::hint::black_box(received.message);
                counting.add(1);
            }
        });
        let host = Host::builder().config(Config::default()).telemetry(exports()?);
        let host = host.transport(Arc::new(publisher)).start().await?;
        let (client, topic) = (host.client("bench-client"), Topic::new(TOPIC)?);
        let prebuilt = message()?;
        Ok(Contender::new(OURS, move |messages| {
            // The server, the host and the reader live as long as the rounds.
            let _alive = (&server, &host, &reader, &reading);
            let (client, topic, prebuilt) = (client.clone(), topic.clone(), prebuilt.clone());
            let handled = Arc::clone(&handled);
            async move {
                let (before, began) = (handled.sum(), Instant::now());
                for number in 0..messages {
                    client.publish(&topic, prebuilt.clone()).await?;
                    while number.is_multiple_of(LOOK_EVERY)
                        && (before + number).saturating_sub(handled.sum()) > AHEAD
                    {
                        tokio::task::yield_now().await;
                    }
                }
                handled.reach(before + messages).await;
                Ok(Round::since(began, messages))
            }
        }))
    }

    /// Confirmed publishes by one host, 8 workers of another host acknowledge each message.
    async fn work_queue_ours() -> Result<Contender, BenchError> {
        let server = NatsServer::start()?;
        let (publisher, worker) = (connect(&server, true).await?, connect(&server, true).await?);
        let handled = Arc::<Tally>::default();
        let counting = Arc::clone(&handled);
        let plugin = move |_| Ok(Working::new(Making::Prebuilt, Arc::clone(&counting)));
        let host = || Ok::<_, BenchError>(Host::builder().telemetry(exports()?));
        let working = host()?.transport(Arc::new(worker));
        let working = working.plugin(Place::default().manifest()?, plugin).start().await?;
        let publishing = host()?.transport(Arc::new(publisher)).start().await?;
        let (client, topic) = (publishing.client("bench-client"), Topic::new(TOPIC)?);
        Ok(Contender::new(OURS, move |messages| {
            // The server and the hosts live as long as the rounds.
            let _alive = (&server, &working, &publishing);
            let (client, topic, handled) = (client.clone(), topic.clone(), Arc::clone(&handled));
            async move {
                let (before, began) = (handled.sum(), Instant::now());
                let mut outstanding = FuturesUnordered::new();
                for _ in 0..messages {
                    if outstanding.len() == OUTSTANDING
                        && let Some(confirmed) = outstanding.next().await
                    {
                        confirmed?;
                    }
                    // Each is a message of its own: a second one of the same id would be dropped.
                    outstanding.push(client.publish(&topic, message()?));
                }
                while let Some(confirmed) = outstanding.next().await {
                    confirmed?;
                }
                handled.reach(before + messages).await;
                Ok(Round::since(began, messages))
            }
        }))
    }
}
