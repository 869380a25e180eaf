//! The end of a slot or a subscription: its tasks are told, and somebody may wait until they have left the server.
//!
//! Whoever asks who listens has to ask after those that were dropped before have left.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::pending::Pending;

#[derive(Debug)]
pub(crate) struct Ending {
    token: CancellationToken,
    /// Whether the tasks count as leaving.
    is_counted: Mutex<bool>,
    /// Tasks that have not left the server.
    here: Pending,
    leaving: Arc<Pending>,
}

impl Ending {
    /// Ends with `parent` at the latest.
    pub(crate) fn new(parent: &CancellationToken, leaving: &Arc<Pending>) -> Arc<Self> {
        Arc::new(Self {
            token: parent.child_token(),
            is_counted: Mutex::default(),
            here: Pending::default(),
            leaving: Arc::clone(leaving),
        })
    }

    /// So many more tasks leave when it ends.
    pub(crate) fn has_tasks(&self, tasks: usize) {
        let is_counted = self.is_counted.lock();
        for _ in 0..tasks {
            self.here.begin();
            if *is_counted {
                self.leaving.begin();
            }
        }
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
        self.count(&mut self.is_counted.lock());
        self.token.cancel();
    }

    /// A task has left the server, since this ends.
    pub(crate) fn task_has_left(&self) {
        let mut is_counted = self.is_counted.lock();
        // It may have ended with the bus, or because its queue was closed, before anybody ended it.
        self.count(&mut is_counted);
        self.here.end();
        self.leaving.end();
    }

    /// A task has nothing more to do, while others go on.
    pub(crate) fn task_is_done(&self) {
        let is_counted = self.is_counted.lock();
        self.here.end();
        if *is_counted {
            self.leaving.end();
        }
    }

    fn count(&self, is_counted: &mut bool) {
        if !std::mem::replace(is_counted, true) {
            (0..self.here.count()).for_each(|_| self.leaving.begin());
        }
    }
}
