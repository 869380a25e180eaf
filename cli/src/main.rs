//! The `echo-core` command: arguments, checked, then one of the [`commands`].
//!
//! Everything that a run does happens as messages on a bus; this program starts a host, or finds the one that
//! runs ([`remote`]), asks for what is wanted by a message, and listens. Reading order: [`args`], [`commands`],
//! [`remote`], [`runlog`], [`summary`], [`report`], [`exit`].

mod args;
mod builtin;
mod commands;
mod exit;
mod faults;
mod host;
mod interrupts;
mod libraries;
mod output;
mod progress;
mod remote;
mod report;
mod runlog;
mod stream;
mod suites;
mod summary;
mod table;
mod transport;

use std::process::ExitCode;

use clap::Parser;
use echo_bench::Counted;

use args::Cli;
use output::Output;

/// Messages are made on one core and let go on another, which this allocator is good at.
#[global_allocator]
static ALLOCATOR: Counted<mimalloc::MiMalloc> = Counted(mimalloc::MiMalloc);

// So that plugin libraries can be told to be out of use before they are taken out of memory.
echo_core::record_threads!();

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.color, cli.global.verbosity());
    let exit = commands::execute(cli, &output).unwrap_or_else(|failure| {
        output.complain(failure.show(output.err));
        failure.exit
    });
    exit.into()
}
