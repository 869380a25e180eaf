//! The topics that a client publishes to: few, so they are remembered once they are checked.

use std::hash::{DefaultHasher, Hasher};

use echo_sdk::{Topic, TopicError};

use crate::auth::Access;

/// How many topics are remembered; one that is not is checked anew.
const PLACES: usize = 64;

/// The first tokens of what belongs to a NATS server itself, or to its JetStream.
const OF_A_SERVER: [&str; 2] = ["$SYS", "$JS"];

/// A topic that the client published to.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) topic: Topic,
    /// Whether the client may publish to it in any case.
    pub(super) is_allowed: bool,
    /// Whether it belongs to a NATS server, which the gateway is not: nobody hears it.
    pub(super) is_of_a_server: bool,
    turn: u64,
}

/// The topics that a client published to last. Holds no memory before the first.
#[derive(Debug, Default)]
pub(super) struct Topics {
    places: Vec<Option<Box<Known>>>,
    last: usize,
    /// Counts the rounds of reading.
    turn: u64,
}

impl Topics {
    /// The topic of a subject.
    pub(super) fn find(&mut self, subject: &[u8], access: &Access) -> Result<&Known, TopicError> {
        let is_it = |known: &Option<Box<Known>>| {
            known.as_ref().is_some_and(|known| known.topic.as_str().as_bytes() == subject)
        };
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        if !self.places.get(self.last).is_some_and(is_it) {
            self.last = place_of(subject);
        }
        let (last, turn) = (self.last, self.turn);
        let Some(place) = self.places.get_mut(last) else { return Err(TopicError::Empty) };
        let known = match place.take() {
            Some(known) if known.topic.as_str().as_bytes() == subject => known,
            _ => Box::new(Known::check(subject, access)?),
        };
        let known = place.insert(known);
        known.turn = turn;
        Ok(known)
    }

    /// The topics that were published to in this round of reading.
    pub(super) fn of_this_turn(&self) -> impl Iterator<Item = &Topic> {
        let known = self.places.iter().flatten();
        known.filter(|known| known.turn == self.turn).map(|known| &known.topic)
    }

    /// Begins the next round of reading.
    pub(super) fn next_turn(&mut self) {
        self.turn += 1;
    }
}

impl Known {
    fn check(subject: &[u8], access: &Access) -> Result<Self, TopicError> {
        let text = std::str::from_utf8(subject).map_err(|_| TopicError::BadCharacter {
            topic: String::from_utf8_lossy(subject).into_owned(),
            found: char::REPLACEMENT_CHARACTER,
        })?;
        let topic = Topic::new(text)?;
        let first = topic.tokens().next().unwrap_or_default();
        let is_of_a_server = OF_A_SERVER.contains(&first);
        Ok(Self { is_allowed: access.may_publish(&topic), topic, is_of_a_server, turn: 0 })
    }
}

fn place_of(subject: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    hasher.write(subject);
    usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default()
}
