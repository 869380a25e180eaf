//! Publishing.
//!
//! A topic that does not last: the message goes into the [lane](crate::lane) to the connection, and that is all; where
//! that is full, publishing waits. A durable topic: the message goes out with an id, and is sent again under the same id
//! until the server confirms it, across reconnects; many may be on their way at a time. The server drops what it
//! has already.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use echo_bus::{Admission, wire};
use echo_sdk::{BaseMessage, Form, Offer, PublishError, Received, Topic};
use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::NatsOptions;
use crate::confirm::Unconfirmed;
use crate::connection::{Connection, PARTING};
use crate::lane::{Lane, Left};
use crate::outgoing::{self, Outgoing, Way};
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
    /// The way of what does not last.
    pub(crate) lane: Arc<Lane>,
    lane_task: Option<JoinHandle<()>>,
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
        let lane = Arc::<Lane>::default();
        let lane_task = tokio::spawn(Arc::clone(&lane).run(Arc::clone(&connection)));
        let this = Arc::new(Self {
            connection,
            streams,
            admission: options.admission.clone(),
            max_payload: options.max_payload,
            partitions: options.durable.partitions,
            timeout: options.publish_timeout,
            max_waiting: options.max_outstanding.max(1),
            outbox,
            lane,
            lane_task: Some(lane_task),
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
        message: BaseMessage,
        identity: Identity<'_>,
    ) -> Result<Outgoing, PublishError> {
        let (len, max) = (message.size(), self.max_payload);
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        if let Some(admission) = &self.admission {
            admission.admit(topic, &message)?;
        }
        // What is published starts over in each slot.
        let message = message.with_attempt(0);
        let payload = outgoing::payload(&message)?;
        // The server counts the headers in, which few messages have to care about.
        let max = self.connection.client.max_payload();
        let len = match payload.len() + message.size() + outgoing::HEADERS {
            small if small < max => small,
            _ => payload.len() + outgoing::headers_len(&message),
        };
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        if !self.streams.keep(topic) {
            let reply = message.reply_to().map(|reply| Subject::from(reply.as_str()));
            let subject = outgoing::subject(topic);
            return Ok(Outgoing { subject, message, payload, way: Way::Core { reply } });
        }
        // A tool that names its message knows why.
        let is_named = message.form() != Form::Message && message.field(wire::header::ID).is_some();
        let id = (!is_named).then(|| self.id(topic, &message, identity));
        let partition = message.key().map(|key| subject::partition(key, self.partitions));
        let subject = match partition {
            Some(partition) => Subject::from(subject::keyed(partition, topic.as_str())),
            None => outgoing::subject(topic),
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
            Way::Core { .. } => self.lane.send(outgoing).await,
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
        if core.is_empty() {
            return Ok(());
        }
        for outgoing in core {
            self.lane.send(outgoing).await?;
        }
        // What they follow from is acknowledged after them.
        self.lane.flushed().await;
        Ok(())
    }

    /// Publishes without waiting. A durable message is sent, and again until the server has it, after this has
    /// returned.
    pub(crate) fn try_send(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let full = || PublishError::Full { slot: "the NATS connection".to_owned() };
        match outgoing.way {
            Way::Core { .. } => self.lane.push(outgoing).map_err(|left| match left {
                Left::Full(_) => full(),
                Left::Broken(error) => error,
            }),
            Way::Durable { .. } if self.waiting.count() >= self.max_waiting => Err(full()),
            Way::Durable { .. } => self.queue(outgoing),
        }
    }

    /// Publishes if that takes no waiting.
    pub(crate) fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        if self.lane.is_full() || self.streams.keep(topic) {
            return Offer::Busy(message);
        }
        let outgoing = match self.prepare(topic, message, Identity::Own) {
            Ok(outgoing) => outgoing,
            Err(error) => return Offer::Refused(error),
        };
        match self.lane.push(outgoing) {
            Ok(()) => Offer::Taken,
            Err(Left::Full(back)) => Offer::Busy(back.message),
            Err(Left::Broken(error)) => Offer::Refused(error),
        }
    }

    /// Publishes now if it can be, or else as soon as it can be, past all bounds.
    pub(crate) fn send_unbounded(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        match outgoing.way {
            Way::Core { .. } => self.lane.push_unbounded(outgoing),
            Way::Durable { .. } => self.queue(outgoing),
        }
    }

    fn queue(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        self.waiting.begin();
        self.outbox.send(outgoing).map_err(|_| PublishError::Closed)
    }

    /// Sends a durable message until the server has it.
    async fn store(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        let Some(confirms) = &self.connection.confirms else {
            return Err(PublishError::Transport("JetStream is not enabled".to_owned()));
        };
        let deadline = Instant::now() + self.timeout;
        let mut patience = PATIENCE.iter();
        let mut wait = PATIENCE[0];
        loop {
            let Outgoing { subject, payload, .. } = outgoing;
            let (subject, payload) = (subject.clone(), payload.clone());
            let error = match confirms.publish(subject, outgoing.headers(), payload, deadline).await
            {
                Ok(()) => return Ok(()),
                Err(Unconfirmed::Lost) => continue,
                Err(error) => error,
            };
            if !error.is_passing() {
                return Err(PublishError::Transport(error.to_string()));
            }
            if Instant::now() >= deadline {
                let timeout = echo_sdk::duration::format(self.timeout);
                let text = format!("the NATS server confirmed nothing within {timeout}: {error}");
                return Err(PublishError::Transport(text));
            }
            tracing::debug!(%error, "a durable message is sent again");
            wait = patience.next().copied().unwrap_or(wait);
            tokio::time::sleep(wait).await;
        }
    }
}

impl Drop for Publisher {
    /// What was left last is on its way yet.
    fn drop(&mut self) {
        self.lane.close();
        let Some(mut task) = self.lane_task.take() else { return };
        self.connection.runtime.spawn(async move {
            if tokio::time::timeout(PARTING, &mut task).await.is_err() {
                task.abort();
            }
        });
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("streams", &self.streams).finish_non_exhaustive()
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
        publisher.prepare(&received.topic, received.message.clone(), identity(index))
    };
    batch.iter().enumerate().map(prepare).collect()
}
