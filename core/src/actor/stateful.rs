//! What a slot with managed state does besides: before a handler is called, and with what it changed.

use std::time::Duration;

use echo_bus::state::{Change, CommitError, Document};
use echo_bus::{Receiver, RetryPolicy, Settlement};
use echo_sdk::{PluginError, Received, StateError};

use super::slot::{SlotRuntime, Tally, Verdict};
use crate::middleware::Ending;
use crate::state::{FormError, InHand};

/// How long a handler that somebody was quicker than waits before it runs again: longer each time, below the last.
const AFTER_CONFLICT: RetryPolicy =
    RetryPolicy { base: Duration::from_micros(500), max: Duration::from_millis(50) };

impl SlotRuntime {
    /// Prepares the state of the message in hand; says whether the message is to be handled. One that comes again
    /// and is in its state already is settled instead.
    pub(super) async fn begin_state(
        &self,
        receiver: &mut dyn Receiver,
        in_hand: &mut InHand,
        tally: &mut Tally,
    ) -> bool {
        in_hand.begin(receiver.origin());
        let Some(states) = &self.states else { return true };
        let Some(Received { message, .. }) = receiver.current() else { return true };
        // One that is past its attempts may have come so far because its state is none for this version.
        let is_past = message.attempt() > self.delivering.max_attempts;
        if message.attempt() < 2 || (in_hand.origin.is_none() && !is_past) {
            return true;
        }
        let key = message.key().map(str::to_owned);
        let is_taken = |document: &Document| {
            in_hand.origin.is_some_and(|origin| document.taken(origin).is_some())
        };
        match states.load(key.as_deref()).await {
            Ok(document) if is_taken(&document) => {
                self.settle_taken(receiver, document, tally).await;
                false
            }
            Ok(document) => match self.forms.readable(&document.entries) {
                Ok(_) => true,
                Err(error) => {
                    self.stay(receiver, &error.to_string(), tally);
                    false
                }
            },
            Err(error) => {
                // Whether it was handled to its end nobody knows.
                self.stay(receiver, &error.to_string(), tally);
                false
            }
        }
    }

    /// Settles what was opened, where the answer does not matter any more; gives back what is to be committed if the
    /// answer commits. Where the handler went by a state that never was, it runs again, its message in hand. Where the
    /// state could not be read or cannot be stored, that is how the handler's call ended.
    pub(super) async fn settle_opened(
        &self,
        receiver: &mut dyn Receiver,
        state: &mut InHand,
        ending: &mut Ending,
        tally: &mut Tally,
    ) -> Result<Option<Change>, ()> {
        match state.take_fault() {
            Some(error @ FormError::Later { .. }) => {
                self.stay(receiver, &error.to_string(), tally);
                return Err(());
            }
            Some(error) => *ending = Ending::Error(StateError::from(error).into()),
            None => {}
        }
        let Some(opened) = state.take() else { return Ok(None) };
        let opened = match opened.taken() {
            Ok(document) => {
                self.settle_taken(receiver, document, tally).await;
                return Err(());
            }
            Err(opened) => opened,
        };
        let read = match opened.change() {
            Ok((change, read)) if ending.is_done() => {
                match self.forms.to_store(change, read.as_ref()).await {
                    Ok(change) => return Ok(Some(change)),
                    Err((base, error)) => {
                        *ending = Ending::Error(StateError::from(error).into());
                        base
                    }
                }
            }
            Ok((Change { base, .. }, _)) | Err(base) => base,
        };
        if read.lasts().await {
            return Ok(None);
        }
        self.after_conflict(receiver, &mut state.conflicts).await;
        Err(())
    }

    /// Waits a little before a handler runs again.
    async fn after_conflict(&self, receiver: &mut dyn Receiver, conflicts: &mut u16) {
        *conflicts = conflicts.saturating_add(1);
        self.metrics.state_conflicts.increment(1);
        let delay = receiver.current().map(|it| AFTER_CONFLICT.delay(&it.message, *conflicts));
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
    }

    async fn settle_taken(
        &self,
        receiver: &mut dyn Receiver,
        document: Document,
        tally: &mut Tally,
    ) {
        match receiver.settle_taken(document).await {
            Ok(()) => tally.acknowledged += 1,
            Err(error) => self.stay(receiver, &error.to_string(), tally),
        }
    }

    /// Commits what a handler published and changed; `None` where it is to run again at once, its message in hand.
    pub(super) async fn commit_state(
        &self,
        receiver: &mut dyn Receiver,
        (effects, change): (Vec<Received>, Change),
        forwarded: bool,
        (conflicts, tally): (&mut u16, &mut Tally),
    ) -> Option<Verdict> {
        let count = effects.len() as u64;
        let committing = receiver.commit_state(effects, change);
        let patience = self.delivering.commit_patience;
        match tokio::time::timeout(patience, committing).await {
            Ok(Ok(())) => {
                *conflicts = 0;
                tally.published += count;
                Some(Verdict::Commit { forwarded })
            }
            Ok(Err(CommitError::Conflict)) => {
                self.after_conflict(receiver, conflicts).await;
                None
            }
            Ok(Err(CommitError::State(StateError::Failed(text)))) => {
                Some(self.unsettled(receiver, &text, tally))
            }
            Ok(Err(error)) => Some(self.not_taken(receiver, &error.to_string(), tally)),
            Err(_) => {
                let patience = echo_sdk::duration::format(patience);
                let text = format!("found no room within {patience}; is a subscriber stuck?");
                Some(self.unsettled(receiver, &text, tally))
            }
        }
    }

    /// A commit failed. Where it may have happened nonetheless, only the state can tell, when the message comes again.
    fn unsettled(&self, receiver: &mut dyn Receiver, error: &str, tally: &mut Tally) -> Verdict {
        if self.states.as_ref().is_some_and(|states| states.remembers()) {
            self.stay(receiver, error, tally);
            return Verdict::Settled;
        }
        self.not_taken(receiver, error, tally)
    }

    /// Keeps a message that could not be settled: it comes again, even after its last attempt, since nobody knows
    /// whether its state was put.
    fn stay(&self, receiver: &mut dyn Receiver, error: &str, tally: &mut Tally) {
        tally.failed += 1;
        tally.retried += 1;
        let Some(Received { message, .. }) = receiver.current() else { return };
        self.spare_attempt(message);
        let delay = self.delivering.retry.delay(message, message.attempt());
        let error = PluginError::ProcessingError(format!("its state was not taken: {error}"));
        tracing::warn!(slot = self.slot.name(), %error, ?delay, "a message stays");
        receiver.settle(Settlement::Again(delay));
    }
}
