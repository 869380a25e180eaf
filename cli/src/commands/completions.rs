//! `completions`: for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;

/// Prints the completions for a shell.
pub fn completions(output: &Output, shell: Shell) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "echo-core", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.result(script).map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}
