//! The kit for plugins that provide a type of service.
//!
//! An author says how a service of the type is started, reached, entered and removed ([`ServicePlugin`]);
//! [`ServiceKit`] makes a [`Plugin`](crate::Plugin) of it that answers the topics of
//! [`contract::service`](crate::contract::service): it keeps the running services, runs the readiness
//! checks, watches for deaths, keeps the last lines, tells what happens as events, and leaves nothing behind.
//!
//! One task owns each service from its start to its removal. A handler only asks that task and waits for
//! its answer, so a handler that is cut off leaves no service without an owner.

mod http;
mod kit;
mod life;
mod log;
mod output;
mod readiness;
mod runs;

use std::future::Future;
use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use kit::ServiceKit;
pub use log::{LOG_LINES, LineWriter, LogLine, LogSink, MAX_LINE, Stream};
pub use output::{MAX_OUTPUT, OutputTail};
pub use runs::RunsOver;

use crate::Health;
use crate::contract::RunId;
use crate::contract::service::{ExecReply, ServiceAddress, ServiceExec, ServiceId, ServiceStart};
use crate::contract::suite::{Readiness, ServiceSpec};

/// Why a service could not be started or removed: one sentence for whoever wrote the suite.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The suite's keys for the service cannot be worked with.
    #[error("{0}")]
    Config(String),
    /// What the service needs is not there: no engine, no image, no such program, a taken port.
    #[error("{0}")]
    Unavailable(String),
    /// Starting, stopping or removing failed.
    #[error("{0}")]
    Failed(String),
}

/// What [`ServicePlugin::cleanup`] is to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// What a start that was cut off may have left of one service.
    Service(&'a ServiceId),
    /// Whatever is left of a whole run; the kit has stopped the run's services by then.
    Run(&'a RunId),
}

/// A type of service: how one is started, reached, entered and removed.
///
/// Write the methods as plain `async fn`. The kit may drop any of their futures at an `await`: what
/// [`start`](Self::start) has made by then is removed through [`cleanup`](Self::cleanup), and a command
/// of [`exec`](Self::exec) is to be killed with its future.
pub trait ServicePlugin: Send + Sync + 'static {
    /// A running service: what it takes to reach, watch and remove it.
    type Instance: Send + Sync + 'static;

    /// The value of `type` in a suite, and the last token of the topics.
    fn service_type(&self) -> &str;

    /// Starts a service. It runs when this returns, and need not be ready. Every line that it writes from
    /// now on goes to `log`, by whoever the instance holds for it.
    ///
    /// # Errors
    /// [`ServiceError`] when it could not be started; nothing of it is left then.
    fn start(
        &self,
        request: &ServiceStart,
        log: LogSink,
    ) -> impl Future<Output = Result<Self::Instance, ServiceError>> + Send;

    /// Where the service is reached from this machine.
    fn address(&self, instance: &Self::Instance) -> ServiceAddress;

    /// How to see that a service is ready when the suite does not say; an empty check holds at once.
    fn default_readiness(&self, spec: &ServiceSpec) -> Readiness;

    /// Runs a command within the service, for at most `request.timeout`. When the future is dropped, the
    /// command is killed.
    fn exec(
        &self,
        instance: &Self::Instance,
        request: &ServiceExec,
    ) -> impl Future<Output = ExecReply> + Send;

    /// Resolves when the service has ended by itself, with how: `exit code 3`, `signal 9 (SIGKILL)`. Its
    /// last lines have gone to the log by then. The kit may ask again after it resolved.
    fn ended(&self, instance: &Self::Instance) -> impl Future<Output = String> + Send;

    /// Looks whether the service has ended for another reason than [`stop`](Self::stop). The kit asks before
    /// it stops a service and after, so that a death is told even where [`ended`](Self::ended) had not noticed
    /// it when the stop began. Without one, only what was noticed is told.
    fn ended_by_itself(&self, _instance: &Self::Instance) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Stops the service, by force after `timeout`, and removes all that it left; also one that has ended.
    ///
    /// # Errors
    /// [`ServiceError`] that says what may be left.
    fn stop(
        &self,
        instance: &Self::Instance,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

    /// Removes whatever is left of a run, or of one service, that no instance stands for; says what it was.
    ///
    /// # Errors
    /// [`ServiceError`] that says what may be left.
    fn cleanup(
        &self,
        scope: Scope<'_>,
    ) -> impl Future<Output = Result<Vec<String>, ServiceError>> + Send;

    /// Looks whether the service takes connections on a port, given by its name and by where
    /// [`address`](Self::address) has it. A connection is proof, unless something in between accepts it
    /// before the service does; a type with such a thing looks behind it.
    fn accepts(
        &self,
        _instance: &Self::Instance,
        _port: &str,
        address: (&str, u16),
    ) -> impl Future<Output = io::Result<()>> + Send {
        async move { readiness::connect(address).await.map(drop) }
    }

    /// Looks whether services of this type can be started here.
    fn health_check(&self) -> impl Future<Output = Health> + Send {
        async { Health::Unchecked }
    }
}

/// The keys that a suite gives a service beside those that every service has, as the type's own struct;
/// `#[serde(deny_unknown_fields)]` on it refuses a key that would have no effect.
///
/// # Errors
/// [`ServiceError::Config`] that names the service and the key at fault.
pub fn config_of<T: DeserializeOwned>(request: &ServiceStart) -> Result<T, ServiceError> {
    serde_json::from_value(Value::Object(request.spec.config.clone()))
        .map_err(|error| ServiceError::Config(format!("service `{}`: {error}", request.id.service)))
}
