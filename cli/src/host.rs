//! The host in this process: the built-in plugins and the enabled libraries.

use std::sync::Arc;
use std::time::Duration;

use echo_core::config::{Config, PluginSettingsError};
use echo_core::schema::Schemas;
use echo_core::{Host, HostBuilder, HostError, ShutdownReport};
use tokio::time::timeout;

use crate::commands::Setup;
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::transport;

/// The name under which this program publishes.
pub const CLIENT: &str = "echo-core";

/// Starts a host.
///
/// # Errors
/// [`Failure`] when a plugin cannot be started as configured.
pub async fn start(setup: &Setup<'_>, config: Config) -> Result<Host, Failure> {
    start_with(setup, config, Host::builder()).await
}

/// Starts a host that follows what becomes of the folder of enabled plugins.
///
/// # Errors
/// As [`start`].
pub async fn start_watching(setup: &Setup<'_>, config: Config) -> Result<Host, Failure> {
    start_with(setup, config, Host::builder().watching()).await
}

async fn start_with(
    setup: &Setup<'_>,
    config: Config,
    builder: HostBuilder,
) -> Result<Host, Failure> {
    let [orchestrator, process, container] = crate::builtin::manifests();
    let schemas = Arc::new(Schemas::load(&config.schemas).map_err(Failure::usage)?);
    let mut builder = builder.telemetry(setup.telemetry.exports()).schemas(Arc::clone(&schemas));
    if let Some(transport) = transport::connect(&config, &schemas).await? {
        builder = builder.transport(transport);
    }
    if config.plugins.enabled {
        builder = builder.enabled_dir(config.plugins.dir.clone());
    }
    let host = builder
        .config(config)
        .plugin(orchestrator, |context| Ok(echo_plugin_orchestrator::Orchestrator::new(context)))
        .plugin(process, |context| Ok(echo_plugin_process::ProcessPlugin::new(context)))
        .plugin(container, echo_plugin_container::new)
        .start()
        .await
        .map_err(failure)?;
    for refused in host.refused() {
        setup.terminal.warn(&format!("{} is not loaded: {}", refused.file, refused.reason));
    }
    Ok(host)
}

/// What does not fit together is for a person to mend; the rest is up to the surroundings.
fn failure(error: HostError) -> Failure {
    match error {
        HostError::Settings(PluginSettingsError::File { faults, .. }) => {
            Failure::faults(vec![*faults])
        }
        HostError::Registry(_) | HostError::Order(_) | HostError::Settings(_) => {
            Failure::usage(error)
        }
        _ => Failure::surroundings(error),
    }
}

/// Starts a host for a command that waits itself until all is handled: its shutdown does not wait again.
///
/// # Errors
/// As [`start`].
pub async fn start_brief(setup: &Setup<'_>) -> Result<Host, Failure> {
    let mut config = setup.config.clone();
    config.shutdown.timeout = Duration::ZERO;
    start(setup, config).await
}

/// Lets the plugins finish what they have, for so long at most, then shuts the host down and says what it could
/// not finish. A signal ends the wait, a second one leaves the host as it is.
pub async fn finish(
    output: &Output,
    host: Host,
    patience: Duration,
    interrupts: &mut Interrupts,
) -> Exit {
    let waited = tokio::select! {
        idle = timeout(patience, host.idle()) => match idle {
            Ok(()) => Exit::Success,
            Err(_) => {
                let patience = echo_sdk::duration::format(patience);
                output.complain(format_args!("not all was handled within {patience}\n"));
                Exit::Surroundings
            }
        },
        signal = interrupts.next() => {
            output.say(format_args!("{signal}: ending what is still going on; once more leaves it"));
            Exit::Interrupted
        }
    };
    tokio::select! {
        clean = shut_down(output, host) => match waited {
            Exit::Success if !clean => Exit::Surroundings,
            waited => waited,
        },
        _ = interrupts.next() => Exit::Interrupted,
    }
}

/// Shuts a host down and says what it could not finish; whether there was nothing to say.
pub async fn shut_down(output: &Output, host: Host) -> bool {
    let unfinished = unfinished(&host.shutdown().await);
    for sentence in &unfinished {
        output.complain(format_args!("{sentence}\n"));
    }
    unfinished.is_empty()
}

/// What a shutdown could not finish, in sentences.
pub fn unfinished(report: &ShutdownReport) -> Vec<String> {
    let left = report.unfinished.iter().map(|message| {
        format!("`{}` left the message {} on {} unhandled", message.slot, message.id, message.topic)
    });
    report.faults.iter().cloned().chain(left).collect()
}
