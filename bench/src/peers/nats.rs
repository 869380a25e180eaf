//! async-nats, bare, against a server: NATS core, JetStream's storage, and a work queue on JetStream.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, HeaderMap};
use bytes::Bytes;
use echo_bus::wire;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::nats_server::NatsServer;
use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{DATA, OUTSTANDING, TOPIC, WORKERS, message};

/// How far a publisher may be ahead of the reader: less than the client drops at, far more than a round
/// trip needs.
pub(crate) const AHEAD: u64 = 32_768;

/// How often it looks how far that is.
pub(crate) const LOOK_EVERY: u64 = 1024;

/// How many messages a consumer asks for at once.
const PULL: usize = 1024;

/// What goes out.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    payload: Bytes,
    headers: Option<HeaderMap>,
}

impl Sending {
    /// The data alone.
    pub(crate) fn data() -> Self {
        Self { payload: Bytes::from_static(DATA), headers: None }
    }

    /// What our own message is on the wire.
    pub(crate) fn message() -> Result<Self, BenchError> {
        let message = message()?;
        let mut headers = HeaderMap::new();
        wire::headers(&message, |name, value| headers.append(name, value));
        Ok(Self { payload: wire::payload(&message)?.into_owned().into(), headers: Some(headers) })
    }
}

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
    through("nats-server", &url, Sending::data(), server).await
}

/// The same beside our transport.
pub(crate) async fn publish(peer: &'static str, sending: Sending) -> Result<Contender, BenchError> {
    let server = NatsServer::start()?;
    let url = server.url();
    through(peer, &url, sending, server).await
}

/// NATS core through whoever listens at the address; `server` lives as long as the rounds.
pub(crate) async fn through(
    peer: &'static str,
    url: &str,
    sending: Sending,
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
        let sending = sending.clone();
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            for number in 0..messages {
                let sent = match &sending.headers {
                    None => publisher.publish(TOPIC, sending.payload.clone()).await,
                    Some(headers) => {
                        let (headers, payload) = (headers.clone(), sending.payload.clone());
                        publisher.publish_with_headers(TOPIC, headers, payload).await
                    }
                };
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
    sending: &Sending,
    messages: u64,
) -> Result<(), BenchError> {
    let mut outstanding = VecDeque::with_capacity(OUTSTANDING);
    for _ in 0..messages {
        if outstanding.len() == OUTSTANDING
            && let Some(oldest) = outstanding.pop_front()
        {
            confirmed(peer, oldest).await?;
        }
        let sent = match &sending.headers {
            None => context.publish(TOPIC, sending.payload.clone()).await,
            Some(headers) => {
                let mut headers = headers.clone();
                // Each is a message of its own: a second one of the same id would be dropped.
                let id = uuid::Uuid::now_v7().to_string();
                headers.insert(wire::header::ID, id);
                context.publish_with_headers(TOPIC, headers, sending.payload.clone()).await
            }
        };
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
            publish_confirmed(PEER, &context, &Sending::data(), messages).await?;
            Ok(Round::since(began, messages))
        }
    }))
}

/// A work queue on JetStream: confirmed publishes, a durable pull consumer whose workers acknowledge each
/// message.
pub(crate) async fn work_queue(
    peer: &'static str,
    sending: Sending,
) -> Result<Contender, BenchError> {
    let server = NatsServer::start()?;
    let reading = jetstream::new(connect(peer, &server.url()).await?);
    let stream = make_stream(peer, &reading, stream::RetentionPolicy::WorkQueue).await?;
    let config = pull::Config {
        durable_name: Some("bench".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: AHEAD as i64,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(failed(peer))?;
    let handled = Arc::<Tally>::default();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let messages = consumer.stream().max_messages_per_batch(PULL / WORKERS).messages();
        let mut messages = messages.await.map_err(failed(peer))?;
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
    let context = jetstream::new(connect(peer, &server.url()).await?);
    Ok(Contender::new(peer, move |messages| {
        // The server and the workers live as long as the rounds.
        let _alive = (&server, &workers);
        let (context, handled) = (context.clone(), Arc::clone(&handled));
        let sending = sending.clone();
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            publish_confirmed(peer, &context, &sending, messages).await?;
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}
