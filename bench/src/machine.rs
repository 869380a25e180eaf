//! What the figures were measured on.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use crate::Options;

/// Writes one line on the machine and the build: no figure says anything without it.
pub(crate) fn describe(options: &Options, notes: &mut dyn Write) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model().unwrap_or_else(|| "an unknown processor".to_owned());
    let allocator = options.allocator.unwrap_or("the system's");
    let build = if cfg!(debug_assertions) { "with debug assertions" } else { "optimised" };
    let (rounds, round) = (options.rounds(), echo_sdk::duration::format(options.round()));
    writeln!(
        notes,
        "# {cores} cores of {model}; allocator: {allocator}; build: {build}; \
         medians of {rounds} rounds of about {round} that take turns"
    )
}

/// The cores' time that another machine on the same processor has had since this one started; `None` where nobody says.
/// Linux counts it in hundredths of a second, and nothing that runs here can be the cause of it.
pub(crate) fn stolen() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: u64 = all.split_whitespace().nth(7)?.parse().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(10)))
}

/// The processor's model, as Linux tells it.
fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}
