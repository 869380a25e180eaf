//! The end of a slot or a subscription: its tasks are told, and somebody may wait until they have left the server.
//!
//! Whoever asks who listens has to ask after those that were dropped before have left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use crate::pending::Pending;

#[derive(Debug)]
pub(crate) struct Ending {
    token: CancellationToken,
    tasks: AtomicUsize,
    /// Tasks that have not left the server.
    here: Pending,
    is_counted: AtomicBool,
    leaving: Arc<Pending>,
}

impl Ending {
    /// Ends with `parent` at the latest.
    pub(crate) fn new(parent: &CancellationToken, leaving: &Arc<Pending>) -> Arc<Self> {
        Arc::new(Self {
            token: parent.child_token(),
            tasks: AtomicUsize::new(0),
            here: Pending::default(),
            is_counted: AtomicBool::new(false),
            leaving: Arc::clone(leaving),
        })
    }

    /// So many tasks leave when it ends.
    pub(crate) fn has_tasks(&self, tasks: usize) {
        self.tasks.store(tasks, Ordering::Release);
        (0..tasks).for_each(|_| self.here.begin());
    }

    /// Whether the tasks were told to end and some of them have not left the server.
    pub(crate) fn is_under_way(&self) -> bool {
        self.token.is_cancelled() && self.here.count() > 0
    }

    /// Resolves once all tasks have left the server.
    pub(crate) async fn is_over(&self) {
        self.here.none().await;
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Tells the tasks to end; from now on they count as leaving.
    pub(crate) fn end(&self) {
        self.count();
        self.token.cancel();
    }

    /// A task has left the server.
    pub(crate) fn task_has_left(&self) {
        // It may have ended with the bus, or because its queue was closed, before anybody ended it.
        self.count();
        self.here.end();
        self.leaving.end();
    }

    fn count(&self) {
        if !self.is_counted.swap(true, Ordering::AcqRel) {
            (0..self.tasks.load(Ordering::Acquire)).for_each(|_| self.leaving.begin());
        }
    }
}
