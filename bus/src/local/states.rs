//! The managed state of one slot, for those who have no message of it in hand.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use echo_log::LogError;
use echo_sdk::{BoxFuture, PublishError, StateError};
use tokio::sync::oneshot;

use super::durable::Batch;
use super::shelf::{Address, NotPut, Shelf, address, addresses, key_of};
use crate::state::{Change, CommitError, Document, States};

/// The states of one slot.
pub(super) struct SlotStates {
    shelf: Arc<Shelf>,
    slot: Box<str>,
}

impl SlotStates {
    pub(super) fn new(shelf: &Arc<Shelf>, slot: &str) -> Self {
        Self { shelf: Arc::clone(shelf), slot: slot.into() }
    }

    /// The first of the addresses behind `after` that have a document, and up to where that is all of them: to the end
    /// without a word.
    ///
    /// Memory is asked first: what it lets go of meanwhile is in the log by then.
    fn page(
        &self,
        after: &[u8],
        limit: usize,
    ) -> Result<(Vec<Address>, Option<Address>), StateError> {
        let prefix = addresses(&self.slot);
        let known = self.shelf.known(&prefix, after, limit);
        let kept = match &self.shelf.durable {
            Some(durable) => {
                let durable = durable.upgrade().ok_or_else(closed)?;
                durable.log.keys(&prefix, after, limit)
            }
            None => Vec::new(),
        };
        let known_to = known.get(limit - 1).map(|(address, _)| address.clone());
        let up_to = known_to.into_iter().chain(kept.get(limit - 1).cloned()).min();
        let mut all: BTreeMap<Address, bool> =
            kept.into_iter().map(|address| (address, true)).collect();
        // It knows of later changes.
        all.extend(known);
        let is_within = |address: &Address| up_to.as_ref().is_none_or(|last| address <= last);
        let found = all.into_iter().filter(|(address, is_there)| *is_there && is_within(address));
        Ok((found.map(|(address, _)| address).take(limit).collect(), up_to))
    }

    async fn put_lasting(&self, key: Option<&str>, change: Change) -> Result<(), CommitError> {
        let put = self.shelf.put(address(&self.slot, key), change);
        let Some(durable) = &self.shelf.durable else {
            return put.now();
        };
        let (tell, told) = oneshot::channel();
        let mut batch = Batch { put: Some(put), told: Some(tell), ..Batch::default() };
        {
            let durable = durable.upgrade().ok_or(PublishError::Closed)?;
            durable.hand_over_in_turn(&mut batch, false).await?;
        }
        Ok(told.await.unwrap_or(Err(LogError::Closed)).map_err(NotPut::from)?)
    }
}

fn closed() -> StateError {
    StateError::Failed("the bus is closed".to_owned())
}

impl States for SlotStates {
    fn load<'a>(&'a self, key: Option<&'a str>) -> BoxFuture<'a, Result<Document, StateError>> {
        let address = address(&self.slot, key);
        Box::pin(async move { self.shelf.load(&address).await })
    }

    fn put<'a>(
        &'a self,
        key: Option<&'a str>,
        change: Change,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(self.put_lasting(key, change))
    }

    fn keys<'a>(
        &'a self,
        after: Option<&'a Option<String>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StateError>> {
        let after = after.map(|key| address(&self.slot, key.as_deref()));
        let mut after = after.unwrap_or_else(|| addresses(&self.slot));
        Box::pin(async move {
            loop {
                match self.page(&after, limit.max(1))? {
                    // All that was looked at is removed, and not yet on disk.
                    (found, Some(up_to)) if found.is_empty() => after = up_to,
                    (found, _) => {
                        let keys = found.iter().filter_map(|address| key_of(address, &self.slot));
                        return Ok(keys.collect());
                    }
                }
            }
        })
    }

    /// Settling is part of the same step.
    fn remembers(&self) -> bool {
        false
    }
}

impl fmt::Debug for SlotStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotStates").field("slot", &self.slot).finish_non_exhaustive()
    }
}
