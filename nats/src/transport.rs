//! The transport over a NATS server.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::StatusCode;
use echo_bus::state::States;
use echo_bus::store::SharedStore;
use echo_bus::{BusError, Features, Slot, SlotOptions, SubscribeOptions, Transport};
use echo_sdk::{
    BaseMessage, BoxFuture, Offer, Pattern, PublishError, Received, RequestError, Subscription,
    Topic,
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::ending::Ending;
use crate::pending::Pending;
use crate::publish::{Identity, Publisher, prepare_all};
use crate::sieve::Sieve;
use crate::slot::NatsSlot;
use crate::states::StateBucket;
use crate::store::{self, NatsStore};
use crate::stream::{Heard, NatsStream};
use crate::streams::Streams;
use crate::{NatsError, NatsOptions, decode, subject};

/// Carries messages between hosts over a NATS server or cluster. Cheap to clone; the last clone closes the bus.
#[derive(Clone)]
pub struct NatsTransport(Arc<Hub>);

/// What the slots and subscriptions of a host share.
pub(crate) struct Hub {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) options: NatsOptions,
    ending: CancellationToken,
    /// Tasks of what was dropped or closed, which the server has not forgotten yet.
    leaving: Arc<Pending>,
    slots: Mutex<HashMap<String, Arc<Ending>>>,
    store: Arc<NatsStore>,
    pub(crate) states: Arc<StateBucket>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

impl NatsTransport {
    /// Connects to the server and sets up what is to last there. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`NatsError`] when no server answers or lets the host in, or a stream cannot be as the options say.
    pub async fn connect(options: NatsOptions) -> Result<Self, NatsError> {
        let connection = Connection::open(&options).await?;
        let streams = Streams::set_up(connection.jetstream.as_ref(), &options.durable).await?;
        let store =
            Arc::new(NatsStore::new(Arc::clone(&connection), &options.durable, store::SHARED));
        let states = StateBucket::new(&connection, &options.durable);
        let publisher = Publisher::new(connection, Arc::new(streams), &options);
        Ok(Self(Arc::new(Hub {
            publisher,
            options,
            ending: CancellationToken::new(),
            leaving: Arc::default(),
            slots: Mutex::default(),
            store,
            states,
        })))
    }

    fn check(&self) -> Result<&Publisher, PublishError> {
        if self.0.ending.is_cancelled() { Err(PublishError::Closed) } else { Ok(&self.0.publisher) }
    }

    async fn open(&self, options: SlotOptions) -> Result<Arc<dyn Slot>, BusError> {
        // The name stands in names at the server.
        Topic::new(&options.name)?;
        let name = options.name.clone();
        let ending = Ending::new(&self.0.ending, &self.0.leaving);
        {
            let mut slots = self.0.slots.lock();
            slots.retain(|_, ending| !ending.token().is_cancelled());
            if self.0.ending.is_cancelled() {
                return Err(BusError::Closed);
            }
            if slots.contains_key(&name) {
                return Err(BusError::SlotTaken(name));
            }
            slots.insert(name, Arc::clone(&ending));
        }
        // Until it is open, dropping this gives the name back.
        let opening = ending.token().clone().drop_guard();
        // One of the same name that was closed before may not take what is meant for this one.
        self.0.leaving.none().await;
        let slot = NatsSlot::open(&self.0, ending, options).await?;
        opening.disarm();
        Ok(Arc::new(slot))
    }

    async fn listen(
        &self,
        pattern: &Pattern,
        options: SubscribeOptions,
    ) -> Result<Subscription, BusError> {
        if self.0.ending.is_cancelled() {
            return Err(BusError::Closed);
        }
        let connection = &self.0.publisher.connection;
        let mut subjects = vec![(pattern.as_str().to_owned(), false)];
        if !self.0.publisher.streams.filters(std::slice::from_ref(pattern)).is_empty() {
            subjects.push((subject::keyed_of_any(pattern.as_str()), true));
        }
        let mut heard = Vec::new();
        // Nobody hears what was published before.
        self.0.publisher.lane.flushed().await;
        for (subject, is_keyed) in subjects {
            let subscribed = connection.client.subscribe(subject).await;
            let subscriber = subscribed.map_err(|error| BusError::Transport(error.to_string()))?;
            heard.push(Heard { subscriber, is_keyed });
        }
        let ending = Ending::new(&self.0.ending, &self.0.leaving);
        ending.has_tasks(1);
        let sieve = Sieve {
            patterns: vec![pattern.clone()],
            is_strict: false,
            durable: None,
            dropped: Arc::default(),
        };
        let (stream, looking_after) = NatsStream::new(heard, sieve, options, &ending);
        self.0.publisher.tasks.spawn(looking_after);
        connection.round_trip().await;
        Ok(Subscription::new(stream))
    }

    async fn ask(
        &self,
        topic: &Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> Result<BaseMessage, RequestError> {
        let publisher = self.check()?;
        let deadline = Instant::now() + timeout;
        let client = &publisher.connection.client;
        let timed_out = |_| RequestError::TimedOut { topic: topic.clone(), timeout };
        let failed = |error: String| RequestError::Publish(PublishError::Transport(error));
        // Who was dropped before does not hear this any more.
        timeout_at(deadline, self.0.leaving.none()).await.map_err(timed_out)?;
        let inbox = client.new_inbox();
        let reply = Topic::new(&inbox).map_err(PublishError::from)?;
        let message = message.with_reply_to(&reply).map_err(PublishError::from)?;
        let request = publisher.prepare(topic, message, Identity::Own)?;
        let answers = timeout_at(deadline, client.subscribe(inbox)).await.map_err(timed_out)?;
        let mut answers = answers.map_err(|error| failed(error.to_string()))?;
        timeout_at(deadline, publisher.send(request)).await.map_err(timed_out)??;
        let answer = timeout_at(deadline, answers.next()).await.map_err(timed_out)?;
        let answer = answer.ok_or(RequestError::Publish(PublishError::Closed))?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(RequestError::NoResponders { topic: topic.clone() });
        }
        decode::answer(&answer)
            .map_err(|error| failed(format!("the answer is no message: {error}")))
    }

    /// Resolves once the server has all that was published and settled here.
    async fn end(&self) {
        let publisher = &self.0.publisher;
        let connection = &publisher.connection;
        publisher.tasks.close();
        let all_sent = async {
            publisher.waiting.none().await;
            publisher.tasks.wait().await;
            connection.unsettled.none().await;
            publisher.lane.flushed().await;
            connection.round_trip().await
        };
        let patience = self.0.options.publish_timeout;
        if tokio::time::timeout(patience, all_sent).await != Ok(true) {
            tracing::error!(
                "the bus ended without a word from the NATS server that it has everything"
            );
        }
    }
}

impl Transport for NatsTransport {
    fn features(&self) -> Features {
        Features {
            atomic_batches: false,
            durable: self.0.publisher.connection.jetstream.is_some(),
            back_pressure: false,
        }
    }

    fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        match self.check() {
            Ok(publisher) => publisher.offer(topic, message),
            Err(error) => Offer::Refused(error),
        }
    }

    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        let publisher = self.check()?;
        publisher.try_send(publisher.prepare(topic, message, Identity::Own)?)
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let publisher = self.check()?;
            publisher.send(publisher.prepare(topic, message, Identity::Own)?).await
        })
    }

    fn publish_all(&self, batch: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let publisher = self.check()?;
            publisher.send_all(prepare_all(publisher, &batch, None)?).await
        })
    }

    fn publish_unbounded(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        let publisher = self.check()?;
        publisher.send_unbounded(publisher.prepare(topic, message, Identity::Own)?)
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        Box::pin(self.ask(topic, message, timeout))
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
        options: SubscribeOptions,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        Box::pin(self.listen(pattern, options))
    }

    fn open_slot(&self, options: SlotOptions) -> BoxFuture<'_, Result<Arc<dyn Slot>, BusError>> {
        Box::pin(self.open(options))
    }

    /// Other hosts may subscribe to anything.
    fn is_heard(&self, _topic: &Topic) -> bool {
        !self.0.ending.is_cancelled()
    }

    fn store(&self) -> Arc<dyn SharedStore> {
        Arc::clone(&self.0.store) as Arc<dyn SharedStore>
    }

    fn states(&self, slot: &str) -> Arc<dyn States> {
        self.0.states.of(slot)
    }

    fn close(&self) {
        self.0.ending.cancel();
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl fmt::Debug for NatsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsTransport")
            .field("name", &self.0.options.name)
            .field("slots", &self.0.slots.lock().len())
            .finish_non_exhaustive()
    }
}
