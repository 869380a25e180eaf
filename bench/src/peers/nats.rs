//! async-nats, bare, against a server: NATS core, JetStream's storage, and a work queue on JetStream.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::nats_server::NatsServer;
use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{DATA, OUTSTANDING, TOPIC, WORKERS};

/// How far a publisher may be ahead of the reader: less than the client drops at, far more than a round
/// trip needs.
const AHEAD: u64 = 32_768;

/// How often it looks how far that is.
const LOOK_EVERY: u64 = 1024;

/// How many messages a consumer asks for at once.
const PULL: usize = 1024;

fn failed<E: Display>(peer: &'static str) -> impl Fn(E) -> BenchError {
    move |error| BenchError::peer(peer, error)
}

async fn connect(peer: &'static str, url: &str) -> Result<Client, BenchError> {
    let options = ConnectOptions::new().subscription_capacity(4 * AHEAD as usize);
    options.connect(url).await.map_err(failed(peer))
}

/// NATS core through the server: one connection publishes, another subscribes.
pub(crate) async fn core() -> Result<Contender, BenchError> {
    let server = NatsServer::start()?;
    let url = server.url();
    through("nats-server", &url, server).await
}

/// NATS core through whoever listens at the address; `server` lives as long as the rounds.
pub(crate) async fn through(
    peer: &'static str,
    url: &str,
    server: impl Send + Sync + 'static,
) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let reader = connect(peer, url).await?;
    let mut subscription = reader.subscribe(TOPIC).await.map_err(failed(peer))?;
    reader.flush().await.map_err(failed(peer))?;
    let mut reading = JoinSet::new();
    let counting = Arc::clone(&handled);
    reading.spawn(async move {
        while let Some(message) = subscription.next().await {
            std::hint::black_box(message.payload);
            counting.add(1);
        }
    });
    let publisher = connect(peer, url).await?;
    Ok(Contender::new(peer, move |messages| {
        // The server and the reader live as long as the rounds.
        let _alive = (&server, &reader, &reading);
        let (publisher, handled) = (publisher.clone(), Arc::clone(&handled));
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            for number in 0..messages {
                let sent = publisher.publish(TOPIC, DATA.as_slice().into()).await;
                sent.map_err(failed(peer))?;
                while number.is_multiple_of(LOOK_EVERY)
                    && (before + number).saturating_sub(handled.sum()) > AHEAD
                {
                    tokio::task::yield_now().await;
                }
            }
            publisher.flush().await.map_err(failed(peer))?;
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}

/// A stream in a file, which is read to its end and cut off between the rounds by its own limits.
async fn make_stream(
    peer: &'static str,
    context: &jetstream::Context,
    retention: stream::RetentionPolicy,
) -> Result<stream::Stream, BenchError> {
    let config = stream::Config {
        name: "bench".to_owned(),
        subjects: vec![TOPIC.to_owned()],
        storage: stream::StorageType::File,
        retention,
        ..stream::Config::default()
    };
    context.create_stream(config).await.map_err(failed(peer))
}

/// Publishes with so many confirmations outstanding, the oldest awaited first.
async fn publish_confirmed(
    peer: &'static str,
    context: &jetstream::Context,
    messages: u64,
) -> Result<(), BenchError> {
    let mut outstanding = VecDeque::with_capacity(OUTSTANDING);
    for _ in 0..messages {
        if outstanding.len() == OUTSTANDING
            && let Some(oldest) = outstanding.pop_front()
        {
            confirmed(peer, oldest).await?;
        }
        let sent = context.publish(TOPIC, DATA.as_slice().into()).await;
        outstanding.push_back(sent.map_err(failed(peer))?);
    }
    for sent in outstanding {
        confirmed(peer, sent).await?;
    }
    Ok(())
}

async fn confirmed(
    peer: &'static str,
    sent: jetstream::context::PublishAckFuture,
) -> Result<(), BenchError> {
    sent.await.map(drop).map_err(failed(peer))
}

/// JetStream's file storage: a publish is confirmed when the server has written it, not when it is synced.
pub(crate) async fn durable() -> Result<Contender, BenchError> {
    const PEER: &str = "jetstream";
    let server = NatsServer::start()?;
    let context = jetstream::new(connect(PEER, &server.url()).await?);
    make_stream(PEER, &context, stream::RetentionPolicy::Limits).await?;
    Ok(Contender::new(PEER, move |messages| {
        // The server lives as long as the rounds.
        let _server = &server;
        let context = context.clone();
        async move {
            let began = Instant::now();
            publish_confirmed(PEER, &context, messages).await?;
            Ok(Round::since(began, messages))
        }
    }))
}

/// A work queue on JetStream: confirmed publishes, a durable pull consumer whose workers acknowledge each
/// message.
pub(crate) async fn work_queue() -> Result<Contender, BenchError> {
    const PEER: &str = "async-nats";
    let server = NatsServer::start()?;
    let reading = jetstream::new(connect(PEER, &server.url()).await?);
    let stream = make_stream(PEER, &reading, stream::RetentionPolicy::WorkQueue).await?;
    let config = pull::Config {
        durable_name: Some("bench".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: AHEAD as i64,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(failed(PEER))?;
    let handled = Arc::<Tally>::default();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let messages = consumer.stream().max_messages_per_batch(PULL / WORKERS).messages();
        let mut messages = messages.await.map_err(failed(PEER))?;
        let handled = Arc::clone(&handled);
        workers.spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                std::hint::black_box(&message.payload);
                // One that is not acknowledged comes again; the count below then tells of it.
                if message.ack().await.is_ok() {
                    handled.add(1);
                }
            }
        });
    }
    let context = jetstream::new(connect(PEER, &server.url()).await?);
    Ok(Contender::new(PEER, move |messages| {
        // The server and the workers live as long as the rounds.
        let _alive = (&server, &workers);
        let (context, handled) = (context.clone(), Arc::clone(&handled));
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            publish_confirmed(PEER, &context, messages).await?;
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}
