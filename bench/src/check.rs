//! The bars that the project has set itself, held against the medians.

use std::io::Write;

use crate::BenchError;
use crate::harness::{Figures, OURS};

/// What is compared.
#[derive(Debug, Clone, Copy)]
enum Figure {
    Rate,
    P50,
    P99,
    Grown,
}

/// With what.
#[derive(Debug, Clone, Copy)]
enum Than {
    /// The best of these peers in the same case.
    Best(&'static [&'static str]),
    /// Our own figure in another case.
    OurOwn(&'static str),
    /// A number.
    Number(f64),
}

/// One bar: ours in `case` is at least (rates) or at most (times) `factor` times as much.
#[derive(Debug, Clone, Copy)]
struct Bar {
    case: &'static str,
    figure: Figure,
    factor: f64,
    than: Than,
}

const fn bar(case: &'static str, figure: Figure, factor: f64, than: Than) -> Bar {
    Bar { case, figure, factor, than }
}

const BARS: &[Bar] = &[
    bar("work_queue", Figure::Rate, 8.0, Than::Best(&["kameo", "ractor", "xtra", "ruststream"])),
    bar("work_queue", Figure::Rate, 0.5, Than::Best(&["hand_made"])),
    bar("work_queue_fresh", Figure::Rate, 3.0, Than::Best(&["ruststream"])),
    bar("work_queue_fresh", Figure::Rate, 1.0, Than::Number(2.5e6)),
    bar("fan_out_1_8", Figure::Rate, 1.0, Than::Best(&["tokio"])),
    bar("fan_in_8_1", Figure::Rate, 1.0, Than::Best(&["crossbeam"])),
    bar("request", Figure::P50, 1.0, Than::Best(&["kameo"])),
    bar("request", Figure::P99, 1.0, Than::Number(5_000.0)),
    bar("idle_to_handled", Figure::P50, 1.2, Than::Best(&["tokio"])),
    bar("match_uncached", Figure::Rate, 1.0, Than::Number(3e6)),
    bar("match_cached", Figure::Rate, 1.0, Than::Number(2e7)),
    // A publish may cost 1.2 times as much.
    bar(
        "publish_100k_subscriptions",
        Figure::Rate,
        1.0 / 1.2,
        Than::OurOwn("publish_1_subscription"),
    ),
    bar("nats_core", Figure::Rate, 10.0, Than::Best(&["nats-server"])),
    bar("durable", Figure::Rate, 2.5, Than::Best(&["jetstream"])),
    bar("nats_publish", Figure::Rate, 0.9, Than::Best(&["async-nats"])),
    bar("nats_work_queue", Figure::Rate, 0.9, Than::Best(&["async-nats"])),
    bar("gateway", Figure::Rate, 1.0, Than::Best(&["nats-server"])),
    // Allocators keep some of what they were given back.
    bar("memory", Figure::Grown, 1.0, Than::Number(4.0 * 1024.0 * 1024.0)),
];

/// Prints a line for each bar whose case was measured; `verdicts` are of cases that know their own bars.
///
/// # Errors
/// [`BenchError::Missed`] when one of them is missed.
pub(crate) fn check(
    results: &[Figures],
    verdicts: Vec<Verdict>,
    out: &mut dyn Write,
) -> Result<(), BenchError> {
    let mut missed = 0;
    for verdict in BARS.iter().filter_map(|bar| bar.hold(results)).chain(verdicts) {
        missed += usize::from(!verdict.reached);
        let word = if verdict.reached { "pass" } else { "FAIL" };
        writeln!(out, "{word} {}", verdict.text)?;
    }
    if missed > 0 { Err(BenchError::Missed(missed)) } else { Ok(()) }
}

/// What became of a bar.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) reached: bool,
    /// What was measured and what was wanted, in one line.
    pub(crate) text: String,
}

impl Figure {
    fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Rate => Some(figures.msgs_per_s as f64),
            Self::P50 => figures.p50_ns.map(|ns| ns as f64),
            Self::P99 => figures.p99_ns.map(|ns| ns as f64),
            Self::Grown => figures.grown_bytes.map(|bytes| bytes as f64),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "msgs_per_s",
            Self::P50 => "p50_ns",
            Self::P99 => "p99_ns",
            Self::Grown => "grown_bytes",
        }
    }
}

impl Bar {
    /// Nothing when what it compares was not measured.
    fn hold(&self, results: &[Figures]) -> Option<Verdict> {
        let Self { case, figure, factor, than } = *self;
        let of = |case: &str, peer: &str| {
            results
                .iter()
                .find(|it| it.case == case && it.peer == peer)
                .and_then(|it| figure.of(it))
        };
        let ours = of(case, OURS)?;
        let (name, theirs) = match than {
            Than::Number(number) => ("the bar", number),
            Than::OurOwn(other) => (other, of(other, OURS)?),
            Than::Best(peers) => {
                best(figure, peers.iter().filter_map(|peer| Some((*peer, of(case, peer)?))))?
            }
        };
        let (more, reached) = match figure {
            Figure::Rate => ("at least", ours >= factor * theirs),
            Figure::P50 | Figure::P99 | Figure::Grown => ("at most", ours <= factor * theirs),
        };
        let ratio = ours / theirs.max(f64::MIN_POSITIVE);
        let text = format!(
            "{case} {}: {ours:.0} is {ratio:.2} times {name} ({theirs:.0}); wanted {more} {factor:.2}",
            figure.name()
        );
        Some(Verdict { reached, text })
    }
}

fn best(
    figure: Figure,
    peers: impl Iterator<Item = (&'static str, f64)>,
) -> Option<(&'static str, f64)> {
    match figure {
        Figure::Rate => peers.max_by(|one, other| one.1.total_cmp(&other.1)),
        Figure::P50 | Figure::P99 | Figure::Grown => {
            peers.min_by(|one, other| one.1.total_cmp(&other.1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(case: &'static str, peer: &'static str, rate: u64, p50: Option<u64>) -> Figures {
        Figures { case, peer, msgs_per_s: rate, p50_ns: p50, p99_ns: None, grown_bytes: None }
    }

    fn checked(results: &[Figures]) -> (String, bool) {
        let mut out = Vec::new();
        let passed = check(results, Vec::new(), &mut out).is_ok();
        (String::from_utf8(out).unwrap(), passed)
    }

    #[test]
    fn a_rate_is_held_against_the_best_peer() {
        let peers =
            [figures("work_queue", "kameo", 100, None), figures("work_queue", "xtra", 200, None)];
        let (lines, passed) =
            checked(&[&peers[..], &[figures("work_queue", OURS, 1700, None)]].concat());
        assert!(
            passed && lines.starts_with("pass work_queue msgs_per_s: 1700 is 8.50 times xtra"),
            "{lines}"
        );
        let (lines, passed) =
            checked(&[&peers[..], &[figures("work_queue", OURS, 1500, None)]].concat());
        assert!(!passed && lines.starts_with("FAIL"), "{lines}");
    }

    #[test]
    fn a_time_is_held_against_the_shortest() {
        let (lines, passed) = checked(&[
            figures("request", OURS, 1, Some(700)),
            figures("request", "kameo", 1, Some(600)),
        ]);
        assert!(
            !passed && lines.starts_with("FAIL request p50_ns: 700 is 1.17 times kameo"),
            "{lines}"
        );
    }

    #[test]
    fn what_was_not_measured_is_not_held_against_anything() {
        assert_eq!(checked(&[figures("durable", OURS, 5, None)]), (String::new(), true));
    }
}
