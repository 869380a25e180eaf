//! How a case is measured: the sides take turns, and the medians count.

use std::io::Write;
use std::time::{Duration, Instant};

use echo_sdk::BoxFuture;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::cases::Case;
use crate::{BenchError, Options};

/// The name of our own side.
pub(crate) const OURS: &str = "echo-core";

/// Our own side where it publishes each message by itself, beside one that hands over several at once.
pub(crate) const ONE_BY_ONE: &str = "echo-core_one_by_one";

/// How long a round may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many messages the first round of the warm-up has.
const FIRST: u64 = 1_000;

/// What one round has shown.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// How many messages were delivered.
    pub(crate) delivered: u64,
    /// How long all of them took.
    pub(crate) took: Duration,
    /// How long each of them took, in nanoseconds, where the case is about that.
    pub(crate) latencies: Vec<u64>,
    /// The memory in use at its end, in bytes, where the case is about that.
    pub(crate) resident: Option<u64>,
}

impl Round {
    /// A round that is over now.
    pub(crate) fn since(began: Instant, delivered: u64) -> Self {
        Self { delivered, took: began.elapsed(), ..Self::default() }
    }

    fn rate(&self) -> f64 {
        self.delivered as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// A round under way.
pub(crate) type Running = BoxFuture<'static, Result<Round, BenchError>>;

/// One side of a case: it can run rounds of so many messages.
pub(crate) struct Contender {
    peer: &'static str,
    round: Box<dyn Fn(u64) -> Running>,
    is_task: bool,
}

impl Contender {
    /// A side whose rounds are driven from a thread of their own, outside of the runtime: what is published
    /// crosses from one core to another.
    pub(crate) fn new<F>(peer: &'static str, round: impl Fn(u64) -> F + 'static) -> Self
    where
        F: Future<Output = Result<Round, BenchError>> + Send + 'static,
    {
        let round = Box::new(move |messages| Box::pin(round(messages)) as Running);
        Self { peer, round, is_task: false }
    }

    /// The same side, its rounds driven by a task of the runtime, as most publishers are.
    pub(crate) fn in_runtime(self) -> Self {
        Self { is_task: true, ..self }
    }

    fn run(&self, runtime: &Runtime, messages: u64) -> Result<Round, BenchError> {
        let (peer, is_task) = (self.peer, self.is_task);
        let round = (self.round)(messages);
        runtime.block_on(async move {
            let round = async {
                if !is_task {
                    return round.await;
                }
                let broke = |error| BenchError::Peer { peer, fault: format!("broke: {error}") };
                tokio::spawn(round).await.map_err(broke)?
            };
            let stuck = BenchError::Stuck { peer, messages, patience: PATIENCE };
            tokio::time::timeout(PATIENCE, round).await.map_err(|_| stuck)?
        })
    }

    /// Runs growing rounds until one is long enough to tell how many messages a full one has.
    fn warm_up(&self, runtime: &Runtime, options: &Options) -> Result<u64, BenchError> {
        let target = options.round().as_secs_f64();
        let mut messages = options.messages.unwrap_or(FIRST);
        loop {
            let took = self.run(runtime, messages)?.took.as_secs_f64();
            if options.messages.is_some() {
                return Ok(messages);
            }
            let factor = target / took.max(1e-9);
            if factor < 4.0 {
                return Ok(((messages as f64 * factor) as u64).max(1));
            }
            messages = (messages as f64 * (factor / 2.0).min(32.0)) as u64;
        }
    }
}

/// The medians of one side: a line of the output. What a case does not measure is left out.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) case: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) msgs_per_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ns: Option<u64>,
    /// How much more memory was in use after the last round than after the first, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grown_bytes: Option<i64>,
}

impl Figures {
    fn of(case: &'static str, peer: &'static str, rounds: &mut [Round]) -> Self {
        let mut rates: Vec<f64> = rounds.iter().map(Round::rate).collect();
        rates.sort_by(f64::total_cmp);
        rounds.iter_mut().for_each(|round| round.latencies.sort_unstable());
        let of_rounds = |share| {
            let mut all: Vec<u64> =
                rounds.iter().filter_map(|round| quantile(&round.latencies, share)).collect();
            all.sort_unstable();
            quantile(&all, 0.5)
        };
        Self {
            case,
            peer,
            msgs_per_s: quantile(&rates, 0.5).unwrap_or_default().round() as u64,
            p50_ns: of_rounds(0.5),
            p99_ns: of_rounds(0.99),
            grown_bytes: grown(rounds),
        }
    }
}

/// How much more memory was in use after the last round than after the first.
fn grown(rounds: &[Round]) -> Option<i64> {
    let resident = |round: &Round| i64::try_from(round.resident?).ok();
    Some(resident(rounds.last()?)? - resident(rounds.first()?)?)
}

/// The value below which this share of the sorted values lies.
fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

/// Measures one case: warms its sides up, lets them take turns, prints the medians.
pub(crate) fn measure(
    case: &'static Case,
    sides: fn(&Runtime) -> Result<Vec<Contender>, BenchError>,
    options: &Options,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Vec<Figures>, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut sides = sides(&runtime)?;
    let known = sides.iter().map(|side| side.peer).collect::<Vec<_>>().join(", ");
    sides.retain(|side| options.wants(side.peer));
    if sides.is_empty() {
        return Err(BenchError::UnknownPeer { case: case.name, known });
    }
    let mut messages = Vec::with_capacity(sides.len());
    for side in &sides {
        messages.push(side.warm_up(&runtime, options)?);
    }
    let mut rounds: Vec<Vec<Round>> = sides.iter().map(|_| Vec::new()).collect();
    for repeat in 0..options.rounds() as usize {
        // Each begins in turn, so that nobody always comes after the same other.
        for place in (0..sides.len()).map(|offset| (repeat + offset) % sides.len()) {
            let (Some(side), Some(messages)) = (sides.get(place), messages.get(place)) else {
                continue;
            };
            let round = side.run(&runtime, *messages)?;
            rounds.extend_at(place, round);
        }
    }
    let figures = sides.iter().zip(&mut rounds).map(|(side, rounds)| {
        let spread = spread(rounds);
        (Figures::of(case.name, side.peer, rounds), spread)
    });
    let mut lines = Vec::new();
    for (figures, (low, high)) in figures {
        writeln!(out, "{}", serde_json::to_string(&figures).unwrap_or_default())?;
        writeln!(notes, "# {} {}: {low:.0} to {high:.0} a second", case.name, figures.peer)?;
        lines.push(figures);
    }
    out.flush()?;
    Ok(lines)
}

trait ExtendAt {
    fn extend_at(&mut self, place: usize, round: Round);
}

impl ExtendAt for Vec<Vec<Round>> {
    fn extend_at(&mut self, place: usize, round: Round) {
        if let Some(rounds) = self.get_mut(place) {
            rounds.push(round);
        }
    }
}

/// The slowest and the fastest round.
fn spread(rounds: &[Round]) -> (f64, f64) {
    rounds
        .iter()
        .map(Round::rate)
        .fold((f64::INFINITY, 0.0), |(low, high), rate| (low.min(rate), high.max(rate)))
}
