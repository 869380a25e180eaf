//! What is told of a transition: an event for each step.

use std::sync::Arc;

use chrono::Utc;
use echo_bus::Transport;
use echo_sdk::TransitionStrategy;
use echo_sdk::contract::transition::{Comparison, TransitionEvent, TransitionStep, VersionFigures};
use uuid::Uuid;

use crate::registry::announce;

/// Tells of one transition.
pub(crate) struct Told {
    transport: Arc<dyn Transport>,
    id: Uuid,
    plugin: String,
    from: String,
    pub(crate) to: Option<String>,
    pub(crate) strategy: TransitionStrategy,
    /// The percentage of the messages that the new version gets.
    pub(crate) share: u8,
    pub(crate) old: VersionFigures,
    pub(crate) new: VersionFigures,
    pub(crate) comparison: Option<Comparison>,
}

impl Told {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        id: Uuid,
        plugin: &str,
        from: &str,
        strategy: TransitionStrategy,
    ) -> Self {
        let (plugin, from) = (plugin.to_owned(), from.to_owned());
        let (old, new) = (VersionFigures::default(), VersionFigures::default());
        let (to, comparison, share) = (None, None, 0);
        Self { transport, id, plugin, from, to, strategy, share, old, new, comparison }
    }

    /// Publishes that a step was done, and why, where something speaks against the new version.
    pub(crate) fn tell(&self, step: TransitionStep, reason: Option<String>) -> TransitionEvent {
        let event = TransitionEvent {
            id: self.id,
            plugin: self.plugin.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            strategy: self.strategy,
            step,
            at: Utc::now(),
            share: self.share,
            reason,
            old: self.old.clone(),
            new: self.new.clone(),
            comparison: self.comparison.clone(),
        };
        let TransitionEvent { plugin, from, share, .. } = &event;
        let (to, strategy) = (event.to.as_deref().unwrap_or("?"), self.strategy.as_str());
        let (step, reason) = (step.as_str(), event.reason.as_deref().unwrap_or_default());
        tracing::info!(plugin, from, to, strategy, step, share, reason, "a transition");
        announce(&*self.transport, &event.step.topic(), &event);
        event
    }
}
