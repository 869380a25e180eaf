//! Which runs are over.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::BaseMessage;
use crate::contract::RunId;

/// How many runs are remembered.
const REMEMBERED: usize = 256;

/// The runs that were cleaned up last, so that a request which was overtaken by the cleanup of its run
/// does not start anything any more. A later run of the same id is another run.
#[derive(Debug, Default)]
pub struct RunsOver(Mutex<VecDeque<(RunId, DateTime<Utc>)>>);

impl RunsOver {
    /// Remembers that the run is over since `cleanup`, the message that asked to clean it up, was made.
    pub fn add(&self, run_id: &RunId, cleanup: &BaseMessage) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|(run, _)| run != run_id);
        if runs.len() == REMEMBERED {
            runs.pop_front();
        }
        runs.push_back((run_id.clone(), cleanup.timestamp()));
    }

    /// Whether `request` was made before its run was cleaned up.
    pub fn overtook(&self, run_id: &RunId, request: &BaseMessage) -> bool {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.iter().any(|(run, over)| run == run_id && request.timestamp() <= *over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::message;

    #[test]
    fn what_was_asked_before_the_cleanup_is_overtaken_by_it() {
        let (run, other) = (RunId::fresh(), RunId::fresh());
        let (before, cleanup) = (message(&1), message(&2));
        let runs = RunsOver::default();
        assert!(!runs.overtook(&run, &before));
        runs.add(&run, &cleanup);
        assert!(runs.overtook(&run, &before) && !runs.overtook(&other, &before));
        assert!(!runs.overtook(&run, &message(&3)));
        (0..REMEMBERED).for_each(|_| runs.add(&RunId::fresh(), &cleanup));
        assert!(!runs.overtook(&run, &before), "memory is bounded");
    }
}
