//! A plugin made of a type of service.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::life::{Entry, Life, Phase};
use super::readiness::Check;
use super::{RunsOver, Scope, ServicePlugin};
use crate::contract::RunId;
use crate::contract::service::{
    self, CleanupReply, ExecReply, LogsReply, ServiceCleanup, ServiceExec, ServiceFailed,
    ServiceId, ServiceLogs, ServiceStart, ServiceStop, StartReply, StopReply,
};
use crate::{
    BaseMessage, Health, LogLevel, Plugin, PluginContext, PluginError, ProcessingStatus, Topic,
    TraceContext, is_name,
};

/// The plugin that a [`ServicePlugin`] becomes.
///
/// It handles `service.start.<type>`, `service.exec.<type>`, `service.logs.<type>`, `service.stop.<type>`
/// and `service.cleanup.<type>`; the manifest has to subscribe to them.
/// Requests may be delivered again: a start that is repeated gets the same answer, as does a stop.
pub struct ServiceKit<S: ServicePlugin> {
    shared: Arc<Shared<S>>,
    /// The tasks of the services; dropping them drops what they own.
    lives: Mutex<JoinSet<()>>,
}

/// What handlers and the services' tasks share.
pub(super) struct Shared<S: ServicePlugin> {
    pub(super) plugin: S,
    pub(super) context: PluginContext,
    services: Mutex<BTreeMap<ServiceId, Arc<Entry<S::Instance>>>>,
    over: RunsOver,
}

impl<S: ServicePlugin> ServiceKit<S> {
    /// Makes the plugin; nothing runs yet.
    pub fn new(context: PluginContext, plugin: S) -> Self {
        let (services, over) = Default::default();
        let shared = Arc::new(Shared { plugin, context, services, over });
        Self { shared, lives: Mutex::default() }
    }

    /// The type of service that it was made of.
    pub fn plugin(&self) -> &S {
        &self.shared.plugin
    }

    /// What it reaches the bus with.
    pub fn context(&self) -> &PluginContext {
        &self.shared.context
    }

    /// Starts a service and waits until it is ready or cannot be.
    async fn start(&self, message: &BaseMessage, request: ServiceStart) -> StartReply {
        let refused = |reason| StartReply::Failed { reason, log: Vec::new() };
        if let Err(reason) = self.shared.acceptable(&request, message) {
            return refused(reason);
        }
        loop {
            match self.claim(message, &request) {
                Claim::Begun(answer) => {
                    return answer.await.unwrap_or_else(|_| {
                        refused(format!("service `{}`: the plugin panicked", request.id.service))
                    });
                }
                Claim::Repeated(reply) => return reply,
                Claim::Leaving(entry) => {
                    // How it ended was told to whoever stopped it.
                    let _ = entry.gone().await;
                }
                Claim::Taken => {
                    let ServiceId { service, suite, .. } = &request.id;
                    return refused(format!("service `{service}` of suite `{suite}` runs already"));
                }
                Claim::Faulty(reason) => return self.shared.refuse(&request, reason).await,
            }
        }
    }

    fn claim(&self, message: &BaseMessage, request: &ServiceStart) -> Claim<S::Instance> {
        let shared = &self.shared;
        let mut services = lock(&shared.services);
        if let Some(entry) = services.get(&request.id) {
            let repeated = entry.request == message.id();
            return match &*entry.phase() {
                Phase::Ready(_, address) if repeated => {
                    Claim::Repeated(StartReply::Ready { address: address.clone() })
                }
                // The handler that asked was cut off, so its start is being undone.
                Phase::Starting if repeated => Claim::Leaving(entry.clone()),
                Phase::Stopping | Phase::Gone(_) => Claim::Leaving(entry.clone()),
                _ => Claim::Taken,
            };
        }
        let spec = &request.spec;
        let readiness = spec.ready.clone().unwrap_or_else(|| shared.plugin.default_readiness(spec));
        let check = match Check::new(readiness) {
            Ok(check) => check,
            Err(error) => return Claim::Faulty(error.to_string()),
        };
        let (life, entry) = Life::new(
            shared.clone(),
            request.clone(),
            check,
            message.trace_context(),
            message.id(),
        );
        services.insert(request.id.clone(), entry);
        drop(services);
        let (answer, answered) = oneshot::channel();
        let mut lives = lock(&self.lives);
        while lives.try_join_next().is_some() {}
        lives.spawn(life.run(answer));
        Claim::Begun(answered)
    }

    async fn exec(&self, request: ServiceExec) -> ExecReply {
        let failed = |reason| ExecReply::Failed { reason };
        let Some(service) = request.service.clone() else {
            return failed(format!(
                "the request names no service of type `{}`",
                self.service_type()
            ));
        };
        if request.command.is_empty() {
            return failed("the command is empty; write the program and its arguments".into());
        }
        let (run_id, suite) = (request.run_id.clone(), request.suite.clone());
        let name = format!("service `{service}` of suite `{suite}`");
        let Some(entry) = self.shared.find(&ServiceId { run_id, suite, service }) else {
            return failed(format!("{name} does not run"));
        };
        let instance = match &*entry.phase() {
            Phase::Ready(instance, _) => instance.clone(),
            Phase::Starting => return failed(format!("{name} is not ready yet")),
            Phase::Died(ending) => return failed(format!("{name} has ended: {ending}")),
            Phase::Stopping | Phase::Gone(_) => return failed(format!("{name} was stopped")),
        };
        tokio::select! {
            reply = self.shared.plugin.exec(&instance, &request) => reply,
            () = entry.leaving() => failed(format!("{name} was stopped while the command ran")),
        }
    }

    fn logs(&self, request: ServiceLogs) -> LogsReply {
        let entry = self.shared.find(&request.id);
        LogsReply { lines: entry.map(|entry| entry.log.tail(request.lines)).unwrap_or_default() }
    }

    async fn stop(&self, request: ServiceStop) -> StopReply {
        let Some(entry) = self.shared.find(&request.id) else {
            return StopReply::Stopped;
        };
        entry.ask_to_stop();
        match entry.gone().await {
            Ok(()) => StopReply::Stopped,
            Err(reason) => StopReply::Failed {
                reason: format!("service `{}` was not removed: {reason}", request.id.service),
            },
        }
    }

    async fn cleanup(&self, message: &BaseMessage, request: ServiceCleanup) -> CleanupReply {
        self.shared.over.add(&request.run_id, message);
        let (mut removed, mut failures) = self.stop_all(|id| id.run_id == request.run_id).await;
        match self.shared.plugin.cleanup(Scope::Run(&request.run_id)).await {
            Ok(swept) => removed.extend(swept),
            Err(error) => failures.push(error.to_string()),
        }
        CleanupReply { service_type: self.service_type(), removed, failures }
    }

    /// Stops services at once and waits for all of them; gives what was removed and what was not.
    async fn stop_all(&self, wanted: impl Fn(&ServiceId) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut removed, mut failures) = (Vec::new(), Vec::new());
        let entries = self.shared.entries(wanted);
        entries.iter().for_each(|(_, entry)| entry.ask_to_stop());
        for (ServiceId { suite, service, .. }, entry) in entries {
            match entry.gone().await {
                Ok(()) => removed.push(format!("service `{service}` of suite `{suite}`")),
                Err(reason) => {
                    failures.push(format!("service `{service}` of suite `{suite}`: {reason}"));
                }
            }
        }
        (removed, failures)
    }

    fn service_type(&self) -> String {
        self.shared.plugin.service_type().to_owned()
    }

    async fn answer<T: Serialize + Sync>(
        &self,
        message: &BaseMessage,
        reply: T,
    ) -> Result<ProcessingStatus, PluginError> {
        self.shared.context.reply(message, &reply).await?;
        Ok(ProcessingStatus::Acknowledged)
    }

    /// Answers data that cannot be read with `reply`; where nobody waits for one, the message is dead.
    async fn answer_malformed<T: Serialize + Sync>(
        &self,
        message: &BaseMessage,
        reason: String,
        reply: impl FnOnce(String) -> T,
    ) -> Result<ProcessingStatus, PluginError> {
        match message.reply_to() {
            Some(_) => self.answer(message, reply(reason)).await,
            None => Ok(ProcessingStatus::Failed(reason)),
        }
    }
}

/// What a request to start a service comes to.
enum Claim<I> {
    Begun(oneshot::Receiver<StartReply>),
    Repeated(StartReply),
    Leaving(Arc<Entry<I>>),
    Taken,
    Faulty(String),
}

impl<S: ServicePlugin> Shared<S> {
    /// Tells an event at once, in order with the run's others; that nobody could be told is no reason to
    /// stop a service.
    pub(super) async fn tell<T: Serialize + Sync>(
        &self,
        topic: &str,
        run_id: &RunId,
        event: &T,
        trace: Option<&TraceContext>,
    ) {
        let mut builder = self.context.message_builder().key(run_id.as_str()).data(event);
        if let Some(trace) = trace {
            builder = builder.trace_context(trace.clone());
        }
        let told = match builder.build() {
            Ok(message) => self.context.publish_now(topic, message).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = told {
            self.context.log(LogLevel::Warn, &format!("`{topic}` was not published: {error}"));
        }
    }

    pub(super) fn forget(&self, id: &ServiceId) {
        lock(&self.services).remove(id);
    }

    fn find(&self, id: &ServiceId) -> Option<Arc<Entry<S::Instance>>> {
        lock(&self.services).get(id).cloned()
    }

    fn entries(
        &self,
        wanted: impl Fn(&ServiceId) -> bool,
    ) -> Vec<(ServiceId, Arc<Entry<S::Instance>>)> {
        let services = lock(&self.services);
        let wanted = services.iter().filter(|(id, _)| wanted(id));
        wanted.map(|(id, entry)| (id.clone(), entry.clone())).collect()
    }

    /// Names end up in paths, labels and host names, so they are checked before anything is made of them.
    fn acceptable(&self, request: &ServiceStart, message: &BaseMessage) -> Result<(), String> {
        let ServiceId { run_id, suite, service } = &request.id;
        for (what, name) in [("service", service), ("suite", suite)] {
            if !is_name(name) {
                return Err(format!(
                    "{name:?} cannot name a {what}; use letters, digits, `-` and `_`"
                ));
            }
        }
        let (asked, own) = (&request.spec.service_type, self.plugin.service_type());
        if asked != own {
            return Err(format!(
                "service `{service}` is of type `{asked}`; here `{own}` is started"
            ));
        }
        if self.over.overtook(run_id, message) {
            return Err(format!("service `{service}` was not started: its run is over"));
        }
        Ok(())
    }

    async fn refuse(&self, request: &ServiceStart, reason: String) -> StartReply {
        let reason = format!("service `{}`: {reason}", request.id.service);
        let event = ServiceFailed {
            id: request.id.clone(),
            service_type: self.plugin.service_type().to_owned(),
            reason: reason.clone(),
            log: Vec::new(),
        };
        self.tell(service::FAILED, &request.id.run_id, &event, None).await;
        StartReply::Failed { reason, log: Vec::new() }
    }
}

impl<S: ServicePlugin> Plugin for ServiceKit<S> {
    fn name(&self) -> &str {
        self.shared.context.plugin_name()
    }

    async fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        let own = self.shared.plugin.service_type();
        let verb = match topic.as_str().strip_prefix("service.").and_then(|t| t.split_once('.')) {
            Some((verb, service_type)) if service_type == own => verb,
            _ => "",
        };
        match verb {
            "start" => match read(topic, message) {
                Ok(request) => self.answer(message, self.start(message, request).await).await,
                Err(reason) => {
                    let reply = |reason| StartReply::Failed { reason, log: Vec::new() };
                    self.answer_malformed(message, reason, reply).await
                }
            },
            "exec" => match read(topic, message) {
                Ok(request) => self.answer(message, self.exec(request).await).await,
                Err(reason) => {
                    let reply = |reason| ExecReply::Failed { reason };
                    self.answer_malformed(message, reason, reply).await
                }
            },
            "logs" => match read(topic, message) {
                Ok(request) => self.answer(message, self.logs(request)).await,
                Err(reason) => Ok(ProcessingStatus::Failed(reason)),
            },
            "stop" => match read(topic, message) {
                Ok(request) => self.answer(message, self.stop(request).await).await,
                Err(reason) => {
                    let reply = |reason| StopReply::Failed { reason };
                    self.answer_malformed(message, reason, reply).await
                }
            },
            "cleanup" => match read(topic, message) {
                Ok(request) => self.answer(message, self.cleanup(message, request).await).await,
                Err(reason) => {
                    let service_type = self.service_type();
                    let failed = |reason| CleanupReply {
                        service_type,
                        removed: Vec::new(),
                        failures: vec![reason],
                    };
                    self.answer_malformed(message, reason, failed).await
                }
            },
            _ => {
                let name = self.name();
                Ok(ProcessingStatus::Failed(format!("`{topic}` is no topic that `{name}` handles")))
            }
        }
    }

    async fn shutdown(&self) -> Result<(), PluginError> {
        let (_, failures) = self.stop_all(|_| true).await;
        let mut lives = std::mem::take(&mut *lock(&self.lives));
        while lives.join_next().await.is_some() {}
        match failures.is_empty() {
            true => Ok(()),
            false => Err(PluginError::ProcessingError(failures.join("; "))),
        }
    }

    async fn health_check(&self) -> Health {
        self.shared.plugin.health_check().await
    }

    async fn metrics(&self) -> Value {
        let entries = self.shared.entries(|_| true);
        let ready = entries.iter().filter(|(_, entry)| matches!(&*entry.phase(), Phase::Ready(..)));
        json!({ "services": entries.len(), "ready": ready.count() })
    }

    async fn reset(&self) -> Result<(), PluginError> {
        self.shutdown().await
    }
}

impl<S: ServicePlugin> fmt::Debug for ServiceKit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceKit")
            .field("service_type", &self.shared.plugin.service_type())
            .field("services", &lock(&self.shared.services).len())
            .finish_non_exhaustive()
    }
}

fn read<T: DeserializeOwned>(topic: &Topic, message: &BaseMessage) -> Result<T, String> {
    message.json().map_err(|error| format!("the request on `{topic}` is malformed: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section is a single change, so what a panic leaves behind is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
