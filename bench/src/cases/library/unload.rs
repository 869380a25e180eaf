//! What a library with a tokio of its own leaves behind once it is unloaded.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use echo_core::Host;
use echo_core::library::{self, UnloadOutcome};
use echo_sdk::{BaseMessage, Plugin, PluginContext, Topic};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::{Kind, build, median, rounded};
use crate::check::Verdict;
use crate::{BenchError, Options};

/// How many cycles there are without `--count`.
const CYCLES: u64 = 2_000;
const QUICK: u64 = 100;

/// The first cycles, whose memory is that of the program's own pools and caches.
const WARM_UP: u64 = 200;

/// How much a cycle may leave in memory, in kilobytes: far less than a page.
const FLAT: f64 = 0.5;

/// The line of the output.
#[derive(Debug, Serialize)]
struct Line {
    case: &'static str,
    cycles: u64,
    /// Parts of the library that stand in the list of the process's mappings afterwards.
    mappings_left: usize,
    rss_kb_per_cycle: f64,
    fds_left: i64,
    /// Libraries that could not be taken out.
    quarantined: u64,
    load_ms: f64,
    unload_ms: f64,
}

/// Loads, uses and unloads the library again and again.
pub(in crate::cases) fn measure(
    name: &'static str,
    options: &Options,
    out: &mut dyn Write,
    _: &mut dyn Write,
) -> Result<Vec<Verdict>, BenchError> {
    let folder = tempfile::tempdir()?;
    let path = match &options.library {
        Some(path) => path.clone(),
        None => build(Kind::Runtime, folder.path())?,
    };
    let cycles = options.count.unwrap_or(if options.quick { QUICK } else { CYCLES });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = runtime.block_on(Host::builder().start())?;
    let client = host.client("bench-client");
    let mut times = Times::default();
    for _ in 0..WARM_UP {
        times.cycle(&runtime, &path, &client)?;
    }
    times = Times::default();
    let before = Holding::now()?;
    for _ in 0..cycles {
        times.cycle(&runtime, &path, &client)?;
    }
    let after = Holding::now()?;
    let kilobytes = (after.resident_kb - before.resident_kb) as f64;
    let line = Line {
        case: name,
        cycles,
        mappings_left: after.mappings,
        rss_kb_per_cycle: rounded(kilobytes / cycles as f64),
        fds_left: after.descriptors - before.descriptors,
        quarantined: times.quarantined,
        load_ms: rounded(median(times.load)),
        unload_ms: rounded(median(times.unload)),
    };
    runtime.block_on(host.shutdown());
    writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())?;
    out.flush()?;
    Ok(vec![line.verdict()])
}

impl Line {
    fn verdict(&self) -> Verdict {
        let Self { case, cycles, mappings_left, rss_kb_per_cycle, fds_left, quarantined, .. } =
            self;
        let reached =
            (*mappings_left, *fds_left, *quarantined) == (0, 0, 0) && *rss_kb_per_cycle <= FLAT;
        let text = format!(
            "{case}: after {cycles} cycles {mappings_left} mappings, {fds_left} descriptors, {quarantined} in \
             quarantine, {rss_kb_per_cycle} kB a cycle; wanted 0, 0, 0 and at most {FLAT}"
        );
        Verdict { reached, text }
    }
}

/// How long the cycles took, in milliseconds, and what they left.
#[derive(Debug, Default)]
struct Times {
    load: Vec<f64>,
    unload: Vec<f64>,
    quarantined: u64,
}

impl Times {
    fn cycle(
        &mut self,
        runtime: &Runtime,
        path: &Path,
        client: &PluginContext,
    ) -> Result<(), BenchError> {
        let broke = |fault: String| BenchError::Library(format!("the library {fault}"));
        let millis = |began: Instant| began.elapsed().as_secs_f64() * 1e3;
        let began = Instant::now();
        let library = library::load(path, |_| client.clone())
            .map_err(|error| BenchError::Library(error.to_string()))?;
        self.load.push(millis(began));
        let plugin = library.plugin();
        let (topic, order) =
            (Topic::new("plugin.runtime.do")?, BaseMessage::builder("bench").data(&"all").build()?);
        let used = library.runtime().spawn(async move {
            plugin.init().await?;
            plugin.process_message(&topic, &order).await?;
            plugin.shutdown().await
        });
        let used = runtime.block_on(used).map_err(|error| broke(format!("broke: {error}")))?;
        used.map_err(|error| broke(format!("did not do its work: {error}")))?;
        let began = Instant::now();
        let report = library.unload();
        self.unload.push(millis(began));
        self.quarantined += u64::from(matches!(report.outcome, UnloadOutcome::Quarantined(_)));
        Ok(())
    }
}

/// What the process holds, as Linux tells it.
#[derive(Debug)]
struct Holding {
    mappings: usize,
    descriptors: i64,
    resident_kb: i64,
}

impl Holding {
    fn now() -> Result<Self, BenchError> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Ok(Self {
            mappings: maps.lines().filter(|line| line.contains("/memfd:runtime-")).count(),
            descriptors: i64::try_from(fs::read_dir("/proc/self/fd")?.count()).unwrap_or(i64::MAX),
            resident_kb: resident.unwrap_or_default(),
        })
    }
}
