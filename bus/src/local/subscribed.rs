//! What a slot subscribes to, from its opening to its end.
//!
//! One thing happens to it at a time, under a lock that is never held across a wait: patterns take another's place in one
//! version of the routes, and whoever closes the slot takes it out for good.

use std::sync::Arc;

use echo_sdk::Pattern;
use parking_lot::Mutex;

use super::queue::Queue;
use super::slot::LocalSlot;
use super::{LocalTransport, Slots};
use crate::routing::Router;
use crate::transport::BusError;

#[derive(Debug)]
pub(super) struct Subscribed {
    router: Arc<Router<Queue>>,
    slots: Arc<Slots>,
    /// `None` once it is taken out.
    patterns: Mutex<Option<Vec<Pattern>>>,
}

impl Subscribed {
    /// To nothing yet.
    pub(super) fn new(router: Arc<Router<Queue>>, slots: Arc<Slots>) -> Self {
        Self { router, slots, patterns: Mutex::new(Some(Vec::new())) }
    }

    /// Subscribes to these patterns in place of those before, once `prepare` has seen to them.
    pub(super) fn change(
        &self,
        queue: &Arc<Queue>,
        patterns: Vec<Pattern>,
        prepare: impl FnOnce(&[Pattern]) -> Result<(), BusError>,
    ) -> Result<(), BusError> {
        let mut held = self.patterns.lock();
        let Some(before) = held.as_mut() else {
            return Err(BusError::SlotClosed(queue.name().to_owned()));
        };
        prepare(&patterns)?;
        self.router.replace(before, &patterns, queue);
        *before = patterns;
        Ok(())
    }

    /// Takes a slot out of the routes and the list of open slots, once.
    pub(super) fn end(&self, queue: &Arc<Queue>) {
        let Some(patterns) = self.patterns.lock().take() else {
            return;
        };
        self.router.remove(&patterns, queue);
        let this = Arc::downgrade(queue);
        self.slots.remove_if(queue.name(), |_, open| open.ptr_eq(&this));
        queue.kept.get().into_iter().for_each(|kept| kept.slot.close(queue));
    }
}

impl LocalTransport {
    /// Has a slot match other patterns. The log is told first, so that a message that lasts is kept for the slot before
    /// anything takes it for one that does not.
    pub(super) async fn resubscribe(
        &self,
        slot: &LocalSlot,
        patterns: Vec<Pattern>,
    ) -> Result<(), BusError> {
        let queue = &slot.queue;
        let mut was_kept = false;
        slot.place.change(queue, patterns, |patterns| {
            was_kept = queue.kept.get().is_some();
            self.register_kept(queue, patterns)
        })?;
        if was_kept { self.flush_kept().await } else { self.bring_kept(queue).await }
    }
}
