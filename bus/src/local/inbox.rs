//! Where the answers to requests arrive: straight to whoever waits, past the routes.
//!
//! What a request waits for stands in one map, under the number that its reply topic ends with: who asked, until when,
//! and the answer once it is there. So a request allocates nothing for its wait, and sets no timer of its own: one
//! task sees to those whose time is up. It sleeps until the earliest of them; whoever asks for less time than that
//! wakes it.
//!
//! * **Cancellation.** A request that is dropped takes its entry out; an answer that comes later is nobody's.
//! * **Closing.** All entries are taken out, and those who wait find theirs gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dashmap::DashMap;
use echo_sdk::{BaseMessage, PublishError, RequestError, Topic};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The first token of reply topics, as NATS clients name it.
pub(super) const PREFIX: &str = "_INBOX.";

/// When nobody's time is ever up.
const NEVER: u64 = u64::MAX;

/// Times are rounded up to so many parts of what was asked for, so that the task need not look at each by itself.
const PARTS: u64 = 128;

/// The least that times are rounded up to, in nanoseconds.
const TICK: u64 = 1_000_000;

/// Whether a topic is one of those that answers arrive at.
pub(super) fn is_inbox(topic: &Topic) -> bool {
    topic.as_str().starts_with(PREFIX)
}

/// The number of an inbox.
fn number(topic: &Topic) -> Option<u64> {
    topic.as_str().strip_prefix(PREFIX).and_then(|number| u64::from_str_radix(number, 16).ok())
}

/// The topic of an inbox: its number, as short as it is in hexadecimal digits.
fn topic(number: u64) -> Topic {
    let mut text = *b"_INBOX.0000000000000000";
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1) as usize;
    let (text, _) = text.split_at_mut(PREFIX.len() + digits);
    let mut rest = number;
    for byte in text.iter_mut().rev().take(digits) {
        let digit = (rest % 16) as u8;
        *byte = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        rest /= 16;
    }
    Topic::trusted(str::from_utf8(text).unwrap_or(PREFIX))
}

/// A request that waits.
#[derive(Debug)]
struct Asking {
    /// In nanoseconds of the inboxes' clock.
    due: u64,
    waker: Waker,
    answer: Option<Answer>,
}

#[derive(Debug)]
enum Answer {
    Message(BaseMessage),
    TimedOut,
}

#[derive(Debug)]
pub(super) struct Inboxes {
    /// The numbers are the bus's own, so nobody can aim at collisions.
    open: DashMap<u64, Asking, foldhash::fast::RandomState>,
    next: AtomicU64,
    epoch: Instant,
    /// When the first request's time is up, or earlier.
    earliest: AtomicU64,
    /// Told when that became earlier.
    earlier: Notify,
}

/// A reply topic that somebody waits at; closed when dropped.
#[derive(Debug)]
pub(super) struct Inbox<'a> {
    inboxes: &'a Inboxes,
    number: u64,
    is_open: bool,
}

impl Inboxes {
    /// Makes it within a tokio runtime, whose clock it goes by.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            open: DashMap::default(),
            next: AtomicU64::new(0),
            epoch: Instant::now(),
            earliest: AtomicU64::new(NEVER),
            earlier: Notify::new(),
        })
    }

    /// Opens an inbox. Until it is [polled](Inbox::poll) nobody is woken for the answer, and no time runs.
    pub(super) fn open(&self) -> Inbox<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.insert(number, Asking { due: NEVER, waker: Waker::noop().clone(), answer: None });
        Inbox { inboxes: self, number, is_open: true }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(NEVER)
    }

    fn due_in(&self, timeout: Duration) -> u64 {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(NEVER);
        let due = self.now().checked_add(timeout);
        due.and_then(|due| due.checked_next_multiple_of((timeout / PARTS).max(TICK)))
            .unwrap_or(NEVER)
    }

    /// Gives a message to whoever waits for it; hands it back when it is no answer to a request.
    pub(super) fn deliver(&self, topic: &Topic, message: BaseMessage) -> Option<BaseMessage> {
        let Some(number) = number(topic) else { return Some(message) };
        let waker = match self.open.get_mut(&number) {
            Some(mut asking) if asking.answer.is_none() => {
                asking.answer = Some(Answer::Message(message));
                std::mem::replace(&mut asking.waker, Waker::noop().clone())
            }
            _ => return Some(message),
        };
        waker.wake();
        None
    }

    /// Whether somebody waits for an answer there.
    pub(super) fn is_open(&self, topic: &Topic) -> bool {
        number(topic).is_some_and(|number| self.open.contains_key(&number))
    }

    pub(super) fn close(&self) {
        let mut wakers = Vec::new();
        self.open.retain(|_, asking| {
            wakers.push(asking.waker.clone());
            false
        });
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells requests that their time is up. Runs until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let changed = self.earlier.notified();
            match self.earliest.load(Ordering::Acquire) {
                NEVER => changed.await,
                due => tokio::select! {
                    () = tokio::time::sleep_until(self.epoch + Duration::from_nanos(due)) => {
                        self.expire();
                    }
                    () = changed => {}
                },
            }
        }
    }

    fn expire(&self) {
        // Whoever is not in the map yet when it is looked through finds this, and says when its time is up.
        self.earliest.store(NEVER, Ordering::Release);
        let (now, mut next, mut wakers) = (self.now(), NEVER, Vec::new());
        for mut asking in self.open.iter_mut().filter(|asking| asking.answer.is_none()) {
            if asking.due <= now {
                asking.answer = Some(Answer::TimedOut);
                wakers.push(asking.waker.clone());
            } else {
                next = next.min(asking.due);
            }
        }
        self.earliest.fetch_min(next, Ordering::AcqRel);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Inbox<'_> {
    pub(super) fn topic(&self) -> Topic {
        topic(self.number)
    }

    /// The answer, if it is there.
    pub(super) fn take(&mut self) -> Option<BaseMessage> {
        match self.look(|_| {}) {
            Some(Some(Answer::Message(message))) => Some(message),
            _ => None,
        }
    }

    /// Looks for the answer, to be called until it is there.
    pub(super) fn poll(
        &mut self,
        topic: &Topic,
        timeout: Duration,
        cx: &Context<'_>,
    ) -> Poll<Result<BaseMessage, RequestError>> {
        let inboxes = self.inboxes;
        let mut due = NEVER;
        let found = self.look(|asking| {
            asking.waker.clone_from(cx.waker());
            if asking.due == NEVER {
                asking.due = inboxes.due_in(timeout);
                due = asking.due;
            }
        });
        let Some(answer) = found else {
            if due < inboxes.earliest.load(Ordering::Acquire) {
                inboxes.earliest.fetch_min(due, Ordering::AcqRel);
                inboxes.earlier.notify_one();
            }
            return Poll::Pending;
        };
        Poll::Ready(match answer {
            Some(Answer::Message(message)) => Ok(message),
            Some(Answer::TimedOut) => Err(RequestError::TimedOut { topic: topic.clone(), timeout }),
            None => Err(PublishError::Closed.into()),
        })
    }

    /// Takes the entry out if it has an answer, or finds it gone; prepares it to be waited for otherwise.
    fn look(&mut self, wait: impl FnOnce(&mut Asking)) -> Option<Option<Answer>> {
        self.is_open = false;
        let found = self.inboxes.open.remove_if_mut(&self.number, |_, asking| {
            self.is_open = asking.answer.is_none();
            if self.is_open {
                wait(asking);
            }
            !self.is_open
        });
        (!self.is_open).then(|| found.and_then(|(_, asking)| asking.answer))
    }
}

impl Drop for Inbox<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.inboxes.open.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_from_its_topic() {
        for number in
            (0..64).map(|shift| 0x9f3c_7a51_e2d4_8b60_u64 >> shift).chain([0, 1, u64::MAX])
        {
            let topic = topic(number);
            assert!(Topic::new(topic.as_str()).is_ok());
            assert_eq!(topic.as_str(), format!("{PREFIX}{number:x}"));
            assert_eq!(super::number(&topic), Some(number));
        }
    }
}
