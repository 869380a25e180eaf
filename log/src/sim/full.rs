//! A log that is full: whatever was done to it, settling what waits makes room again within the same quota.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::SimDisk;
use crate::{Durable, Log, LogError, Message, Options, Placed, Settlement, SlotId, Transaction};

/// How long the log may take to find that it has room.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
enum Step {
    /// Publishes until there is no room, so many messages at a time.
    Fill {
        slots: usize,
        len: usize,
        at_once: usize,
    },
    /// Slots are done with messages that others come of, until there is no room.
    Commits {
        count: usize,
        len: usize,
        at_once: usize,
    },
    /// A slot is done with every so many of its messages.
    Done {
        slot: usize,
        every: usize,
    },
    /// A slot wants all of its messages again, so many times.
    Again {
        slot: usize,
        times: u16,
    },
    /// A slot is registered with something else to say.
    Register {
        slot: usize,
        len: usize,
    },
    Restart {
        kill: bool,
    },
    /// Everything is settled.
    Settle,
}

const SLOTS: usize = 12;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = || prop_oneof![3 => 0..200usize, 2 => 1000..6000usize, 1 => 12_000..15_000usize];
    let fill = (1..=SLOTS, len(), 1..100usize);
    let fill = fill.prop_map(|(slots, len, at_once)| Step::Fill { slots, len, at_once });
    let commits = (1..600usize, len(), 1..100usize)
        .prop_map(|(count, len, at_once)| Step::Commits { count, len, at_once });
    let step = prop_oneof![
        4 => fill,
        4 => commits,
        3 => (0..SLOTS, 1..5usize).prop_map(|(slot, every)| Step::Done { slot, every }),
        2 => (0..SLOTS, 1..4u16).prop_map(|(slot, times)| Step::Again { slot, times }),
        1 => (0..SLOTS, 0..100usize).prop_map(|(slot, len)| Step::Register { slot, len }),
        2 => any::<bool>().prop_map(|kill| Step::Restart { kill }),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..12)
}

struct Full {
    options: Options,
    disk: SimDisk,
    log: Log,
    slots: Vec<SlotId>,
    next_id: u128,
    runtime: tokio::runtime::Runtime,
}

impl Full {
    fn new(segments: u64, remembered_ids: usize) -> Self {
        let max_bytes = segments * (64 << 10);
        let options =
            Options { segment_size: 64 << 10, max_bytes, remembered_ids, ..Options::default() };
        let disk = SimDisk::default();
        let (log, _) = disk.open(&options).unwrap();
        let register = |n| log.register(&format!("slot{n}"), b"").unwrap().0;
        let slots = (0..SLOTS).map(register).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(log.flush()).unwrap();
        Self { options, disk, log, slots, next_id: 0, runtime }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Fill { slots, len, at_once } => while self.publish(slots, len, at_once, &[]) {},
            Step::Commits { count, len, at_once } => {
                let causes = self.waiting(0);
                for cause in causes.chunks(at_once).take(count.div_ceil(at_once)) {
                    if !self.publish(1, len, at_once, cause) {
                        break;
                    }
                }
            }
            Step::Done { slot, every } => {
                for seq in self.waiting(slot).into_iter().step_by(every) {
                    self.log.settle(self.slots[slot], seq, Settlement::Done);
                }
            }
            Step::Again { slot, times } => {
                for attempts in 1..=times {
                    for seq in self.waiting(slot) {
                        let again = Settlement::Again { attempts, due: 0 };
                        self.log.settle(self.slots[slot], seq, again);
                    }
                    self.turn();
                }
            }
            Step::Register { slot, len } => {
                let name = format!("slot{slot}");
                let (id, durable) = self.log.register(&name, &vec![b'a'; len]).unwrap();
                assert_eq!(id, self.slots[slot]);
                self.allow_quota(durable);
            }
            Step::Restart { kill } => self.restart(kill),
            Step::Settle => self.settle(),
        }
    }

    /// Publishes some messages, each of which settles one of `causes` if there are some; says whether there was
    /// room for all.
    fn publish(&mut self, slots: usize, len: usize, count: usize, causes: &[u64]) -> bool {
        let body = vec![b'x'; len];
        let mut durables = Vec::new();
        let mut has_room = true;
        for at in 0..count {
            let done: Vec<_> =
                causes.get(at).map(|seq| (self.slots[0], *seq)).into_iter().collect();
            if done.is_empty() && !causes.is_empty() {
                break;
            }
            self.next_id += 1;
            let (id, slots) = (self.next_id.to_le_bytes(), &self.slots[..slots]);
            let message = Message { id, slots, body: &[&body] };
            let transaction =
                Transaction { messages: &[message], done: &done, ..Transaction::default() };
            match self.runtime.block_on(self.log.commit(&transaction)) {
                Ok(receipt) => durables.push(receipt.durable),
                Err(LogError::Quota { .. }) => {
                    has_room = false;
                    break;
                }
                Err(other) => panic!("{other}"),
            }
        }
        durables
            .into_iter()
            .fold(has_room, |has_room, durable| self.allow_quota(durable) && has_room)
    }

    /// Whether there was room.
    fn allow_quota(&self, durable: Durable) -> bool {
        match self.runtime.block_on(durable) {
            Ok(()) => true,
            Err(LogError::Quota { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    }

    fn turn(&self) {
        self.allow_quota(self.log.turn());
    }

    fn waiting(&self, slot: usize) -> Vec<u64> {
        let pending = self.log.pending(self.slots[slot], 0, usize::MAX);
        pending.into_iter().map(|it| it.seq).collect()
    }

    fn restart(&mut self, kill: bool) {
        if kill {
            self.disk.crash();
        } else {
            self.allow_quota(self.log.close());
        }
        self.disk = self.disk.after_kill();
        let (log, report) = self.disk.open(&self.options).unwrap();
        assert_eq!(report.damage, []);
        self.log = log;
    }

    fn until_there_is_room(&mut self, mut try_it: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !try_it(self) {
            let room = self.log.room();
            let room = async { tokio::time::timeout(PATIENCE, room).await };
            let is_told = self.runtime.block_on(room).is_ok();
            let is_late = !is_told || began.elapsed() > PATIENCE;
            assert!(!is_late, "no room though all is settled: {:?}", self.log.stats());
        }
    }

    /// Settles what waits. Then there is room, and all of it lasts.
    fn settle(&mut self) {
        for slot in 0..SLOTS {
            for seq in self.waiting(slot) {
                self.log.settle(self.slots[slot], seq, Settlement::Done);
            }
        }
        // With all that was settled before it, which may find no room for itself: what is refused is not kept, and
        // what is kept is not refused.
        self.until_there_is_room(|this| this.publish(1, 1000, 1, &[]));
        // Acknowledgements may take what there was, until their segments are freed as well.
        self.until_there_is_room(|this| this.allow_quota(this.log.flush()));
        self.restart(true);
        assert_eq!(self.log.stats().messages, 1);
        let seq = self.waiting(0)[0];
        self.log.settle(self.slots[0], seq, Settlement::Done);
        self.runtime.block_on(self.log.flush()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(24), max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn settling_what_waits_makes_room_again(
        segments in 6..11u64,
        ids in prop_oneof![Just(8usize), Just(1usize << 17)],
        steps in steps(),
    ) {
        let mut full = Full::new(segments, ids);
        for step in &steps {
            full.step(step);
        }
        full.step(&Step::Fill { slots: 1, len: 300, at_once: 20 });
        full.settle();
    }
}

/// A batch takes several records where slots have settled much. Its messages stand in the first.
#[test]
fn what_is_written_is_not_told_as_refused_for_what_comes_behind() {
    const AGAIN: u16 = 15_000;
    let mut full = Full::new(6, 1 << 10);
    // Into the second of six segments.
    assert!((0..80).all(|_| full.publish(1, 1000, 1, &[])));
    assert_eq!(full.log.stats().segments, 2);
    let (slot, seq) = (full.slots[0], full.waiting(0)[0]);
    let slots = [slot];
    let message = Message { id: [9; 16], slots: &slots, body: &[b"kept"] };
    let transaction = Transaction { messages: &[message], ..Transaction::default() };
    // Under one lock, so that all of it is one batch: more than what is left takes.
    let (receipt, flush) = full.log.0.shared.hand_over(|front| {
        for attempts in 1..=AGAIN {
            let again = Settlement::Again { attempts, due: 0 };
            front.gathered.settled.push((slot, seq, again));
        }
        (front.commit(&transaction, 1).unwrap(), front.flush())
    });
    assert!(matches!(full.runtime.block_on(flush), Err(LogError::Quota { .. })));
    full.runtime.block_on(receipt.durable).unwrap();
    let Placed::New(kept) = receipt.placed[0] else { panic!("{:?}", receipt.placed) };
    assert!(full.waiting(0).contains(&kept));
    // Its id is remembered, and what was settled counts though it is not written.
    let again = full.log.0.shared.front.lock().window.seq_of(&[9; 16]);
    assert_eq!(again, Some(kept));
    assert_eq!(full.log.pending(slot, 0, 1)[0].attempts, AGAIN);
    full.restart(true);
    let done = full.waiting(0).into_iter().filter(|seq| *seq != kept);
    done.for_each(|seq| full.log.settle(slot, seq, Settlement::Done));
    full.until_there_is_room(|full| match full.log.try_append(message) {
        Ok(receipt) => {
            assert_eq!(receipt.placed[..], [Placed::Duplicate(kept)]);
            true
        }
        Err(_) => false,
    });
    assert_eq!(full.waiting(0), [kept]);
}
