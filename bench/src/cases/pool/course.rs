//! How a run went: what was handled by when, and with how many workers.

use std::time::Duration;

/// The rate at a moment is that of so much time before it: four times what a message waits that waits.
const WINDOW: Duration = Duration::from_millis(200);

/// How things stood at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// How long after the step.
    pub(super) at: Duration,
    /// Messages handled since the step.
    pub(super) handled: u64,
    pub(super) workers: usize,
}

/// The samples of a run, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Course(pub(super) Vec<Sample>);

impl Course {
    /// Messages a second from this moment on, to the end.
    pub(super) fn rate_from(&self, from: Duration) -> f64 {
        let first = self.0.iter().find(|sample| sample.at >= from);
        first.zip(self.0.last()).map_or(0.0, |(first, last)| rate(first, last))
    }

    /// When the rate first was this one or more.
    pub(super) fn reached(&self, wanted: f64) -> Option<Duration> {
        let mut earlier = self.0.iter().peekable();
        self.0.iter().filter(|sample| sample.at >= WINDOW).find_map(|sample| {
            // The last one that is a window or more before.
            let mut before = earlier.peek().copied()?;
            while let Some(next) = earlier.next_if(|it| it.at + WINDOW <= sample.at) {
                before = next;
            }
            (rate(before, sample) >= wanted).then_some(sample.at)
        })
    }

    /// The most workers that there were from this moment on.
    pub(super) fn most_workers_from(&self, from: Duration) -> usize {
        let later = self.0.iter().filter(|sample| sample.at >= from);
        later.map(|sample| sample.workers).max().unwrap_or_default()
    }

    pub(super) fn workers_at_end(&self) -> usize {
        self.0.last().map_or(0, |sample| sample.workers)
    }
}

fn rate(from: &Sample, to: &Sample) -> f64 {
    let elapsed = to.at.saturating_sub(from.at).as_secs_f64();
    let handled = to.handled.saturating_sub(from.handled) as f64;
    if elapsed == 0.0 { 0.0 } else { handled / elapsed }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that handles `slow` messages a sample for its first half second, then `fast`; a sample is 10 ms.
    fn course(slow: u64, fast: u64) -> Course {
        let mut handled = 0;
        let samples = (0..200).map(|number| {
            let sample = Sample {
                at: Duration::from_millis(number * 10),
                handled,
                workers: number as usize,
            };
            handled += if number < 50 { slow } else { fast };
            sample
        });
        Course(samples.collect())
    }

    #[test]
    fn a_rate_is_reached_once_a_whole_window_has_it() {
        let course = course(1, 10);
        assert_eq!(course.reached(1000.0), Some(Duration::from_millis(700)));
        assert_eq!(course.reached(100.0), Some(WINDOW));
        assert_eq!(course.reached(1001.0), None);
    }

    #[test]
    fn what_counts_later_does_not_see_what_was_before() {
        let course = course(1, 10);
        assert!((course.rate_from(Duration::from_millis(500)) - 1000.0).abs() < 1e-6);
        assert_eq!(course.most_workers_from(Duration::from_secs(1)), 199);
        assert_eq!(course.workers_at_end(), 199);
        assert_eq!(Course::default().most_workers_from(Duration::ZERO), 0);
    }
}
