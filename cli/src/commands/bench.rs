//! `bench`: the project's own measurements.

use std::io;

use echo_bench::{BenchError, Options};

use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;

/// Measures; the results are lines of JSON already.
pub fn bench(output: &Output, options: &Options) -> CommandResult {
    match echo_bench::run(options, &mut output.out_lines(), &mut output.err_lines()) {
        Ok(()) => Ok(Exit::Success),
        Err(BenchError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Exit::Success)
        }
        Err(error @ BenchError::UnknownCase { .. }) => Err(Failure::usage(error)),
        Err(error @ BenchError::Missed(_)) => {
            Err(Failure::surroundings(error).with_exit(Exit::TestFailed))
        }
        Err(error) => Err(Failure::surroundings(error)),
    }
}
