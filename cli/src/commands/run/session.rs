//! One run on a host: asked for by a message, followed by its messages, ended as the person wishes.

use std::pin::pin;
use std::time::Duration;

use echo_core::{Host, HostError};
use echo_sdk::contract::RunId;
use echo_sdk::contract::run::{self, RunCancel, RunEnded, RunStart};
use echo_sdk::contract::service::{CleanupReply, ServiceCleanup, cleanup_topic};
use echo_sdk::{
    BaseMessage, BoxFuture, MessageError, Pattern, PluginContext, PublishError, Received,
    RequestError, Subscription, TopicError,
};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::exit::chain;
use crate::host::CLIENT;
use crate::interrupts::Interrupts;
use crate::progress::Progress;
use crate::runlog::{Event, RunLog};
use crate::stream::EventStream;

/// How long a run may take that has no timeout of its own: as good as forever.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How many messages the run may be ahead of what shows and writes them, before it waits.
const MAX_BEHIND: usize = 4096;

/// How long a run may take to say that it heard of its end.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what a run left may take to be removed once the run itself was given up.
const FORCED_CLEANUP: Duration = Duration::from_secs(5);

/// How long the host may take to shut down once the run was given up.
const FORCED_SHUTDOWN: Duration = Duration::from_secs(3);

/// Why a run came to no end of its own.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The start could not be put together.
    #[error("the start of the run cannot be put together")]
    Message(#[from] MessageError),
    /// The bus cannot be listened to.
    #[error("the bus cannot be listened to")]
    Subscribe(#[from] HostError),
    /// As above; every message's pattern is sound.
    #[error(transparent)]
    Pattern(#[from] TopicError),
    /// Nobody took the run, or nobody answered.
    #[error("the run was not taken to its end")]
    Request(#[from] RequestError),
    /// The bus closed under the run.
    #[error("the bus closed before the run had ended")]
    Closed,
    /// The start of the run became a dead letter.
    #[error("the run was given up: {0}")]
    Dead(String),
}

/// How a run was left.
#[derive(Debug)]
pub enum Ending {
    /// It ended, and said how.
    Ended,
    /// Somebody ended it by force.
    Forced,
}

/// A run that is being followed.
pub struct Session {
    client: PluginContext,
    messages: Subscription,
    open: bool,
    events: Option<EventStream>,
    /// What is known of the run.
    pub log: RunLog,
    progress: Progress,
    interrupts: Interrupts,
    /// The signals that came by now.
    pub signals: usize,
    dead: Option<String>,
}

impl Session {
    /// Listens to the bus, before anything is asked.
    pub async fn new(
        host: &Host,
        run_id: RunId,
        events: Option<EventStream>,
        progress: Progress,
        interrupts: Interrupts,
    ) -> Result<Self, SessionError> {
        let client = host.client(CLIENT);
        let all = Pattern::new(">")?;
        let messages = host.watch(&all, MAX_BEHIND).await?;
        let log = RunLog::new(run_id);
        let (open, signals, dead) = (true, 0, None);
        Ok(Self { client, messages, open, events, log, progress, interrupts, signals, dead })
    }

    /// Asks for the run and follows it to its end. On an error, or an end by force, something of the run may
    /// still be there.
    pub async fn run(&mut self, start: &RunStart) -> Result<Ending, SessionError> {
        let client = self.client.clone();
        let message = client.message_builder().data(start).build()?;
        let mut answer = pin!(client.request(run::START, message, FOREVER));
        let mut cancel: Option<BoxFuture<'static, String>> = None;
        let mut cancelled = false;
        loop {
            tokio::select! {
                received = self.messages.next() => match received {
                    Some(received) => self.take(&received),
                    None => return Err(SessionError::Closed),
                },
                answer = &mut answer => return self.ended(&answer?),
                signal = self.interrupts.next() => {
                    if self.signal(signal) {
                        return Ok(Ending::Forced);
                    }
                }
                said = pending_unless(&mut cancel) => {
                    cancel = None;
                    self.progress.say(&said);
                }
            }
            if let Some(reason) = self.dead.take() {
                return Err(SessionError::Dead(reason));
            }
            // A run can be ended from when it says that it began.
            if self.signals > 0 && !cancelled && self.log.started_at.is_some() {
                cancelled = true;
                cancel = Some(Box::pin(cancel_run(client.clone(), self.log.run_id.clone())));
            }
        }
    }

    /// The answer is the run's own end; it may overtake the event that says the same.
    fn ended(&mut self, answer: &BaseMessage) -> Result<Ending, SessionError> {
        let ended: RunEnded = answer.json()?;
        if self.log.outcome.is_none() {
            self.log.apply(&Event::RunEnded(ended), answer.timestamp());
        }
        Ok(Ending::Ended)
    }

    /// Tells what a signal does; whether it is one too many.
    fn signal(&mut self, name: &str) -> bool {
        self.signals += 1;
        if self.signals > 1 {
            self.progress.say("ending by force");
            return true;
        }
        let live: Vec<String> = self
            .log
            .live_services()
            .map(|(suite, service)| format!("{} > {}", suite.name, service.name))
            .collect();
        let waiting = match live.as_slice() {
            [] => "waiting for the run to end".to_owned(),
            live => format!("waiting until these services are stopped: {}", live.join(", ")),
        };
        self.progress.say(&format!("{name}: {waiting}; once more ends it by force"));
        false
    }

    /// Says something beside the run's events.
    pub fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// Asks each type of service that the run used to remove what is left; gives what could not be.
    pub async fn clean_up(&mut self) -> Vec<String> {
        let mut types: Vec<String> = vec!["local".to_owned()];
        types.extend(self.log.live_services().map(|(_, it)| it.service_type.clone()));
        types.sort_unstable();
        types.dedup();
        let (client, run_id) = (self.client.clone(), self.log.run_id.clone());
        let asked = types.into_iter().map(|it| clean_up_type(client.clone(), run_id.clone(), it));
        match self.during(join_all(asked)).await {
            Some(failures) => failures.concat(),
            None => vec!["the cleanup was cut off".to_owned()],
        }
    }

    /// Shuts the host down, within a bound if it is by force, and takes in all that is said meanwhile.
    pub async fn shut_down(&mut self, host: Host, forced: bool) {
        let bound = if forced { FORCED_SHUTDOWN } else { FOREVER };
        let Some(Ok(report)) = self.during(timeout(bound, host.shutdown())).await else {
            return self.progress.say("the host was left before it had shut down");
        };
        for sentence in crate::host::unfinished(&report) {
            self.progress.say(&sentence);
        }
        // The bus is closed by now: what is still to be read is what was said before.
        while let Some(received) = self.messages.next().await {
            self.take(&received);
        }
    }

    /// Ends the showing; gives what is known of the run, and what took its events.
    pub fn finish(mut self) -> (RunLog, Option<EventStream>) {
        self.progress.finish();
        (self.log, self.events)
    }

    /// Takes in messages for as long as something else goes on: a reader that stops would hold up the bus.
    /// `None` when a signal cuts it off.
    async fn during<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                received = self.messages.next(), if self.open => match received {
                    Some(received) => self.take(&received),
                    None => self.open = false,
                },
                output = &mut work => return Some(output),
                signal = self.interrupts.next() => {
                    if self.signal(signal) {
                        return None;
                    }
                }
            }
        }
    }

    fn take(&mut self, received: &Received) {
        if let Some(events) = &mut self.events {
            events.push(received);
        }
        let topic = received.topic.as_str();
        if topic.starts_with("dead.") && topic.ends_with(run::START) {
            self.dead = Some(reason_of(received));
        }
        match Event::read(received) {
            Ok(Some(event)) if *event.run_id() == self.log.run_id => {
                self.log.apply(&event, received.message.timestamp());
                self.progress.event(&event, &self.log);
            }
            Ok(_) => {}
            Err(error) => self.progress.say(&format!("`{topic}`: {}", chain(&error))),
        }
    }
}

/// Waits for what there is, or forever where there is nothing.
async fn pending_unless<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Asks the run to end; gives what a person should know of the answer.
async fn cancel_run(client: PluginContext, run_id: RunId) -> String {
    let cancel = RunCancel { run_id, reason: "interrupted".to_owned() };
    let asked = match client.message_builder().data(&cancel).build() {
        Ok(message) => client.request(run::CANCEL, message, CANCEL_TIMEOUT).await,
        Err(error) => Err(PublishError::from(error).into()),
    };
    match asked {
        Ok(_) => "the run ends".to_owned(),
        Err(error) => format!("the run does not hear: {}", chain(&error)),
    }
}

async fn clean_up_type(client: PluginContext, run_id: RunId, service_type: String) -> Vec<String> {
    let question = ServiceCleanup { run_id };
    let asked: Result<CleanupReply, RequestError> = async {
        let message =
            client.message_builder().data(&question).build().map_err(PublishError::from)?;
        let topic = cleanup_topic(&service_type);
        let answer = client.request(topic.as_str(), message, FORCED_CLEANUP).await?;
        Ok(answer.json().map_err(PublishError::from)?)
    }
    .await;
    match asked {
        Ok(reply) => reply.failures,
        // A type that nobody serves has left nothing.
        Err(RequestError::NoResponders { .. }) => Vec::new(),
        Err(error) => {
            vec![format!("what `{service_type}` left may still be there: {}", chain(&error))]
        }
    }
}

fn reason_of(received: &Received) -> String {
    let letter: Result<echo_sdk::contract::dead::DeadLetter, _> = received.message.json();
    letter.map_or_else(|error| chain(&error), |letter| letter.reason)
}
