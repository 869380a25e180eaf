//! How many messages a host takes from a stream ahead of its workers.
//!
//! As many as keep them busy, and no more: what one host holds the others cannot do, and when it ends, all that it
//! holds is delivered once more, handled or not.

use std::time::Duration;

use tokio::time::Instant;

/// How many messages a host holds before it knows how fast it is.
const FEW: usize = 64;

/// A host that needs longer for half of what it holds, holds less.
const LONG: Duration = Duration::from_secs(1);

/// A host that needs no longer for it could hold more.
const SHORT: Duration = Duration::from_millis(100);

/// How many messages the host holds at most for the time being.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) budget: usize,
    pub(crate) most: usize,
    asked: Instant,
    settled: usize,
}

impl Pace {
    pub(crate) fn new(most: usize, settled: usize) -> Self {
        Self { budget: most.min(FEW), most, asked: Instant::now(), settled }
    }

    /// The workers could do more.
    pub(crate) fn grow(&mut self) {
        self.budget = (self.budget * 2).min(self.most);
    }

    /// More is asked for now, with so many settled since the beginning: looks how long half of what is held took.
    pub(crate) fn asks(&mut self, now: Instant, settled: usize) {
        if settled.wrapping_sub(self.settled) < self.budget / 2 {
            return;
        }
        let took = now.duration_since(self.asked);
        (self.asked, self.settled) = (now, settled);
        if took > LONG {
            self.budget = (self.budget / 2).max(self.most.min(FEW));
        } else if took < SHORT {
            self.grow();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_host_takes_more_and_a_slow_one_few() {
        let mut pace = Pace::new(1000, 0);
        let (mut now, mut settled) = (Instant::now(), 0);
        let mut budgets = |took: Duration| {
            now += took;
            settled += 1000;
            pace.asks(now, settled);
            pace.asks(now + 2 * LONG, settled + 1);
            pace.budget
        };
        assert_eq!(
            [1; 5].map(|ms| budgets(Duration::from_millis(ms))),
            [128, 256, 512, 1000, 1000]
        );
        assert_eq!(budgets(Duration::from_millis(500)), 1000);
        assert_eq!([2; 5].map(|s| budgets(Duration::from_secs(s))), [500, 250, 125, 64, 64]);
        assert_eq!(Pace::new(3, 0).budget, 3);
    }
}
