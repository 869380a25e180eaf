//! How much memory the host has grown by.
//!
//! A library's memory is not told apart from the rest of the process's, so this is all of it: whoever else grows
//! meanwhile counts as well.

use std::fs;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Objection;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// How much the host may grow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    /// Its memory before, in bytes, where the system says.
    pub(super) before: Option<u64>,
    /// The most bytes that it may have grown by.
    pub(super) most: u64,
}

/// Resolves once the host's memory has grown by too much.
pub(super) async fn grown(growth: Growth) -> Objection {
    let Growth { before, most } = growth;
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let growth = resident().zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
        if growth > most {
            let (growth, most) = (growth >> 20, most >> 20);
            return Objection(format!(
                "the host's memory has grown by {growth} MiB since the new version came, by more than {most}"
            ));
        }
    }
}

/// The bytes of the process that are in memory, where the system says.
pub(super) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn growth_is_seen_and_rest_is_not() {
        assert!(resident().unwrap() > 1 << 20);
        let growing = tokio::spawn(grown(Growth { before: resident(), most: 64 << 20 }));
        tokio::time::sleep(LOOK * 10).await;
        assert!(!growing.is_finished());
        let block = vec![1_u8; 128 << 20];
        let Objection(why) = growing.await.unwrap();
        assert!(why.contains("more than 64"), "{why} ({})", block.len());
    }
}
