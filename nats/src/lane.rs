//! The way out of messages on topics that do not last.
//!
//! The client wants a table of headers with each message, which its connection's task lets go of. Where one thread
//! makes what another frees, both wait for the allocator. So publishers leave their messages here, and one task makes
//! the headers and hands them on, many at a time, which wakes the connection's task on the same thread.
//!
//! Messages go out in the order in which they were left. There is room for [`ROOM`] of them beside those that the task
//! has taken; what must not wait goes past that. Whoever has to know that what was left so far is with the client,
//! before what is told to the client directly, waits until the lane is [flushed](Lane::flushed). The state is behind
//! one lock, held for one message or to take all. The task ends when the lane is closed and empty; whoever closes it
//! sees to that.

use std::sync::Arc;

use echo_sdk::PublishError;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connection::Connection;
use crate::outgoing::Outgoing;

/// How many messages wait at most.
const ROOM: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Lane {
    state: Mutex<State>,
    /// Something came in, or the lane was closed.
    filled: Notify,
    /// The task has taken all, or has handed all on.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Outgoing>,
    /// Whether the task has some of them.
    is_busy: bool,
    is_closed: bool,
    /// Why nothing goes out any more.
    broken: Option<String>,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum Left {
    /// There is no room.
    Full(Box<Outgoing>),
    /// Nothing goes out any more.
    Broken(PublishError),
}

impl Lane {
    /// Whether a message would have to wait now.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().waiting.len() >= ROOM
    }

    /// Leaves a message, if there is room.
    pub(crate) fn push(&self, outgoing: Outgoing) -> Result<(), Left> {
        self.push_within(outgoing, ROOM)
    }

    /// Leaves a message, room or not.
    pub(crate) fn push_unbounded(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        match self.push_within(outgoing, usize::MAX) {
            Err(Left::Broken(error)) => Err(error),
            Ok(()) | Err(Left::Full(_)) => Ok(()),
        }
    }

    fn push_within(&self, outgoing: Outgoing, room: usize) -> Result<(), Left> {
        let mut state = self.state.lock();
        if let Some(error) = &state.broken {
            return Err(Left::Broken(PublishError::Transport(error.clone())));
        }
        if state.waiting.len() >= room {
            return Err(Left::Full(Box::new(outgoing)));
        }
        let is_first = state.waiting.is_empty();
        state.waiting.push(outgoing);
        drop(state);
        if is_first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Leaves a message as soon as there is room.
    pub(crate) async fn send(&self, mut outgoing: Outgoing) -> Result<(), PublishError> {
        loop {
            match self.push(outgoing) {
                Ok(()) => return Ok(()),
                Err(Left::Broken(error)) => return Err(error),
                Err(Left::Full(back)) => outgoing = *back,
            }
            self.until(|state| state.waiting.len() < ROOM).await;
        }
    }

    /// Resolves once all that was left before is with the client.
    pub(crate) async fn flushed(&self) {
        self.until(|state| state.waiting.is_empty() && !state.is_busy).await;
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.is(&holds) {
                return;
            }
            emptied.await;
        }
    }

    fn is(&self, holds: impl Fn(&State) -> bool) -> bool {
        let state = self.state.lock();
        holds(&state) || state.broken.is_some()
    }

    /// Lets the task end once the lane is empty.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// Hands messages on until the lane is closed and empty.
    pub(crate) async fn run(self: Arc<Self>, connection: Arc<Connection>) {
        let mut taken = Vec::new();
        loop {
            let is_closed = {
                let mut state = self.state.lock();
                std::mem::swap(&mut state.waiting, &mut taken);
                state.is_busy = !taken.is_empty();
                state.is_closed
            };
            self.emptied.notify_waiters();
            if taken.is_empty() {
                if is_closed {
                    return;
                }
                self.filled.notified().await;
                continue;
            }
            for outgoing in taken.drain(..) {
                if let Err(error) = connection.publish(outgoing).await {
                    self.state.lock().broken = Some(error.to_string());
                    self.emptied.notify_waiters();
                    return;
                }
            }
            // After a rush its memory goes back.
            taken.shrink_to(2 * ROOM);
        }
    }
}
