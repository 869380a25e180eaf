//! A run's end of the bus: what it asks, and what it tells.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use echo_sdk::contract::{RunId, service};
use echo_sdk::{
    Attribute, LogLevel, MessageError, PluginContext, PublishError, RequestError, Span,
    TraceContext,
};
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The type that runs the commands of steps without a service.
pub(crate) const LOCAL: &str = "local";

/// How long past its own time limit an answer is waited for, so that the plugin, which knows more, speaks
/// first.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// How long the removal of what a run left may take.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer that a run can work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody subscribes to the type's topic.
    #[error(
        "no plugin serves the type `{0}`; `echo-core services` lists the types that can be used"
    )]
    UnknownType(String),
    /// The request went without an answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request could not be put together.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The answer has another form than the contract says.
    #[error("the answer of the type `{service_type}` is malformed: {fault}")]
    Malformed {
        /// The type of service that answered.
        service_type: String,
        /// What is wrong with the answer.
        fault: String,
    },
}

/// Which question to a type of service a message is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Start,
    Exec,
    Logs,
    Stop,
}

impl Verb {
    fn topic(self, service_type: &str) -> String {
        match self {
            Self::Start => service::start_topic(service_type),
            Self::Exec => service::exec_topic(service_type),
            Self::Logs => service::logs_topic(service_type),
            Self::Stop => service::stop_topic(service_type),
        }
    }
}

/// A run's end of the bus.
#[derive(Debug)]
pub(crate) struct Link {
    context: PluginContext,
    run_id: RunId,
    /// The types that were asked to start or run something, and so may have left something.
    used: Mutex<BTreeSet<String>>,
    /// What could not be told.
    lost: Mutex<Option<String>>,
}

impl Link {
    pub(crate) fn new(context: PluginContext, run_id: RunId) -> Self {
        Self { context, run_id, used: Mutex::default(), lost: Mutex::default() }
    }

    pub(crate) fn context(&self) -> &PluginContext {
        &self.context
    }

    pub(crate) fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// Starts a span of the run's trace.
    pub(crate) fn span(&self, below: &Span, name: &str, attributes: &[Attribute<'_>]) -> Span {
        self.context.create_span_below(below.context().as_ref(), name, attributes)
    }

    /// Tells what happened: at once, and in the order of the calls for whoever handles by key.
    ///
    /// What cannot be told makes the run's end an error, see [`lost`](Self::lost): its report would lack it.
    pub(crate) async fn tell<T: Serialize>(&self, topic: &str, span: &Span, event: &T) {
        if let Err(error) = self.try_tell(topic, span, event).await {
            let sentence = format!("`{topic}` could not be told: {error}");
            self.context.log(LogLevel::Error, &sentence);
            guard(&self.lost).get_or_insert(sentence);
        }
    }

    async fn try_tell<T: Serialize>(
        &self,
        topic: &str,
        span: &Span,
        event: &T,
    ) -> Result<(), PublishError> {
        let message = self.message(event, span.context(), Some(self.run_id.as_str()))?;
        self.context.publish_now(topic, message).await
    }

    /// The first event that could not be told, as a sentence.
    pub(crate) fn lost(&self) -> Option<String> {
        guard(&self.lost).clone()
    }

    /// Asks a type of service and waits for its answer.
    ///
    /// # Errors
    /// [`AskError`] when nobody serves the type, or no proper answer comes within `timeout`.
    pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: Verb,
        service_type: &str,
        question: &Q,
        trace: Option<TraceContext>,
        timeout: Duration,
    ) -> Result<A, AskError> {
        if matches!(verb, Verb::Start | Verb::Exec) {
            guard(&self.used).insert(service_type.to_owned());
        }
        let message = self.message(question, trace, None)?;
        self.request(verb.topic(service_type), service_type, message, timeout).await
    }

    /// Asks each type that the run used to remove what is left, and gives what could not be removed.
    pub(crate) async fn clean_up(&self, span: &Span) -> Vec<String> {
        let used = std::mem::take(&mut *guard(&self.used));
        let failures = used.iter().map(|service_type| self.clean_up_type(service_type, span));
        join_all(failures).await.concat()
    }

    async fn clean_up_type(&self, service_type: &str, span: &Span) -> Vec<String> {
        let question = service::ServiceCleanup { run_id: self.run_id.clone() };
        let answer: Result<service::CleanupReply, AskError> = async {
            let message = self.message(&question, span.context(), None)?;
            let topic = service::cleanup_topic(service_type);
            self.request(topic, service_type, message, CLEANUP_TIMEOUT).await
        }
        .await;
        match answer {
            Ok(reply) => reply.failures,
            // A type that nobody serves has left nothing.
            Err(AskError::UnknownType(_)) => Vec::new(),
            Err(error) => {
                vec![format!("what the type `{service_type}` left may still be there: {error}")]
            }
        }
    }

    async fn request<A: DeserializeOwned>(
        &self,
        topic: String,
        service_type: &str,
        message: echo_sdk::BaseMessage,
        timeout: Duration,
    ) -> Result<A, AskError> {
        match self.context.request(topic, message, timeout).await {
            Ok(answer) => answer.json().map_err(|error| AskError::Malformed {
                service_type: service_type.to_owned(),
                fault: error.to_string(),
            }),
            Err(RequestError::NoResponders { .. }) => {
                Err(AskError::UnknownType(service_type.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn message<T: Serialize>(
        &self,
        data: &T,
        trace: Option<TraceContext>,
        key: Option<&str>,
    ) -> Result<echo_sdk::BaseMessage, MessageError> {
        let mut builder = self.context.message_builder().data(data);
        if let Some(trace) = trace {
            builder = builder.trace_context(trace);
        }
        if let Some(key) = key {
            builder = builder.key(key);
        }
        builder.build()
    }
}

/// A lock whose holder panicked guards plain data, which is whole.
fn guard<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
