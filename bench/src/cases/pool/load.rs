//! What handlers do while pools are judged.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use echo_sdk::{BaseMessage, HandlerKind, Plugin, PluginError, ProcessingStatus, Topic};

use crate::tally::Tally;

/// How long a message computes, where it does.
const COMPUTES: Duration = Duration::from_micros(200);

/// How long a message waits, where it does: for a database or another service, say.
const WAITS: Duration = Duration::from_millis(50);

/// Of the mixed handler's messages one in so many waits, the others compute.
const MIXED_WAITS_EVERY: u64 = 40;

/// A kind of handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Each message computes for 200 µs.
    Cpu,
    /// Each message waits for 50 ms.
    Io,
    /// Most messages compute for 200 µs, one in 40 waits for 50 ms.
    Mixed,
    /// Each message blocks its thread for 50 ms.
    BlockingIo,
}

impl Work {
    pub(super) const ALL: [Self; 4] = [Self::Cpu, Self::Io, Self::Mixed, Self::BlockingIo];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Mixed => "mixed",
            Self::BlockingIo => "blocking_io",
        }
    }

    pub(super) fn kind(self) -> HandlerKind {
        match self {
            Self::Cpu | Self::Io | Self::Mixed => HandlerKind::Async,
            Self::BlockingIo => HandlerKind::Blocking,
        }
    }
}

/// What a run's handlers and its publisher share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) handled: Tally,
    /// Nothing more is published, and what waits is handled at once.
    pub(super) over: AtomicBool,
    number: AtomicU64,
}

impl Shared {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A handler at its work.
pub(super) struct Loaded {
    pub(super) work: Work,
    pub(super) turns: Turns,
    pub(super) shared: Arc<Shared>,
}

impl Plugin for Loaded {
    fn name(&self) -> &str {
        "bench"
    }

    async fn process_message(
        &self,
        _: &Topic,
        _: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        if self.shared.is_over() {
            return Ok(ProcessingStatus::Acknowledged);
        }
        match self.work {
            Work::Cpu => self.turns.compute(),
            Work::Io => tokio::time::sleep(WAITS).await,
            Work::BlockingIo => std::thread::sleep(WAITS),
            Work::Mixed => {
                let number = self.shared.number.fetch_add(1, Ordering::Relaxed);
                if number.is_multiple_of(MIXED_WAITS_EVERY) {
                    tokio::time::sleep(WAITS).await;
                } else {
                    self.turns.compute();
                }
            }
        }
        self.shared.handled.add(1);
        Ok(ProcessingStatus::Acknowledged)
    }
}

/// As much computing as takes [`COMPUTES`] on a core that does nothing else. A handler that looked at the clock
/// instead would be done in time without a core, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns(u64);

impl Turns {
    /// Finds out how much that is here.
    pub(super) fn measured() -> Self {
        const SAMPLE: u64 = 20_000;
        let took = (0..100).map(|_| {
            let began = Instant::now();
            Self(SAMPLE).compute();
            began.elapsed()
        });
        // The quickest is the one that nothing disturbed.
        let took = took.min().unwrap_or_default().as_secs_f64().max(1e-9);
        Self((SAMPLE as f64 * COMPUTES.as_secs_f64() / took) as u64)
    }

    fn compute(self) {
        let mut state = 1_u64;
        for turn in 0..self.0 {
            state = black_box(state.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ turn);
        }
        black_box(state);
    }
}
