//! Whether an adaptive pool finds the size that is best: nothing to do, then more than can be done, against every
//! fixed size.

mod course;
mod load;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use echo_core::Host;
use echo_sdk::{PluginContext, Topic};
use serde::{Serialize, Serializer};
use tokio::runtime::{Handle, Runtime};

use self::course::{Course, Sample};
use self::load::{Loaded, Shared, Turns, Work};
use crate::check::Verdict;
use crate::harness::OURS;
use crate::ours::{Place, exports};
use crate::work::{TOPIC, message};
use crate::{BenchError, Options};

/// The most workers; the least is one.
const MAX: usize = 32;

/// How many messages the queue holds: some for each worker, so that it is never empty.
const QUEUE: usize = 256;

/// How long nothing happens before the step. It is not waited for anything: this is what makes it a step.
const IDLE: Duration = Duration::from_millis(120);

/// How often what was handled is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A size counts as the best one when its rate is within this share of the best rate, and no smaller one's is:
/// where more workers change nothing, which of them happens to be ahead says nothing.
const AS_GOOD: f64 = 0.97;

/// What the pool is held to.
const THROUGHPUT: f64 = 0.9;
const WITHIN: Duration = Duration::from_secs(2);
const WORKERS: f64 = 2.0;

/// How many workers a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Fixed(usize),
    Adaptive,
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(workers) => workers.serialize(serializer),
            Self::Adaptive => "adaptive".serialize(serializer),
        }
    }
}

/// How long the runs are.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    /// A fixed size's first part, which does not count, and the whole.
    fixed: (Duration, Duration),
    adaptive: Duration,
    /// Every size, or only those that double.
    all_sizes: bool,
}

impl Lengths {
    fn of(options: &Options) -> Self {
        let millis = Duration::from_millis;
        if options.quick {
            let fixed = (millis(100), millis(300));
            return Self { fixed, adaptive: WITHIN + millis(500), all_sizes: false };
        }
        let fixed = (millis(250), millis(1050));
        Self { fixed, adaptive: 4 * WITHIN, all_sizes: true }
    }

    fn sizes(self) -> impl Iterator<Item = usize> {
        (1..=MAX).filter(move |size| self.all_sizes || size.is_power_of_two())
    }
}

/// A line of the output: one size.
#[derive(Debug, Serialize)]
struct Line {
    case: &'static str,
    handler: &'static str,
    workers: Size,
    msgs_per_s: u64,
    /// When the pool was at nine tenths of the best fixed size's rate; null when it never was.
    reached_ms: Option<u64>,
    workers_at_end: usize,
}

/// The adaptive pool beside the best fixed size.
#[derive(Debug, Serialize)]
struct Ratios {
    handler: &'static str,
    best_workers: usize,
    throughput: f64,
    reached_ms: Option<u64>,
    /// The most workers that there were after the two seconds, by those of the best size.
    workers: f64,
}

/// The last line of the output.
#[derive(Debug, Serialize)]
struct Summary {
    case: &'static str,
    ratios: Vec<Ratios>,
}

/// Measures all handlers, or those that the options name as their peers; gives what became of the bars.
pub(super) fn measure(
    name: &'static str,
    options: &Options,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Vec<Verdict>, BenchError> {
    let works: Vec<Work> =
        Work::ALL.into_iter().filter(|work| options.wants(work.name())).collect();
    if works.is_empty() {
        let known = Work::ALL.map(Work::name).join(", ");
        return Err(BenchError::UnknownPeer { case: name, known });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (lengths, turns) = (Lengths::of(options), Turns::measured());
    let mut ratios = Vec::new();
    for work in works {
        let mut fixed = Vec::new();
        for size in lengths.sizes() {
            let course = run(&runtime, work, turns, Size::Fixed(size), lengths.fixed.1)?;
            fixed.push((size, course.rate_from(lengths.fixed.0), course));
        }
        let best = fixed.iter().map(|(_, rate, _)| *rate).fold(0.0, f64::max);
        let as_good = fixed.iter().find(|(_, rate, _)| *rate >= AS_GOOD * best);
        let best_workers = as_good.map_or(MAX, |(size, ..)| *size);
        let adaptive = run(&runtime, work, turns, Size::Adaptive, lengths.adaptive)?;
        let rate = adaptive.rate_from(WITHIN);
        let line = |workers, rate: f64, course: &Course| Line {
            case: name,
            handler: work.name(),
            workers,
            msgs_per_s: rate.round() as u64,
            reached_ms: reached_ms(course, best),
            workers_at_end: course.workers_at_end(),
        };
        let mut lines: Vec<Line> = fixed
            .iter()
            .map(|(size, rate, course)| line(Size::Fixed(*size), *rate, course))
            .collect();
        lines.push(line(Size::Adaptive, rate, &adaptive));
        for line in lines {
            writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())?;
        }
        writeln!(notes, "# {name} {}: {}", work.name(), changes(&adaptive))?;
        ratios.push(Ratios {
            handler: work.name(),
            best_workers,
            throughput: hundredths(rate / best.max(f64::MIN_POSITIVE)),
            reached_ms: reached_ms(&adaptive, best),
            workers: hundredths(adaptive.most_workers_from(WITHIN) as f64 / best_workers as f64),
        });
    }
    let verdicts = ratios.iter().map(|ratios| ratios.verdict(name)).collect();
    let summary = Summary { case: name, ratios };
    writeln!(out, "{}", serde_json::to_string(&summary).unwrap_or_default())?;
    out.flush()?;
    Ok(verdicts)
}

impl Ratios {
    fn verdict(&self, case: &'static str) -> Verdict {
        let Self { handler, best_workers, throughput, reached_ms, workers } = self;
        let is_in_time = reached_ms.is_some_and(|ms| u128::from(ms) <= WITHIN.as_millis());
        let reached = *throughput >= THROUGHPUT && is_in_time && *workers <= WORKERS;
        let when = reached_ms.map_or("never".to_owned(), |ms| format!("after {ms} ms"));
        let text = format!(
            "{case} {handler}: {throughput:.2} of what {best_workers} workers do, nine tenths of it {when}, \
             {workers:.2} times the workers; wanted at least {THROUGHPUT}, within {} ms, at most {WORKERS}",
            WITHIN.as_millis()
        );
        Verdict { reached, text }
    }
}

fn reached_ms(course: &Course, best: f64) -> Option<u64> {
    course.reached(THROUGHPUT * best).map(|at| at.as_millis() as u64)
}

fn hundredths(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// The sizes that a pool went through, and when.
fn changes(course: &Course) -> String {
    let mut changes = course.0.chunk_by(|one, next| one.workers == next.workers);
    let first = |chunk: &[Sample]| chunk.first().copied();
    let mut text =
        changes.next().and_then(first).map_or_else(String::new, |it| it.workers.to_string());
    for Sample { at, workers, .. } in changes.filter_map(first) {
        text += &format!(", {workers} at {} ms", at.as_millis());
    }
    text
}

/// Runs a host of one plugin for so long after the step.
fn run(
    runtime: &Runtime,
    work: Work,
    turns: Turns,
    size: Size,
    length: Duration,
) -> Result<Course, BenchError> {
    let most = match size {
        Size::Fixed(_) => None,
        Size::Adaptive => Some(MAX),
    };
    let workers = if let Size::Fixed(workers) = size { workers } else { 1 };
    let place = Place { workers, most, handler: work.kind(), queue: QUEUE, ..Place::default() };
    runtime.block_on(async {
        let shared = Arc::<Shared>::default();
        let sharing = Arc::clone(&shared);
        let plugin = move |_| Ok(Loaded { work, turns, shared: Arc::clone(&sharing) });
        let builder = Host::builder().telemetry(exports()?);
        let host = builder.plugin(place.manifest()?, plugin).start().await?;
        tokio::time::sleep(IDLE).await;
        let (client, publishing) = (host.client("bench-client"), Arc::clone(&shared));
        let here = Handle::current();
        let step = Instant::now();
        let publisher =
            tokio::task::spawn_blocking(move || here.block_on(publish(&client, &publishing)));
        let course = follow(&host, &shared, step, length).await;
        shared.over.store(true, Ordering::Relaxed);
        let published = publisher.await.map_err(|error| BenchError::peer(OURS, error))?;
        host.shutdown().await;
        published.and(course)
    })
}

/// Publishes, from a thread that does nothing else, until the run is over.
async fn publish(client: &PluginContext, shared: &Shared) -> Result<(), BenchError> {
    let (topic, message) = (Topic::new(TOPIC)?, message()?);
    while !shared.is_over() {
        client.publish(&topic, message.clone()).await?;
    }
    Ok(())
}

/// Looks again and again until so long after the step.
async fn follow(
    host: &Host,
    shared: &Shared,
    step: Instant,
    length: Duration,
) -> Result<Course, BenchError> {
    let mut course = Course::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let workers = host.plugin("bench")?.resources.workers;
        let (at, handled) = (step.elapsed(), shared.handled.sum());
        course.0.push(Sample { at, handled, workers });
        if at >= length {
            return Ok(course);
        }
        looks.tick().await;
    }
}
