//! The connection to a running host: a NATS client, for the gateway of a local host and a real NATS server
//! look alike.
//!
//! One task of the client's library owns the connection; what it has to say besides messages (errors of the
//! server, a lost connection) arrives in order in [`Remote::events`]. A message that was published is known to have
//! arrived when the server has answered to something that was sent after it ([`Remote::confirm`]): a flush of
//! the client's own only says that the system has taken the bytes. Dropping a `Remote` drops the connection.

mod ask;
mod error;
mod target;
mod wire;

use std::time::Duration;

use async_nats::{Client, Event, ServerError, Subscriber};
use echo_sdk::{BaseMessage, Pattern, Topic};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub use error::RemoteError;
pub use target::Target;
pub use wire::received;

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long a server may take to answer to what was published.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(10);

/// How many messages wait for this program to print them, before the newest is dropped and that is told.
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// How many events wait to be looked at; those after them are of the same kind.
const EVENTS_CAPACITY: usize = 256;

/// The name under which the program is known to the server.
const NAME: &str = "echo-core";

/// A connection to a bus.
pub struct Remote {
    client: Client,
    events: mpsc::Receiver<Event>,
    /// The server's address, as people may see it.
    at: String,
}

impl Remote {
    /// Connects.
    ///
    /// # Errors
    /// [`RemoteError`] when nobody answers there, or does not let the program in.
    pub async fn connect(target: &Target) -> Result<Self, RemoteError> {
        let (sender, events) = mpsc::channel(EVENTS_CAPACITY);
        let options = target.options().await?;
        let client = options
            .name(NAME)
            .connection_timeout(CONNECT_PATIENCE)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .event_callback(move |event| {
                // A full channel holds enough to know what is wrong.
                let _ = sender.try_send(event);
                std::future::ready(())
            })
            .connect(target.addresses())
            .await
            .map_err(|error| RemoteError::connect(target, error))?;
        let mut remote = Self { client, events, at: target.to_string() };
        // A server that lets nobody in may say so after its greeting.
        remote.confirm().await?;
        Ok(remote)
    }

    /// The server's address, as people may see it.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Publishes a message; [`confirm`](Self::confirm) says when it has arrived.
    ///
    /// # Errors
    /// [`RemoteError`] when the message is too large for the server, or the connection has ended.
    pub async fn publish(&self, topic: &Topic, message: &BaseMessage) -> Result<(), RemoteError> {
        let (headers, payload) = wire::written(message)?;
        let max = self.client.server_info().max_payload;
        if payload.len() > max {
            return Err(RemoteError::TooLarge { len: payload.len(), max });
        }
        let topic = topic.as_str().to_owned();
        let published = match message.reply_to() {
            Some(reply) => {
                let reply = reply.as_str().to_owned();
                let client = &self.client;
                client.publish_with_reply_and_headers(topic, reply, headers, payload.into()).await
            }
            None => self.client.publish_with_headers(topic, headers, payload.into()).await,
        };
        published.map_err(|_| RemoteError::Lost { at: self.at.clone() })
    }

    /// Subscribes, on its own or with the others of a group.
    ///
    /// # Errors
    /// [`RemoteError`] when the server refuses, or the connection has ended.
    pub async fn subscribe(
        &mut self,
        pattern: &Pattern,
        group: Option<&str>,
    ) -> Result<Subscriber, RemoteError> {
        let pattern = pattern.as_str().to_owned();
        let subscribed = match group {
            Some(group) => self.client.queue_subscribe(pattern, group.to_owned()).await,
            None => self.client.subscribe(pattern).await,
        };
        let subscriber = subscribed.map_err(|_| RemoteError::Lost { at: self.at.clone() })?;
        self.confirm().await?;
        Ok(subscriber)
    }

    /// A topic of this program's own, for answers.
    fn inbox(&self) -> Result<Topic, RemoteError> {
        Ok(Topic::new(self.client.new_inbox())?)
    }

    /// Waits until the server has taken all that was sent.
    ///
    /// # Errors
    /// [`RemoteError`] when it refuses something, does not answer, or the connection is lost: then nobody
    /// knows what has arrived.
    pub async fn confirm(&mut self) -> Result<(), RemoteError> {
        timeout(CONFIRM_PATIENCE, self.round_trip())
            .await
            .unwrap_or_else(|_| Err(RemoteError::Silent { at: self.at.clone() }))
    }

    /// Sends itself a message. A user that may not do so is told, which is an answer as well.
    async fn round_trip(&mut self) -> Result<(), RemoteError> {
        let lost = |_| RemoteError::Lost { at: self.at.clone() };
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.map_err(|_| lost(()))?;
        self.client.publish(inbox.clone(), Vec::new().into()).await.map_err(|_| lost(()))?;
        loop {
            tokio::select! {
                // What the server said before it answered comes first.
                biased;
                event = self.events.recv() => match event {
                    Some(Event::ServerError(ServerError::Other(text))) if text.contains(&inbox) => {
                        return Ok(());
                    }
                    Some(event) => self.judge(event)?,
                    None => return Err(lost(())),
                },
                message = echo.next() => {
                    message.ok_or_else(|| lost(()))?;
                    return self.look();
                }
            }
        }
    }

    /// Looks at what the server said by now.
    ///
    /// # Errors
    /// As [`confirm`](Self::confirm).
    pub fn look(&mut self) -> Result<(), RemoteError> {
        while let Ok(event) = self.events.try_recv() {
            self.judge(event)?;
        }
        Ok(())
    }

    /// Whether the connection goes on after something that happened to it.
    ///
    /// # Errors
    /// As [`confirm`](Self::confirm).
    pub fn judge(&self, event: Event) -> Result<(), RemoteError> {
        let at = self.at.clone();
        match event {
            Event::ServerError(error) => Err(RemoteError::Server { at, error }),
            Event::Disconnected | Event::Closed => Err(RemoteError::Lost { at }),
            Event::ClientError(_)
            | Event::Connected
            | Event::LameDuckMode
            | Event::Draining
            | Event::SlowConsumer(_) => Ok(()),
        }
    }

    /// The next thing that happens to the connection.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Asks a topic and waits for the first answer.
    ///
    /// # Errors
    /// [`RemoteError`] when nobody subscribes, or no answer comes within `patience`.
    pub async fn request(
        &mut self,
        topic: &Topic,
        message: &BaseMessage,
        patience: Duration,
    ) -> Result<BaseMessage, RemoteError> {
        let mut answers = self.ask(topic, message).await?;
        let answer = timeout(patience, answers.next(self));
        answer
            .await
            .unwrap_or_else(|_| Err(RemoteError::NoAnswer { topic: topic.clone(), patience }))
    }

    /// Ends the connection, once the server has taken all that was sent.
    ///
    /// # Errors
    /// As [`confirm`](Self::confirm).
    pub async fn close(mut self) -> Result<(), RemoteError> {
        self.confirm().await?;
        // The library tells of errors by way of a task of its own; what it says last ends that too.
        let _ = self.client.drain().await;
        let at_last = async {
            loop {
                match self.events.recv().await {
                    Some(Event::Closed) | None => return Ok(()),
                    Some(event) => self.judge(event)?,
                }
            }
        };
        timeout(CONFIRM_PATIENCE, at_last).await.unwrap_or(Ok(()))
    }
}
