//! What becomes of the documents that there are when another version takes a plugin's place.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

use echo_bus::state::{Change, CommitError, Entries, States};
use echo_sdk::{PluginError, StateError, StateSnapshot};
use futures_util::future::try_join_all;

use super::forms::{Forms, alone, form_of, of_plugin};

/// How many keys are asked for at once.
const PAGE: usize = 1_000;

/// How many documents are read or put at once.
const AT_ONCE: usize = 16;

/// How long a thread is kept busy with documents at a time.
const BUSY: Duration = Duration::from_micros(500);

/// How many times as long as that it is left to messages then.
const REST: u32 = 3;

/// A document's key, or none for that of all messages without one.
type Key = Option<String>;

impl Forms {
    /// Takes as many of the documents up as `limit` says, and down again, and compares; gives how many. Nothing is
    /// written.
    ///
    /// # Errors
    /// [`HandoverError`](echo_sdk::handover::HandoverError) in words, with the key: the state is of a later form, has no
    /// way, or is another after the way back; or it could not be read.
    pub(crate) async fn check(
        &self,
        states: &dyn States,
        limit: usize,
    ) -> Result<usize, PluginError> {
        let keys = states.keys(None, limit).await?;
        for_each(&keys, |key| async move {
            let document = states.load(key.as_deref()).await?;
            self.check_entries(&document.entries).await.map_err(|error| of_key(key, &error))
        })
        .await?;
        Ok(keys.len())
    }

    async fn check_entries(&self, stored: &Entries) -> Result<(), PluginError> {
        let Some(form) = form_of(stored).filter(|form| *form != self.own()) else {
            return Ok(());
        };
        for (name, json) in of_plugin(stored) {
            let data = serde_json::from_slice(json).map_err(PluginError::processing)?;
            let entry = StateSnapshot::of_entry(form, name, data);
            alone(self.actor()?.take_up(entry)).await?;
        }
        Ok(())
    }

    /// Brings every document that is in a later form than the stored one down to that; gives how many.
    ///
    /// A handler that was at its commit when [`store_in`](Self::store_in) was called may still write the form before:
    /// between the two the plugin's workers have to have finished what they had in hand.
    ///
    /// # Errors
    /// A state could not be read, taken down or put; those before are, and it can be tried again.
    pub(crate) async fn sweep(&self, states: &dyn States) -> Result<u64, PluginError> {
        let (mut swept, mut last) = (0, None);
        loop {
            let keys = states.keys(last.as_ref(), PAGE).await?;
            let bring = |key| async move {
                self.bring_down(states, key).await.map_err(|error| of_key(key, &error))
            };
            swept += for_each(&keys, bring).await?.into_iter().map(u64::from).sum::<u64>();
            match keys.into_iter().next_back() {
                Some(key) => last = Some(key),
                None => return Ok(swept),
            }
        }
    }

    /// Brings one document down, if it is of a later form; says whether it was.
    async fn bring_down(&self, states: &dyn States, key: &Key) -> Result<bool, PluginError> {
        loop {
            let base = states.load(key.as_deref()).await?;
            let form = self.readable(&base.entries).map_err(StateError::from)?;
            if form <= self.stored() {
                return Ok(false);
            }
            let read = self.taken_up(&base.entries).await.map_err(StateError::from)?;
            let entries = read.clone().unwrap_or_else(|| base.entries.clone());
            let change = self.to_store(Change { base, entries }, read.as_ref()).await;
            let change = change.map_err(|(_, error)| StateError::from(error))?;
            match states.put(key.as_deref(), change).await {
                Ok(()) => return Ok(true),
                // A handler was quicker, or what was read is lost.
                Err(CommitError::Conflict) => {}
                Err(CommitError::State(error)) => return Err(error.into()),
                Err(CommitError::Publish(error)) => return Err(error.into()),
            }
        }
    }
}

/// Does something with each key, several at once, and leaves its thread to messages most of the time.
async fn for_each<'a, T, F: Future<Output = Result<T, PluginError>>>(
    keys: &'a [Key],
    does: impl Fn(&'a Key) -> F,
) -> Result<Vec<T>, PluginError> {
    let (mut done, mut busy) = (Vec::with_capacity(keys.len()), Duration::ZERO);
    for keys in keys.chunks(AT_ONCE) {
        let mut some = pin!(try_join_all(keys.iter().map(&does)));
        let measured = poll_fn(|cx| {
            let began = Instant::now();
            let poll = some.as_mut().poll(cx);
            busy += began.elapsed();
            poll
        });
        done.extend(measured.await?);
        match busy >= BUSY {
            true => tokio::time::sleep(std::mem::take(&mut busy) * REST).await,
            false => tokio::task::yield_now().await,
        }
    }
    Ok(done)
}

fn of_key(key: &Key, error: &PluginError) -> PluginError {
    let whose = match key {
        Some(key) => format!("the state of the key `{key}`"),
        None => "the state of the messages without a key".to_owned(),
    };
    PluginError::ProcessingError(format!("{whose}: {error}"))
}
