//! Commands on this machine, beside the services.

use std::path::PathBuf;
use std::sync::Arc;

use echo_sdk::contract::service::{CleanupReply, ExecReply, ServiceCleanup, ServiceExec};
use echo_sdk::service::RunsOver;
use echo_sdk::{BaseMessage, PluginContext, PluginError, ProcessingStatus};

use crate::command;
use crate::environment::{self, variable_fault};
use crate::group::{Launch, Yard};

/// The topic on which a command is asked for.
pub(crate) const EXEC: &str = "service.exec.local";

/// The topic on which the commands of a run are ended.
pub(crate) const CLEANUP: &str = "service.cleanup.local";

/// Runs commands in the suite's folder with the host's environment and what the request adds.
#[derive(Debug)]
pub(crate) struct Local {
    context: PluginContext,
    yard: Arc<Yard>,
    over: RunsOver,
}

impl Local {
    pub(crate) fn new(context: PluginContext, yard: Arc<Yard>) -> Self {
        Self { context, yard, over: RunsOver::default() }
    }

    /// Handles [`EXEC`].
    pub(crate) async fn exec(
        &self,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        let reply = match message.json::<ServiceExec>() {
            Ok(request) if self.over.overtook(&request.run_id, message) => {
                ExecReply::Failed { reason: "the command was not run: its run is over".into() }
            }
            Ok(request) => self.run(&request).await,
            Err(error) => {
                let reason = format!("the request on `{EXEC}` is malformed: {error}");
                if message.reply_to().is_none() {
                    return Ok(ProcessingStatus::Failed(reason));
                }
                ExecReply::Failed { reason }
            }
        };
        self.context.reply(message, &reply).await?;
        Ok(ProcessingStatus::Acknowledged)
    }

    /// Handles [`CLEANUP`]: ends all that commands of the run have left.
    pub(crate) async fn cleanup(
        &self,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        let (mut removed, mut failures) = (Vec::new(), Vec::new());
        match message.json::<ServiceCleanup>() {
            Ok(request) => {
                self.over.add(&request.run_id, message);
                removed = self.yard.end_run(&request.run_id).await;
            }
            Err(error) => {
                failures.push(format!("the request on `{CLEANUP}` is malformed: {error}"))
            }
        }
        let reply = CleanupReply { service_type: "local".into(), removed, failures };
        self.context.reply(message, &reply).await?;
        Ok(ProcessingStatus::Acknowledged)
    }

    async fn run(&self, request: &ServiceExec) -> ExecReply {
        let ServiceExec { run_id, suite, command, env, workdir, dir, timeout, .. } = request;
        if let Some(reason) = env.keys().find_map(|name| variable_fault(name)) {
            return ExecReply::Failed { reason };
        }
        let dir = dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let workdir = dir.join(workdir.as_deref().unwrap_or_default());
        let mut environment = environment::of_host(true);
        let own = [("ECHO_RUN_ID", run_id.as_str()), ("ECHO_SUITE", suite)];
        environment::extend(&mut environment, own);
        environment::extend(&mut environment, env);
        let launch = Launch { run_id, command, environment, workdir: &workdir };
        command::run(&self.yard, launch, *timeout).await
    }
}
