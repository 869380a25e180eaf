//! A worker: takes one message after another and has it handled.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use echo_bus::Receiver;
use echo_sdk::Plugin;
use futures_util::task::AtomicWaker;

use super::attempt::Terms;
use super::slot::{SlotRuntime, Tally};

/// How long the messages that a worker takes at once may keep it busy.
const BATCH_TIME: Duration = Duration::from_micros(50);

/// The most messages that a worker takes at once.
const MAX_BATCH: u128 = 32;

/// Where handling is fast, one message in so many is measured: two looks at the clock are not free.
const MEASURE_EVERY: u64 = 64;

/// Handling that takes longer than this is measured each time.
const SLOW: Duration = Duration::from_micros(20);

/// After so many messages a worker tells the slot what it has counted, if it does not idle before.
const TELL_EVERY: u64 = 64;

/// Tells a worker to finish what it has in hand and end.
#[derive(Debug, Default)]
pub(crate) struct Finish {
    wanted: AtomicBool,
    waker: AtomicWaker,
}

impl Finish {
    /// The worker ends before its next message.
    pub(crate) fn tell(&self) {
        self.wanted.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }
}

/// What a worker shows of itself while it works.
#[derive(Debug, Default)]
pub(crate) struct WorkerStats {
    /// Whether a message is in hand.
    pub(crate) busy: AtomicBool,
    /// Messages handled so far.
    pub(crate) handled: AtomicU64,
    /// Nanoseconds in which handlers were polled so far, scaled up from those that were measured.
    pub(crate) computed_nanos: AtomicU64,
}

/// A worker before it starts.
pub(crate) struct Worker {
    pub(crate) slot: Arc<SlotRuntime>,
    pub(crate) receiver: Box<dyn Receiver>,
    pub(crate) finish: Arc<Finish>,
    pub(crate) stats: Arc<WorkerStats>,
}

impl Worker {
    /// Handles messages until told to finish, or the slot is closed and empty.
    pub(super) async fn work<P: Plugin>(mut self, plugin: &P) {
        let mut tally = Tally::default();
        let mut pace = Pace::default();
        let mut current = None;
        while self.next(&mut tally).await {
            let measured = pace.is_measured();
            let weight = pace.weight();
            let polled = |time: Duration| {
                let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                self.stats
                    .computed_nanos
                    .fetch_add(nanos.saturating_mul(weight), Ordering::Relaxed);
            };
            let polled = measured.then_some(&polled as &(dyn Fn(Duration) + Sync));
            let began = measured.then(Instant::now);
            let terms =
                Terms { current: &mut current, deadline: self.slot.delivering.deadline, polled };
            self.slot.deliver(plugin, &mut *self.receiver, terms, &mut tally).await;
            // Nobody else counts here, so it need not be one step.
            let handled = self.stats.handled.load(Ordering::Relaxed) + 1;
            self.stats.handled.store(handled, Ordering::Relaxed);
            if let Some(began) = began {
                let took = began.elapsed();
                self.slot.metrics.handling.record(took.as_secs_f64());
                self.receiver.set_batch(pace.batch_after(took));
            }
            // A handler that never waits must not keep the thread from others.
            tokio::task::consume_budget().await;
        }
        self.slot.add(&mut tally);
    }

    /// Takes the next message in hand; false when the worker is to end.
    async fn next(&mut self, tally: &mut Tally) -> bool {
        if tally.delivered >= TELL_EVERY {
            self.slot.add(tally);
        }
        poll_fn(|cx| {
            if self.finish.is_wanted() {
                return Poll::Ready(false);
            }
            match self.receiver.poll_recv(cx) {
                Poll::Ready(more) => {
                    self.stats.busy.store(more, Ordering::Relaxed);
                    Poll::Ready(more)
                }
                Poll::Pending => {
                    self.stats.busy.store(false, Ordering::Relaxed);
                    self.slot.add(tally);
                    self.finish.waker.register(cx.waker());
                    if self.finish.is_wanted() { Poll::Ready(false) } else { Poll::Pending }
                }
            }
        })
        .await
    }
}

/// How long handling takes here, and what follows from it.
#[derive(Debug, Default)]
struct Pace {
    messages: u64,
    /// An exponentially weighted mean over measured messages; zero before the first.
    mean: Duration,
}

impl Pace {
    /// Whether the next message is to be measured.
    fn is_measured(&mut self) -> bool {
        self.messages += 1;
        self.mean >= SLOW || self.messages % MEASURE_EVERY == 1
    }

    /// How many messages a measured one stands for.
    fn weight(&self) -> u64 {
        if self.mean >= SLOW { 1 } else { MEASURE_EVERY }
    }

    /// How many messages to take at once from now on.
    fn batch_after(&mut self, took: Duration) -> usize {
        self.mean = if self.mean.is_zero() { took } else { (self.mean * 3 + took) / 4 };
        let batch = BATCH_TIME.as_nanos() / self.mean.as_nanos().max(1);
        batch.clamp(1, MAX_BATCH) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_handling_is_taken_one_by_one_and_measured_each_time() {
        let mut pace = Pace::default();
        assert!(pace.is_measured(), "the first is measured");
        assert_eq!(pace.batch_after(Duration::from_millis(50)), 1);
        assert!((0..100).all(|_| pace.is_measured()));
        assert_eq!(pace.weight(), 1);
    }

    #[test]
    fn fast_handling_is_taken_in_batches_and_measured_now_and_then() {
        let mut pace = Pace::default();
        pace.is_measured();
        assert_eq!(pace.batch_after(Duration::from_nanos(100)), 32);
        assert_eq!((0..640).filter(|_| pace.is_measured()).count(), 10);
        assert_eq!(pace.weight(), MEASURE_EVERY);
    }
}
