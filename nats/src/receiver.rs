//! One worker's hand into a slot: what came from a stream is settled at the server besides.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use echo_bus::state::{Change, CommitError, Document, Origin, unpack};
use echo_bus::{Lent, Receiver, Settlement};
use echo_sdk::{BoxFuture, PublishError, Received, StateError};

use crate::held::{Answer, Held, Table};
use crate::publish::{Identity, Publisher, prepare_all};
use crate::states::StateBucket;
use crate::subject;

pub(crate) struct NatsReceiver {
    inner: Box<dyn Receiver>,
    slot: String,
    table: Arc<Table>,
    publisher: Arc<Publisher>,
    states: Arc<StateBucket>,
    /// Whether the server has to say that it knows of an acknowledgement.
    confirm: bool,
    /// What to settle the message in hand by, if it came from a stream.
    held: Option<Arc<Held>>,
    /// The message in hand with the attempts that the server has counted, where this host saw fewer.
    older: Option<Received>,
    has_looked: bool,
}

impl NatsReceiver {
    pub(crate) fn new(
        inner: Box<dyn Receiver>,
        slot: &str,
        table: Arc<Table>,
        publisher: Arc<Publisher>,
        states: Arc<StateBucket>,
        confirm: bool,
    ) -> Self {
        let slot = slot.to_owned();
        let (held, older, has_looked) = (None, None, false);
        Self { inner, slot, table, publisher, states, confirm, held, older, has_looked }
    }

    /// Looks up where the message in hand came from, once.
    fn look(&mut self) {
        if std::mem::replace(&mut self.has_looked, true) {
            return;
        }
        let Some(delivery) = self.inner.current() else { return };
        self.held = self.table.take(&delivery.message);
        let attempt = self.held.as_ref().map(|held| held.attempt());
        self.older = attempt.filter(|attempt| *attempt > 1).map(|attempt| Received {
            topic: delivery.topic.clone(),
            message: delivery.message.clone().with_attempt(attempt),
        });
    }

    fn empty_hand(&mut self) -> Option<Arc<Held>> {
        self.older = None;
        self.has_looked = false;
        self.held.take()
    }

    /// What the message in hand is, over all of its deliveries: what follows from it is recognised by that.
    fn identity(&self) -> Vec<u8> {
        let mut origin = Vec::new();
        let mut add = |part: &[u8]| {
            origin.extend_from_slice(&(part.len() as u64).to_be_bytes());
            origin.extend_from_slice(part);
        };
        add(self.slot.as_bytes());
        match (&self.held, self.inner.current()) {
            (Some(held), _) => {
                add(held.stream().as_bytes());
                add(&held.delivered.sequence.to_be_bytes());
            }
            (None, Some(delivery)) => {
                add(delivery.topic.as_str().as_bytes());
                add(delivery.message.id().as_bytes());
            }
            (None, None) => {}
        }
        origin
    }

    /// Settles a message that its state has taken in. The state forgets it once the server knows.
    async fn finish_taken(&mut self, origin: Origin) {
        let (connection, states) = (Arc::clone(&self.table.connection), Arc::clone(&self.states));
        let held = self.empty_hand();
        self.inner.settle(Settlement::Done);
        let Some(held) = held else { return states.finished(origin) };
        connection.unsettled.begin();
        let settling = async move {
            if held.settle_surely(&connection, Answer::Done).await {
                states.finished(origin);
            }
            connection.unsettled.end();
        };
        let settled = self.publisher.tasks.spawn(settling);
        if self.confirm {
            // What became of it the state knows.
            let _ = settled.await;
        }
    }

    /// Settles the message in hand for good.
    async fn finish(&mut self, answer: Answer) -> Result<(), PublishError> {
        if let Some(held) = self.held.clone().filter(|_| self.confirm)
            && !held.settle_surely(&self.table.connection, answer).await
        {
            // It may come again; what follows from it will be recognised then.
            tracing::warn!(slot = self.slot, "the server did not confirm an acknowledgement");
        }
        if let Some(held) = self.empty_hand() {
            held.settle(&self.table.connection, answer);
        }
        self.inner.settle(Settlement::Done);
        Ok(())
    }
}

impl Receiver for NatsReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let received = ready!(self.inner.poll_recv(cx));
        if received {
            self.look();
        }
        Poll::Ready(received)
    }

    fn current(&self) -> Option<&Received> {
        self.older.as_ref().or_else(|| self.inner.current())
    }

    fn lend(&mut self) -> Option<Lent<'_>> {
        let lent = self.inner.lend()?;
        Some(Lent { received: self.older.as_ref().unwrap_or(lent.received), ..lent })
    }

    fn settle(&mut self, settlement: Settlement) {
        let Some(held) = self.empty_hand() else {
            return self.inner.settle(settlement);
        };
        let connection = &self.table.connection;
        match settlement {
            Settlement::Done if self.confirm => {
                let connection = Arc::clone(connection);
                let slot = self.slot.clone();
                connection.unsettled.begin();
                self.publisher.tasks.spawn(async move {
                    if !held.settle_surely(&connection, Answer::Done).await {
                        tracing::warn!(slot, "the server did not confirm an acknowledgement");
                    }
                    connection.unsettled.end();
                });
            }
            Settlement::Done => held.settle(connection, Answer::Done),
            Settlement::Again(delay) => self.table.give_back(vec![held], delay),
        }
        self.inner.settle(Settlement::Done);
    }

    fn commit(&mut self, effects: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let prepared = prepare_all(&self.publisher, &effects, Some(&self.identity()))?;
            self.publisher.send_all(prepared).await?;
            self.finish(Answer::Done).await
        })
    }

    fn origin(&self) -> Option<Origin> {
        // Half of it is enough to tell them apart.
        self.inner.current().map(|_| subject::hash([&*self.identity()]) as Origin)
    }

    /// The document first, which says what follows; then that, and then the acknowledgement. Whatever is cut off,
    /// the message comes again and finds that it is taken in.
    fn commit_state(
        &mut self,
        effects: Vec<Received>,
        change: Change,
    ) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let prepared = prepare_all(&self.publisher, &effects, Some(&self.identity()))?;
            let (Some(origin), Some(received)) = (self.origin(), self.inner.current()) else {
                return Ok(());
            };
            let key = received.message.key();
            self.states.put(&self.slot, key, change, origin, &effects).await?;
            // From here on it is taken in: an error has it come again.
            let published = self.publisher.send_all(prepared).await;
            published.map_err(|error| StateError::Failed(error.to_string()))?;
            self.finish_taken(origin).await;
            Ok(())
        })
    }

    fn settle_taken(&mut self, document: Document) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let Some(origin) = self.origin() else { return Ok(()) };
            let effects = document.taken(origin).unwrap_or_default();
            let unpacked: Option<Vec<Received>> =
                effects.iter().map(|packed| unpack(packed)).collect();
            let unpacked = unpacked.ok_or_else(|| {
                PublishError::Transport("its state is of a later version".to_owned())
            })?;
            let prepared = prepare_all(&self.publisher, &unpacked, Some(&self.identity()))?;
            self.publisher.send_all(prepared).await?;
            self.finish_taken(origin).await;
            Ok(())
        })
    }

    fn bury(&mut self, letter: Received) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let identity = self.identity();
            // Apart from the effects, which are counted from 0.
            let identity = Identity::Effect(&identity, usize::MAX);
            let Received { topic, message } = letter;
            let prepared = self.publisher.prepare(&topic, message, identity)?;
            self.publisher.send(prepared).await?;
            self.finish(Answer::Never).await
        })
    }

    fn set_batch(&mut self, limit: usize) {
        self.inner.set_batch(limit);
    }

    fn flush(&mut self) {
        self.inner.flush();
    }
}

impl Drop for NatsReceiver {
    /// What came from a stream goes back there, one attempt older; what did not, into the queue.
    fn drop(&mut self) {
        if self.held.is_some() {
            self.settle(Settlement::Again(Duration::ZERO));
        }
    }
}
