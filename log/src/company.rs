//! How long a batch waits for more to come.
//!
//! Those who were told of the last batch come back one after another. A batch that is cut off with the first of them
//! makes the others wait for one more sync, and each sync is dear. So a batch goes to disk once it holds a good part
//! of all that can be expected, the rest being what the next one gathers meanwhile; or as soon as nobody else comes.
//! One who publishes alone is all that can be expected.
//!
//! What slots say of messages waits a little longer for a transaction to go along with, since nobody waits for it.

use std::time::{Duration, Instant};

use crate::front::Front;
use crate::options::SyncPolicy;

/// What part of those that can be expected is enough: one in so many.
const PART: usize = 3;

/// Nobody else comes, if nobody has for so long.
const PAUSE: Duration = Duration::from_micros(50);

/// No batch waits for longer.
const MOST: Duration = Duration::from_millis(1);

/// What a batch waits for.
#[derive(Debug)]
pub(crate) struct Company {
    /// How many were told of the last batch.
    told: usize,
    /// Writing costs less than waiting.
    is_worthless: bool,
    seen: Option<Seen>,
}

/// What it had when it was looked at last.
#[derive(Debug, Clone, Copy)]
struct Seen {
    commits: usize,
    /// How many it waits for.
    enough: usize,
    /// When somebody else has to have come.
    until: Instant,
    /// When it waits no longer.
    most: Instant,
}

impl Company {
    pub(crate) fn of(told: usize, sync: SyncPolicy) -> Self {
        Self { told, is_worthless: sync != SyncPolicy::EachBatch, seen: None }
    }

    /// How many transactions the batch waits for, and until when; `None` when it waits no longer.
    pub(crate) fn wanted(&mut self, front: &Front) -> Option<(usize, Instant)> {
        self.wanted_at(front, Instant::now)
    }

    /// The same by another clock, which is read only where there is something to wait for.
    fn wanted_at(
        &mut self,
        front: &Front,
        now: impl FnOnce() -> Instant,
    ) -> Option<(usize, Instant)> {
        let gathered = &front.gathered;
        let commits = gathered.commits;
        let enough = match self.seen {
            Some(seen) => seen.enough,
            None => (commits + self.told).div_ceil(PART).max(1),
        };
        let is_urgent = front.must_stop || gathered.is_awaited || self.is_worthless;
        if is_urgent || gathered.is_empty() || commits >= enough {
            return None;
        }
        let now = now();
        let most = self.seen.map_or(now + MOST, |seen| seen.most);
        let until = match self.seen {
            Some(seen) if seen.commits == commits => seen.until,
            _ if commits == 0 => most,
            _ => most.min(now + PAUSE),
        };
        self.seen = Some(Seen { commits, enough, until, most });
        (now < until).then_some((enough, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn front(commits: usize) -> Front {
        let mut front = Front::new(&Options::default());
        front.gathered.commits = commits;
        front.gathered.frames = vec![0; 40 * commits];
        front
    }

    fn company(told: usize) -> Company {
        Company::of(told, SyncPolicy::EachBatch)
    }

    #[test]
    fn one_who_is_alone_waits_for_nobody() {
        assert_eq!(company(0).wanted(&front(1)), None);
        assert_eq!(company(1).wanted(&front(1)), None);
    }

    #[test]
    fn those_who_were_told_have_a_moment_to_come_back() {
        let start = Instant::now();
        let mut company = company(200);
        assert_eq!(company.wanted_at(&front(10), || start), Some((70, start + PAUSE)));
        // As long as others come, and not for ever.
        let mut commits = 10;
        let mut now = start;
        while now + PAUSE < start + MOST {
            now += PAUSE / 2;
            commits += 1;
            assert_eq!(
                company.wanted_at(&front(commits), || now),
                Some((70, now + PAUSE)),
                "{commits}"
            );
        }
        now += PAUSE / 2;
        assert_eq!(company.wanted_at(&front(commits + 1), || now), Some((70, start + MOST)));
        assert_eq!(company.wanted_at(&front(commits + 2), || start + MOST), None);
    }

    #[test]
    fn a_batch_that_has_enough_goes_at_once() {
        let start = Instant::now();
        let mut company = company(200);
        assert_eq!(company.wanted_at(&front(10), || start), Some((70, start + PAUSE)));
        assert!(company.wanted_at(&front(69), || start).is_some());
        assert_eq!(company.wanted_at(&front(70), || start), None);
    }

    #[test]
    fn nobody_waits_for_those_who_do_not_come() {
        let start = Instant::now();
        let mut company = company(200);
        let until = start + PAUSE;
        assert_eq!(company.wanted_at(&front(10), || start), Some((70, until)));
        assert_eq!(
            company.wanted_at(&front(10), || until - Duration::from_nanos(1)),
            Some((70, until))
        );
        assert_eq!(company.wanted_at(&front(10), || until), None);
    }

    #[test]
    fn what_was_settled_waits_for_a_transaction_and_what_is_awaited_for_nothing() {
        let start = Instant::now();
        let mut front = front(0);
        front.gathered.settled.push((crate::SlotId(1), 1, crate::Settlement::Done));
        let mut company = company(0);
        assert_eq!(company.wanted_at(&front, || start), Some((1, start + MOST)));
        front.gathered.commits = 1;
        assert_eq!(company.wanted_at(&front, || start), None);
        front.gathered.commits = 0;
        front.gathered.is_awaited = true;
        assert_eq!(company.wanted_at(&front, || start), None);
    }
}
