//! A slot of the log: how its messages come into its queue.
//!
//! A slot is level with the log, and gets each message as it is handed round; or it is behind, since it was opened
//! with messages waiting or its queue was full: then what is handed round passes it by, and its feeder brings the
//! messages from the log, oldest first, as there is room, until it is level again.
//!
//! Nothing is passed by in between: whoever hands round and the feeder both act under the slot's lock, messages are
//! handed round in the order of their sequences after they last, and the feeder goes level only when the log holds
//! nothing more up to the last sequence that was handed round. Nor does it go further, so that plain subscriptions
//! have a message before a handler has.
//!
//! The feeder is a task of its own for each open slot. It is aborted when the slot is closed, and with the bus.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use echo_log::{Pending, Settlement, SlotId};
use echo_sdk::{BaseMessage, Pattern, Received, Topic};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::durable::Durable;
use super::queue::{Queue, Reservation};
use super::stored;
use crate::routing::Target;

/// How many messages a feeder reads at once, and after how many bytes it stops.
const CHUNK: usize = 64;
const CHUNK_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct LogSlot {
    /// Distinguishes it in routes.
    number: u64,
    id: SlotId,
    state: Mutex<State>,
    /// Tells the feeder that the slot fell behind.
    behind: Notify,
}

#[derive(Debug)]
struct State {
    patterns: Vec<Pattern>,
    /// Gone while the slot is not open.
    queue: Weak<Queue>,
    /// The last sequence that was handed round.
    seen: u64,
    place: Place,
    feeder: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Level,
    /// All up to this sequence was brought.
    Behind(u64),
}

/// A message of the log.
struct Loaded {
    pending: Pending,
    /// `None` where it cannot be read, or nobody waits for it any more.
    content: Option<(Topic, BaseMessage)>,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

impl Target for LogSlot {
    fn id(&self) -> u64 {
        self.number
    }
}

impl LogSlot {
    /// A slot that is not open. All up to the sequence `seen` was handed round.
    pub(super) fn new(id: SlotId, patterns: Vec<Pattern>, seen: u64) -> Arc<Self> {
        let (queue, place, feeder) = (Weak::new(), Place::Behind(0), None);
        Arc::new(Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            id,
            state: Mutex::new(State { patterns, queue, seen, place, feeder }),
            behind: Notify::new(),
        })
    }

    pub(super) fn id(&self) -> SlotId {
        self.id
    }

    pub(super) fn patterns(&self) -> Vec<Pattern> {
        self.state.lock().patterns.clone()
    }

    /// Puts others in the place of its patterns, and gives those.
    pub(super) fn replace_patterns(&self, patterns: &[Pattern]) -> Vec<Pattern> {
        std::mem::replace(&mut self.state.lock().patterns, patterns.to_vec())
    }

    /// Opens the slot: what waits for it comes into the queue, and then what is handed round.
    pub(super) fn open(self: &Arc<Self>, queue: &Arc<Queue>, durable: &Arc<Durable>, on: &Handle) {
        let mut state = self.state.lock();
        let waiting = durable.log.pending(self.id, 0, 1);
        let is_behind = waiting.iter().any(|waiting| waiting.seq <= state.seen);
        state.queue = Arc::downgrade(queue);
        state.place = if is_behind { Place::Behind(0) } else { Place::Level };
        let feeding = Arc::clone(self).feed(Arc::downgrade(queue), Arc::downgrade(durable));
        let feeder = on.spawn(feeding);
        let before = state.feeder.replace(feeder);
        before.into_iter().for_each(|before| before.abort());
    }

    /// The queue takes nothing more in.
    pub(super) fn close(&self, queue: &Arc<Queue>) {
        let mut state = self.state.lock();
        if state.is_open_as(queue) {
            state.queue = Weak::new();
            state.feeder.take().into_iter().for_each(|feeder| feeder.abort());
        }
    }

    /// The bus is gone.
    pub(super) fn end(&self) {
        self.state.lock().feeder.take().into_iter().for_each(|feeder| feeder.abort());
    }

    /// Hands over a message that lasts.
    pub(super) fn deliver(&self, sequence: u64, received: &Received) {
        let mut state = self.state.lock();
        state.seen = sequence;
        if state.place != Place::Level {
            drop(state);
            return self.behind.notify_one();
        }
        let Some(queue) = state.queue.upgrade() else {
            return;
        };
        match queue.reserve() {
            Reservation::Reserved => {
                let Received { topic, message } = received.clone();
                queue.push_kept(topic, message.with_attempt(0), sequence);
            }
            Reservation::Full => {
                state.place = Place::Behind(sequence.saturating_sub(1));
                self.behind.notify_one();
            }
            Reservation::Drop => queue.settle_kept(sequence, Settlement::Done),
            // It is there when the slot is opened again.
            Reservation::Closed => {}
        }
    }

    async fn feed(self: Arc<Self>, queue: Weak<Queue>, durable: Weak<Durable>) {
        while let Some(chunk) = self.chunk(&queue, &durable).await {
            for loaded in chunk {
                let Some(queue) = queue.upgrade() else {
                    return;
                };
                if !(queue.wait_for_room().await && self.bring(&queue, loaded)) {
                    return;
                }
            }
        }
    }

    /// The next messages, once there are some; `None` when the slot is closed or the bus is gone.
    async fn chunk(
        self: &Arc<Self>,
        queue: &Weak<Queue>,
        durable: &Weak<Durable>,
    ) -> Option<Vec<Loaded>> {
        loop {
            let (place, seen) = {
                let state = self.state.lock();
                (state.place, state.seen)
            };
            let Place::Behind(after) = place else {
                self.behind.notified().await;
                continue;
            };
            let (this, durable) = (Arc::clone(self), durable.upgrade()?);
            let read = move || this.read(&durable, after, seen);
            let chunk = tokio::task::spawn_blocking(read).await.ok()?;
            if !chunk.is_empty() {
                return Some(chunk);
            }
            let mut state = self.state.lock();
            if !state.queue.ptr_eq(queue) {
                return None;
            }
            if state.seen == seen {
                state.place = Place::Level;
            }
        }
    }

    /// Reads messages behind `after`, up to `seen`.
    fn read(&self, durable: &Durable, after: u64, seen: u64) -> Vec<Loaded> {
        let mut bytes = 0;
        let mut chunk = Vec::new();
        for pending in durable.log.pending(self.id, after, CHUNK) {
            if pending.seq > seen || bytes > CHUNK_BYTES {
                break;
            }
            let content = match durable.log.read(pending.seq) {
                Ok(Some(stored)) => {
                    bytes += stored.body.len();
                    let content = stored::read(&stored.body);
                    if content.is_none() {
                        let seq = pending.seq;
                        tracing::error!(
                            seq,
                            "the log holds a message of another version; it waits"
                        );
                    }
                    content
                }
                Ok(None) => None,
                Err(error) => {
                    tracing::error!(seq = pending.seq, %error, "a message cannot be read; it waits");
                    None
                }
            };
            chunk.push(Loaded { pending, content });
        }
        chunk
    }

    /// Brings a message into the queue, for which there is room; `false` when the slot is another's.
    fn bring(&self, queue: &Arc<Queue>, loaded: Loaded) -> bool {
        let Loaded { pending: Pending { seq, attempts, due }, content } = loaded;
        let mut state = self.state.lock();
        if !state.is_open_as(queue) {
            queue.unreserve(1);
            return false;
        }
        state.place = Place::Behind(seq);
        let Some((topic, message)) = content else {
            queue.unreserve(1);
            return true;
        };
        let message = message.with_attempt(attempts);
        match Duration::from_millis(due).checked_sub(unix_time()) {
            Some(left) if !left.is_zero() => queue.delay_kept(topic, message, seq, left),
            _ => queue.push_kept(topic, message, seq),
        }
        true
    }
}

impl State {
    fn is_open_as(&self, queue: &Arc<Queue>) -> bool {
        self.queue.ptr_eq(&Arc::downgrade(queue))
    }
}

/// Time since 1970.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// In milliseconds since 1970, when it is so long from now; 0 is at once.
pub(super) fn due_in(delay: Duration) -> u64 {
    if delay.is_zero() {
        return 0;
    }
    // Rounded up: never earlier.
    u64::try_from(unix_time().saturating_add(delay).as_millis()).unwrap_or(u64::MAX - 1) + 1
}
