//! The topics that everybody shares, and the data that travels on them.
//!
//! A request is imperative (`service.start.<type>`) and takes a reply topic; an event is in the past tense
//! (`test.step.ended`). Every event of a run carries its `run_id`. [`topics`] lists them all;
//! `docs/contracts/topics.md` is held to that list by a test.

pub mod check;
pub mod dead;
pub mod host;
pub mod reference;
pub mod run;
pub mod schema;
pub mod service;
pub mod suite;
pub mod system;
pub mod trace;
pub mod transition;

mod cycle;

use std::fmt;

use serde::{Deserialize, Serialize, de};

/// Names one run: up to 64 letters, digits, `-` and `_`, so that it is safe in topics, labels and paths.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunId(String);

/// A text that cannot name a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a run; use up to 64 letters, digits, `-` and `_`")]
pub struct RunIdError(String);

impl RunId {
    /// A fresh, unique id.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// Checks a text that somebody else chose.
    ///
    /// # Errors
    /// [`RunIdError`] when it holds other characters or is too long.
    pub fn new(text: impl Into<String>) -> Result<Self, RunIdError> {
        let text = text.into();
        if crate::is_name(&text) { Ok(Self(text)) } else { Err(RunIdError(text)) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last few characters, for names that people read.
    pub fn short(&self) -> &str {
        &self.0[self.0.len().saturating_sub(8)..]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Whether a topic asks for something or tells of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKind {
    /// Asks; the answer goes to the reply topic.
    Request,
    /// Tells what happened.
    Event,
}

/// One line of the list of shared topics.
#[derive(Debug, Clone)]
pub struct TopicInfo {
    /// The topic; a part that varies stands as `<name>`.
    pub topic: &'static str,
    /// Whether it asks or tells.
    pub kind: TopicKind,
    /// One sentence on it.
    pub about: &'static str,
    /// The JSON Schema of the data.
    #[cfg(feature = "schema")]
    pub data: fn() -> schemars::Schema,
    /// The JSON Schema of the answer, where there is one.
    #[cfg(feature = "schema")]
    pub reply: Option<fn() -> schemars::Schema>,
}

macro_rules! topic_list {
    ($($kind:ident $topic:expr, $data:ty $(=> $reply:ty)?, $about:literal;)*) => {
        /// Every topic that everybody shares.
        pub fn topics() -> Vec<TopicInfo> {
            vec![$(TopicInfo {
                topic: $topic,
                kind: TopicKind::$kind,
                about: $about,
                #[cfg(feature = "schema")]
                data: || schemars::schema_for!($data),
                #[cfg(feature = "schema")]
                reply: topic_list!(@reply $($reply)?),
            }),*]
        }
    };
    (@reply $reply:ty) => { Some(|| schemars::schema_for!($reply)) };
    (@reply) => { None };
}

topic_list! {
    Request run::START, run::RunStart => run::RunEnded,
        "Runs suites; the answer comes when the run has ended.";
    Request run::CANCEL, run::RunCancel => run::CancelReply,
        "Ends a run early; the run in question answers, and its services are stopped as at any end.";
    Event run::STARTED, run::RunStarted, "A run has begun.";
    Event run::ENDED, run::RunEnded, "A run is over, its services are gone.";
    Event run::SUITE_STARTED, run::SuiteStarted, "A suite has begun.";
    Event run::SUITE_ENDED, run::SuiteEnded, "A suite is over.";
    Event run::TEST_STARTED, run::TestStarted, "A test has begun.";
    Event run::TEST_ENDED, run::TestEnded, "A test is over.";
    Event run::STEP_STARTED, run::StepStarted, "A step's command is about to run.";
    Event run::STEP_ENDED, run::StepEnded, "A step's command has ended and was judged.";
    Request "service.start.<type>", service::ServiceStart => service::StartReply,
        "Starts a service of a type; the answer comes when it is ready, or cannot be.";
    Request "service.exec.<type>", service::ServiceExec => service::ExecReply,
        "Runs a command within a running service; the answer comes when it has ended.";
    Request "service.logs.<type>", service::ServiceLogs => service::LogsReply,
        "Gives the last lines that a service wrote.";
    Request "service.stop.<type>", service::ServiceStop => service::StopReply,
        "Stops a service and removes what it left.";
    Request "service.cleanup.<type>", service::ServiceCleanup => service::CleanupReply,
        "Removes whatever of a run a type has left, and ends the commands that still run for it.";
    Event service::STARTED, service::ServiceStarted, "A service's process or container runs; it is not ready yet.";
    Event service::READY, service::ServiceReady, "A service's readiness check has passed.";
    Event service::FAILED, service::ServiceFailed, "A service could not be started or did not become ready.";
    Event service::DIED, service::ServiceDied, "A service ended by itself after it was ready.";
    Event service::STOPPED, service::ServiceStopped, "A service was stopped and removed.";
    Event "system.plugin.<state>", system::PluginEvent, "A plugin has come into a state of its life.";
    Event system::PLUGIN_REFUSED, system::PluginRefused, "What is enabled, or was, is not what runs, and why.";
    Event system::PLUGIN_QUARANTINED, system::PluginQuarantined, "A library could not be taken out of memory, and why.";
    Event system::POOL_SCALED, system::PoolScaled, "A worker pool has grown or shrunk.";
    Event system::HOST_READY, system::HostEvent, "All plugins run.";
    Event system::HOST_STOPPING, system::HostEvent, "The host takes no more and drains.";
    Request host::TOPICS, host::TopicsQuestion => host::Answer<host::TopicsReply>,
        "Asks for the slots: what they subscribe to, hold and have counted.";
    Request host::SHOW, host::PluginOrder => host::Answer<host::PluginShown>,
        "Asks for all that there is to say of a plugin.";
    Request host::LOAD, host::PluginLoad => host::Answer<host::PluginOrdered>,
        "Loads a plugin library of the folder of plugins.";
    Request host::UNLOAD, host::PluginUnload => host::Answer<host::PluginsUnloaded>,
        "Unloads a plugin that was loaded from a library.";
    Request transition::TRANSITION, transition::PluginTransition
        => host::Answer<transition::TransitionTaken>,
        "Has another version of a plugin take its place, while messages flow.";
    Request transition::ROLLBACK, host::PluginOrder => host::Answer<transition::TransitionTaken>,
        "Has the version before take a plugin's place again.";
    Event "system.plugin.transition.<step>", transition::TransitionEvent,
        "A step of a transition was done.";
    Request host::PAUSE, host::PluginOrder => host::Answer<host::PluginOrdered>,
        "Lets a plugin's messages wait.";
    Request host::RESUME, host::PluginOrder => host::Answer<host::PluginOrdered>,
        "Lets a plugin's messages flow again.";
    Request host::RESET, host::PluginOrder => host::Answer<host::PluginOrdered>,
        "Has a plugin forget what it remembers.";
    Request dead::LIST, dead::DeadList => host::Answer<dead::DeadPage>,
        "Lists dead letters.";
    Request dead::GET, dead::DeadGet => host::Answer<dead::DeadFound>,
        "Gives one dead letter with its message.";
    Request dead::REPLAY, dead::DeadReplay => host::Answer<dead::DeadReplays>,
        "Publishes the messages of dead letters again.";
    Request dead::DISCARD, dead::DeadDiscard => host::Answer<dead::DeadDiscarded>,
        "Forgets dead letters.";
    Request schema::REGISTER, schema::SchemaRegister => host::Answer<schema::SchemaRegistered>,
        "Takes a schema in, as the newest version of its name; it is gone when the host ends.";
    Request schema::GET, schema::SchemaGet => host::Answer<schema::SchemaInfo>,
        "Gives one version of a schema.";
    Request schema::LIST, schema::SchemaList => host::Answer<schema::SchemaListed>,
        "Lists the schemas.";
    Request schema::REMOVE, schema::SchemaRemove => host::Answer<schema::SchemaRemoved>,
        "Removes a version of a schema, or all of it.";
    Request schema::CHECK, schema::SchemaCheck => host::Answer<schema::SchemaChecked>,
        "Checks data against a schema without publishing it.";
    Event trace::SPAN_STARTED, trace::SpanStarted, "A span has begun.";
    Event trace::SPAN_ENDED, trace::SpanEnded, "A span has ended.";
    Event trace::ENDED, trace::TraceEnded,
        "No span of a trace is open on the host any more; it comes again where more of the trace follows.";
    Event "dead.<slot>.<topic>", dead::DeadLetter, "A message that a slot gave up.";
}
