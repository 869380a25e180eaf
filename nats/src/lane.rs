//! The way out of messages on topics that do not last.
//!
//! The client wants a table of headers with each message, which its connection's task lets go of. Where one thread
//! makes what another frees, both wait for the allocator. So publishers leave their messages here, and one task makes
//! the headers and hands them on, many at a time, which wakes the connection's task on the same thread.
//!
//! Messages go out in the order in which they were left. There is room for [`ROOM`] of them beside those that the task
//! has taken; what must not wait goes past that. Whoever has to know that what was left so far is with the client,
//! before what is told to the client directly, waits until the lane is [flushed](Lane::flushed), however much others
//! leave meanwhile. A message that the client refuses is dropped and told of in the log: the server may take less since
//! it was left. The state is behind one lock, held for one message or to take all. The task ends when the lane is
//! closed and empty; whoever closes it sees to that.

use std::sync::Arc;

use async_nats::client::PublishErrorKind;
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
    /// How many were left so far, and how many of these are with the client.
    left: u64,
    handed_on: u64,
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
        state.left += 1;
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
        let left = self.state.lock().left;
        self.until(|state| state.handed_on >= left).await;
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
        let mut handed_on = 0;
        loop {
            let is_closed = {
                let mut state = self.state.lock();
                std::mem::swap(&mut state.waiting, &mut taken);
                state.handed_on += std::mem::take(&mut handed_on);
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
            handed_on = taken.len() as u64;
            for outgoing in taken.drain(..) {
                let Err(error) = connection.publish(outgoing).await else { continue };
                if error.kind() == PublishErrorKind::Send {
                    self.state.lock().broken = Some(error.to_string());
                    self.emptied.notify_waiters();
                    return;
                }
                tracing::error!(%error, "a message was not published");
            }
            // After a rush its memory goes back.
            taken.shrink_to(2 * ROOM);
        }
    }
}

#[cfg(test)]
#[expect(dead_code, reason = "the tests of the library use some of it")]
#[path = "../../tests/src/server.rs"]
pub(crate) mod server;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::Subject;
    use bytes::Bytes;
    use echo_sdk::{BaseMessage, Form};
    use tokio::time::timeout;
    use tokio_util::task::AbortOnDropHandle;

    use super::server::NatsServer;
    use super::*;
    use crate::NatsOptions;
    use crate::outgoing::Way;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn outgoing(payload: Bytes) -> Outgoing {
        let message = BaseMessage::builder("me").form(Form::Text).data_text("x").build().unwrap();
        Outgoing { subject: Subject::from("a"), message, payload, way: Way::Core { reply: None } }
    }

    async fn connection(server: &NatsServer) -> Arc<Connection> {
        let options = NatsOptions { urls: vec![server.url()], ..NatsOptions::default() };
        Connection::open(&options).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_left_is_handed_on_however_much_others_leave() {
        let server = NatsServer::start();
        let (lane, connection) = (Arc::<Lane>::default(), connection(&server).await);
        let _task = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&lane).run(connection)));
        let others = Arc::clone(&lane);
        let _others = AbortOnDropHandle::new(tokio::spawn(async move {
            // Never empty, as soon as it is full for the first time.
            while others.send(outgoing(Bytes::from_static(b"x"))).await.is_ok() {}
        }));
        lane.until(|state| state.handed_on > 0).await;
        timeout(PATIENCE, lane.flushed()).await.expect("it is flushed in time");
    }

    #[tokio::test]
    async fn a_message_that_the_server_does_not_take_breaks_nothing() {
        let server = NatsServer::start_with("max_payload: 1000");
        let (lane, connection) = (Arc::<Lane>::default(), connection(&server).await);
        let mut heard = connection.client.subscribe("a").await.unwrap();
        let _task = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&lane).run(connection)));
        // As it was left while another server took more.
        lane.push(outgoing(Bytes::from_static(&[b'x'; 1001]))).unwrap();
        lane.push(outgoing(Bytes::from_static(b"y"))).unwrap();
        let message = timeout(PATIENCE, futures_util::StreamExt::next(&mut heard)).await;
        assert_eq!(message.unwrap().unwrap().payload, b"y".as_slice());
        lane.flushed().await;
    }
}
