//! Takes a slot's messages out of a stream: one task for each consumer.
//!
//! The consumer lasts at the server and is shared by all hosts of the slot; each asks it for as many messages as
//! it has use for, and for more when half of these are settled. What it has use for it finds out: twice as many
//! when its workers are quick or have to wait, half as many when they take long, so that a slow host does not hold what
//! others could do, and what goes back when a host ends was at most once in a while in no worker's hand. What it holds it keeps alive at the server: no
//! other host gets a message while this one works on it, however long that takes. When the connection was lost,
//! or the server says nothing for too long, the task sees to the consumer and asks anew; what was on its way to
//! it then comes again.
//!
//! A consumer that the slot's patterns no longer ask for is emptied of what was published before they changed, and
//! deleted ([`scope`](crate::scope)).
//!
//! The task ends with its token. Dropping it at any point loses nothing: what it has not handed to the queue
//! comes again once `ack_wait` is over.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::{Message, Subject, Subscriber};
use echo_bus::{BusError, LocalTransport, Slot, Transport};
use echo_sdk::{Pattern, Received};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::decode;
use crate::ending::Ending;
use crate::held::{Answer, Held, Source, Table};
use crate::pace::Pace;
use crate::scope::{Judged, Scope};
use crate::subject::{self, delivered};

/// How soon a host sees that it could hold more.
const LOOK: Duration = Duration::from_millis(20);

/// How often a host looks whether a consumer that its slot has no more use for is empty.
const LOOK_LEFT: Duration = Duration::from_millis(100);

/// How long a request for messages stands at the server.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often the server says that it is there while it has no message.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(12);

/// How long a request stands that is not to wait, where the server has reason to let it.
const PASSING: Duration = Duration::from_millis(10);

/// How many messages are taken at once before anything else has its turn.
const TURN: usize = 64;

/// How long to wait before turning to a server again that did not answer.
const PATIENCE: Duration = Duration::from_millis(200);

/// A consumer as it has to be at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stream: String,
    pub(crate) slot: String,
    /// The topics that it takes.
    pub(crate) topics: Pattern,
    /// A partition of keys, one message at a time, over all hosts; messages without a key where there is none.
    pub(crate) partition: Option<u16>,
    pub(crate) ack_wait: Duration,
}

impl Wanted {
    /// Where it is: the stream, and its name there.
    pub(crate) fn place(&self) -> (String, String) {
        (self.stream.clone(), subject::consumer_name(&self.slot, &self.filter()))
    }

    /// The subjects that it takes.
    fn filter(&self) -> String {
        let topics = self.topics.as_str();
        self.partition.map_or_else(|| topics.to_owned(), |it| subject::keyed(it, topics))
    }

    /// Whether a message may be in both.
    pub(crate) fn has_in_common_with(&self, other: &Self) -> bool {
        let is_beside = self.stream == other.stream && self.partition == other.partition;
        is_beside && subject::intersection(&self.topics, &other.topics).is_some()
    }

    /// Sees to the consumer at the server.
    pub(crate) async fn attach(
        &self,
        connection: &Connection,
    ) -> Result<Consumer<pull::Config>, BusError> {
        let failed = |reason: String| {
            let stream = &self.stream;
            BusError::Transport(format!("no consumer on the stream `{stream}`: {reason}"))
        };
        let Some(jetstream) = &connection.jetstream else {
            return Err(failed("JetStream is not enabled".to_owned()));
        };
        let created = jetstream.create_consumer_on_stream(self.config(), &self.stream).await;
        created.map_err(|error| failed(error.to_string()))
    }

    fn config(&self) -> pull::Config {
        pull::Config {
            durable_name: Some(self.place().1),
            description: Some(format!("slot {}", self.slot)),
            // A slot gets what is published from its first opening on.
            deliver_policy: DeliverPolicy::New,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // Attempts are counted by the host, which makes dead letters.
            max_deliver: -1,
            filter_subject: self.filter(),
            max_ack_pending: if self.partition.is_some() { 1 } else { -1 },
            ..pull::Config::default()
        }
    }
}

/// Takes messages from one consumer.
pub(crate) struct Pull {
    pub(crate) wanted: Wanted,
    pub(crate) table: Arc<Table>,
    pub(crate) queue: LocalTransport,
    /// Which of its messages are to be handled.
    pub(crate) scope: Arc<Scope>,
    /// Told when this one is given up, and no longer at the server.
    pub(crate) gone: CancellationToken,
    pub(crate) source: Arc<Source>,
    /// How many messages this host holds of it at most.
    pub(crate) budget: usize,
    /// What hands the messages out.
    pub(crate) slot: Arc<dyn Slot>,
    pub(crate) is_paused: Arc<std::sync::atomic::AtomicBool>,
    pub(crate) ending: Arc<Ending>,
}

/// A consumer that answers.
struct Attached {
    consumer: Consumer<pull::Config>,
    inbox: Subject,
    messages: Subscriber,
    /// Messages that were asked for and have not come.
    pending: usize,
    pace: Pace,
}

/// Why a task turns to its consumer anew.
enum Lost {
    /// It ends.
    Ending,
    /// The connection was another, or the server said that something is wrong.
    Anew,
    /// It has no messages left for a slot that has no use for later ones.
    Over,
}

impl Pull {
    /// Takes messages until it is told to end.
    pub(crate) async fn run(self, first: Consumer<pull::Config>) {
        let is_over = self.take_until_the_end(first).await;
        let connection = &self.table.connection;
        let waiting = self.scope.end().into_iter();
        waiting.for_each(|(_, held)| held.settle(connection, Answer::Again(Duration::ZERO)));
        if is_over {
            self.delete().await;
            self.ending.task_is_done();
        } else {
            self.ending.task_has_left();
        }
        self.gone.cancel();
    }

    /// Takes the consumer off its stream, which else would keep messages for it.
    async fn delete(&self) {
        let (stream, name) = self.wanted.place();
        if let Some(jetstream) = &self.table.connection.jetstream
            && let Err(error) = jetstream.delete_consumer_from_stream(&name, &stream).await
        {
            let slot = &self.wanted.slot;
            tracing::warn!(slot, stream, name, %error, "a consumer that nobody needs is left");
        }
    }

    /// Says whether that is because the slot has no more use for it.
    async fn take_until_the_end(&self, first: Consumer<pull::Config>) -> bool {
        let ending = self.ending.token();
        let mut consumer = Some(first);
        let mut epoch = self.table.connection.epoch.clone();
        let mut life: Vec<Arc<Held>> = Vec::new();
        loop {
            epoch.mark_unchanged();
            let attached = match consumer.take() {
                Some(consumer) => Ok(consumer),
                None => {
                    let attaching = self.wanted.attach(&self.table.connection);
                    let Some(attached) = ending.run_until_cancelled(attaching).await else {
                        return false;
                    };
                    attached
                }
            };
            let result = match attached {
                Ok(consumer) => self.take(consumer, &mut epoch, &mut life).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(Lost::Ending) => return false,
                Ok(Lost::Over) => return true,
                Ok(Lost::Anew) => {}
                Err(error) => {
                    tracing::warn!(slot = self.wanted.slot, %error, "asking again");
                    self.show_life(&mut life);
                    let waiting = tokio::time::sleep(PATIENCE);
                    if ending.run_until_cancelled(waiting).await.is_none() {
                        return false;
                    }
                }
            }
        }
    }

    async fn take(
        &self,
        consumer: Consumer<pull::Config>,
        epoch: &mut tokio::sync::watch::Receiver<u64>,
        life: &mut Vec<Arc<Held>>,
    ) -> Result<Lost, BusError> {
        let client = &self.table.connection.client;
        let inbox = Subject::from(client.new_inbox());
        let messages = client.subscribe(inbox.clone()).await;
        let messages = messages.map_err(|error| BusError::Transport(error.to_string()))?;
        let mut attached = Attached {
            consumer,
            inbox,
            messages,
            pending: 0,
            pace: Pace::new(self.budget, self.source.settled()),
        };
        let mut beat = interval(self.wanted.ack_wait / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK_LEFT);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            self.ask(&mut attached).await?;
            let to_drain = self.scope.to_drain();
            let look = self.may_grow(&attached);
            tokio::select! {
                biased;
                () = self.ending.token().cancelled() => {
                    self.leave(attached).await;
                    return Ok(Lost::Ending);
                }
                changed = epoch.changed() => {
                    return Ok(if changed.is_ok() { Lost::Anew } else { Lost::Ending });
                }
                _ = beat.tick() => {
                    self.show_life(life);
                    if attached.pending > 0 && heard.elapsed() > SILENCE {
                        return Ok(Lost::Anew);
                    }
                }
                () = async {
                    tokio::select! {
                        () = self.scope.changed.notified() => {}
                        () = self.scope.may_go_on() => {}
                    }
                } => {
                    let waiting = self.scope.take_waiting();
                    let mut judged = waiting.into_iter().map(|(it, held)| self.hand_over(it, held));
                    if let Some(lost) = judged.find_map(|lost| lost) {
                        return Ok(lost);
                    }
                }
                _ = looks.tick(), if to_drain.is_some() => {
                    let place = to_drain.unwrap_or_default();
                    if self.is_over(&mut attached.consumer, place).await? {
                        self.leave(attached).await;
                        return Ok(Lost::Over);
                    }
                }
                message = attached.messages.next() => {
                    heard = Instant::now();
                    let lost = self.receive_all(&mut attached, message, life);
                    if let Some(lost) = lost {
                        return Ok(lost);
                    }
                }
                () = self.source.ask.notified() => {}
                () = tokio::time::sleep(LOOK), if look => {
                    if self.may_grow(&attached) && !self.slot.has_ready() {
                        attached.pace.grow();
                    }
                }
            }
        }
    }

    /// Gives back what is on its way to this host.
    async fn leave(&self, mut attached: Attached) {
        let connection = &self.table.connection;
        let giving_back = async {
            let mut replies = Vec::new();
            if attached.messages.drain().await.is_err() {
                return;
            }
            while let Some(message) = attached.messages.next().await {
                replies.extend(message.reply.filter(|_| message.status.is_none()));
            }
            replies.extend(self.forget_requests(&attached.consumer).await);
            for reply in replies {
                connection.post(&reply, Answer::Again(Duration::ZERO).payload());
            }
        };
        // Without a connection the server finds out by itself, once `ack_wait` is over.
        let _ = tokio::time::timeout(connection.request_timeout, giving_back).await;
    }

    /// Makes the server look at the requests that it has and drop those that nobody stands behind any more: a
    /// message that is given back to servers before 2.10 while they have only such requests comes again after
    /// `ack_wait` and not before. A request that does not wait does that; it may bring a message, whose reply
    /// subject this is.
    async fn forget_requests(&self, consumer: &Consumer<pull::Config>) -> Option<Subject> {
        let client = &self.table.connection.client;
        let inbox = Subject::from(client.new_inbox());
        let mut answer = client.subscribe(inbox.clone()).await.ok()?;
        let batch = pull::BatchConfig {
            batch: 1,
            no_wait: true,
            expires: Some(PASSING),
            ..pull::BatchConfig::default()
        };
        consumer.request_batch(batch, inbox).await.ok()?;
        let message = answer.next().await?;
        message.reply.filter(|_| message.status.is_none())
    }

    /// Whether all that was asked for has come and is held, and more could be.
    fn may_grow(&self, attached: &Attached) -> bool {
        let pace = &attached.pace;
        let is_spent = attached.pending == 0 && self.source.held() > pace.budget / 2;
        self.wanted.partition.is_none() && pace.budget < pace.most && is_spent
    }

    /// Asks for as many messages as there is room for, when that is half of it.
    async fn ask(&self, attached: &mut Attached) -> Result<(), BusError> {
        let budget = attached.pace.budget;
        let reserve = budget / 2;
        self.source.ask_at(reserve.saturating_sub(attached.pending));
        let taken = self.source.held() + attached.pending;
        let is_paused = self.is_paused.load(std::sync::atomic::Ordering::Acquire);
        // A partition's consumer gives out one at a time, so its requests can wait in store.
        let wanted = if self.wanted.partition.is_some() {
            if attached.pending > 0 { 0 } else { self.budget }
        } else if taken > reserve {
            0
        } else {
            budget - taken
        };
        if wanted == 0 || is_paused {
            return Ok(());
        }
        let batch = pull::BatchConfig {
            batch: wanted,
            expires: Some(EXPIRES),
            idle_heartbeat: HEARTBEAT,
            ..pull::BatchConfig::default()
        };
        let asking = attached.consumer.request_batch(batch, attached.inbox.clone());
        // It waits for as long as the server is away, and the slot does not.
        let Some(asked) = self.ending.token().run_until_cancelled(asking).await else {
            return Ok(());
        };
        asked.map_err(|error| BusError::Transport(error.to_string()))?;
        attached.pending += wanted;
        attached.pace.asks(Instant::now(), self.source.settled());
        Ok(())
    }

    /// Takes a message and those that have come with it.
    fn receive_all(
        &self,
        attached: &mut Attached,
        first: Option<Message>,
        life: &mut Vec<Arc<Held>>,
    ) -> Option<Lost> {
        let mut next = first;
        for _ in 0..TURN {
            let Some(message) = next else { return Some(Lost::Anew) };
            if let Some(lost) = self.receive(attached, message, life) {
                return Some(lost);
            }
            match attached.messages.next().now_or_never() {
                Some(message) => next = message,
                None => return None,
            }
        }
        match next {
            Some(message) => self.receive(attached, message, life),
            None => Some(Lost::Anew),
        }
    }

    /// Takes a message, or what the server has to say.
    fn receive(
        &self,
        attached: &mut Attached,
        message: Message,
        life: &mut Vec<Arc<Held>>,
    ) -> Option<Lost> {
        if let Some(status) = message.status {
            return match status.as_u16() {
                // It is there and has nothing.
                100 => None,
                // A request has expired, or was not served whole.
                404 | 408 => {
                    let unserved = message.headers.as_ref().and_then(|headers| {
                        headers.get("Nats-Pending-Messages")?.as_str().parse().ok()
                    });
                    let unserved = unserved.unwrap_or(attached.pending);
                    attached.pending = attached.pending.saturating_sub(unserved);
                    None
                }
                _ => {
                    let (slot, said) = (&self.wanted.slot, message.description);
                    tracing::debug!(slot, ?said, "a consumer is asked anew");
                    Some(Lost::Anew)
                }
            };
        }
        attached.pending = attached.pending.saturating_sub(1);
        let reply = message.reply.clone()?;
        let delivered = delivered(&reply)?;
        let held = Held::new(reply, &self.source, delivered);
        let connection = &self.table.connection;
        let received = match decode::durable(&message) {
            Ok(received) => received,
            Err(error) => {
                let (slot, subject) = (&self.wanted.slot, &message.subject);
                tracing::error!(slot, %subject, %error, "what is no message is taken off its stream");
                held.settle(connection, Answer::Never);
                return None;
            }
        };
        self.watch(life, &held);
        self.hand_over(received, held)
    }

    /// Hands a message to the queue, if it is to be handled here.
    fn hand_over(&self, received: Received, held: Arc<Held>) -> Option<Lost> {
        let Judged { received, held, is_ours } = self.scope.judge(received, held)?;
        let connection = &self.table.connection;
        if !is_ours {
            held.settle(connection, Answer::Done);
            return None;
        }
        self.table.put(&received.message, held);
        if self.queue.publish_unbounded(&received.topic, received.message.clone()).is_err() {
            let held = self.table.take(&received.message);
            held.iter().for_each(|held| held.settle(connection, Answer::Again(Duration::ZERO)));
            return Some(Lost::Ending);
        }
        None
    }

    /// Looks up to where in the stream all is settled; says whether the consumer is given up.
    async fn is_over(
        &self,
        consumer: &mut Consumer<pull::Config>,
        last: u64,
    ) -> Result<bool, BusError> {
        let info = consumer.info().await.map_err(|error| BusError::Transport(error.to_string()))?;
        let delivered = info.delivered.stream_sequence;
        self.scope.drain(match (info.num_pending, info.num_ack_pending) {
            (0, 0) => last,
            // They come one at a time.
            (_, 0) if self.wanted.partition.is_some() => delivered,
            (_, _) if self.wanted.partition.is_some() => delivered.saturating_sub(1),
            _ => info.ack_floor.stream_sequence,
        });
        Ok(self.scope.give_up())
    }

    /// Remembers a message, and forgets those that are settled once there are many.
    fn watch(&self, life: &mut Vec<Arc<Held>>, held: &Arc<Held>) {
        if life.len() >= 2 * self.budget + 64 {
            life.retain(|held| !held.is_settled());
        }
        life.push(Arc::clone(held));
    }

    fn show_life(&self, life: &mut Vec<Arc<Held>>) {
        life.retain(|held| !held.is_settled());
        life.iter().for_each(|held| held.show_life(&self.table.connection));
    }
}
