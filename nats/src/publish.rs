//! Publishing.
//!
//! A topic that does not last: the message goes into the connection's queue, and that is all; where the queue is
//! full, publishing waits. A durable topic: the message goes out with an id, and is sent again under the same id
//! until the server confirms it, across reconnects; many may be on their way at a time. The server drops what it
//! has already.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::{self, ErrorCode, message::PublishMessage};
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;
use echo_bus::{Admission, wire};
use echo_sdk::{BaseMessage, Form, PublishError, Received, Topic};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::NatsOptions;
use crate::connection::Connection;
use crate::pending::Pending;
use crate::streams::Streams;
use crate::subject;

/// How long to wait before asking a server again that could not answer: growing up to the last.
const PATIENCE: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// What a message is recognised by when it comes to the server a second time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Identity<'a> {
    /// By its own id; on another topic it is another message.
    Own,
    /// By what it follows from: where that came from, and which of its effects it is.
    Effect(&'a [u8], usize),
}

/// A message as it goes out.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    subject: Subject,
    message: BaseMessage,
    payload: Bytes,
    way: Way,
}

impl Outgoing {
    /// Its headers; made for each time that it is sent, which is once for nearly all.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let id = match self.way {
            Way::Durable { id, .. } => id,
            Way::Core { .. } => None,
        };
        wire::headers(&self.message, |name, value| {
            // The server is to know it by another id than its own.
            if id.is_none() || name != wire::header::ID {
                append(&mut headers, name, value);
            }
        });
        if let Some(id) = id {
            let mut text = Uuid::encode_buffer();
            headers.insert(wire::header::ID, &*id.as_hyphenated().encode_lower(&mut text));
        }
        headers
    }
}

#[derive(Debug, Clone)]
enum Way {
    Core {
        reply: Option<Subject>,
    },
    /// Messages of one partition go one after another.
    Durable {
        partition: Option<u16>,
        /// The id that the server knows it by, where it has not named itself.
        id: Option<Uuid>,
    },
}

/// Publishes for one host.
pub(crate) struct Publisher {
    pub(crate) connection: Arc<Connection>,
    pub(crate) streams: Arc<Streams>,
    admission: Option<Arc<dyn Admission>>,
    max_payload: usize,
    partitions: u16,
    timeout: Duration,
    max_waiting: usize,
    outbox: mpsc::UnboundedSender<Outgoing>,
    /// What is in the outbox.
    pub(crate) waiting: Arc<Pending>,
    /// All that runs beside whoever uses the transport.
    pub(crate) tasks: TaskTracker,
}

impl Publisher {
    pub(crate) fn new(
        connection: Arc<Connection>,
        streams: Arc<Streams>,
        options: &NatsOptions,
    ) -> Arc<Self> {
        let (outbox, queue) = mpsc::unbounded_channel();
        let this = Arc::new(Self {
            connection,
            streams,
            admission: options.admission.clone(),
            max_payload: options.max_payload,
            partitions: options.durable.partitions,
            timeout: options.publish_timeout,
            max_waiting: options.max_outstanding.max(1),
            outbox,
            waiting: Arc::default(),
            tasks: TaskTracker::new(),
        });
        tokio::spawn(run_outbox(Arc::downgrade(&this), queue, Arc::clone(&this.waiting)));
        this
    }

    /// Checks a message and writes it as it goes out.
    pub(crate) fn prepare(
        &self,
        topic: &Topic,
        message: &BaseMessage,
        identity: Identity<'_>,
    ) -> Result<Outgoing, PublishError> {
        let (len, max) = (message.size(), self.max_payload);
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        if let Some(admission) = &self.admission {
            admission.admit(topic, message)?;
        }
        // What is published starts over in each slot.
        let message = match message.attempt() {
            0 => message.clone(),
            _ => message.clone().with_attempt(0),
        };
        let payload = match wire::payload(&message)? {
            std::borrow::Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let (len, max) = (payload.len(), self.connection.client.max_payload());
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        if !self.streams.keep(topic) {
            let reply = message.reply_to().map(|reply| Subject::from(reply.as_str()));
            let subject = Subject::from(topic.as_str());
            return Ok(Outgoing { subject, message, payload, way: Way::Core { reply } });
        }
        // A tool that names its message knows why.
        let is_named = message.form() != Form::Message && message.field(wire::header::ID).is_some();
        let id = (!is_named).then(|| self.id(topic, &message, identity));
        let partition = message.key().map(|key| subject::partition(key, self.partitions));
        let subject = match partition {
            Some(partition) => Subject::from(subject::keyed(partition, topic.as_str())),
            None => Subject::from(topic.as_str()),
        };
        Ok(Outgoing { subject, message, payload, way: Way::Durable { partition, id } })
    }

    fn id(&self, topic: &Topic, message: &BaseMessage, identity: Identity<'_>) -> Uuid {
        match identity {
            Identity::Own => subject::id_of([message.id().as_bytes(), topic.as_str().as_bytes()]),
            Identity::Effect(origin, index) => {
                subject::id_of([origin, &(index as u64).to_be_bytes(), topic.as_str().as_bytes()])
            }
        }
    }

    /// Publishes one message; a durable one is on the server then.
    pub(crate) async fn send(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        match outgoing.way {
            Way::Core { .. } => self.send_core(outgoing).await,
            Way::Durable { .. } => self.store(&outgoing).await,
        }
    }

    /// Publishes several messages, those of one partition in their order: the durable ones first, since these
    /// can be published a second time without effect when one of them fails.
    pub(crate) async fn send_all(&self, all: Vec<Outgoing>) -> Result<(), PublishError> {
        let mut core = Vec::new();
        let mut alone = Vec::new();
        let mut keyed: std::collections::BTreeMap<u16, Vec<Outgoing>> = Default::default();
        for outgoing in all {
            match outgoing.way {
                Way::Core { .. } => core.push(outgoing),
                Way::Durable { partition: None, .. } => alone.push(outgoing),
                Way::Durable { partition: Some(partition), .. } => {
                    keyed.entry(partition).or_default().push(outgoing);
                }
            }
        }
        let alone = try_join_all(alone.iter().map(|outgoing| self.store(outgoing)));
        let keyed = try_join_all(keyed.values().map(async |queue| {
            for outgoing in queue {
                self.store(outgoing).await?;
            }
            Ok::<_, PublishError>(())
        }));
        tokio::try_join!(alone, keyed)?;
        for outgoing in core {
            self.send_core(outgoing).await?;
        }
        Ok(())
    }

    /// Publishes without waiting. A durable message is sent, and again until the server has it, after this has
    /// returned.
    pub(crate) fn try_send(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let full = || PublishError::Full { slot: "the NATS connection".to_owned() };
        if matches!(outgoing.way, Way::Durable { .. }) || self.waiting.count() > 0 {
            if self.waiting.count() >= self.max_waiting {
                return Err(full());
            }
            return self.queue(outgoing);
        }
        let sending = tokio::task::unconstrained(self.send_core(outgoing));
        sending.now_or_never().unwrap_or_else(|| Err(full()))
    }

    /// Publishes if that takes no waiting; says whether it did.
    pub(crate) fn offer(&self, topic: &Topic, message: &BaseMessage) -> Result<bool, PublishError> {
        if self.streams.keep(topic) || self.waiting.count() > 0 {
            return Ok(false);
        }
        let outgoing = self.prepare(topic, message, Identity::Own)?;
        let sent = tokio::task::unconstrained(self.send_core(outgoing)).now_or_never();
        sent.map_or(Ok(false), |sent| sent.map(|()| true))
    }

    /// Publishes now if it can be, or else as soon as it can be, past all bounds.
    pub(crate) fn send_unbounded(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        if matches!(outgoing.way, Way::Durable { .. }) || self.waiting.count() > 0 {
            return self.queue(outgoing);
        }
        let sending = tokio::task::unconstrained(self.send_core(outgoing.clone()));
        sending.now_or_never().unwrap_or_else(|| self.queue(outgoing))
    }

    fn queue(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        self.waiting.begin();
        self.outbox.send(outgoing).map_err(|_| PublishError::Closed)
    }

    async fn send_core(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let headers = outgoing.headers();
        let Outgoing { subject, payload, way, .. } = outgoing;
        let client = &self.connection.client;
        let sent = match way {
            Way::Core { reply: Some(reply) } => {
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
            _ => client.publish_with_headers(subject, headers, payload).await,
        };
        sent.map_err(|error| PublishError::Transport(error.to_string()))
    }

    /// Sends a durable message until the server has it.
    async fn store(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        let Some(jetstream) = &self.connection.jetstream else {
            return Err(PublishError::Transport("JetStream is not enabled".to_owned()));
        };
        let deadline = Instant::now() + self.timeout;
        let mut epoch = self.connection.epoch.clone();
        let mut patience = PATIENCE.iter();
        let mut wait = PATIENCE[0];
        loop {
            epoch.mark_unchanged();
            // After a reconnect nobody knows whether the server had it.
            let lost = async {
                if epoch.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let stored = tokio::select! {
                stored = tokio::time::timeout_at(deadline, store_once(jetstream, outgoing)) => stored,
                () = lost => continue,
            };
            let error = match stored {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if is_passing(&error) && Instant::now() < deadline => error,
                Ok(Err(error)) => return Err(PublishError::Transport(error.to_string())),
                Err(_) => {
                    let timeout = echo_sdk::duration::format(self.timeout);
                    let text = format!("the NATS server confirmed nothing within {timeout}");
                    return Err(PublishError::Transport(text));
                }
            };
            tracing::debug!(%error, "a durable message is sent again");
            wait = patience.next().copied().unwrap_or(wait);
            tokio::time::sleep(wait).await;
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("streams", &self.streams).finish_non_exhaustive()
    }
}

async fn store_once(
    jetstream: &jetstream::Context,
    outgoing: &Outgoing,
) -> Result<(), jetstream::context::PublishError> {
    let message =
        PublishMessage::build().headers(outgoing.headers()).payload(outgoing.payload.clone());
    jetstream.send_publish(outgoing.subject.clone(), message).await?.await.map(drop)
}

/// Whether a server may well take a message that it did not take now.
fn is_passing(error: &jetstream::context::PublishError) -> bool {
    match error.kind() {
        // Nobody answers while JetStream starts.
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::StreamNotFound => true,
        PublishErrorKind::Other => {
            let source = std::error::Error::source(error);
            let answer = source.and_then(|it| it.downcast_ref::<jetstream::Error>());
            // A full stream says 503 as well, and stays full.
            answer.is_some_and(|answer| {
                answer.code() == 503 && answer.error_code() != ErrorCode::STREAM_STORE_FAILED
            })
        }
        _ => false,
    }
}

/// Adds a header, unless it can be none: what a message holds was checked when it was made.
fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (header_name(name), value.parse::<HeaderValue>()) {
        headers.append(name, value);
    }
}

/// The name of a header; those that most messages have take no memory of their own.
fn header_name(name: &str) -> Result<HeaderName, <HeaderName as std::str::FromStr>::Err> {
    use wire::header::{ATTEMPT, HOPS, KEY, SCHEMA, TRACEPARENT, TRACESTATE};
    let known = [TRACEPARENT, KEY, HOPS, SCHEMA, TRACESTATE, ATTEMPT];
    match known.into_iter().find(|known| *known == name) {
        Some(known) => Ok(HeaderName::from_static(known)),
        None => name.parse(),
    }
}

/// Publishes what could not wait to be published, one after another, until the publisher is gone.
async fn run_outbox(
    publisher: std::sync::Weak<Publisher>,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    waiting: Arc<Pending>,
) {
    while let Some(outgoing) = queue.recv().await {
        let Some(publisher) = publisher.upgrade() else { return };
        let subject = outgoing.subject.clone();
        if let Err(error) = publisher.send(outgoing).await {
            tracing::error!(%subject, %error, "a message could not be published");
        }
        waiting.end();
    }
}

/// What a commit or a batch publishes, checked and written.
pub(crate) fn prepare_all(
    publisher: &Publisher,
    batch: &[Received],
    origin: Option<&[u8]>,
) -> Result<Vec<Outgoing>, PublishError> {
    let identity = |index| origin.map_or(Identity::Own, |origin| Identity::Effect(origin, index));
    let prepare = |(index, received): (usize, &Received)| {
        publisher.prepare(&received.topic, &received.message, identity(index))
    };
    batch.iter().enumerate().map(prepare).collect()
}
