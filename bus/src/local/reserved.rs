//! Room that was reserved in a queue, and not used yet.

use std::sync::Arc;

use super::queue::Queue;

/// Room in a queue that was reserved and not used yet; given back when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) queue: Arc<Queue>,
    pub(super) messages: usize,
    pub(super) room: usize,
}

impl Reserved {
    /// Uses the room: as many messages may be pushed to the queue as are given.
    pub(super) fn redeem(mut self) -> (Arc<Queue>, usize) {
        self.queue.room.take_past_bound((self.messages - self.room) as u64);
        self.room = 0;
        (Arc::clone(&self.queue), self.messages)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.room > 0 {
            self.queue.unreserve(self.room);
        }
    }
}
