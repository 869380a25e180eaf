//! The host in this process: the built-in plugins and the enabled libraries.

use echo_core::config::Config;
use echo_core::{Host, HostError, ShutdownReport};

use crate::commands::Setup;
use crate::exit::Failure;
use crate::output::Output;

/// The name under which this program publishes.
pub const CLIENT: &str = "echo-core";

/// Starts a host.
///
/// # Errors
/// [`Failure`] when a plugin cannot be started as configured.
pub async fn start(setup: &Setup<'_>, config: Config) -> Result<Host, Failure> {
    let [orchestrator, process, container] = crate::builtin::manifests();
    let mut builder = Host::builder().telemetry(setup.exports.clone());
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
        HostError::Registry(_) | HostError::Order(_) | HostError::Settings(_) => {
            Failure::usage(error)
        }
        _ => Failure::surroundings(error),
    }
}

/// Shuts a host down and says what it could not finish.
pub async fn shut_down(output: &Output, host: Host) {
    for sentence in unfinished(&host.shutdown().await) {
        output.complain(format_args!("{sentence}\n"));
    }
}

/// What a shutdown could not finish, in sentences.
pub fn unfinished(report: &ShutdownReport) -> Vec<String> {
    let left = report.unfinished.iter().map(|message| {
        format!("`{}` left the message {} on {} unhandled", message.slot, message.id, message.topic)
    });
    report.faults.iter().cloned().chain(left).collect()
}
