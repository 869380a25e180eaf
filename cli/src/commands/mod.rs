//! One module for each command.

mod bus;
mod completions;
mod doctor;
mod init;
mod plugin;
mod run;
mod services;
mod validate;

use std::time::Duration;

use echo_core::config::{Config, ConfigError};
use echo_core::telemetry::{Exports, TelemetryGuard, subscriber};
use tokio::runtime::Runtime;

use crate::args::{Cli, Command, Global};
use crate::builtin;
use crate::exit::{CommandResult, Failure, chain};
use crate::output::Output;
use crate::progress::Terminal;

/// How long tasks that are stuck in a system call may hold up the program's end.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);

/// What a command that starts a host has to work with.
pub struct Setup<'a> {
    /// Where it prints.
    pub output: &'a Output,
    /// Where it shows how things go.
    pub terminal: Terminal,
    /// The host's configuration.
    pub config: Config,
    /// What records traces and metrics.
    pub exports: Exports,
}

/// Does what was asked.
pub fn execute(cli: Cli, output: &Output) -> CommandResult {
    let Cli { global, command } = cli;
    let config = || load_config(&global);
    match command {
        // What needs no configuration works where there is a faulty one.
        Command::Completions { shell } => completions::completions(output, shell),
        Command::Init(args) => init::init(output, &args),
        Command::Doctor(args) => runtime()?.block_on(doctor::doctor(output, &args)),
        Command::Validate(args) => {
            validate::validate(output, &args, &builtin::service_types(&config()?.plugins)?)
        }
        Command::Services(args) => {
            services::services(output, &args, &builtin::service_types(&config()?.plugins)?)
        }
        Command::Plugin(command) => plugin::plugin(output, &config()?.plugins, command),
        Command::Run(args) => hosting(output, config()?, async |it| run::run(it, args).await),
        Command::Publish(args) => {
            hosting(output, config()?, async |it| bus::publish(it, args).await)
        }
        Command::Subscribe(args) => {
            hosting(output, config()?, async |it| bus::subscribe(it, args).await)
        }
        Command::Request(args) => {
            hosting(output, config()?, async |it| bus::request(it, args).await)
        }
    }
}

/// Does what starts a host: with a runtime, and with telemetry.
fn hosting(
    output: &Output,
    config: Config,
    work: impl AsyncFnOnce(&Setup<'_>) -> CommandResult,
) -> CommandResult {
    let terminal = Terminal::new(*output);
    let logs = subscriber(&config.telemetry, terminal.log_writer(), output.err.is_on())
        .map_err(Failure::usage)?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let telemetry =
            TelemetryGuard::set_up(&config.telemetry, logs).map_err(Failure::surroundings)?;
        let exports = telemetry.exports();
        let setup = Setup { output, terminal, config, exports };
        let result = work(&setup).await;
        if let Err(error) = telemetry.shutdown().await {
            output.complain(format_args!("warning: {}\n", chain(&error)));
        }
        result
    });
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    result
}

fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(Failure::surroundings)
}

fn load_config(global: &Global) -> Result<Config, Failure> {
    let mut config = Config::load(global.config.as_deref()).map_err(|error| match error {
        ConfigError::File(faults) => Failure::faults(vec![faults]),
        other => Failure::usage(other),
    })?;
    if let Some(filter) = global.log_filter() {
        config.telemetry.log = filter.to_owned();
    }
    Ok(config)
}
