//! One module for each command.

mod bench;
mod bus;
mod completions;
mod dead;
mod doctor;
mod init;
mod plugin;
mod run;
mod schema;
mod serve;
mod services;
mod topics;
mod url;
mod validate;

use std::time::Duration;

use echo_core::config::{BusUrl, Config, ConfigError};
use echo_core::telemetry::{TelemetryGuard, subscriber};
use tokio::runtime::Runtime;

use crate::args::{Cli, Command, Global};
use crate::builtin;
use crate::exit::{CommandResult, Failure, chain};
use crate::output::Output;
use crate::progress::Terminal;
use crate::remote::{Remote, RemoteError, Target};

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
    pub telemetry: &'a TelemetryGuard,
}

/// What a command that speaks to a running host has to work with.
pub struct Talk<'a> {
    /// Where it prints.
    pub output: &'a Output,
    /// Says where hosts keep their state, and how servers know this program.
    pub config: Config,
}

impl Talk<'_> {
    /// Connects to the bus that is meant.
    ///
    /// # Errors
    /// [`RemoteError`] when nobody answers there, or does not let the program in.
    pub async fn connect(&self, url: Option<&str>) -> Result<Remote, RemoteError> {
        Remote::connect(&Target::find(url, &self.config)?).await
    }
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
        Command::Plugin(command) => plugin::plugin(output, config()?, command),
        Command::Bench(options) => bench::bench(output, &options),
        Command::Url(args) => url::url(output, &config()?, &args),
        Command::Run(args) => {
            let config = on_bus(config()?, args.bus.as_ref());
            hosting(output, config, async |it| run::run(it, args).await)
        }
        Command::Serve(args) => {
            let config = on_bus(config()?, args.bus.as_ref());
            hosting_with_metrics(output, config, async |it| serve::serve(it, args).await)
        }
        Command::Publish(args) if args.local => {
            hosting(output, config()?, async |it| bus::local::publish(it, args).await)
        }
        Command::Publish(args) => {
            talking(output, config()?, async |it| bus::publish(it, args).await)
        }
        Command::Subscribe(args) if args.local => {
            hosting(output, config()?, async |it| bus::local::subscribe(it, args).await)
        }
        Command::Subscribe(args) => {
            talking(output, config()?, async |it| bus::subscribe(it, args).await)
        }
        Command::Request(args) if args.local => {
            hosting(output, config()?, async |it| bus::local::request(it, args).await)
        }
        Command::Request(args) => {
            talking(output, config()?, async |it| bus::request(it, args).await)
        }
        Command::Topics(args) => {
            talking(output, config()?, async |it| topics::topics(it, args).await)
        }
        Command::Dead(command) => {
            talking(output, config()?, async |it| dead::dead(it, command).await)
        }
        Command::Schema(command) => {
            talking(output, config()?, async |it| schema::schema(it, command).await)
        }
    }
}

/// The configuration, with the bus that the command line names.
fn on_bus(mut config: Config, bus: Option<&BusUrl>) -> Config {
    if let Some(bus) = bus {
        config.bus.url = bus.clone();
    }
    config
}

/// Does what speaks to a running host.
fn talking(
    output: &Output,
    config: Config,
    work: impl AsyncFnOnce(&Talk<'_>) -> CommandResult,
) -> CommandResult {
    let runtime = runtime()?;
    let result = runtime.block_on(work(&Talk { output, config }));
    // Somebody may still be waiting for a line of standard input.
    runtime.shutdown_background();
    result
}

/// Does what starts a host: with a runtime, and with telemetry.
fn hosting(
    output: &Output,
    config: Config,
    work: impl AsyncFnOnce(&Setup<'_>) -> CommandResult,
) -> CommandResult {
    host_with(output, config, false, work)
}

/// As [`hosting`], and keeps metrics in any case, for a host that gives them out itself.
fn hosting_with_metrics(
    output: &Output,
    config: Config,
    work: impl AsyncFnOnce(&Setup<'_>) -> CommandResult,
) -> CommandResult {
    host_with(output, config, true, work)
}

fn host_with(
    output: &Output,
    config: Config,
    with_metrics: bool,
    work: impl AsyncFnOnce(&Setup<'_>) -> CommandResult,
) -> CommandResult {
    let terminal = Terminal::new(*output);
    let logs = subscriber(&config.telemetry, terminal.log_writer(), output.err.is_on())
        .map_err(Failure::usage)?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let telemetry = match with_metrics {
            true => TelemetryGuard::set_up_with_metrics(&config.telemetry, logs),
            false => TelemetryGuard::set_up(&config.telemetry, logs),
        };
        let telemetry = telemetry.map_err(Failure::surroundings)?;
        let result = work(&Setup { output, terminal, config, telemetry: &telemetry }).await;
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
