//! What is published while versions change: so many messages a second, due at fixed times whatever becomes of those
//! before. How long one takes counts from when it was due, so nothing that holds the publisher up is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use echo_sdk::{PluginContext, Topic};
use echo_test_ledger::Add;
use tokio::time::{MissedTickBehavior, interval};

use crate::BenchError;
use crate::work::BATCH;

/// Where the ledger gets its messages.
const ADD: &str = "ledger.add";

/// How often it is looked what is due.
const LOOK: Duration = Duration::from_millis(1);

/// Which message is due when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) keys: u64,
    /// Messages a second.
    pub(super) rate: u64,
    pub(super) began: Instant,
}

impl Schedule {
    /// The message of this number, from 0: each key has its turn.
    pub(super) fn message(&self, number: u64) -> Add {
        let (key, seq) = (number % self.keys, number / self.keys + 1);
        // Amounts that a sum tells apart.
        let amount = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as i64 - (1 << 19);
        Add { key, seq, amount }
    }

    /// The number of a key's message.
    pub(super) fn number(&self, key: u64, seq: u64) -> u64 {
        seq.saturating_sub(1).saturating_mul(self.keys).saturating_add(key)
    }

    /// When a message is due.
    pub(super) fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many messages are due by now.
    fn due_by_now(&self) -> u64 {
        let count = self.began.elapsed().as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// What a key has once so many messages of all keys were added: the sum, and how many are its own.
    pub(super) fn account(&self, key: u64, messages: u64) -> (i64, u64) {
        let count = messages.saturating_sub(key).div_ceil(self.keys);
        let sum = (1..=count).map(|seq| self.message(self.number(key, seq)).amount).sum();
        (sum, count)
    }
}

/// The ordering key of a ledger's key.
pub(super) fn key_name(key: u64) -> String {
    format!("k{key}")
}

/// Publishes what is due until it is to stop; gives how many messages that were.
pub(super) async fn publish(
    client: PluginContext,
    schedule: Schedule,
    stop: Arc<AtomicBool>,
) -> Result<u64, BenchError> {
    let topic = Topic::new(ADD)?;
    let keys: Vec<String> = (0..schedule.keys).map(key_name).collect();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        looks.tick().await;
        let due = schedule.due_by_now();
        while next < due {
            let until = due.min(next + BATCH);
            let batch = (next..until).map(|number| {
                let add = schedule.message(number);
                let key = keys.get(add.key as usize).map(String::as_str).unwrap_or_default();
                client.message_builder().key(key).data(&add).build()
            });
            client.publish_batch(&topic, batch.collect::<Result<_, _>>()?).await?;
            next = until;
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_messages_in_order_and_their_sum() {
        let schedule = Schedule { keys: 3, rate: 1_000, began: Instant::now() };
        let messages: Vec<Add> = (0..8).map(|number| schedule.message(number)).collect();
        let of = |key| messages.iter().filter(move |add| add.key == key);
        for key in 0..3 {
            let seqs: Vec<u64> = of(key).map(|add| add.seq).collect();
            assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
            let sum = of(key).map(|add| add.amount).sum();
            assert_eq!(schedule.account(key, 8), (sum, seqs.len() as u64));
            for add in of(key) {
                assert_eq!(schedule.message(schedule.number(key, add.seq)), *add);
            }
        }
        assert_eq!(schedule.account(2, 2), (0, 0));
        assert_eq!(schedule.due(5), schedule.began + Duration::from_millis(5));
    }
}
