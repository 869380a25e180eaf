//! What goes out to a client: its subscriptions' messages, and answers to what it says.
//!
//! Messages are taken from the bus as soon as they are there, whether the client reads or not, and wait as bytes.
//! So the bus waits for nobody's socket, and what a client costs is bounded by bytes: past
//! `gateway.limits.max_pending` it is cut off.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use echo_sdk::{Pattern, Received, Subscription, Topic};
use slab::Slab;
use tokio::io::AsyncWrite;
use uuid::Uuid;

use super::congestion::{Congestion, Gauge, Pressure};
use super::connection::End;
use super::groups::{CAPACITY, Member};
use super::outbound::Outbound;
use super::protocol;
use super::ready::{Bell, ReadyList};
use crate::auth::{Access, Responses};

/// How many messages, and how many bytes, are taken before others have their turn.
const ROUND: usize = 1_024;
const ROUND_BYTES: usize = 256 * 1024;

/// Where a subscription takes its messages from.
#[derive(Debug)]
pub(super) enum Source {
    /// From the bus, all of them.
    Alone(Subscription),
    /// From its group, its share. In a box, since few are.
    Shared(Box<Member>),
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        match self {
            Self::Alone(subscription) => subscription.poll_next(cx),
            Self::Shared(member) => member.poll_next(cx),
        }
    }
}

#[derive(Debug)]
struct Entry {
    sid: Box<[u8]>,
    pattern: Pattern,
    source: Source,
    bell: Arc<Bell>,
    /// Made of the bell.
    waker: Waker,
    delivered: u64,
    max: Option<u64>,
}

/// The side of a connection that goes out.
#[derive(Debug)]
pub(super) struct Output {
    outbound: Outbound,
    entries: Slab<Entry>,
    by_sid: HashMap<Box<[u8]>, usize>,
    ready_list: Arc<ReadyList>,
    /// Taken off the list and not looked at yet, the next one last.
    ready: Vec<usize>,
    gauge: Gauge,
    max_pending: usize,
    scratch: Vec<u8>,
    with_headers: bool,
    access: Option<Access>,
    responses: Responses,
    own: Option<OwnMessages>,
}

impl Output {
    pub(super) fn new(congestion: &Arc<Congestion>, max_pending: usize) -> Self {
        Self {
            outbound: Outbound::default(),
            entries: Slab::new(),
            by_sid: HashMap::new(),
            ready_list: Arc::default(),
            ready: Vec::new(),
            gauge: Gauge::new(congestion),
            max_pending,
            scratch: Vec::new(),
            with_headers: false,
            access: None,
            responses: Responses::default(),
            own: None,
        }
    }

    /// The client has logged in, and wants headers, and what it publishes itself (`echo`), or not.
    pub(super) fn admit(&mut self, access: &Access, with_headers: bool, echo: bool) {
        self.access = Some(access.clone());
        self.with_headers = with_headers;
        self.own = (!echo).then(OwnMessages::default);
    }

    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.outbound.append(write);
    }

    pub(super) fn error(&mut self, text: &str) {
        self.append(|out| protocol::write_error(out, text));
    }

    pub(super) fn pressure(&self) -> &Arc<Pressure> {
        self.gauge.pressure()
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn has_subscription(&self, sid: &[u8]) -> bool {
        self.by_sid.contains_key(sid)
    }

    pub(super) fn subscribe(&mut self, sid: &[u8], pattern: Pattern, source: Source) {
        if self.entries.capacity() == 0 {
            // Many connections have one subscription; left to itself this makes room for four.
            self.entries = Slab::with_capacity(1);
        }
        let place = self.entries.vacant_entry();
        let number = place.key();
        if let MapEntry::Vacant(free) = self.by_sid.entry(sid.into()) {
            free.insert(number);
            let bell = Bell::new(number, &self.ready_list);
            // Looked at once, so that it is woken from then on.
            bell.ring();
            let waker = Waker::from(Arc::clone(&bell));
            let sid = sid.into();
            place.insert(Entry { sid, pattern, source, bell, waker, delivered: 0, max: None });
        }
    }

    /// Ends a subscription at once, or after `max` messages in all; what has come before is delivered.
    pub(super) fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) -> Result<(), End> {
        let Some(number) = self.by_sid.get(sid).copied() else { return Ok(()) };
        self.deliver_from(number, CAPACITY, usize::MAX)?;
        match self.entries.get_mut(number) {
            Some(entry) if max.is_some_and(|max| max > entry.delivered) => entry.max = max,
            _ => self.remove(number),
        }
        Ok(())
    }

    fn remove(&mut self, number: usize) {
        if let Some(entry) = self.entries.try_remove(number) {
            self.by_sid.remove(&entry.sid);
        }
    }

    /// Tells a client that nobody hears what it asked, where it waits for the answer.
    pub(super) fn no_responders(&mut self, reply: &str) {
        let Ok(topic) = Topic::new(reply) else { return };
        let found = self.entries.iter().find(|(_, entry)| entry.pattern.matches(&topic));
        let Some((number, entry)) = found else { return };
        self.outbound.append(|out| protocol::write_no_responders(out, reply, &entry.sid));
        self.count_delivery(number);
    }

    /// Whether the client may publish something that it may not publish in any case: an answer.
    pub(super) fn may_answer(&mut self, topic: &Topic) -> bool {
        let access = self.access.as_ref();
        access.is_some_and(|access| self.responses.may_publish(access, topic))
    }

    /// Notes a message of the client's own that it does not want back.
    pub(super) fn note_own(&mut self, topic: &Topic, id: Uuid) {
        if let Some(own) = &mut self.own
            && self.entries.iter().any(|(_, entry)| entry.pattern.matches(topic))
        {
            own.note(id);
        }
    }

    /// Takes what subscriptions have; says whether there may be more.
    pub(super) fn deliver(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        self.ready_list.register(cx.waker());
        let before = self.outbound.pending();
        for _ in 0..ROUND {
            if self.ready.is_empty() {
                self.ready_list.take(&mut self.ready);
            }
            let Some(number) = self.ready.pop() else { return Ok(false) };
            if self.deliver_from(number, ROUND, ROUND_BYTES)?
                && let Some(entry) = self.entries.get(number)
            {
                entry.bell.ring();
                return Ok(true);
            }
            if self.outbound.pending() > before + ROUND_BYTES {
                break;
            }
        }
        Ok(true)
    }

    /// Takes what one subscription has; says whether there may be more.
    fn deliver_from(&mut self, number: usize, most: usize, bytes: usize) -> Result<bool, End> {
        let before = self.outbound.pending();
        if let Some(entry) = self.entries.get(number) {
            entry.bell.answer();
        }
        for _ in 0..most {
            let Some(entry) = self.entries.get_mut(number) else { return Ok(false) };
            let received = match entry.source.poll_next(&mut Context::from_waker(&entry.waker)) {
                Poll::Pending => return Ok(false),
                Poll::Ready(None) => {
                    self.remove(number);
                    return Ok(false);
                }
                Poll::Ready(Some(received)) => received,
            };
            self.deliver_one(number, received);
            if self.outbound.pending() > self.max_pending {
                return Err(End::SlowConsumer);
            }
            if self.outbound.pending() - before > bytes {
                break;
            }
        }
        Ok(true)
    }

    fn deliver_one(&mut self, number: usize, mut received: Received) {
        let (Some(entry), Some(access)) = (self.entries.get(number), &self.access) else { return };
        if !access.may_receive(&received.topic) {
            return;
        }
        if self.own.as_ref().is_some_and(|own| own.has(received.message.id())) {
            if let Source::Shared(member) = &entry.source {
                member.pass_on(received);
            }
            return;
        }
        if access.may_respond()
            && let Some(reply) = received.message.reply_to()
        {
            self.responses.note(access, &reply);
        }
        // Attempts are counted for handlers; a client sees what was published.
        received.message = received.message.with_attempt(0);
        let (scratch, with_headers) = (&mut self.scratch, self.with_headers);
        let written = self.outbound.append(|out| {
            let before = out.len();
            let written =
                protocol::write_message(out, &received, &entry.sid, with_headers, scratch);
            written.inspect_err(|_| out.truncate(before))
        });
        match written {
            Ok(()) => self.count_delivery(number),
            Err(error) => {
                tracing::warn!(topic = %received.topic, %error, "a message was not delivered");
            }
        }
    }

    fn count_delivery(&mut self, number: usize) {
        if let Some(entry) = self.entries.get_mut(number) {
            entry.delivered += 1;
            if entry.max.is_some_and(|max| entry.delivered >= max) {
                self.remove(number);
            }
        }
    }

    /// Writes what waits, as far as the client takes it.
    pub(super) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let flushed = self.outbound.poll_flush(writer, cx);
        let patterns = self.entries.iter().map(|(_, entry)| &entry.pattern);
        self.gauge.set(self.outbound.pending(), patterns);
        if flushed.is_ready() && self.scratch.capacity() > 0 {
            // An idle connection holds no memory.
            self.scratch = Vec::new();
        }
        flushed
    }
}

/// The ids of messages that a client published and does not want back: the latest, more than wait for any of its
/// subscriptions.
#[derive(Debug, Default)]
struct OwnMessages {
    ids: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl OwnMessages {
    fn note(&mut self, id: Uuid) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > 2 * CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    fn has(&self, id: Uuid) -> bool {
        self.ids.contains(&id)
    }
}
