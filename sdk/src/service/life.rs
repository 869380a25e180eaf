//! The life of one service, owned by one task: start, readiness, watching, removal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use super::kit::Shared;
use super::readiness::{Check, Subject};
use super::{LogSink, Scope, ServiceError, ServicePlugin};
use crate::contract::service::{
    self, ServiceAddress, ServiceDied, ServiceFailed, ServiceId, ServiceReady, ServiceStart,
    ServiceStarted, ServiceStopped, StartReply,
};
use crate::{LogLevel, TraceContext};

/// How many of the last lines a failure tells.
const TOLD_LINES: usize = 50;

/// How long a service that did not become ready gets to end: it has nothing to save, and whoever asked for
/// it waits for the reason.
const UNDO_TIMEOUT: Duration = Duration::from_secs(1);

/// How much longer than its own timeout a plugin's removal may take before it is given up.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Where a service stands.
pub(super) enum Phase<I> {
    Starting,
    Ready(Arc<I>, ServiceAddress),
    Died(String),
    Stopping,
    Gone(Result<(), String>),
}

/// A service as handlers see it: they look at its phase, and ask for its end.
pub(super) struct Entry<I> {
    /// The request that started it.
    pub(super) request: Uuid,
    pub(super) log: LogSink,
    phase: watch::Receiver<Phase<I>>,
    stop: Arc<Notify>,
}

impl<I> Entry<I> {
    pub(super) fn phase(&self) -> watch::Ref<'_, Phase<I>> {
        self.phase.borrow()
    }

    pub(super) fn ask_to_stop(&self) {
        self.stop.notify_one();
    }

    /// Resolves when the service is being removed.
    pub(super) async fn leaving(&self) {
        self.reached(|phase| matches!(phase, Phase::Stopping | Phase::Gone(_))).await;
    }

    /// Resolves when the service is removed; an error says what may be left.
    pub(super) async fn gone(&self) -> Result<(), String> {
        self.reached(|phase| matches!(phase, Phase::Gone(_))).await;
        match &*self.phase() {
            Phase::Gone(outcome) => outcome.clone(),
            _ => Err("its task was cut off".into()),
        }
    }

    async fn reached(&self, wanted: impl FnMut(&Phase<I>) -> bool) {
        // It fails when the task is gone, and with it the service.
        let _ = self.phase.clone().wait_for(wanted).await;
    }
}

/// What the task owns.
pub(super) struct Life<S: ServicePlugin> {
    shared: Arc<Shared<S>>,
    request: ServiceStart,
    check: Check,
    log: LogSink,
    trace: Option<TraceContext>,
    stop: Arc<Notify>,
    phase: watch::Sender<Phase<S::Instance>>,
    outcome: Result<(), String>,
    begun: Instant,
}

impl<S: ServicePlugin> Life<S> {
    /// A life that has not begun, and how handlers see it.
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        request: ServiceStart,
        check: Check,
        trace: Option<TraceContext>,
        request_id: Uuid,
    ) -> (Self, Arc<Entry<S::Instance>>) {
        let (phase, seen) = watch::channel(Phase::Starting);
        let (stop, log) = (Arc::new(Notify::new()), check.log());
        let entry =
            Entry { request: request_id, log: log.clone(), phase: seen, stop: stop.clone() };
        let outcome = Err("the plugin panicked".to_owned());
        let begun = Instant::now();
        let life = Self { shared, request, check, log, trace, stop, phase, outcome, begun };
        (life, Arc::new(entry))
    }

    /// Lives until the service is removed. When nobody waits for the answer any more, the start is undone.
    pub(super) async fn run(mut self, mut answer: oneshot::Sender<StartReply>) {
        let mut instance = None;
        let up = tokio::select! {
            biased;
            () = self.stop.notified() => Err("it was stopped before it was ready".into()),
            () = answer.closed() => Err("the request for it was withdrawn".into()),
            up = self.bring_up(&mut instance) => up,
        };
        let (Ok(evidence), Some(instance)) = (&up, &instance) else {
            let reason = up.err().unwrap_or_default();
            let reply = self.undo(reason, instance.as_deref()).await;
            // Whoever asked may be gone; the event has told it.
            let _ = answer.send(reply);
            return;
        };
        let address = self.shared.plugin.address(instance);
        self.tell_ready(evidence.clone()).await;
        self.phase.send_replace(Phase::Ready(instance.clone(), address.clone()));
        if answer.send(StartReply::Ready { address }).is_ok() {
            self.watch(instance).await;
        }
        self.remove(instance).await;
    }

    /// Starts the service and waits until it is ready; `instance` is filled as soon as there is one, so
    /// that it outlives this future. Gives the evidence, or why it did not come up.
    async fn bring_up(
        &self,
        instance: &mut Option<Arc<S::Instance>>,
    ) -> Result<Vec<String>, String> {
        let limit = self.request.spec.start_timeout;
        let mut missing = "it was not started yet".to_owned();
        match timeout(limit, self.start_and_check(instance, &mut missing)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => {
                let limit = crate::duration::format(limit);
                Err(format!("it was not ready within {limit} (start_timeout): {missing}"))
            }
        }
    }

    async fn start_and_check(
        &self,
        slot: &mut Option<Arc<S::Instance>>,
        missing: &mut String,
    ) -> Result<Vec<String>, ServiceError> {
        let plugin = &self.shared.plugin;
        let instance = Arc::new(plugin.start(&self.request, self.log.clone()).await?);
        *slot = Some(instance.clone());
        let address = plugin.address(&instance);
        self.tell_started(address.clone()).await;
        let subject = Subject {
            plugin,
            instance: &*instance,
            request: &self.request,
            address: &address,
            log: &self.log,
        };
        // A port that somebody else answers must not hide that the service has ended: look for that first.
        tokio::select! {
            biased;
            ending = plugin.ended(&instance) =>
                Err(ServiceError::Failed(format!("it ended before it was ready: {ending}"))),
            evidence = self.check.held(subject, missing) => evidence,
        }
    }

    /// Removes what a start that came to nothing has left.
    async fn undo(&mut self, reason: String, instance: Option<&S::Instance>) -> StartReply {
        self.phase.send_replace(Phase::Stopping);
        self.outcome = match instance {
            Some(instance) => {
                self.stop(instance, self.request.spec.stop_timeout.min(UNDO_TIMEOUT)).await
            }
            None => {
                let scope = Scope::Service(&self.request.id);
                given(UNDO_TIMEOUT, self.shared.plugin.cleanup(scope)).await
            }
        };
        let mut reason = format!("service `{}` did not come up: {reason}", self.request.id.service);
        if let Err(left) = &self.outcome {
            reason.push_str(&format!("; something of it may be left: {left}"));
        }
        let log = self.log.tail(TOLD_LINES);
        let (id, service_type) = self.names();
        let event = ServiceFailed { id, service_type, reason: reason.clone(), log: log.clone() };
        self.tell(service::FAILED, &event).await;
        StartReply::Failed { reason, log }
    }

    /// Waits for the request to stop; tells when the service ends before that.
    async fn watch(&self, instance: &S::Instance) {
        let plugin = &self.shared.plugin;
        let ending = tokio::select! {
            biased;
            ending = plugin.ended(instance) => ending,
            () = self.stop.notified() => {
                if !plugin.ended_by_itself(instance).await {
                    return;
                }
                // It is told as any other death, and then stopped as it was asked to be.
                self.stop.notify_one();
                plugin.ended(instance).await
            }
        };
        self.phase.send_replace(Phase::Died(ending.clone()));
        self.tell_death(ending).await;
        self.stop.notified().await;
    }

    async fn tell_death(&self, ending: String) {
        let (id, service_type) = self.names();
        let log = self.log.tail(TOLD_LINES);
        self.tell(service::DIED, &ServiceDied { id, service_type, ending, log }).await;
    }

    async fn remove(&mut self, instance: &S::Instance) {
        let begun = Instant::now();
        let has_died = matches!(&*self.phase.borrow(), Phase::Died(_));
        self.phase.send_replace(Phase::Stopping);
        self.outcome = self.stop(instance, self.request.spec.stop_timeout).await;
        if !has_died && self.outcome.is_ok() && self.shared.plugin.ended_by_itself(instance).await {
            self.tell_death(self.shared.plugin.ended(instance).await).await;
        }
        if let Err(reason) = &self.outcome {
            let text = format!("service `{}` was not removed: {reason}", self.request.id.service);
            self.shared.context.log(LogLevel::Error, &text);
            return;
        }
        let (id, service_type) = self.names();
        let event = ServiceStopped { id, service_type, duration_ms: millis(begun) };
        self.tell(service::STOPPED, &event).await;
    }

    async fn stop(&self, instance: &S::Instance, limit: Duration) -> Result<(), String> {
        given(limit, self.shared.plugin.stop(instance, limit)).await
    }

    async fn tell_started(&self, address: ServiceAddress) {
        let (id, service_type) = self.names();
        let duration_ms = millis(self.begun);
        let event = ServiceStarted { id, service_type, address, duration_ms };
        self.tell(service::STARTED, &event).await;
    }

    async fn tell_ready(&self, evidence: Vec<String>) {
        let (id, service_type) = self.names();
        let duration_ms = millis(self.begun);
        let service_types = [("service_type", service_type.as_str())];
        let seconds = self.begun.elapsed().as_secs_f64();
        self.shared.context.record_histogram("service_start_seconds", seconds, &service_types);
        let event = ServiceReady { id, service_type, evidence, duration_ms };
        self.tell(service::READY, &event).await;
    }

    fn names(&self) -> (ServiceId, String) {
        (self.request.id.clone(), self.shared.plugin.service_type().to_owned())
    }

    async fn tell<T: Serialize + Sync>(&self, topic: &str, event: &T) {
        self.shared.tell(topic, &self.request.id.run_id, event, self.trace.as_ref()).await;
    }
}

/// However the task ends, the service is no longer listed afterwards, and whoever waits for that knows.
impl<S: ServicePlugin> Drop for Life<S> {
    fn drop(&mut self) {
        self.shared.forget(&self.request.id);
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        self.phase.send_replace(Phase::Gone(outcome));
    }
}

/// Gives a removal its time and some grace.
async fn given<T>(
    limit: Duration,
    removal: impl Future<Output = Result<T, ServiceError>>,
) -> Result<(), String> {
    match timeout(limit.saturating_add(STOP_GRACE), removal).await {
        Ok(result) => result.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("removing it took too long and was given up".into()),
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
