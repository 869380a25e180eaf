//! `echo-bench`: the measurements as a program of their own, for the peers and for another allocator.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use echo_bench::{Counted, Options};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: Counted<mimalloc::MiMalloc> = Counted(mimalloc::MiMalloc);

#[cfg(not(feature = "mimalloc"))]
#[global_allocator]
static ALLOCATOR: Counted<std::alloc::System> = Counted(std::alloc::System);

echo_core::record_threads!();

/// Measures Echo Core, side by side with its peers where they are built in (feature bench-peers).
#[derive(Debug, Parser)]
#[command(name = "echo-bench", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let Arguments { mut options } = Arguments::parse();
    options.allocator = cfg!(feature = "mimalloc").then_some("mimalloc");
    match echo_bench::run(&options, &mut io::stdout().lock(), &mut io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use io::Write as _;
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
