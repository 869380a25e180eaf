//! What is to happen: random, and small enough to read when it has failed.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The slots: a name, what it subscribes to, and whether its room is scarce. Messages from outside go to `t.…`;
/// what handlers publish goes to `c.…`, whose slots have room for all of it, so that no commit ever has to wait
/// for itself.
pub const SLOTS: [(&str, &[&str], bool); 4] = [
    ("left", &["t.>", "t.*"], true),
    ("right", &["t.0"], true),
    ("under", &["c.>"], false),
    ("aside", &["c.1", "c.1"], false),
];

/// How many ordering keys there are.
pub const KEYS: u8 = 3;

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To one of the two topics for messages from outside.
    Outer(u8),
    /// To one of the two topics for what handlers publish.
    Inner(u8),
}

impl To {
    /// The topic.
    pub fn topic(self) -> String {
        match self {
            Self::Outer(number) => format!("t.{number}"),
            Self::Inner(number) => format!("c.{number}"),
        }
    }

    /// The slots that it goes to, by the naive reading of their patterns.
    pub fn slots(self) -> &'static [usize] {
        match self {
            Self::Outer(0) => &[0, 1],
            Self::Outer(_) => &[0],
            Self::Inner(1) => &[2, 3],
            Self::Inner(_) => &[2],
        }
    }
}

/// A message and what each of its slots will do with it.
#[derive(Clone)]
pub struct Message {
    /// Its place in the plan, by which everybody knows it.
    pub number: usize,
    pub to: To,
    pub key: Option<u8>,
    /// The attempts at handling it, for each of its slots; those past the end acknowledge.
    pub scripts: [Vec<Attempt>; 2],
}

/// On one line: `#3 t.0 key-1 [error, retry(5ms) 2ms +[#4 c.0 …]] [] `.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, to, key, scripts: [first, second] } = self;
        let key = key.map(|key| format!(" key-{key}")).unwrap_or_default();
        let text = format!("#{number} {}{key} {first:?} {second:?}", to.topic());
        f.write_str(&text)
    }
}

impl Message {
    /// What a slot does with an attempt, counted from 1; `None` where it just acknowledges.
    pub fn attempt(&self, slot: usize, attempt: u16) -> Option<&Attempt> {
        let which = self.to.slots().iter().position(|own| *own == slot)?;
        self.scripts[which].get(usize::from(attempt) - 1)
    }
}

/// One attempt at handling a message.
#[derive(Clone)]
pub struct Attempt {
    pub answer: Answer,
    pub crash: Option<Crash>,
    /// How long it takes.
    pub work: Duration,
    /// What it publishes before it answers.
    pub effects: Vec<Message>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answer, crash, work, effects } = self;
        f.write_str(&format!("{answer:?}"))?;
        crash.iter().try_for_each(|crash| write!(f, ", dies when {crash:?}"))?;
        (!work.is_zero()).then(|| write!(f, ", takes {work:?}")).transpose()?;
        (!effects.is_empty()).then(|| write!(f, ", publishes {effects:?}")).transpose()?;
        Ok(())
    }
}

/// What a handler answers.
#[derive(Debug, Clone)]
pub enum Answer {
    Acknowledge,
    RetryLater(Duration),
    Fail,
    Error,
    Panic,
    Forward(Box<Message>),
}

/// When a worker dies with the message in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Before its handler saw it.
    Taking,
    /// After its handler answered, before anybody heard of it.
    Settling,
}

/// A slot is paused for a while.
#[derive(Debug, Clone)]
pub struct Pause {
    pub slot: usize,
    pub after: Duration,
    pub length: Duration,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is published from outside, in this order, each after a while.
    pub published: Vec<(Duration, Message)>,
    pub workers: [usize; 4],
    /// The room of the slots where it is scarce.
    pub room: usize,
    pub pauses: Vec<Pause>,
}

impl Plan {
    /// Every message by its number.
    pub fn messages(&self) -> HashMap<usize, &Message> {
        let mut all = HashMap::new();
        let mut open: Vec<&Message> = self.published.iter().map(|(_, message)| message).collect();
        while let Some(message) = open.pop() {
            all.insert(message.number, message);
            for attempt in message.scripts.iter().flatten() {
                open.extend(&attempt.effects);
                if let Answer::Forward(forwarded) = &attempt.answer {
                    open.push(forwarded);
                }
            }
        }
        all
    }
}

/// Random plans.
pub fn plans() -> impl Strategy<Value = Plan> {
    let published = vec((millis(0..3), message(2)), 1..30);
    let pauses = vec((0..SLOTS.len(), millis(0..40), millis(1..40)), 0..4);
    (published, prop::array::uniform4(1_usize..5), 1_usize..8, pauses).prop_map(
        |(mut published, workers, room, pauses)| {
            let mut next = 0;
            published.iter_mut().for_each(|(_, message)| number(message, &mut next));
            let pauses = pauses.into_iter();
            let pauses = pauses.map(|(slot, after, length)| Pause { slot, after, length });
            Plan { published, workers, room, pauses: pauses.collect() }
        },
    )
}

fn number(message: &mut Message, next: &mut usize) {
    message.number = *next;
    *next += 1;
    for attempt in message.scripts.iter_mut().flatten() {
        attempt.effects.iter_mut().for_each(|effect| number(effect, next));
        if let Answer::Forward(forwarded) = &mut attempt.answer {
            number(forwarded, next);
        }
    }
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

/// A message from outside at first, one that a handler publishes below.
fn message(depth: u32) -> BoxedStrategy<Message> {
    let to = (0_u8..2).prop_map(move |number| match depth {
        2 => To::Outer(number),
        _ => To::Inner(number),
    });
    let script = move || {
        prop_oneof![2 => Just(Vec::new()), 2 => vec(attempt(depth), 1..4), 1 => vec(attempt(depth), 4..7)].boxed()
    };
    let key = option::of(0_u8..KEYS);
    (to, key, script(), script())
        .prop_map(|(to, key, first, second)| Message {
            number: 0,
            to,
            key,
            scripts: [first, second],
        })
        .boxed()
}

fn attempt(depth: u32) -> BoxedStrategy<Attempt> {
    let crash = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Crash::Taking)),
        1 => Just(Some(Crash::Settling)),
    ];
    let effects = match depth {
        0 => Just(Vec::new()).boxed(),
        _ => prop_oneof![5 => Just(Vec::new()), 1 => vec(message(depth - 1), 1..3)].boxed(),
    };
    (answer(depth), crash, millis(0..4), effects)
        .prop_map(|(answer, crash, work, effects)| Attempt { answer, crash, work, effects })
        .boxed()
}

fn answer(depth: u32) -> BoxedStrategy<Answer> {
    let plain = prop_oneof![
        3 => Just(Answer::Acknowledge),
        4 => millis(0..50).prop_map(Answer::RetryLater),
        1 => Just(Answer::Fail),
        2 => Just(Answer::Error),
        1 => Just(Answer::Panic),
    ];
    match depth {
        0 => plain.boxed(),
        _ => prop_oneof![
            8 => plain,
            1 => message(depth - 1).prop_map(|forwarded| Answer::Forward(Box::new(forwarded))),
        ]
        .boxed(),
    }
}
