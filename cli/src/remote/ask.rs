//! Questions to one or to all: a topic is asked with an inbox to answer to, and the answers are gathered.

use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use echo_sdk::contract::host::{Answer, Said, TOPICS, TopicsQuestion, TopicsReply};
use echo_sdk::{BaseMessage, Pattern, Topic};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Remote, RemoteError, wire};

/// How long the first host may take to answer. A plugin that is to pause finishes what it has in hand.
const FIRST: Duration = Duration::from_secs(30);

/// How long a host may take to say that it is there.
const PRESENCE: Duration = Duration::from_secs(10);

/// How long after an answer another one is waited for, where there may be other hosts: nobody knows all hosts of
/// a NATS server.
const NEXT: Duration = Duration::from_millis(500);

/// The answers to a question.
pub struct Answers {
    topic: Topic,
    inbox: Subscriber,
}

impl Answers {
    /// Waits for the next answer.
    ///
    /// # Errors
    /// [`RemoteError`] when nobody can answer, or the connection is lost.
    pub async fn next(&mut self, remote: &mut Remote) -> Result<BaseMessage, RemoteError> {
        loop {
            tokio::select! {
                message = self.inbox.next() => {
                    let lost = || RemoteError::Lost { at: remote.at.clone() };
                    let message = message.ok_or_else(lost)?;
                    if message.status == Some(StatusCode::NO_RESPONDERS) {
                        return Err(RemoteError::NoResponders { topic: self.topic.clone() });
                    }
                    return wire::read(&message);
                }
                event = remote.event() => {
                    event.map_or(Err(RemoteError::Lost { at: remote.at.clone() }), |it| remote.judge(it))?;
                }
            }
        }
    }
}

impl Remote {
    /// Asks a topic; the answers are there for the taking.
    pub(super) async fn ask(
        &mut self,
        topic: &Topic,
        question: &BaseMessage,
    ) -> Result<Answers, RemoteError> {
        let inbox = self.inbox()?;
        let subscriber = self.subscribe(&Pattern::from(inbox.clone()), None).await?;
        self.publish(topic, &question.with_reply_to(&inbox)?).await?;
        Ok(Answers { topic: topic.clone(), inbox: subscriber })
    }

    /// Asks every host on the bus and gathers what they say, each with the host's id.
    ///
    /// # Errors
    /// [`RemoteError::NoHost`] when there is none, and as [`request`](Self::request).
    pub async fn ask_hosts<Q: Serialize, T: DeserializeOwned>(
        &mut self,
        topic: &str,
        question: &Q,
    ) -> Result<Vec<(String, Result<T, String>)>, RemoteError> {
        let topic = Topic::new(topic)?;
        let question = BaseMessage::builder(super::NAME).data(question).build()?;
        let mut answers = self.ask(&topic, &question).await?;
        let mut said = Vec::new();
        let mut patience = FIRST;
        loop {
            let answer = match timeout(patience, answers.next(self)).await {
                Ok(Err(RemoteError::NoResponders { .. })) if said.is_empty() => {
                    return Err(RemoteError::NoHost { at: self.at.clone() });
                }
                Ok(answer) => answer?,
                Err(_) if said.is_empty() => {
                    return Err(RemoteError::NoAnswer { topic, patience });
                }
                Err(_) => return Ok(said),
            };
            let Answer { host, alone, said: words } = answer.json::<Answer<T>>()?;
            said.push((
                host,
                match words {
                    Said::Ok(answer) => Ok(answer),
                    Said::Error(error) => Err(error),
                },
            ));
            if alone {
                return Ok(said);
            }
            patience = NEXT;
        }
    }

    /// Whether a host, as [`ask_hosts`](Self::ask_hosts) named it, still answers.
    ///
    /// # Errors
    /// As [`request`](Self::request), but for an answer that does not come.
    pub async fn has_host(&mut self, host: &str) -> Result<bool, RemoteError> {
        let question = TopicsQuestion { host: Some(host.to_owned()) };
        match timeout(PRESENCE, self.ask_host::<_, TopicsReply>(TOPICS, &question)).await {
            Ok(Ok(_) | Err(RemoteError::Said(_))) => Ok(true),
            Ok(Err(RemoteError::NoResponders { .. })) | Err(_) => Ok(false),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Asks one host, as [`ask_hosts`](Self::ask_hosts) named it.
    ///
    /// # Errors
    /// As [`request`](Self::request), and [`RemoteError::Said`] with what the host said.
    pub async fn ask_host<Q: Serialize, T: DeserializeOwned>(
        &mut self,
        topic: &str,
        question: &Q,
    ) -> Result<T, RemoteError> {
        let topic = Topic::new(topic)?;
        let question = BaseMessage::builder(super::NAME).data(question).build()?;
        let answer = self.request(&topic, &question, FIRST).await?;
        match answer.json::<Answer<T>>()?.said {
            Said::Ok(answer) => Ok(answer),
            Said::Error(error) => Err(RemoteError::Said(error)),
        }
    }
}
