//! The plugin: takes the start of a run, and holds the list of ids in use.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use echo_sdk::contract::RunId;
use echo_sdk::contract::run::{self, RunEnded, RunStart};
use echo_sdk::{BaseMessage, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};

use crate::plan::Plan;
use crate::run::{errored, execute};

/// Turns the start of a run into messages to services, tests and steps. One handling is one run.
#[derive(Debug)]
pub struct Orchestrator {
    context: PluginContext,
    in_use: Mutex<BTreeSet<RunId>>,
}

/// Holds a run's id for as long as the run is in progress, however it ends.
struct InUse<'a> {
    ids: &'a Mutex<BTreeSet<RunId>>,
    id: &'a RunId,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        lock(self.ids).remove(self.id);
    }
}

impl Orchestrator {
    /// Makes the plugin; nothing runs yet.
    pub fn new(context: PluginContext) -> Self {
        Self { context, in_use: Mutex::default() }
    }

    /// The id, unless a run in progress has it.
    fn claim<'a>(&'a self, id: &'a RunId) -> Option<InUse<'a>> {
        let is_free = lock(&self.in_use).insert(id.clone());
        is_free.then(|| InUse { ids: &self.in_use, id })
    }

    async fn run(&self, start: &RunStart) -> Result<RunEnded, PluginError> {
        let run_id = &start.run_id;
        let Some(_in_use) = self.claim(run_id) else {
            // The run that has the id goes on, so nothing is told of its end.
            let reason = format!(
                "a run with the id `{run_id}` is in progress; wait for its end or choose another id"
            );
            return Ok(errored(run_id.clone(), reason));
        };
        match Plan::new(start) {
            Ok(plan) => Ok(execute(&self.context, start, &plan).await),
            Err(faults) => self.refuse(run_id.clone(), faults.join("; ")).await,
        }
    }

    /// Tells that a run is over before it began.
    async fn refuse(&self, run_id: RunId, reason: String) -> Result<RunEnded, PluginError> {
        let ended = errored(run_id, reason);
        let key = ended.run_id.as_str();
        let event = self.context.message_builder().key(key).data(&ended).build()?;
        self.context.publish_now(run::ENDED, event).await?;
        Ok(ended)
    }
}

impl Plugin for Orchestrator {
    fn name(&self) -> &str {
        self.context.plugin_name()
    }

    async fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        if *topic != *run::START {
            let reason = format!("the orchestrator handles `{}`, not `{topic}`", run::START);
            return Ok(ProcessingStatus::Failed(reason));
        }
        let start: RunStart = match message.json() {
            Ok(start) => start,
            Err(error) => {
                let reason = format!("the start of the run is malformed: {error}");
                return self.give_up(message, reason).await;
            }
        };
        let ended = self.run(&start).await?;
        self.context.reply(message, &ended).await?;
        Ok(ProcessingStatus::Acknowledged)
    }
}

impl Orchestrator {
    /// Gives a message up that no run can be made of; whoever waits for an answer is told at once.
    async fn give_up(
        &self,
        message: &BaseMessage,
        reason: String,
    ) -> Result<ProcessingStatus, PluginError> {
        if let Some(topic) = message.reply_to() {
            let ended = errored(RunId::fresh(), reason.clone());
            let reply = self.context.message_builder().data(&ended).build()?;
            self.context.publish_now(topic, reply).await?;
        }
        Ok(ProcessingStatus::Failed(reason))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section is a single change, so what a panic leaves behind is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
