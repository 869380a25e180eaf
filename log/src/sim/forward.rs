//! Handlers that publish for what they settle, on a log that is full: they go on until all is handled.

use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::SimDisk;
use crate::{Log, LogError, Message, Options, Settlement, SlotId, Transaction};

/// How long one commit may take to find room.
const PATIENCE: Duration = Duration::from_secs(5);

struct Forwarding {
    log: Log,
    taken: [SlotId; 1],
    given: [SlotId; 1],
    runtime: Runtime,
    next_id: u128,
}

impl Forwarding {
    /// A log that is full of messages that wait for one slot.
    fn new(segments: u64, lens: impl Iterator<Item = usize>) -> Self {
        let max_bytes = segments * (64 << 10);
        let options =
            Options { segment_size: 64 << 10, max_bytes, remembered_ids: 64, ..Options::default() };
        let (log, _) = SimDisk::default().open(&options).unwrap();
        let slot = |name| [log.register(name, b"").unwrap().0];
        let (taken, given) = (slot("taken"), slot("given"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut this = Self { log, taken, given, runtime, next_id: 0 };
        for len in lens {
            match this.publish(&[], len) {
                Ok(()) => {}
                Err(LogError::Quota { .. }) => return this,
                Err(error) => panic!("{error}"),
            }
        }
        unreachable!("it has no end")
    }

    fn publish(&mut self, done: &[(SlotId, u64)], len: usize) -> Result<(), LogError> {
        self.next_id += 1;
        let slots = if done.is_empty() { self.taken } else { self.given };
        let (id, body) = (self.next_id.to_le_bytes(), vec![b'x'; len]);
        let message = Message { id, slots: &slots, body: &[&body] };
        let transaction = Transaction { messages: &[message], done, ..Transaction::default() };
        let receipt = self.log.try_commit(&transaction)?;
        self.runtime.block_on(receipt.durable)
    }

    fn waiting(&self, slot: SlotId) -> Vec<u64> {
        self.log.pending(slot, 0, usize::MAX).into_iter().map(|it| it.seq).collect()
    }

    /// Handles a message: another one, a little longer, comes of it.
    fn forward(&mut self, seq: u64) {
        let len = self.log.read(seq).unwrap().unwrap().body.len() + 20;
        let done = [(self.taken[0], seq)];
        while let Err(error) = self.publish(&done, len) {
            assert!(matches!(error, LogError::Quota { .. }), "{error}");
            let room = self.log.room_to_settle();
            let room = async { tokio::time::timeout(PATIENCE, room).await };
            let has_room = self.runtime.block_on(room).is_ok();
            assert!(has_room, "stuck at message {seq} of {}: {:?}", self.next_id, self.log.stats());
        }
    }

    /// All that came of what was handled is handled.
    fn take(&self) {
        for seq in self.waiting(self.given[0]) {
            self.log.settle(self.given[0], seq, Settlement::Done);
        }
    }
}

#[test]
fn a_full_log_is_emptied_by_handlers_that_publish() {
    for len in [60, 1000, 9000] {
        let mut log = Forwarding::new(24, std::iter::repeat(len));
        let waiting = log.waiting(log.taken[0]);
        for (place, seq) in waiting.into_iter().enumerate() {
            log.forward(seq);
            if place % 10 == 9 {
                log.take();
            }
        }
        log.take();
        log.runtime.block_on(log.log.flush()).unwrap();
        assert_eq!(log.log.stats().messages, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(16), max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_and_of_any_length(
        segments in 6..20u64,
        lens in proptest::collection::vec(prop_oneof![3 => 0..200usize, 2 => 1000..6000usize], 1..50),
        order in proptest::collection::vec(0..1000usize, 1..50),
        takes_after in 1..40usize,
    ) {
        let mut log = Forwarding::new(segments, lens.into_iter().cycle());
        let mut waiting = log.waiting(log.taken[0]);
        for (place, at) in order.iter().cycle().enumerate() {
            if waiting.is_empty() {
                break;
            }
            let seq = waiting.remove(at % waiting.len());
            log.forward(seq);
            if place % takes_after == 0 {
                log.take();
            }
        }
        log.take();
        log.runtime.block_on(log.log.flush()).unwrap();
        prop_assert_eq!(log.log.stats().messages, 0);
    }
}
