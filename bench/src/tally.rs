//! Counting what was handled, at a price that measures nothing but itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many threads count in a place of their own; more of them share the last one.
const PLACES: usize = 32;

static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = Cell::new(NEXT_PLACE.fetch_add(1, Ordering::Relaxed));
}

/// A place that no other thread's counting slows down: two cache lines, which processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(AtomicU64);

/// Counts messages on many threads: each adds to a place of its own, so that counting costs what a local
/// increment costs, and whoever waits adds up.
#[derive(Debug, Default)]
pub(crate) struct Tally([Place; PLACES]);

impl Tally {
    /// Counts messages.
    pub(crate) fn add(&self, messages: u64) {
        let place = PLACE.with(Cell::get).min(PLACES - 1);
        if let Some(Place(count)) = self.0.get(place) {
            count.fetch_add(messages, Ordering::Release);
        }
    }

    /// How many messages were counted.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|Place(count)| count.load(Ordering::Acquire)).sum()
    }

    /// Waits until so many messages were counted. Others run meanwhile: it asks again whenever its task
    /// has its turn, since a wake-up by the last message would cost each of them.
    pub(crate) async fn reach(&self, messages: u64) {
        while self.sum() < messages {
            tokio::task::yield_now().await;
        }
    }
}
