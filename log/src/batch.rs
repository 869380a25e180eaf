//! What goes to disk together, and how those who wait for it learn of it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::LogError;

/// How a batch ended, for all who have something in it: one allocation for all of them, one wake each.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    result: OnceLock<Result<(), LogError>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Batch {
    /// Tells everybody who waits. Only the first result counts.
    pub(crate) fn complete(&self, result: Result<(), LogError>) {
        let wakers = {
            let mut wakers = self.wakers.lock();
            let _ = self.result.set(result);
            std::mem::take(&mut *wakers)
        };
        // Outside of the lock: waking runs code of others.
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Resolves once what was handed over is on disk, as far as the [`SyncPolicy`](crate::SyncPolicy) asks.
///
/// Dropping it takes nothing back.
#[derive(Debug, Clone)]
#[must_use = "nothing is promised until this has resolved"]
pub struct Durable {
    batch: Arc<Batch>,
    /// Our place among the batch's wakers.
    place: Option<usize>,
}

impl Durable {
    pub(crate) fn of(batch: &Arc<Batch>) -> Self {
        Self { batch: Arc::clone(batch), place: None }
    }

    /// How it ended, if it has.
    pub fn now(&self) -> Option<Result<(), LogError>> {
        self.batch.result.get().cloned()
    }

    /// Whether it is of this batch.
    pub(crate) fn is_of(&self, batch: &Arc<Batch>) -> bool {
        Arc::ptr_eq(&self.batch, batch)
    }

    /// For what needs no disk.
    pub(crate) fn done(result: Result<(), LogError>) -> Self {
        let batch = Arc::<Batch>::default();
        batch.complete(result);
        Self { batch, place: None }
    }
}

impl Future for Durable {
    type Output = Result<(), LogError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(result) = this.batch.result.get() {
            return Poll::Ready(result.clone());
        }
        let mut wakers = this.batch.wakers.lock();
        // It may have ended while we came to the lock, under which it ends.
        if let Some(result) = this.batch.result.get() {
            return Poll::Ready(result.clone());
        }
        match this.place.and_then(|place| wakers.get_mut(place)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                this.place = Some(wakers.len());
                wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}
