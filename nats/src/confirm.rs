//! Confirmations of what is published to streams.
//!
//! All of a connection's come to one inbox, each by a number of its own, and one task hands them out, many at a time.
//! It also tells publishers what nobody else would: that the connection was another one meanwhile, so that nobody
//! knows whether the server had their messages, and that there was no word in time. So a publish costs no timer and
//! no subscription of its own.
//!
//! Whoever publishes owns an entry of the table until it is told or stops waiting; dropping it takes the entry out.
//! The table is behind a lock that is held for one entry, or for all of them after a loss, and never across an await.
//! The task ends with the last owner of the table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// How many confirmations are handed out before anything else has its turn.
const TURN: usize = 256;

/// Looks for those that have waited too long: so often within that time, and in these bounds.
const LOOKS: u32 = 8;
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// What the server's confirmation begins with; anything else is looked at closely.
const CONFIRMED: &[u8] = br#"{"stream":"#;

/// Why a message is not known to be in its stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unconfirmed {
    /// The connection was another one meanwhile.
    #[error("the connection to the NATS server was lost")]
    Lost,
    /// The server has said nothing for too long.
    #[error("the NATS server did not answer in time")]
    Silent,
    /// Nobody keeps the subject.
    #[error("no stream takes the message")]
    NoStream,
    /// The server refuses the message.
    #[error(transparent)]
    Refused(jetstream::Error),
    /// What the server says cannot be read.
    #[error("the NATS server's answer cannot be read: {0}")]
    Unreadable(serde_json::Error),
    /// The message did not get out.
    #[error(transparent)]
    Unsent(async_nats::PublishError),
    /// The connection has ended.
    #[error("the connection to the NATS server has ended")]
    Ended,
}

impl Unconfirmed {
    /// Whether a server may well take the message another time.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // Nobody answers while JetStream starts.
            Self::Lost | Self::Silent | Self::NoStream => true,
            // A full stream says 503 as well, and stays full.
            Self::Refused(error) => {
                error.code() == 503 && error.error_code() != ErrorCode::STREAM_STORE_FAILED
            }
            Self::Unreadable(_) | Self::Unsent(_) | Self::Ended => false,
        }
    }
}

type Outcome = Result<(), Unconfirmed>;

#[derive(Debug)]
struct Waiting {
    until: Instant,
    tell: oneshot::Sender<Outcome>,
}

#[derive(Debug, Default)]
struct Table {
    last: u32,
    waiting: HashMap<u32, Waiting>,
    has_ended: bool,
}

/// The confirmations that a connection waits for.
#[derive(Debug)]
pub(crate) struct Confirms {
    client: Client,
    /// What the subjects of answers begin with.
    inbox: String,
    outstanding: Semaphore,
    timeout: Duration,
    table: Arc<Mutex<Table>>,
    _task: AbortOnDropHandle<()>,
}

impl Confirms {
    /// Lets at most so many messages wait at a time, each for so long.
    pub(crate) async fn open(
        client: &Client,
        epoch: watch::Receiver<u64>,
        outstanding: usize,
        timeout: Duration,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = format!("{}.", client.new_inbox());
        let answers = client.subscribe(format!("{inbox}*")).await?;
        let table = Arc::<Mutex<Table>>::default();
        let task = tokio::spawn(run(Arc::clone(&table), answers, epoch, timeout));
        let outstanding = Semaphore::new(outstanding.clamp(1, Semaphore::MAX_PERMITS));
        let (client, task) = (client.clone(), AbortOnDropHandle::new(task));
        Ok(Self { client, inbox, outstanding, timeout, table, _task: task })
    }

    /// Publishes a message and waits until the server has it, no longer than until the deadline.
    pub(crate) async fn publish(
        &self,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Outcome {
        let _permit = match self.outstanding.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let acquired = timeout_at(deadline, self.outstanding.acquire()).await;
                acquired.map_err(|_| Unconfirmed::Silent)?.map_err(|_| Unconfirmed::Ended)?
            }
        };
        let mut expected = self.expect(deadline)?;
        let reply = expected.subject(&self.inbox);
        let sending = self.client.publish_with_reply_and_headers(subject, reply, headers, payload);
        tokio::select! {
            biased;
            sent = sending => sent.map_err(Unconfirmed::Unsent)?,
            outcome = &mut expected.told => return expected.end(outcome),
        }
        let outcome = (&mut expected.told).await;
        expected.end(outcome)
    }

    fn expect(&self, deadline: Instant) -> Result<Expected<'_>, Unconfirmed> {
        let until = deadline.min(Instant::now() + self.timeout);
        let (tell, told) = oneshot::channel();
        let mut table = self.table.lock();
        if table.has_ended {
            return Err(Unconfirmed::Ended);
        }
        loop {
            table.last = table.last.wrapping_add(1);
            let number = table.last;
            // After four billion others one may wait yet.
            if let Entry::Vacant(free) = table.waiting.entry(number) {
                free.insert(Waiting { until, tell });
                return Ok(Expected { number: Some(number), told, table: &self.table });
            }
        }
    }
}

/// An entry of the table, taken out when this is dropped.
struct Expected<'t> {
    number: Option<u32>,
    told: oneshot::Receiver<Outcome>,
    table: &'t Mutex<Table>,
}

impl Expected<'_> {
    /// Where the answer is to come.
    fn subject(&self, inbox: &str) -> Subject {
        use std::fmt::Write as _;
        let mut subject = String::with_capacity(inbox.len() + 8);
        subject.push_str(inbox);
        // Writing to a text does not fail.
        let _ = write!(subject, "{:08x}", self.number.unwrap_or_default());
        Subject::from(subject)
    }

    /// The entry is not in the table any more.
    fn end(&mut self, outcome: Result<Outcome, oneshot::error::RecvError>) -> Outcome {
        self.number = None;
        outcome.unwrap_or(Err(Unconfirmed::Ended))
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.table.lock().waiting.remove(&number);
        }
    }
}

async fn run(
    table: Arc<Mutex<Table>>,
    mut answers: Subscriber,
    mut epoch: watch::Receiver<u64>,
    timeout: Duration,
) {
    let mut looks = interval((timeout / LOOKS).clamp(LOOK.0, LOOK.1));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            answer = answers.next() => {
                let mut next = Some(answer);
                for _ in 0..TURN {
                    match next {
                        Some(Some(answer)) => tell(&table, &answer),
                        Some(None) => {
                            table.lock().has_ended = true;
                            return tell_all(&table, |_| true, || Unconfirmed::Ended);
                        }
                        None => break,
                    }
                    next = answers.next().now_or_never();
                }
            }
            // Where nobody counts connections any more, nobody publishes either.
            Ok(()) = epoch.changed() => tell_all(&table, |_| true, || Unconfirmed::Lost),
            _ = looks.tick() => {
                let now = Instant::now();
                tell_all(&table, |until| until <= now, || Unconfirmed::Silent);
            }
        }
    }
}

/// Hands out one answer; one that nobody waits for any more is let go.
fn tell(table: &Mutex<Table>, answer: &Message) {
    let number = answer.subject.rsplit('.').next().unwrap_or_default();
    let Ok(number) = u32::from_str_radix(number, 16) else { return };
    let Some(waiting) = table.lock().waiting.remove(&number) else { return };
    // Whoever waited may have stopped just now.
    let _ = waiting.tell.send(read(answer));
}

fn tell_all(
    table: &Mutex<Table>,
    is_meant: impl Fn(Instant) -> bool,
    outcome: impl Fn() -> Unconfirmed,
) {
    let told = table.lock().waiting.extract_if(|_, it| is_meant(it.until)).collect::<Vec<_>>();
    for (_, waiting) in told {
        let _ = waiting.tell.send(Err(outcome()));
    }
}

fn read(answer: &Message) -> Outcome {
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(Unconfirmed::NoStream);
    }
    if answer.payload.starts_with(CONFIRMED) {
        return Ok(());
    }
    match serde_json::from_slice(&answer.payload) {
        Ok(Response::<PublishAck>::Ok(_)) => Ok(()),
        Ok(Response::Err { error }) => Err(Unconfirmed::Refused(error)),
        Err(error) => Err(Unconfirmed::Unreadable(error)),
    }
}
