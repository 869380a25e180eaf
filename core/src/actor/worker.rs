//! A worker: takes one message after another and has it handled.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use echo_bus::{Lent, Receiver, give_way};
use echo_sdk::{Plugin, Received};
use futures_util::task::AtomicWaker;

use super::attempt::{Answer, Caller, Contained, Route};
use super::measured::Asked;
use super::slot::{SlotRuntime, Tally, acknowledge};
use crate::current::Current;
use crate::middleware::Ending;
use crate::telemetry::{Handling, Outcome};

/// How long the messages that a worker takes at once may keep it busy.
const BATCH_TIME: Duration = Duration::from_micros(100);

/// The most messages that a worker takes at once.
const MAX_BATCH: u128 = 64;

/// How long a worker whose handler never waits keeps its thread from others.
const TURN_TIME: Duration = Duration::from_micros(100);

/// The most messages of a turn, whatever a worker thinks that they take.
const MAX_TURN: u128 = 512;

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
    /// Whether handling is so fast that whoever waits for it had better do it.
    is_quick: AtomicBool,
    /// How far somebody who helps has come, one of [`help`].
    help: AtomicU8,
}

/// How far somebody who helps a worker has come.
mod help {
    pub(super) const NONE: u8 = 0;
    pub(super) const BEGUN: u8 = 1;
    /// A message was taken, which is as much as anybody helps with.
    pub(super) const DONE: u8 = 2;
}

impl WorkerStats {
    /// Whether whoever wakes the worker may do its work instead: it waits for messages, and handles them fast.
    pub(super) fn may_be_helped(&self) -> bool {
        self.is_quick.load(Ordering::Relaxed) && !self.busy.load(Ordering::Relaxed)
    }

    /// Whether the worker is polled by somebody who helps. Whoever polls it says so, and nobody else.
    pub(super) fn set_help(&self, helps: bool) {
        let help = if helps { help::BEGUN } else { help::NONE };
        self.help.store(help, Ordering::Relaxed);
    }

    /// Whether the worker may go on with the message that it took.
    pub(super) fn may_go_on(&self) -> bool {
        match self.help.load(Ordering::Relaxed) {
            help::NONE => true,
            help::BEGUN => {
                self.help.store(help::DONE, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }
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
    pub(super) async fn work<P: Plugin>(self, plugin: &P) {
        let caller = Caller::new(Arc::clone(&self.stats));
        let (pace, tally) = (Pace::default(), Tally::default());
        let mut shift = Shift { worker: self, plugin, caller, pace, tally };
        while poll_fn(|cx| shift.poll_next(cx)).await {
            shift.caller.weight = shift.pace.weight_of_next();
            let asked = shift.worker.slot.measured.asked();
            if asked.anything() {
                shift.attend(asked);
            }
            let began = (shift.caller.weight > 0).then(Instant::now);
            shift.handle().await;
            // Nobody else counts here, so it need not be one step.
            let handled = shift.worker.stats.handled.load(Ordering::Relaxed) + 1;
            shift.worker.stats.handled.store(handled, Ordering::Relaxed);
            if let Some(began) = began {
                shift.measured(began);
            }
            if shift.pace.ends_turn() {
                // Not by tokio's budget: who uses that up waits until the thread has nothing else, or polled 61 others,
                // with what it has taken.
                give_way().await;
            }
        }
        shift.worker.slot.add(&mut shift.tally);
    }
}

/// A worker at work, with all that it writes for each message.
struct Shift<'a, P> {
    worker: Worker,
    plugin: &'a P,
    caller: Caller,
    pace: Pace,
    tally: Tally,
}

impl<P: Plugin> Shift<'_, P> {
    /// Has the message in hand handled and settles it.
    #[inline]
    async fn handle(&mut self) {
        let Self { worker: Worker { slot, receiver, .. }, plugin, caller, tally, .. } = self;
        if slot.states.is_some()
            && !slot.begin_state(&mut **receiver, &mut caller.current.state, tally).await
        {
            return;
        }
        let Some(Lent { received: Received { topic, message }, waited, rest }) = receiver.lend()
        else {
            return;
        };
        if let Some(waited) = waited {
            slot.metrics.queue_wait.record(waited.as_secs_f64());
        }
        tally.delivered += 1;
        if slot.is_past(message) {
            let reason = "the workers that had it in hand were cut off each time".to_owned();
            return slot.give_up(&mut **receiver, reason, tally).await;
        }
        caller.current.collects = true;
        let place = &mut caller.current.trace;
        let handling = Handling::begin_at(&slot.telemetry, topic, message, place);
        let answer = {
            let route = match &slot.middleware {
                None => Route::Straight { handler: plugin.process_message(topic, message) },
                Some(middleware) => {
                    Route::Through { handler: middleware.deliver(*plugin, topic, message) }
                }
            };
            let mut handler = pin!(Contained::new(route));
            match poll_fn(|cx| Poll::Ready(caller.poll(message, handler.as_mut(), cx))).await {
                Poll::Ready(answer) => answer,
                Poll::Pending => {
                    // Others need not wait for this handler.
                    if let Some(rest) = rest {
                        rest.share();
                    }
                    caller.wait(message, handler, slot.delivering.deadline).await
                }
            }
        };
        if let Some(compared) = caller.current.compared.take()
            && let Some(received) = receiver.current()
        {
            slot.show(received, &answer, &caller.current, *compared);
        }
        let Current { effects, state, .. } = &mut caller.current;
        if matches!(answer, Answer::Acknowledged) && !handling.is_recorded() && !state.is_opened() {
            // Most messages end here.
            match acknowledge(&mut **receiver, effects, tally) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    return slot.settle_refused(&mut **receiver, &error, tally).await;
                }
            }
        }
        let ending = Ending::from(answer);
        handling.end(Outcome::from(&ending));
        slot.settle(&mut **receiver, ending, effects, state, tally).await;
    }

    /// Does for the next message what is asked for while a transition goes on.
    #[cold]
    fn attend(&mut self, asked: Asked) {
        self.caller.weight = 1;
        if asked.to_show() {
            self.caller.current.compared = self.worker.slot.window.begin();
        }
    }

    /// Takes note of how long a message took that was taken up then, and its handler.
    fn measured(&mut self, began: Instant) {
        let took = began.elapsed();
        let slot = &self.worker.slot;
        let converting = std::mem::take(&mut self.caller.current.state.converting);
        if let Some(ended) = self.caller.ended.take() {
            let handling = ended.saturating_duration_since(began);
            slot.measured.record(handling.saturating_sub(converting));
        }
        if slot.measured.asked().anything() {
            slot.add(&mut self.tally);
        }
        slot.metrics.handling.record(took.as_secs_f64());
        self.worker.receiver.set_batch(self.pace.batch_after(took));
        self.worker.stats.is_quick.store(self.pace.mean < SLOW, Ordering::Relaxed);
    }

    /// Takes the next message in hand; false when the worker is to end.
    #[inline]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Self { worker: Worker { slot, receiver, finish, stats }, tally, .. } = self;
        // What it took is handled first.
        if finish.is_wanted() && receiver.current().is_none() {
            return Poll::Ready(false);
        }
        if tally.delivered >= TELL_EVERY {
            slot.add(tally);
        }
        match receiver.poll_recv(cx) {
            Poll::Ready(more) => {
                stats.busy.store(more, Ordering::Relaxed);
                if stats.may_go_on() {
                    return Poll::Ready(more);
                }
                // It stays in hand for the worker's own task.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => {
                stats.busy.store(false, Ordering::Relaxed);
                slot.add(tally);
                finish.waker.register(cx.waker());
                if finish.is_wanted() { Poll::Ready(false) } else { Poll::Pending }
            }
        }
    }
}

/// How long handling takes here, and what follows from it.
#[derive(Debug, Default)]
struct Pace {
    messages: u64,
    /// An exponentially weighted mean over measured messages; zero before the first.
    mean: Duration,
    /// How many messages the turn has left.
    turn: u64,
}

impl Pace {
    /// How many messages the next one stands for, when it is to be measured; 0 when it is not.
    fn weight_of_next(&mut self) -> u64 {
        self.messages += 1;
        if self.mean >= SLOW {
            1
        } else if self.messages % MEASURE_EVERY == 1 {
            MEASURE_EVERY
        } else {
            0
        }
    }

    /// How many messages to take at once from now on.
    fn batch_after(&mut self, took: Duration) -> usize {
        self.mean = if self.mean.is_zero() { took } else { (self.mean * 3 + took) / 4 };
        self.messages_within(BATCH_TIME, MAX_BATCH) as usize
    }

    /// Counts a message that was handled; whether it was the last one of the turn.
    fn ends_turn(&mut self) -> bool {
        let ends = self.turn <= 1;
        self.turn = if ends { self.messages_within(TURN_TIME, MAX_TURN) } else { self.turn - 1 };
        ends
    }

    /// How many messages take that time, one at least.
    fn messages_within(&self, time: Duration, most: u128) -> u64 {
        (time.as_nanos() / self.mean.as_nanos().max(1)).clamp(1, most) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_handling_is_taken_one_by_one_and_measured_each_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.weight_of_next(), MEASURE_EVERY, "the first is measured");
        assert_eq!(pace.batch_after(Duration::from_millis(50)), 1);
        assert!((0..100).all(|_| pace.weight_of_next() == 1));
    }

    #[test]
    fn fast_handling_is_taken_in_batches_and_measured_now_and_then() {
        let mut pace = Pace::default();
        pace.weight_of_next();
        assert_eq!(pace.batch_after(Duration::from_nanos(100)), 64);
        let weights = (0..640).map(|_| pace.weight_of_next()).filter(|weight| *weight > 0);
        assert_eq!(weights.collect::<Vec<_>>(), [MEASURE_EVERY; 10]);
    }
}
