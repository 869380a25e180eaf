//! What the boundary of plugin libraries adds to a call, beside the same handler linked in.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_core::Host;
use echo_core::library::{self, LoadedLibrary};
use echo_sdk::testing::mock;
use echo_sdk::{BaseMessage, Manifest, Plugin, PluginError, ProcessingStatus, Topic};
use echo_test_runtime::Runtime as BuiltIn;
use serde::Serialize;
use serde_json::json;
use tokio::runtime::{Handle, Runtime};

use super::{Kind, build, median, rounded};
use crate::allocations::counted;
use crate::check::Verdict;
use crate::{BenchError, Options};

/// How many calls a round has.
const CALLS: u32 = 100_000;

/// How many calls are made while allocations are counted.
const COUNTED: u32 = 10_000;

/// How many plugins are registered to tell what one takes.
const PLUGINS: usize = 100;

/// What the boundary is held to: nanoseconds more, allocations a message, milliseconds.
const ADDED: f64 = 100.0;
const ALLOCATIONS: f64 = 1.0;
const LOAD: f64 = 20.0;
const REGISTER: f64 = 1.0;

/// The line of the output.
#[derive(Debug, Serialize)]
struct Line {
    case: &'static str,
    /// A call of the handler where it is linked in.
    built_in_ns: f64,
    /// What a library adds to a handler that does nothing, and to one that reads its message.
    added_ns: f64,
    added_ns_reading: f64,
    /// What a library adds that has a tokio of its own.
    added_ns_with_runtime: f64,
    /// What the host allocates for a call; null in a program whose allocator does not count.
    allocations_per_message: Option<f64>,
    load_ms: f64,
    load_with_runtime_ms: f64,
    /// What one plugin that is linked in adds to the start of a host.
    register_ms: f64,
}

/// Measures both sides in turns.
pub(in crate::cases) fn measure(
    name: &'static str,
    options: &Options,
    out: &mut dyn Write,
    _: &mut dyn Write,
) -> Result<Vec<Verdict>, BenchError> {
    let folder = tempfile::tempdir()?;
    let plain = build(Kind::Plain, folder.path())?;
    let with_runtime = build(Kind::Runtime, folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rounds = if options.quick { 5 } else { 31 };
    let sides = Sides::new(&runtime, &plain, &with_runtime)?;
    let [nothing, reading] = [0, 1].map(|data| sides.compare(&runtime, data, rounds));
    let (nothing, reading) = (nothing?, reading?);
    let allocations = sides.allocations(&runtime)?;
    sides.end();
    let line = Line {
        case: name,
        built_in_ns: rounded(nothing.built_in),
        added_ns: rounded(nothing.plain - nothing.built_in),
        added_ns_reading: rounded(reading.plain - reading.built_in),
        added_ns_with_runtime: rounded(nothing.with_runtime - nothing.built_in),
        allocations_per_message: allocations.map(rounded),
        load_ms: rounded(load_time(&plain, rounds)?),
        load_with_runtime_ms: rounded(load_time(&with_runtime, rounds)?),
        register_ms: rounded(register_time(&runtime, rounds)?),
    };
    writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())?;
    out.flush()?;
    Ok(line.verdicts())
}

impl Line {
    fn verdicts(&self) -> Vec<Verdict> {
        let bar = |what: &str, figure: f64, most: f64| Verdict {
            reached: figure <= most,
            text: format!("{} {what}: {figure:.2}; wanted at most {most}", self.case),
        };
        let mut verdicts = vec![
            bar("nanoseconds added", self.added_ns, ADDED),
            bar("nanoseconds added to a reader", self.added_ns_reading, ADDED),
            bar("nanoseconds added with a runtime", self.added_ns_with_runtime, ADDED),
            bar("milliseconds to load", self.load_ms, LOAD),
            bar("milliseconds to load with a runtime", self.load_with_runtime_ms, LOAD),
            bar("milliseconds to register", self.register_ms, REGISTER),
        ];
        let count = self.allocations_per_message;
        verdicts.extend(count.map(|count| bar("allocations a message", count, ALLOCATIONS)));
        verdicts
    }
}

/// Nanoseconds a call.
struct Compared {
    built_in: f64,
    plain: f64,
    with_runtime: f64,
}

/// The same plugin three times.
struct Sides {
    built_in: Arc<BuiltIn>,
    plain: LoadedLibrary,
    with_runtime: LoadedLibrary,
}

impl Sides {
    fn new(runtime: &Runtime, plain: &Path, with_runtime: &Path) -> Result<Self, BenchError> {
        let _entered = runtime.enter();
        let built_in = Arc::new(BuiltIn::new(mock("runtime").0));
        Ok(Self { built_in, plain: load(plain)?, with_runtime: load(with_runtime)? })
    }

    fn compare(&self, runtime: &Runtime, data: u8, rounds: u32) -> Result<Compared, BenchError> {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        let [built_in, plain, with_runtime] = &mut times;
        for _ in 0..rounds {
            let own = calls(Arc::clone(&self.built_in), data, CALLS);
            built_in.push(run(runtime, runtime.handle(), own)?);
            let own = calls(Arc::new(self.plain.plugin()), data, CALLS);
            plain.push(run(runtime, self.plain.runtime(), own)?);
            let own = calls(Arc::new(self.with_runtime.plugin()), data, CALLS);
            with_runtime.push(run(runtime, self.with_runtime.runtime(), own)?);
        }
        let [built_in, plain, with_runtime] =
            times.map(|times| median(times) * 1e9 / f64::from(CALLS));
        Ok(Compared { built_in, plain, with_runtime })
    }

    /// What the host allocates for a call of the library, on the thread where it is made.
    fn allocations(&self, runtime: &Runtime) -> Result<Option<f64>, BenchError> {
        let plugin = Arc::new(self.plain.plugin());
        let counting = async move { counted(calls(plugin, 1, COUNTED)).await };
        let counted = runtime.block_on(self.plain.runtime().spawn(counting));
        let (done, count) = counted.map_err(|error| BenchError::Library(error.to_string()))?;
        done?;
        Ok(count.map(|count| count as f64 / f64::from(COUNTED)))
    }

    /// What became of the libraries is the case `unload`'s to tell.
    fn end(self) {
        let _ = (self.plain.unload(), self.with_runtime.unload());
    }
}

/// Waits for calls that are made on the threads that they belong to; how long they took, in seconds.
fn run(
    runtime: &Runtime,
    place: &Handle,
    calls: impl Future<Output = Result<Duration, BenchError>> + Send + 'static,
) -> Result<f64, BenchError> {
    let took = runtime.block_on(place.spawn(calls));
    let took = took.map_err(|error| BenchError::Library(error.to_string()))??;
    Ok(took.as_secs_f64())
}

/// So many calls of the handler, one after the other.
async fn calls<P: Plugin>(plugin: Arc<P>, data: u8, count: u32) -> Result<Duration, BenchError> {
    let topic = Topic::new("plugin.runtime.do")?;
    let message = BaseMessage::builder("bench").data(&data).build()?;
    let began = Instant::now();
    for _ in 0..count {
        let handled = plugin.process_message(&topic, &message).await;
        handled.map_err(|error| BenchError::Library(error.to_string()))?;
    }
    Ok(began.elapsed())
}

fn load(path: &Path) -> Result<LoadedLibrary, BenchError> {
    let loaded = library::load(path, |manifest| mock(&manifest.name).0);
    loaded.map_err(|error| BenchError::Library(error.to_string()))
}

/// How long a library takes to load, in milliseconds.
fn load_time(path: &Path, rounds: u32) -> Result<f64, BenchError> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let library = load(path)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        let _ = library.unload();
    }
    Ok(median(times))
}

/// A plugin that does nothing.
struct Idle(String);

impl Plugin for Idle {
    fn name(&self) -> &str {
        &self.0
    }

    async fn process_message(
        &self,
        _: &Topic,
        _: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        Ok(ProcessingStatus::Acknowledged)
    }
}

/// How long one plugin that is linked in takes to be registered and started, in milliseconds.
fn register_time(runtime: &Runtime, rounds: u32) -> Result<f64, BenchError> {
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..rounds.min(7) {
        few.push(start_time(runtime, 1)?);
        many.push(start_time(runtime, 1 + PLUGINS)?);
    }
    Ok((median(many) - median(few)) / PLUGINS as f64)
}

fn start_time(runtime: &Runtime, plugins: usize) -> Result<f64, BenchError> {
    let mut builder = Host::builder();
    for number in 0..plugins {
        let name = format!("idle-{number}");
        let topic = format!("plugin.{name}.do");
        let manifest = json!({
            "name": name, "version": "1.0.0", "description": "is registered", "subscriptions": [topic],
        });
        let manifest = Manifest::from_json(&manifest.to_string())?;
        builder = builder.plugin(manifest, move |_| Ok(Idle(name.clone())));
    }
    let began = Instant::now();
    let host = runtime.block_on(builder.start())?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    runtime.block_on(host.shutdown());
    Ok(took)
}
