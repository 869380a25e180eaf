//! Whose turn it is to poll: one at a time, and nobody who comes meanwhile is forgotten.
//!
//! The state is one word, so an order of all steps exists: whoever finds a turn taken leaves a mark in it, and
//! whoever ends a turn takes the mark along. `tests/turns_model.rs` tries every interleaving.

use super::sync::{AtomicU8, Ordering};

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, and somebody came meanwhile.
const MISSED: u8 = 2;

/// A turn that one of many takes.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU8);

impl Turns {
    /// Takes the turn; where it is taken, whoever has it will be [told](Self::end).
    pub(super) fn begin(&self) -> bool {
        loop {
            let to =
                |from, to| self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            match to(FREE, TAKEN) {
                Ok(_) => return true,
                Err(MISSED) => return false,
                Err(_) => {}
            }
            if to(TAKEN, MISSED) != Err(FREE) {
                return false;
            }
        }
    }

    /// Ends the turn; says whether somebody came meanwhile.
    pub(super) fn end(&self) -> bool {
        self.0.swap(FREE, Ordering::AcqRel) == MISSED
    }
}
