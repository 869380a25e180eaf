//! Which clients read more slowly than others publish to them.
//!
//! Nobody waits for a slow client's socket: what it has not read piles up, and past a bound it is cut off. So that
//! a client that reads as fast as it can is not cut off by one that writes faster, a connection on whose topics
//! somebody lags takes a short rest between two reads. It costs nothing while nobody lags, and nobody but those
//! who publish to the one who does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use echo_sdk::{Pattern, Topic};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// A client lags when so many bytes wait for it,
const HIGH: usize = 1024 * 1024;

/// until there are no more than these.
const LOW: usize = HIGH / 2;

/// How long a connection rests at most between two reads.
const REST: Duration = Duration::from_millis(10);

/// Whether a connection lags, for others to see.
#[derive(Debug, Default)]
pub(super) struct Pressure(AtomicBool);

impl Pressure {
    pub(super) fn is_high(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections of a gateway that lag.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    count: AtomicUsize,
    jams: Mutex<Vec<Arc<Jam>>>,
}

#[derive(Debug)]
struct Jam {
    patterns: Vec<Pattern>,
    over: CancellationToken,
}

impl Congestion {
    /// Waits a moment while somebody lags who hears one of `topics`.
    pub(super) async fn rest<'a>(&self, topics: impl Iterator<Item = &'a Topic>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(over) = self.find(topics) {
            // Past its time the rest is over as well.
            let _ = tokio::time::timeout(REST, over.cancelled()).await;
        }
    }

    fn find<'a>(&self, mut topics: impl Iterator<Item = &'a Topic>) -> Option<CancellationToken> {
        let jams = self.jams.lock();
        topics.find_map(|topic| {
            let hears = |jam: &&Arc<Jam>| jam.patterns.iter().any(|pattern| pattern.matches(topic));
            jams.iter().find(hears).map(|jam| jam.over.clone())
        })
    }
}

/// One connection's side of it.
#[derive(Debug)]
pub(super) struct Gauge {
    congestion: Arc<Congestion>,
    pressure: Arc<Pressure>,
    jam: Option<Arc<Jam>>,
}

impl Gauge {
    pub(super) fn new(congestion: &Arc<Congestion>) -> Self {
        Self { congestion: Arc::clone(congestion), pressure: Arc::default(), jam: None }
    }

    pub(super) fn pressure(&self) -> &Arc<Pressure> {
        &self.pressure
    }

    /// Tells how many bytes wait, and what the connection hears.
    pub(super) fn set<'a>(&mut self, pending: usize, patterns: impl Iterator<Item = &'a Pattern>) {
        match &self.jam {
            None if pending > HIGH => {
                let over = CancellationToken::new();
                let jam = Arc::new(Jam { patterns: patterns.cloned().collect(), over });
                self.congestion.jams.lock().push(Arc::clone(&jam));
                self.congestion.count.fetch_add(1, Ordering::Relaxed);
                self.pressure.0.store(true, Ordering::Relaxed);
                self.jam = Some(jam);
            }
            Some(_) if pending <= LOW => self.clear(),
            _ => {}
        }
    }

    fn clear(&mut self) {
        if let Some(jam) = self.jam.take() {
            self.congestion.jams.lock().retain(|other| !Arc::ptr_eq(other, &jam));
            self.congestion.count.fetch_sub(1, Ordering::Relaxed);
            self.pressure.0.store(false, Ordering::Relaxed);
            jam.over.cancel();
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_those_rest_who_publish_to_one_who_lags_and_not_for_long() {
        let congestion = Arc::<Congestion>::default();
        let mut gauge = Gauge::new(&congestion);
        let patterns = [Pattern::new("a.>").unwrap()];
        let topics = ["a.b", "b"].map(|text| Topic::new(text).unwrap());
        let [heard, other] = &topics;
        let rested = async |topic| {
            let start = Instant::now();
            congestion.rest(std::iter::once(topic)).await;
            start.elapsed()
        };
        assert_eq!(rested(heard).await, Duration::ZERO);
        gauge.set(HIGH + 1, patterns.iter());
        assert!(gauge.pressure().is_high());
        assert_eq!(rested(other).await, Duration::ZERO);
        assert!(rested(heard).await >= REST);
        gauge.set(LOW + 1, patterns.iter());
        assert!(rested(heard).await >= REST);
        let rest = congestion.rest(std::iter::once(heard));
        tokio::pin!(rest);
        assert!(futures_util::poll!(&mut rest).is_pending());
        gauge.set(LOW, patterns.iter());
        assert!(futures_util::poll!(&mut rest).is_ready());
        assert_eq!(rested(heard).await, Duration::ZERO);
    }
}
