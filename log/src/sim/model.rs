//! What the log promises, held against a log that is crashed at any moment.
//!
//! The model keeps, for each slot and message, what was confirmed and what was asked for since. After a crash the
//! log has to be in one of these states; whatever it is then becomes what was confirmed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Call, Fault, SimDisk};
use crate::{Log, LogError, Message, Options, Placed, Settlement, SlotId, Transaction};

const SLOTS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Append {
        slots: u8,
        len: usize,
    },
    /// A message that came before.
    Again {
        which: usize,
    },
    Done {
        which: usize,
        slot: usize,
    },
    Nak {
        which: usize,
        slot: usize,
        attempts: u16,
    },
    /// A slot is done with a message, and another message and a value come of it.
    Commit {
        which: usize,
        slot: usize,
        len: usize,
    },
    Flush,
    Crash {
        seed: u64,
        power: bool,
        after: Option<usize>,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![3 => 0..200usize, 1 => 2000..7000usize];
    let step = prop_oneof![
        8 => (1u8..8, len.clone()).prop_map(|(slots, len)| Step::Append { slots, len }),
        1 => any::<usize>().prop_map(|which| Step::Again { which }),
        12 => (any::<usize>(), 0..SLOTS).prop_map(|(which, slot)| Step::Done { which, slot }),
        3 => (any::<usize>(), 0..SLOTS, 1u16..9)
            .prop_map(|(which, slot, attempts)| Step::Nak { which, slot, attempts }),
        4 => (any::<usize>(), 0..SLOTS, len)
            .prop_map(|(which, slot, len)| Step::Commit { which, slot, len }),
        4 => Just(Step::Flush),
        2 => (any::<u64>(), any::<bool>(), proptest::option::of(0..40usize))
            .prop_map(|(seed, power, after)| Step::Crash { seed, power, after }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..160)
}

/// What a slot has of a message: attempts if it waits.
type Has = Option<u16>;

#[derive(Debug)]
struct Known {
    id: u64,
    seq: u64,
    body: Vec<u8>,
    /// By slot: what may be the case, the last being what was asked for.
    has: BTreeMap<usize, Vec<Has>>,
}

/// A commit that is not confirmed: all of it is there, or none.
#[derive(Debug)]
struct Open {
    cause: usize,
    slot: usize,
    effect: usize,
    /// Whether the cause was confirmed when it was committed.
    is_sure: bool,
    value: (Vec<u8>, Option<Vec<u8>>),
}

struct Model {
    options: Options,
    disk: SimDisk,
    log: Log,
    slots: Vec<SlotId>,
    known: Vec<Known>,
    open: Vec<Open>,
    /// Values that are confirmed, by key.
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    runtime: tokio::runtime::Runtime,
}

impl Model {
    fn new(segments: u64) -> Self {
        let max_bytes = segments * (64 << 10);
        let options = Options { segment_size: 64 << 10, max_bytes, ..Options::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disk = SimDisk::default();
        let (log, _) = disk.open(&options).unwrap();
        let slot = |n: usize| log.register(&format!("slot{n}"), b"").unwrap();
        let (slots, durable): (Vec<_>, Vec<_>) = (0..SLOTS).map(slot).unzip();
        for durable in durable {
            runtime.block_on(durable).unwrap();
        }
        let (known, open, values) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { options, disk, log, slots, known, open, values, runtime }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
        self.crash(7, true);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { slots, len } => {
                let slots: Vec<_> = (0..SLOTS).filter(|slot| slots >> slot & 1 == 1).collect();
                self.append(&slots, len, None);
            }
            Step::Again { which } => self.again(which),
            Step::Done { which, slot } => self.settle(which, slot, None),
            Step::Nak { which, slot, attempts } => self.settle(which, slot, Some(attempts)),
            Step::Commit { which, slot, len } => {
                let waits = self.find(which, slot);
                waits.into_iter().for_each(|cause| self.append(&[slot], len, Some((cause, slot))));
            }
            Step::Flush => {
                let flush = self.log.flush();
                match self.runtime.block_on(flush) {
                    Ok(()) => self.confirm(),
                    Err(LogError::Quota { .. }) => self.refused(),
                    Err(_) => {}
                }
            }
            Step::Crash { seed, power, after: None } => self.crash(seed, power),
            Step::Crash { after: Some(after), .. } => {
                self.disk.plan(Call::Any, after, Fault::Crash);
            }
            Step::Restart => {
                let flush = self.log.flush();
                match self.runtime.block_on(flush) {
                    Ok(()) => {
                        self.confirm();
                        self.reopen(self.disk.after_kill());
                    }
                    Err(LogError::Quota { .. }) => self.refused(),
                    Err(_) => self.crash(1, true),
                }
            }
        }
    }

    /// Asks for a message, with what it follows from in the same transaction.
    fn append(&mut self, slots: &[usize], len: usize, cause: Option<(usize, usize)>) {
        let id = self.known.len() as u64;
        let body: Vec<u8> = (0..len).map(|at| (at as u64 * 31 + id) as u8).collect();
        let numbers: Vec<_> = slots.iter().map(|slot| self.slots[*slot]).collect();
        let parts = [&body[..]];
        let message = Message { id: u128::from(id).to_le_bytes(), slots: &numbers, body: &parts };
        let done = cause.map(|(cause, slot)| (self.slots[slot], self.known[cause].seq));
        let key = (id % 7).to_le_bytes();
        let state = [(&key[..], Some(&body[..]))];
        let transaction = Transaction {
            messages: &[message],
            done: done.as_slice(),
            state: if cause.is_some() { &state } else { &[] },
            after: None,
        };
        let receipt = match self.log.try_commit(&transaction) {
            Ok(receipt) => receipt,
            Err(LogError::Broken { .. } | LogError::Quota { .. } | LogError::Busy) => return,
            Err(other) => panic!("{other}"),
        };
        let Placed::New(seq) = receipt.placed[0] else { panic!("{:?}", receipt.placed) };
        let has = slots.iter().map(|slot| (*slot, vec![None, Some(0)])).collect();
        if let Some((cause, slot)) = cause {
            let states = self.known[cause].has.get_mut(&slot).unwrap();
            let is_sure = !states.contains(&None);
            states.push(None);
            let effect = self.known.len();
            let value = (key.to_vec(), Some(body.clone()));
            self.open.push(Open { cause, slot, effect, is_sure, value });
        }
        self.known.push(Known { id, seq, body, has });
    }

    fn again(&mut self, which: usize) {
        let Some(known) = self.known.iter().cycle().nth(which % self.known.len().max(1)) else {
            return;
        };
        // One that is surely there; of another nobody knows whether it is a duplicate.
        if known.has.values().all(|states| matches!(states[..], [Some(_)])) {
            let id = u128::from(known.id).to_le_bytes();
            let message = Message { id, slots: &self.slots, body: &[b"again"] };
            if let Ok(receipt) = self.log.try_append(message) {
                assert_eq!(receipt.placed[..], [Placed::Duplicate(known.seq)]);
            }
        }
    }

    /// A message that waits for the slot, as far as was asked for, and is part of no open commit.
    fn find(&self, which: usize, slot: usize) -> Option<usize> {
        let is_open = |at: &usize| self.open.iter().any(|it| it.cause == *at || it.effect == *at);
        let waits = |at: &usize| {
            let states = self.known[*at].has.get(&slot);
            states.is_some_and(|states| states.last() != Some(&None)) && !is_open(at)
        };
        let all: Vec<_> = (0..self.known.len()).filter(waits).collect();
        (!all.is_empty()).then(|| all[which % all.len()])
    }

    fn settle(&mut self, which: usize, slot: usize, has: Has) {
        let Some(at) = self.find(which, slot) else { return };
        let settlement = match has {
            None => Settlement::Done,
            Some(attempts) => Settlement::Again { attempts, due: u64::from(attempts) * 10 },
        };
        self.log.settle(self.slots[slot], self.known[at].seq, settlement);
        self.known[at].has.get_mut(&slot).unwrap().push(has);
    }

    /// Whatever was asked for since may have been refused; what is there lasts.
    fn refused(&mut self) {
        self.crash(1, false);
    }

    /// All that was asked for is the case.
    fn confirm(&mut self) {
        for states in self.known.iter_mut().flat_map(|known| known.has.values_mut()) {
            states.drain(..states.len() - 1);
        }
        for open in self.open.drain(..) {
            self.values.insert(open.value.0, open.value.1.unwrap());
        }
        self.check();
    }

    fn crash(&mut self, seed: u64, power: bool) {
        self.disk.crash();
        let next = match power {
            // The writer may be at it still; what it does now is lost with the rest.
            true => self.disk.after_power_cut(seed),
            false => self.disk.after_kill(),
        };
        self.reopen(next);
    }

    fn reopen(&mut self, disk: SimDisk) {
        self.disk = disk;
        let (log, report) = self.disk.open(&self.options).unwrap();
        assert_eq!(report.damage, [], "a crash is no damage");
        self.log = log;
        self.check();
        for open in std::mem::take(&mut self.open) {
            let is_done = self.known[open.cause].has[&open.slot] == [None];
            let is_there = self.known[open.effect].has[&open.slot] != [None];
            // A cause that is not there may never have been.
            assert!(is_there == is_done || (is_done && !open.is_sure), "half of it: {open:?}");
            if is_there {
                self.values.insert(open.value.0, open.value.1.unwrap());
            }
        }
        for (key, value) in &self.values {
            assert_eq!(self.log.value(key).unwrap().as_ref(), Some(value));
        }
    }

    /// Compares, and takes what is found for confirmed.
    fn check(&mut self) {
        let mut found = BTreeMap::new();
        for (slot, number) in self.slots.iter().enumerate() {
            let pending = self.log.pending(*number, 0, usize::MAX);
            assert_eq!(self.log.lag(*number), pending.len());
            assert!(pending.is_sorted_by_key(|it| it.seq));
            for it in pending {
                assert_eq!(it.due, u64::from(it.attempts) * 10);
                let stored = self.log.read(it.seq).unwrap().unwrap();
                found.insert((slot, u128::from_le_bytes(stored.id)), (it, stored.body));
            }
        }
        for known in &mut self.known {
            for (slot, states) in &mut known.has {
                let found = found.remove(&(*slot, u128::from(known.id)));
                let has = found.map(|(it, body)| {
                    assert_eq!((it.seq, &body), (known.seq, &known.body));
                    it.attempts
                });
                assert!(states.contains(&has), "message {}: {has:?} of {states:?}", known.id);
                *states = vec![has];
            }
        }
        assert!(found.is_empty(), "nobody asked for {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(96), ..ProptestConfig::default() })]

    #[test]
    fn what_was_confirmed_is_the_case_after_any_crash(steps in steps()) {
        Model::new(16).run(&steps);
    }

    #[test]
    fn what_was_confirmed_is_the_case_where_there_is_no_room(steps in steps()) {
        Model::new(6).run(&steps);
    }
}
