//! What waits for a client to read it: bounded in bytes, and never waited for.
//!
//! The task that takes messages from the bus puts them in; the one that writes to the socket takes them out. So a
//! client that does not read holds up nobody: past the bound it is told, by a last word that always fits, and
//! cut off. Either side sees at once when the other is gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

/// What an entry takes beside its bytes.
const OVERHEAD: usize = 64;

/// Why something was not put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The client has not read what is there already.
    Slow,
    /// The client is gone.
    Gone,
}

/// The end that is put into. Cheap to clone; the client's stream ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    sender: mpsc::UnboundedSender<Bytes>,
    pending: Arc<AtomicUsize>,
    max: usize,
}

/// The end that is taken out of: as it stands the body of an answer.
#[derive(Debug)]
pub(super) struct Outlet {
    receiver: mpsc::UnboundedReceiver<Bytes>,
    pending: Arc<AtomicUsize>,
}

/// A box for so many bytes; a single entry fits into an empty one, whatever its size.
pub(super) fn outbox(max: usize) -> (Outbox, Outlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let pending = Arc::<AtomicUsize>::default();
    (Outbox { sender, pending: Arc::clone(&pending), max }, Outlet { receiver, pending })
}

impl Outbox {
    /// Puts something in, if there is room.
    pub(super) fn push(&self, bytes: Bytes) -> Result<(), Refused> {
        let len = bytes.len() + OVERHEAD;
        let before = self.pending.fetch_add(len, Ordering::Relaxed);
        if before > 0 && before + len > self.max {
            self.pending.fetch_sub(len, Ordering::Relaxed);
            return Err(Refused::Slow);
        }
        self.sender.send(bytes).map_err(|_| Refused::Gone)
    }

    /// Puts a last word in, which fits in any case.
    pub(super) fn push_last(self, bytes: Bytes) {
        self.pending.fetch_add(bytes.len() + OVERHEAD, Ordering::Relaxed);
        // Nobody is left to hear it otherwise.
        let _ = self.sender.send(bytes);
    }

    /// Resolves once the client is gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl Outlet {
    /// Takes the next entry out; `None` when nothing is left and nobody can put more in.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let next = std::task::ready!(self.receiver.poll_recv(cx));
        if let Some(bytes) = &next {
            self.pending.fetch_sub(bytes.len() + OVERHEAD, Ordering::Relaxed);
        }
        Poll::Ready(next)
    }

    /// Takes the next entry out, as [`poll_next`](Self::poll_next) does. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Body for Outlet {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_next(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_bounded_and_the_last_word_fits() {
        let (inside, mut outside) = outbox(200);
        let entry = |len| Bytes::from(vec![0; len]);
        assert_eq!(inside.push(entry(1_000)), Ok(()), "one entry fits into an empty box");
        assert_eq!(inside.push(entry(1)), Err(Refused::Slow));
        assert_eq!(outside.next().await.unwrap().len(), 1_000);
        assert_eq!(inside.push(entry(36)), Ok(()));
        assert_eq!(inside.push(entry(36)), Ok(()));
        assert_eq!(inside.push(entry(0)), Err(Refused::Slow));
        inside.push_last(entry(500));
        let mut left = Vec::new();
        while let Some(bytes) = outside.next().await {
            left.push(bytes.len());
        }
        assert_eq!(left, [36, 36, 500]);
    }

    #[tokio::test]
    async fn each_side_sees_that_the_other_is_gone() {
        let (inside, outside) = outbox(200);
        drop(outside);
        inside.closed().await;
        assert_eq!(inside.push(Bytes::new()), Err(Refused::Gone));
        let (inside, mut outside) = outbox(200);
        drop(inside);
        assert!(outside.next().await.is_none());
    }
}
