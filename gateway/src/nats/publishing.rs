//! What a client publishes: bytes to messages on the bus.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use echo_bus::wire::{self, Incoming};
use echo_sdk::{BaseMessage, Offer, PublishError, Topic};
use parking_lot::Mutex;

use super::congestion::Congestion;
use super::connection::End;
use super::door::Door;
use super::output::Output;
use super::parser::Publish;
use super::protocol::{self, ConnectOptions, text};
use super::topics::Topics;
use crate::auth::Access;
use crate::limits::Rate;

/// One client's way to the bus.
pub(super) struct Publishing<'a> {
    door: &'a Arc<Door>,
    access: Access,
    /// What its messages say they are from.
    source: String,
    verbose: bool,
    no_responders: bool,
    echo: bool,
    topics: Topics,
    rate: Option<Rate>,
    /// When what is read in this round came; all of it at once.
    came: Option<DateTime<Utc>>,
}

/// A message that has to wait for room.
pub(super) struct Waiting {
    topic: Topic,
    message: BaseMessage,
}

impl<'a> Publishing<'a> {
    pub(super) fn new(door: &'a Arc<Door>, access: Access, options: &ConnectOptions) -> Self {
        let named = options.name.as_deref().filter(|name| !name.is_empty());
        Self {
            door,
            source: named.unwrap_or(access.name()).to_owned(),
            access,
            verbose: options.verbose,
            no_responders: options.no_responders,
            echo: options.echo,
            topics: Topics::default(),
            rate: Rate::of(&door.limits),
            came: None,
        }
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// Publishes, or gives back what has to wait for room.
    pub(super) fn publish(
        &mut self,
        publish: &Publish<'_>,
        output: &Mutex<Output>,
    ) -> Result<Option<Waiting>, End> {
        let Ok(known) = self.topics.find(publish.subject, &self.access) else {
            output.lock().error(text::INVALID_PUBLISH_SUBJECT);
            return Ok(None);
        };
        if !known.is_allowed && !output.lock().may_answer(&known.topic) {
            refuse(output, &known.topic, None);
            return Ok(None);
        }
        if let Some(Err(error)) = self.rate.as_mut().map(Rate::take) {
            refuse(output, &known.topic, Some(&error));
            return Ok(None);
        }
        let came = *self.came.get_or_insert_with(Utc::now);
        let Ok(message) = read(publish, &self.source, came).inspect_err(|error| {
            refuse(output, &known.topic, Some(error));
        }) else {
            return Ok(None);
        };
        let reply = message.reply_to();
        if let Some(reply) = &reply
            && !self.access.may_be_answered_at(reply)
        {
            let text = format!("Permissions Violation for Publish with Reply of \"{reply}\"");
            output.lock().error(&text);
            return Ok(None);
        }
        if let Some(reply) = &reply
            && self.no_responders
            && (known.is_of_a_server || !self.door.transport.is_heard(&known.topic))
        {
            output.lock().no_responders(reply.as_str());
        }
        if known.is_of_a_server {
            self.acknowledge(output);
            return Ok(None);
        }
        if !self.echo {
            output.lock().note_own(&known.topic, message.id());
        }
        match self.door.transport.offer(&known.topic, message) {
            Offer::Taken => self.acknowledge(output),
            Offer::Busy(message) => {
                return Ok(Some(Waiting { topic: known.topic.clone(), message }));
            }
            Offer::Refused(error) => refused(output, &known.topic, &error)?,
        }
        Ok(None)
    }

    /// Publishes what has to wait for room.
    pub(super) async fn wait_for_room(
        &mut self,
        waiting: Waiting,
        output: &Mutex<Output>,
    ) -> Result<(), End> {
        let Waiting { topic, message } = waiting;
        // What is behind it is read after the wait.
        self.came = None;
        match self.door.transport.publish(&topic, message).await {
            Ok(()) => self.acknowledge(output),
            Err(error) => refused(output, &topic, &error)?,
        }
        Ok(())
    }

    /// Ends a round of reading: whoever published to a client that lags takes a rest.
    pub(super) async fn end_turn(&mut self, congestion: &Congestion) {
        self.came = None;
        congestion.rest(self.topics.of_this_turn()).await;
        self.topics.next_turn();
    }

    fn acknowledge(&self, output: &Mutex<Output>) {
        if self.verbose {
            output.lock().append(|out| out.extend_from_slice(b"+OK\r\n"));
        }
    }
}

/// Why what a client sent is no message.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("its headers are no NATS headers")]
    Headers,
    #[error("its reply subject is not UTF-8")]
    Reply,
    #[error(transparent)]
    Wire(#[from] wire::WireError),
}

fn read(
    publish: &Publish<'_>,
    source: &str,
    came: DateTime<Utc>,
) -> Result<BaseMessage, ReadError> {
    let headers = match publish.headers {
        Some(block) => protocol::headers(block).ok_or(ReadError::Headers)?,
        None => protocol::Headers::default(),
    };
    let reply = publish.reply.map(std::str::from_utf8).transpose();
    let reply = reply.map_err(|_| ReadError::Reply)?;
    let incoming = Incoming { payload: publish.payload, headers, reply, source };
    Ok(wire::read_at(incoming, Some(came))?)
}

/// The bus did not take a message.
fn refused(output: &Mutex<Output>, topic: &Topic, error: &PublishError) -> Result<(), End> {
    if matches!(error, PublishError::Closed) {
        return Err(End::Closed);
    }
    refuse(output, topic, Some(error));
    Ok(())
}

/// Tells a client that a message was not published. All clients know these words, and stay connected.
fn refuse(output: &Mutex<Output>, topic: &Topic, why: Option<&dyn std::fmt::Display>) {
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    output.lock().error(&format!("Permissions Violation for Publish to \"{topic}\"{why}"));
}
