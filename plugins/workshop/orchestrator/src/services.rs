//! The services of one suite: started as their order allows, asked for their logs, stopped in reverse.

use std::collections::{BTreeMap, BTreeSet};

use echo_sdk::Span;
use echo_sdk::contract::reference::Scope;
use echo_sdk::contract::service::{
    LogsReply, ServiceAddress, ServiceId, ServiceLogs, ServiceStart, ServiceStop, StartReply,
    StopReply,
};
use echo_sdk::contract::suite::Suite;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use crate::link::{AskError, Link, MARGIN, Verb};
use crate::order::Order;

/// How many of a service's last lines a report shows.
const LOG_LINES: usize = 50;

/// The services of one suite, and what is known of them.
#[derive(Debug)]
pub(crate) struct Services<'a> {
    link: &'a Link,
    suite: &'a Suite,
    span: &'a Span,
    /// The environment of whoever runs.
    env: &'a BTreeMap<String, String>,
    order: Order<'a>,
    /// Those that were asked to start, less those that are known to have left nothing.
    asked: BTreeSet<&'a str>,
    ready: BTreeMap<String, ServiceAddress>,
    /// What was written by those that did not come up.
    last_words: BTreeMap<String, Vec<String>>,
}

impl<'a> Services<'a> {
    pub(crate) fn new(
        link: &'a Link,
        suite: &'a Suite,
        span: &'a Span,
        env: &'a BTreeMap<String, String>,
    ) -> Self {
        Self {
            link,
            suite,
            span,
            env,
            order: Order::of(suite),
            asked: BTreeSet::new(),
            ready: BTreeMap::new(),
            last_words: BTreeMap::new(),
        }
    }

    /// Where the services that are ready are reached, by name.
    pub(crate) fn ready(&self) -> &BTreeMap<String, ServiceAddress> {
        &self.ready
    }

    /// The type of a service.
    pub(crate) fn type_of(&self, name: &str) -> Option<&'a str> {
        self.suite.services.get(name).map(|spec| spec.service_type.as_str())
    }

    /// What references stand for by now, within `reader`, a service, or on this machine.
    pub(crate) fn scope(&self, reader: Option<&str>) -> Scope {
        crate::scope::scope(self.link.run_id(), self.suite, &self.ready, self.env, reader)
    }

    /// Starts each service as soon as all that it needs is ready, and waits until all are.
    ///
    /// Dropped, it leaves [`stop`](Self::stop) with what it needs to know.
    ///
    /// # Errors
    /// Why the first one failed, as a sentence; those that were still on their way are given up.
    pub(crate) async fn start(&mut self) -> Result<(), String> {
        let (link, span) = (self.link, self.span);
        let mut starting = FuturesUnordered::new();
        loop {
            for name in self.order.startable(&self.asked, |name| self.ready.contains_key(name)) {
                let request = self.start_request(name)?;
                self.asked.insert(name);
                starting.push(async move { (name, start(link, span, &request).await) });
            }
            match starting.next().await {
                Some((name, Ok(StartReply::Ready { address }))) => {
                    self.ready.insert(name.to_owned(), address);
                }
                Some((name, Ok(StartReply::Failed { reason, log }))) => {
                    self.asked.remove(name);
                    self.last_words.insert(name.to_owned(), log);
                    return Err(reason);
                }
                Some((name, Err(error))) => {
                    return Err(format!("service `{name}` did not start: {error}"));
                }
                None if self.ready.len() == self.suite.services.len() => return Ok(()),
                None => return Err(self.stuck()),
            }
        }
    }

    fn start_request(&self, name: &str) -> Result<ServiceStart, String> {
        let Some(spec) = self.suite.services.get(name) else {
            return Err(self.stuck());
        };
        let spec = spec.resolved(&self.scope(Some(name)));
        let spec = spec.map_err(|error| format!("service `{name}` did not start: {error}"))?;
        Ok(ServiceStart { id: self.id(name), spec, dir: self.suite.dir.clone() })
    }

    fn stuck(&self) -> String {
        let names = self.suite.services.keys().filter(|name| !self.ready.contains_key(*name));
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        format!("{} wait for one another, or for a service that there is not", names.join(", "))
    }

    /// The last lines of each service that was started, by name; in place of lines that cannot be had,
    /// the reason.
    pub(crate) async fn logs(&self) -> BTreeMap<String, Vec<String>> {
        let logs = self.asked.iter().map(|name| async move {
            let service_type = self.type_of(name).unwrap_or_default();
            let question = ServiceLogs { id: self.id(name), lines: LOG_LINES };
            let trace = self.span.context();
            let reply = self.link.ask(Verb::Logs, service_type, &question, trace, MARGIN).await;
            let lines = match reply {
                Ok(LogsReply { lines }) => lines,
                Err(error) => vec![format!("(there is no log: {error})")],
            };
            ((*name).to_owned(), lines)
        });
        let logs = join_all(logs).await;
        logs.into_iter().chain(self.last_words.clone()).filter(|(_, log)| !log.is_empty()).collect()
    }

    /// Stops each service as soon as nothing needs it any more, and gives what may be left, as sentences.
    pub(crate) async fn stop(&self) -> Vec<String> {
        let mut left = self.asked.clone();
        let mut asked = BTreeSet::new();
        let mut stopping = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            for name in self.order.stoppable(&left) {
                if asked.insert(name) {
                    stopping.push(async move { (name, self.stop_one(name).await) });
                }
            }
            let Some((name, failure)) = stopping.next().await else {
                return failures;
            };
            left.remove(name);
            failures.extend(failure);
        }
    }

    async fn stop_one(&self, name: &str) -> Option<String> {
        let spec = self.suite.services.get(name)?;
        let timeout = spec.stop_timeout.saturating_add(MARGIN);
        let question = ServiceStop { id: self.id(name) };
        let trace = self.span.context();
        let reply = self.link.ask(Verb::Stop, &spec.service_type, &question, trace, timeout).await;
        match reply {
            Ok(StopReply::Stopped) => None,
            Ok(StopReply::Failed { reason }) => Some(reason),
            // Nobody serves the type, so it never started.
            Err(AskError::UnknownType(_)) if !self.ready.contains_key(name) => None,
            Err(error) => Some(format!("service `{name}` may not be gone: {error}")),
        }
    }

    fn id(&self, name: &str) -> ServiceId {
        ServiceId {
            run_id: self.link.run_id().clone(),
            suite: self.suite.name.clone(),
            service: name.to_owned(),
        }
    }
}

async fn start(link: &Link, below: &Span, request: &ServiceStart) -> Result<StartReply, AskError> {
    let spec = &request.spec;
    let attributes =
        [("service", request.id.service.as_str()), ("type", spec.service_type.as_str())];
    let mut span = link.span(below, "service.start", &attributes);
    let timeout = spec.start_timeout.saturating_add(MARGIN);
    let reply = link.ask(Verb::Start, &spec.service_type, request, span.context(), timeout).await;
    match &reply {
        Ok(StartReply::Ready { .. }) => {}
        Ok(StartReply::Failed { reason, .. }) => span.set_error(reason),
        Err(error) => span.set_error(&error.to_string()),
    }
    reply
}
