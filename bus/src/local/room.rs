//! How much of a queue is taken.
//!
//! Two counters that only grow: what was reserved, and what was settled; the difference is held. Publishers write
//! the first and remember how far they saw the second, receivers write the second, once for many messages: as
//! long as there is room, neither takes a cache line away from the other for each message.
//!
//! Who finds no room waits in line. While somebody waits, nobody goes past: a publisher looks at the length of
//! the line before it reserves. Whoever settles looks at it afterwards and grants what fits, first come first
//! served; whoever joins the line grants what fits as well, after it joined. Both put a sequentially consistent
//! fence between their two steps, so at least one of them sees the other, and nobody waits beside free room.
//! A wait that is dropped leaves the line, or gives back what it was granted. `tests/room_model.rs` tries every
//! interleaving of this.
//!
//! Waking a publisher costs more than handling many messages, and a queue that is nearly full keeps its workers busy
//! all the same. So settling grants nothing until an eighth of the room is free; [`Room::grant_all`] grants whatever
//! there is, for workers that have nothing to do, and for those who have waited long enough.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, Padded, fence};

/// Set in `line` once the room is closed; the rest counts those who wait.
const CLOSED: usize = 1 << (usize::BITS - 1);

#[derive(Debug)]
pub(super) struct Room {
    capacity: u64,
    /// How much must be free before settling grants any of it.
    worth_waking: u64,
    line: AtomicUsize,
    waiting: Mutex<Waiting>,
    /// What was given back unused: never a message.
    returned: AtomicU64,
    reserved: Padded<Reserved>,
    settled: Padded<AtomicU64>,
}

#[derive(Debug)]
struct Reserved {
    count: AtomicU64,
    /// What `settled` was when a publisher last looked; it may lag, which is safe.
    settled_seen: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    line: VecDeque<Wait>,
    /// The tickets of those whose wait was granted and who have not looked yet.
    granted: Vec<u64>,
}

#[derive(Debug)]
struct Wait {
    ticket: u64,
    wanted: u64,
    waker: Option<Waker>,
}

impl Room {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity as u64,
            worth_waking: capacity as u64 / 8,
            line: AtomicUsize::new(0),
            waiting: Mutex::new(Waiting::default()),
            returned: AtomicU64::new(0),
            reserved: Padded::new(Reserved {
                count: AtomicU64::new(0),
                settled_seen: AtomicU64::new(0),
            }),
            settled: Padded::new(AtomicU64::new(0)),
        }
    }

    /// Reserves room without waiting.
    pub(super) fn try_reserve(&self, wanted: u64) -> bool {
        self.line.load(Ordering::Acquire) == 0 && self.take(wanted)
    }

    /// Reserves room for as many as there is some for, without waiting.
    pub(super) fn reserve_some(&self, wanted: u64) -> u64 {
        if self.line.load(Ordering::Acquire) != 0 {
            return 0;
        }
        let mut wanted = wanted.min(self.capacity);
        while wanted > 0 && !self.take(wanted) {
            wanted = wanted.min(self.free()) / 2;
        }
        wanted
    }

    /// Reserves room, waiting in line for it; `false` once the room is closed.
    pub(super) async fn reserve(&self, wanted: u64) -> bool {
        if self.try_reserve(wanted) {
            return true;
        }
        let Some(mut place) = self.join(wanted) else {
            return false;
        };
        poll_fn(|cx| place.poll(cx.waker())).await
    }

    /// Takes room whether there is some or not.
    pub(super) fn take_past_bound(&self, wanted: u64) {
        self.reserved.count.fetch_add(wanted, Ordering::AcqRel);
    }

    /// Gives room of settled messages back.
    pub(super) fn settle(&self, count: u64) {
        self.settled.fetch_add(count, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.is_waited_for() && self.free() >= self.worth_waking {
            self.grant(&mut self.waiting.lock());
        }
    }

    /// Gives those who wait whatever there is for them.
    pub(super) fn grant_all(&self) {
        if self.is_waited_for() {
            self.grant(&mut self.waiting.lock());
        }
    }

    fn is_waited_for(&self) -> bool {
        self.line.load(Ordering::Relaxed) & !CLOSED > 0
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.held())
    }

    /// Gives reserved room back that no message took.
    pub(super) fn unreserve(&self, count: u64) {
        self.returned.fetch_add(count, Ordering::Relaxed);
        self.settle(count);
        self.grant_all();
    }

    /// How many messages are held, those included that are about to be pushed.
    pub(super) fn held(&self) -> u64 {
        // In this order: what is settled was reserved before, so the difference is never negative.
        let settled = self.settled.load(Ordering::Acquire);
        self.reserved.count.load(Ordering::Acquire).saturating_sub(settled)
    }

    /// How many messages were taken in so far.
    pub(super) fn accepted(&self) -> u64 {
        let returned = self.returned.load(Ordering::Relaxed);
        self.reserved.count.load(Ordering::Acquire).saturating_sub(returned)
    }

    /// Nobody gets room any more, nor waits for it.
    pub(super) fn close(&self) {
        let line = {
            let mut waiting = self.waiting.lock();
            self.line.store(CLOSED, Ordering::Release);
            std::mem::take(&mut waiting.line)
        };
        line.into_iter().filter_map(|wait| wait.waker).for_each(Waker::wake);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.line.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Adds to what is reserved, if it fits.
    fn take(&self, wanted: u64) -> bool {
        let mut reserved = self.reserved.count.load(Ordering::Relaxed);
        loop {
            if !self.fits(reserved, wanted) {
                return false;
            }
            let (next, order) = (reserved + wanted, Ordering::AcqRel);
            match self.reserved.count.compare_exchange_weak(
                reserved,
                next,
                order,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => reserved = now,
            }
        }
    }

    fn fits(&self, reserved: u64, wanted: u64) -> bool {
        let within = |settled: u64| (reserved + wanted).saturating_sub(settled) <= self.capacity;
        if within(self.reserved.settled_seen.load(Ordering::Relaxed)) {
            return true;
        }
        let settled = self.settled.load(Ordering::Acquire);
        self.reserved.settled_seen.store(settled, Ordering::Relaxed);
        within(settled)
    }

    fn join(&self, wanted: u64) -> Option<Place<'_>> {
        let mut waiting = self.waiting.lock();
        if self.is_closed() {
            return None;
        }
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.line.push_back(Wait { ticket, wanted, waker: None });
        self.line.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.grant(&mut waiting);
        Some(Place { room: self, ticket, wanted, done: false })
    }

    /// Gives those who wait what there is, first come first served.
    fn grant(&self, waiting: &mut Waiting) {
        while let Some(first) = waiting.line.front()
            && self.take(first.wanted)
        {
            let Some(first) = waiting.line.pop_front() else { return };
            self.line.fetch_sub(1, Ordering::Release);
            waiting.granted.push(first.ticket);
            first.waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// A place in the line.
struct Place<'a> {
    room: &'a Room,
    ticket: u64,
    wanted: u64,
    done: bool,
}

impl Place<'_> {
    fn poll(&mut self, waker: &Waker) -> Poll<bool> {
        let mut waiting = self.room.waiting.lock();
        if waiting.take_grant(self.ticket) {
            self.done = true;
            return Poll::Ready(true);
        }
        match waiting.line.iter_mut().find(|wait| wait.ticket == self.ticket) {
            Some(wait) => {
                wait.waker = Some(waker.clone());
                Poll::Pending
            }
            None => {
                self.done = true;
                Poll::Ready(false)
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut waiting = self.room.waiting.lock();
        if waiting.take_grant(self.ticket) {
            drop(waiting);
            return self.room.unreserve(self.wanted);
        }
        let before = waiting.line.len();
        waiting.line.retain(|wait| wait.ticket != self.ticket);
        if waiting.line.len() < before {
            self.room.line.fetch_sub(1, Ordering::Release);
            // Those behind may want less.
            self.room.grant(&mut waiting);
        }
    }
}

impl Waiting {
    fn take_grant(&mut self, ticket: u64) -> bool {
        let before = self.granted.len();
        self.granted.retain(|other| *other != ticket);
        self.granted.len() < before
    }
}
