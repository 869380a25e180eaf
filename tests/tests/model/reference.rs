//! What may have happened: the delivery contract as a function of the plan.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::life::{Call, Seen};
use crate::plan::{Answer, Crash, Message, Plan, SLOTS};

/// How often a message is tried before it is dead.
const MAX_ATTEMPTS: u16 = 5;

/// What comes of one message in one slot.
#[derive(Debug, Default, PartialEq, Eq)]
struct Course {
    /// The attempts that the handler sees.
    calls: Vec<u16>,
    /// The attempts and the reason's beginning, if it dies.
    dead: Option<(u16, &'static str)>,
}

/// Everything that comes of a plan.
#[derive(Debug, Default)]
struct Prediction {
    courses: HashMap<(usize, usize), Course>,
    /// The numbers of all messages that are published, with their hops.
    published: Vec<(usize, u16)>,
}

impl Prediction {
    fn publish(&mut self, message: &Message, hops: u16) {
        self.published.push((message.number, hops));
        for slot in message.to.slots() {
            let course = self.follow(message, *slot, hops);
            self.courses.insert((*slot, message.number), course);
        }
    }

    fn follow(&mut self, message: &Message, slot: usize, hops: u16) -> Course {
        let mut course = Course::default();
        for attempt in 1.. {
            let script = message.attempt(slot, attempt);
            let crash = script.and_then(|script| script.crash);
            if crash == Some(Crash::Taking) {
                continue;
            }
            if attempt > MAX_ATTEMPTS {
                if crash == Some(Crash::Settling) {
                    continue;
                }
                course.dead = Some((attempt, "the workers that had it"));
                break;
            }
            course.calls.push(attempt);
            if crash == Some(Crash::Settling) {
                continue;
            }
            let is_last = attempt == MAX_ATTEMPTS;
            let reason = match script.map(|script| &script.answer) {
                None | Some(Answer::Acknowledge | Answer::Forward(_)) => None,
                Some(Answer::Fail) => Some("given up"),
                Some(_) if !is_last => continue,
                Some(Answer::RetryLater(_)) => Some("the last attempt asked"),
                Some(Answer::Error) => Some("an error as planned"),
                Some(Answer::Panic) => Some("panicked: planned"),
            };
            course.dead = reason.map(|reason| (attempt, reason));
            if reason.is_none() {
                script.iter().flat_map(|script| &script.effects).for_each(|e| self.publish(e, 0));
                if let Some(Answer::Forward(forwarded)) = script.map(|script| &script.answer) {
                    self.publish(forwarded, hops + 1);
                }
            }
            break;
        }
        course
    }
}

/// Holds what was seen to what was to happen.
pub fn check(plan: &Plan, seen: &Seen) -> Result<(), TestCaseError> {
    let mut predicted = Prediction::default();
    plan.published.iter().for_each(|(_, message)| predicted.publish(message, 0));
    let messages = plan.messages();

    prop_assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    let mut published = seen.published.clone();
    published.sort_unstable();
    predicted.published.sort_unstable();
    prop_assert_eq!(&published, &predicted.published, "what was published, and its hops");

    let mut courses: HashMap<(usize, usize), Course> = HashMap::new();
    for (slot, message) in predicted.courses.keys() {
        courses.insert((*slot, *message), Course::default());
    }
    for call in &seen.calls {
        let course = courses.entry((call.slot, call.message)).or_default();
        course.calls.push(call.attempt);
    }
    for letter in &seen.dead {
        let course = courses.entry((letter.slot, letter.message)).or_default();
        prop_assert_eq!(course.dead, None, "{:?} died twice", letter);
        let reasons = predicted.courses.values().filter_map(|course| course.dead);
        let reason = reasons.map(|dead| dead.1).find(|reason| letter.reason.contains(*reason));
        prop_assert!(reason.is_some(), "nobody was to die of this: {:?}", letter);
        course.dead = reason.map(|reason| (letter.attempts, reason));
    }
    for (place, course) in &courses {
        let (slot, message) = (SLOTS[place.0].0, place.1);
        prop_assert_eq!(Some(course), predicted.courses.get(place), "{} in {}", message, slot);
    }
    let mut counted: HashMap<(usize, u8), usize> = HashMap::new();
    for ((slot, message), _) in predicted.courses.iter().filter(|(_, it)| it.dead.is_none()) {
        if let Some(key) = messages[message].key {
            *counted.entry((*slot, key)).or_default() += 1;
        }
    }
    prop_assert_eq!(&seen.counted, &counted, "what managed state has counted");
    delays_are_kept(seen, &messages)?;
    keys_keep_their_order(seen, &messages)?;
    one_worker_keeps_the_order(plan, seen, &messages)
}

/// A message that asked to be retried later is not delivered before.
fn delays_are_kept(seen: &Seen, messages: &HashMap<usize, &Message>) -> Result<(), TestCaseError> {
    let mut last: HashMap<(usize, usize), &Call> = HashMap::new();
    for call in &seen.calls {
        let Some(before) = last.insert((call.slot, call.message), call) else {
            continue;
        };
        let attempt = messages[&call.message].attempt(call.slot, before.attempt).unwrap();
        if let (Answer::RetryLater(delay), None) = (&attempt.answer, attempt.crash) {
            let due = before.began + attempt.work + *delay;
            prop_assert!(call.began >= due, "{call:?} came {:?} early", due - call.began);
        }
    }
    Ok(())
}

/// In each slot, the messages of a key are handled in the order of publication, each to its end before the next
/// begins.
fn keys_keep_their_order(
    seen: &Seen,
    messages: &HashMap<usize, &Message>,
) -> Result<(), TestCaseError> {
    let place: HashMap<usize, usize> =
        seen.published.iter().enumerate().map(|(place, (message, _))| (*message, place)).collect();
    let mut by_key: HashMap<(usize, u8), Vec<&Call>> = HashMap::new();
    for call in &seen.calls {
        if let Some(key) = messages[&call.message].key {
            by_key.entry((call.slot, key)).or_default().push(call);
        }
    }
    for ((slot, key), calls) in by_key {
        let order: Vec<usize> = calls.iter().map(|call| place[&call.message]).collect();
        prop_assert!(order.is_sorted(), "key {key} in {}: {order:?}", SLOTS[slot].0);
        let overlap = calls.windows(2).find(|pair| pair[1].began < pair[0].ended.unwrap());
        prop_assert!(overlap.is_none(), "two of key {key} at once: {overlap:?}");
    }
    Ok(())
}

/// With one worker, messages of a topic are first seen in the order of their publication, those aside that had to
/// wait behind a retry of their key or whose first worker died.
fn one_worker_keeps_the_order(
    plan: &Plan,
    seen: &Seen,
    messages: &HashMap<usize, &Message>,
) -> Result<(), TestCaseError> {
    for slot in (0..SLOTS.len()).filter(|slot| plan.workers[*slot] == 1) {
        let is_simple = |message: &Message| {
            let script = message.attempt(slot, 1);
            message.key.is_none() && script.is_none_or(|script| script.crash.is_none())
        };
        let mut by_topic: HashMap<String, Vec<usize>> = HashMap::new();
        for call in seen.calls.iter().filter(|call| call.slot == slot && call.attempt == 1) {
            let message = messages[&call.message];
            if is_simple(message) {
                let place = seen.published.iter().position(|(number, _)| *number == call.message);
                by_topic.entry(message.to.topic()).or_default().push(place.unwrap());
            }
        }
        for (topic, order) in by_topic {
            prop_assert!(order.is_sorted(), "{topic} in {}: {order:?}", SLOTS[slot].0);
        }
    }
    Ok(())
}
