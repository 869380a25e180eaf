//! The two kinds of readers that queues have.

/// Who takes messages out of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The receivers of a slot, which share its messages.
    Workers,
    /// A plain subscription: a single reader takes all in the order of publication, whatever their keys.
    Subscription,
}

impl Reader {
    /// Where the ids of its queues begin. Routes go by id, and subscriptions come first: they have a message
    /// before a handler that acts on it publishes what follows from it.
    pub(super) fn first_id(self) -> u64 {
        match self {
            Self::Subscription => 0,
            Self::Workers => 1 << 63,
        }
    }
}
