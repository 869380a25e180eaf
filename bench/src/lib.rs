//! # Echo bench
//!
//! What Echo Core measures of itself, side by side with its peers: `echo-core bench`, and the program
//! `echo-bench` of this crate for measuring with the peers built in (feature `bench-peers`).
//!
//! A [case](cases) is a question, such as how many messages a work queue passes. Each side of it, ours and
//! the peers, is a [contender](harness) that runs rounds; the harness warms all of them up, lets them take
//! turns, so that noise hits all alike, and prints the medians, one JSON object a line. A case whose question
//! is another one measures by itself. [`check`] holds what came out to the project's bars.
//!
//! Reading order: [`options`], [`harness`], [`cases`], `ours`, `peers`, [`check`].

mod allocations;
mod cases;
mod check;
mod error;
mod harness;
mod machine;
mod options;
mod ours;
#[cfg(feature = "bench-peers")]
mod peers;
mod tally;
mod work;

use std::io::Write;

pub use allocations::Counted;
use cases::How;
pub use cases::cargo;
pub use error::BenchError;
pub use options::Options;

/// Measures what the options ask for and prints one JSON object a line to `out`; what was measured on goes
/// to `notes`, which is to be standard error.
///
/// The call blocks, on a tokio runtime of its own: do not call it within one.
///
/// # Errors
/// [`BenchError`] when a case is unknown, a side of it cannot be brought up or breaks, or a bar of
/// [`Options::check`] is not reached.
pub fn run(
    options: &Options,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), BenchError> {
    if options.list {
        return cases::list(out);
    }
    let chosen = cases::chosen(&options.cases)?;
    machine::describe(options, notes)?;
    let (mut results, mut verdicts) = (Vec::new(), Vec::new());
    for case in chosen {
        match case.how {
            How::InTurns(sides) => {
                results.extend(harness::measure(case, sides, options, out, notes)?);
            }
            How::ByItself(measure) => verdicts.extend(measure(case.name, options, out, notes)?),
        }
    }
    if options.check { check::check(&results, verdicts, out) } else { Ok(()) }
}
