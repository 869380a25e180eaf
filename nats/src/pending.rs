//! A count of things that are under way, and a way to wait until none is.

use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Pending(watch::Sender<usize>);

impl Default for Pending {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Pending {
    /// One more is under way.
    pub(crate) fn begin(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// One is done.
    pub(crate) fn end(&self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }

    /// How many are under way.
    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Resolves once none is.
    pub(crate) async fn none(&self) {
        // The sender is this one, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}
