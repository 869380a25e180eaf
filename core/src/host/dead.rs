//! The dead letters that a host remembers, so that none is lost because nobody subscribed.

use std::collections::VecDeque;

use echo_sdk::contract::dead::DeadLetter;
use parking_lot::Mutex;

/// How many are remembered; an older one goes when another comes, and is counted.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    letters: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    kept: VecDeque<DeadLetter>,
    forgotten: u64,
}

impl DeadLetters {
    pub(crate) fn keep(&self, letter: DeadLetter) {
        let mut letters = self.letters.lock();
        if letters.kept.len() == REMEMBERED {
            letters.kept.pop_front();
            letters.forgotten += 1;
        }
        letters.kept.push_back(letter);
    }

    /// The letters, oldest first, and how many were forgotten before them.
    pub(crate) fn list(&self) -> (Vec<DeadLetter>, u64) {
        let letters = self.letters.lock();
        (letters.kept.iter().cloned().collect(), letters.forgotten)
    }
}
