//! What a slot's workers share, and what they do with a handler's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use echo_bus::state::States;
use echo_bus::{Receiver, RetryPolicy, Settlement, Side, Slot, Transport};
use echo_sdk::contract::dead::{self, DeadLetter};
use echo_sdk::{
    BaseMessage, Offer, PluginError, ProcessingStatus, PublishError, Received, Topic, TopicError,
};
use uuid::Uuid;

use super::{Attempts, Measured, Window};
use crate::host::DeadLetters;
use crate::middleware::{Ending, SlotMiddleware};
use crate::state::{Forms, InHand};
use crate::telemetry::{HostTelemetry, SlotMetrics};

/// For how many effects of the next message a worker keeps room.
const KEPT_EFFECTS: usize = 64;

/// The rules by which a slot delivers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delivering {
    pub(crate) max_attempts: u16,
    pub(crate) max_hops: u16,
    pub(crate) retry: RetryPolicy,
    pub(crate) deadline: Option<Duration>,
    /// How long a handler's effects may wait for room before its attempt counts as failed.
    pub(crate) commit_patience: Duration,
}

/// What a slot has counted; read by the registry.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) delivered: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) published: AtomicU64,
    /// By how many attempts a message may be past the most, since one was kept back for what was no fault of its own.
    spare_attempts: AtomicU16,
}

/// What one worker has counted since it last told the slot.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) delivered: u64,
    pub(super) acknowledged: u64,
    forwarded: u64,
    pub(super) retried: u64,
    pub(super) failed: u64,
    panicked: u64,
    postponed: u64,
    dead: u64,
    pub(super) published: u64,
}

/// A slot at work.
pub(crate) struct SlotRuntime {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) slot: Arc<dyn Slot>,
    /// The side of the slot that the version's workers take from.
    pub(crate) side: Side,
    pub(crate) delivering: Delivering,
    pub(crate) telemetry: HostTelemetry,
    pub(crate) metrics: SlotMetrics,
    /// Shared by all versions of the plugin.
    pub(crate) counters: Arc<Counters>,
    /// What this version has done, in figures that another's are held against.
    pub(crate) measured: Arc<Measured>,
    /// Where it is seen what the handlers do, while another version is to do the same.
    pub(crate) window: Window,
    pub(crate) dead_letters: Arc<DeadLetters>,
    /// What stands around the handler; most slots have none.
    pub(crate) middleware: Option<SlotMiddleware>,
    /// The managed state; most slots have none.
    pub(crate) states: Option<Arc<dyn States>>,
    /// The forms that the state is read and written in.
    pub(crate) forms: Arc<Forms>,
    /// Whether the version is on trial: then no message dies of it, since the version before may get it yet.
    pub(crate) on_trial: AtomicBool,
}

/// Settles a message that was acknowledged and has no state, where nothing is to be waited for; says whether it did.
///
/// # Errors
/// The bus refused what the handler published; the message is still in hand.
#[inline]
pub(super) fn acknowledge(
    receiver: &mut dyn Receiver,
    effects: &mut Vec<Received>,
    tally: &mut Tally,
) -> Result<bool, PublishError> {
    if !effects.is_empty() {
        if !offer_only(receiver, effects)? {
            return Ok(false);
        }
        tally.published += 1;
    }
    tally.acknowledged += 1;
    receiver.settle(Settlement::Done);
    Ok(true)
}

/// Commits effects, if it is one that can be taken without waiting; says whether it did.
fn offer_only(
    receiver: &mut dyn Receiver,
    effects: &mut Vec<Received>,
) -> Result<bool, PublishError> {
    if effects.len() > 1 {
        return Ok(false);
    }
    let Some(Received { topic, message }) = effects.pop() else {
        return Ok(false);
    };
    match receiver.offer(&topic, message) {
        Offer::Taken => Ok(true),
        Offer::Refused(error) => Err(error),
        Offer::Busy(message) => {
            effects.push(Received { topic, message });
            Ok(false)
        }
    }
}

/// What is to become of a message.
pub(super) enum Verdict {
    /// Publish its effects, then it is done; a forwarded message is among them.
    Commit { forwarded: bool },
    /// Deliver it again after so long, as the handler asked or because it failed.
    Again(Duration),
    /// It is dead, for this reason.
    Dead(String),
    /// Nothing any more.
    Settled,
}

impl SlotRuntime {
    /// Settles the message in hand as its handler answered. Nothing is left of its effects afterwards.
    pub(super) async fn settle(
        &self,
        receiver: &mut dyn Receiver,
        ending: Ending,
        effects: &mut Vec<Received>,
        state: &mut InHand,
        tally: &mut Tally,
    ) {
        if let Some(verdict) = self.verdict(receiver, ending, effects, state, tally).await {
            self.carry_out(receiver, verdict, tally).await;
        }
        effects.clear();
        // Most publish few; whoever once published many does not keep the room for them.
        effects.shrink_to(KEPT_EFFECTS);
    }

    /// What is to become of the message in hand, once its effects are published and its state is put; `None` where
    /// it was settled along with them, or is to be handled again at once.
    async fn verdict(
        &self,
        receiver: &mut dyn Receiver,
        mut ending: Ending,
        effects: &mut Vec<Received>,
        state: &mut InHand,
        tally: &mut Tally,
    ) -> Option<Verdict> {
        let change = self.settle_opened(receiver, state, &mut ending, tally).await.ok()?;
        let Received { message, .. } = receiver.current()?;
        match (self.judge(ending, message, effects, tally), change) {
            (Verdict::Commit { forwarded }, Some(change)) => {
                let committed = (std::mem::take(effects), change);
                let counted = (&mut state.conflicts, &mut *tally);
                self.commit_state(receiver, committed, forwarded, counted).await
            }
            (Verdict::Commit { forwarded }, None) if !effects.is_empty() => {
                Some(self.commit(receiver, effects, forwarded, tally).await)
            }
            (verdict, _) => Some(verdict),
        }
    }

    /// Does with the message in hand what is to become of it.
    async fn carry_out(&self, receiver: &mut dyn Receiver, verdict: Verdict, tally: &mut Tally) {
        match verdict {
            Verdict::Commit { forwarded } => {
                *(if forwarded { &mut tally.forwarded } else { &mut tally.acknowledged }) += 1;
                // Where it was settled along with its effects, settling with empty hands does nothing.
                receiver.settle(Settlement::Done);
            }
            Verdict::Again(delay) => {
                tally.retried += 1;
                receiver.settle(Settlement::Again(delay));
            }
            Verdict::Dead(reason) => self.give_up(receiver, reason, tally).await,
            Verdict::Settled => {}
        }
    }

    /// Settles the message in hand: the bus refused what its handler published.
    pub(super) async fn settle_refused(
        &self,
        receiver: &mut dyn Receiver,
        error: &PublishError,
        tally: &mut Tally,
    ) {
        let verdict = self.not_taken(receiver, &error.to_string(), tally);
        self.carry_out(receiver, verdict, tally).await;
    }

    /// Gives the message in hand up.
    pub(super) async fn give_up(
        &self,
        receiver: &mut dyn Receiver,
        reason: String,
        tally: &mut Tally,
    ) {
        tally.dead += 1;
        self.bury(receiver, reason).await;
    }

    /// What the end of a handler's call means for its message.
    fn judge(
        &self,
        ending: Ending,
        message: &BaseMessage,
        effects: &mut Vec<Received>,
        tally: &mut Tally,
    ) -> Verdict {
        match ending {
            Ending::Answered(ProcessingStatus::Acknowledged) => {
                Verdict::Commit { forwarded: false }
            }
            Ending::Answered(status) => self.judge_status(status, message, effects, tally),
            Ending::Error(error) => {
                tally.failed += 1;
                tally.panicked += u64::from(matches!(error, PluginError::Panicked(_)));
                self.failed_attempt(message, &error)
            }
            Ending::TimedOut(deadline) => {
                tally.failed += 1;
                let deadline = echo_sdk::duration::format(deadline);
                let text = format!("the handler took longer than its deadline, {deadline}");
                self.failed_attempt(message, &PluginError::ProcessingError(text))
            }
        }
    }

    fn judge_status(
        &self,
        status: ProcessingStatus,
        message: &BaseMessage,
        effects: &mut Vec<Received>,
        tally: &mut Tally,
    ) -> Verdict {
        match status {
            ProcessingStatus::Acknowledged => Verdict::Commit { forwarded: false },
            ProcessingStatus::RetryLater(delay) if self.is_last(message) => {
                tally.postponed += 1;
                let delay = echo_sdk::duration::format(delay);
                let reason = format!("the last attempt asked to be retried after {delay}");
                self.dead_or_later(message, reason)
            }
            ProcessingStatus::RetryLater(delay) => {
                tally.postponed += 1;
                Verdict::Again(delay)
            }
            ProcessingStatus::Failed(reason) => {
                tally.failed += 1;
                self.dead_or_later(message, reason)
            }
            ProcessingStatus::Forward(topic, forwarded) => {
                let hops = message.hops().saturating_add(1);
                if hops > self.delivering.max_hops {
                    let max = self.delivering.max_hops;
                    let reason = format!("forwarded to `{topic}` after {max} hops: a loop?");
                    return self.dead_or_later(message, reason);
                }
                effects.push(Received { topic, message: forwarded.with_hops(hops) });
                Verdict::Commit { forwarded: true }
            }
        }
    }

    /// Whether a message has had all of its attempts and came back from the last one unsettled.
    pub(super) fn is_past(&self, message: &BaseMessage) -> bool {
        let past = message.attempt().saturating_sub(self.delivering.max_attempts);
        past > 0 && past > self.counters.spare_attempts.load(Ordering::Relaxed)
    }

    /// The attempt at the message in hand was not its last: it is kept back because of its state, or its version is on
    /// trial.
    pub(super) fn spare_attempt(&self, message: &BaseMessage) {
        let next = message.attempt().saturating_add(1);
        let past = next.saturating_sub(self.delivering.max_attempts);
        self.counters.spare_attempts.fetch_max(past, Ordering::Relaxed);
    }

    fn is_last(&self, message: &BaseMessage) -> bool {
        message.attempt() >= self.delivering.max_attempts
    }

    /// Gives a message up, or has it wait for the verdict where the version is on trial: whichever version stays gets
    /// it once more.
    fn dead_or_later(&self, message: &BaseMessage, reason: String) -> Verdict {
        if !self.on_trial.load(Ordering::Relaxed) {
            return Verdict::Dead(reason);
        }
        self.spare_attempt(message);
        Verdict::Again(self.delivering.retry.delay(message, message.attempt()))
    }

    fn failed_attempt(&self, message: &BaseMessage, error: &PluginError) -> Verdict {
        if self.is_last(message) {
            return self.dead_or_later(message, error.to_string());
        }
        let delay = self.delivering.retry.delay(message, message.attempt());
        tracing::debug!(slot = self.slot.name(), %error, ?delay, "a handler failed; retrying");
        Verdict::Again(delay)
    }

    /// Publishes a handler's effects, all or none, and settles its message along with them.
    async fn commit(
        &self,
        receiver: &mut dyn Receiver,
        effects: &mut Vec<Received>,
        forwarded: bool,
        tally: &mut Tally,
    ) -> Verdict {
        let count = effects.len() as u64;
        match offer_only(receiver, effects) {
            Ok(false) => {}
            Ok(true) => {
                tally.published += count;
                return Verdict::Commit { forwarded };
            }
            Err(error) => return self.not_taken(receiver, &error.to_string(), tally),
        }
        let committing = receiver.commit(std::mem::take(effects));
        let error = match tokio::time::timeout(self.delivering.commit_patience, committing).await {
            Ok(Ok(())) => {
                tally.published += count;
                return Verdict::Commit { forwarded };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let patience = echo_sdk::duration::format(self.delivering.commit_patience);
                format!("found no room within {patience}; is a subscriber stuck?")
            }
        };
        self.not_taken(receiver, &error, tally)
    }

    /// The bus does not take a handler's effects.
    pub(super) fn not_taken(
        &self,
        receiver: &dyn Receiver,
        error: &str,
        tally: &mut Tally,
    ) -> Verdict {
        tally.failed += 1;
        let text = format!("what it published was not taken: {error}");
        match receiver.current() {
            Some(received) => {
                self.failed_attempt(&received.message, &PluginError::ProcessingError(text))
            }
            None => Verdict::Again(Duration::ZERO),
        }
    }

    /// Publishes a dead letter and ends its message. It goes past all bounds: a message must not be lost
    /// because the one who looks at the dead is slow. Where the bus does not take the letter, the message
    /// stays until it does.
    async fn bury(&self, receiver: &mut dyn Receiver, reason: String) {
        let Some(Received { topic, message }) = receiver.current() else {
            return;
        };
        let slot = self.slot.name();
        tracing::warn!(slot, %topic, id = %message.id(), reason, "a message is dead");
        let letter = DeadLetter {
            slot: slot.to_owned(),
            topic: topic.clone(),
            reason,
            attempts: message.attempt(),
            message: message.clone(),
        };
        let retry = self.delivering.retry.delay(message, message.attempt());
        let published = match self.dead_letter(&letter) {
            Ok(published) => published,
            Err(error) => {
                let (slot, topic) = (&letter.slot, &letter.topic);
                tracing::error!(slot, %topic, %error, "a dead letter was kept but not published");
                receiver.settle(Settlement::Done);
                return self.dead_letters.keep(Uuid::now_v7(), letter);
            }
        };
        let id = published.message.id();
        match receiver.bury(published).await {
            Ok(()) => self.dead_letters.published(id, letter),
            Err(PublishError::Closed) => {
                receiver.settle(Settlement::Done);
                self.dead_letters.keep(id, letter);
            }
            Err(error) => {
                tracing::error!(slot, %error, "the bus took no dead letter; the message stays");
                receiver.settle(Settlement::Again(retry));
            }
        }
    }

    fn dead_letter(&self, letter: &DeadLetter) -> Result<Received, PluginError> {
        let DeadLetter { slot, topic, message, .. } = letter;
        // A slot that gives up dead letters makes dead letters of those, which may reach it again.
        let is_letter = topic.as_str().starts_with("dead.");
        let hops = if is_letter { message.hops().saturating_add(1) } else { 0 };
        if hops > self.delivering.max_hops {
            return Err(PluginError::ProcessingError("it died too often on its way".into()));
        }
        let mut builder = BaseMessage::builder(slot).data(letter);
        if let Some(context) = message.trace_context() {
            builder = builder.trace_context(context);
        }
        let message = builder.build()?.with_hops(hops);
        Ok(Received { topic: self.dead_topic(topic)?, message })
    }

    fn dead_topic(&self, topic: &Topic) -> Result<Topic, TopicError> {
        let slot = self.slot.name();
        // The topic may be so long that nothing more fits before it.
        Topic::new(dead::topic(slot, topic)).or_else(|_| Topic::new(format!("dead.{slot}")))
    }

    /// Adds up what a worker has counted.
    pub(super) fn add(&self, tally: &mut Tally) {
        let Tally {
            delivered,
            acknowledged,
            forwarded,
            retried,
            failed,
            panicked,
            postponed,
            dead,
            published,
        } = std::mem::take(tally);
        self.measured.count(Attempts { ended: delivered, failed, panicked, postponed });
        for (counted, counter, metric) in [
            (delivered, &self.counters.delivered, &self.metrics.delivered),
            (acknowledged, &self.counters.acknowledged, &self.metrics.acknowledged),
            (forwarded, &self.counters.forwarded, &self.metrics.forwarded),
            (retried, &self.counters.retried, &self.metrics.retried),
            (failed, &self.counters.failed, &self.metrics.failed),
            (dead, &self.counters.dead, &self.metrics.dead),
            (published, &self.counters.published, &self.metrics.published),
        ] {
            if counted > 0 {
                counter.fetch_add(counted, Ordering::Relaxed);
                metric.increment(counted);
            }
        }
    }
}
