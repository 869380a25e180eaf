//! Whether a service is ready: each part that the suite asks for has to be seen.

use std::io;
use std::time::Duration;

use regex::Regex;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{LogSink, ServiceError, ServicePlugin, http};
use crate::contract::service::{ExecReply, ServiceAddress, ServiceExec, ServiceStart};
use crate::contract::suite::Readiness;

/// How long one connection, or the answer to one GET, is waited for before the next is tried.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The times between two attempts: doubling from the first to the last.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A readiness check that makes sense in itself.
pub(super) struct Check {
    readiness: Readiness,
    log: Option<Regex>,
}

/// The service that is looked at.
pub(super) struct Subject<'a, S: ServicePlugin> {
    pub(super) plugin: &'a S,
    pub(super) instance: &'a S::Instance,
    pub(super) request: &'a ServiceStart,
    pub(super) address: &'a ServiceAddress,
    pub(super) log: &'a LogSink,
}

/// A port of the service, as it is called and as it is reached.
struct Port<'a> {
    name: &'a str,
    host: &'a str,
    number: u16,
}

impl Check {
    pub(super) fn new(readiness: Readiness) -> Result<Self, ServiceError> {
        let fault = |text: String| Err(ServiceError::Config(text));
        if let Some(path) = &readiness.http
            && (!path.starts_with('/')
                || path.contains(|c: char| c.is_whitespace() || c.is_control()))
        {
            return fault(format!("ready.http is {path:?}; write a path, such as \"/health\""));
        }
        if readiness.command.as_ref().is_some_and(Vec::is_empty) {
            return fault("ready.command is empty; write the program and its arguments".into());
        }
        let log = match readiness.log.as_deref().map(Regex::new).transpose() {
            Ok(log) => log,
            Err(error) => return fault(format!("ready.log is no regular expression: {error}")),
        };
        Ok(Self { readiness, log })
    }

    /// The log that the service is to write to.
    pub(super) fn log(&self) -> LogSink {
        LogSink::awaiting(self.log.clone())
    }

    /// Waits until each part has been seen; gives the evidence. `missing` says what was not seen last.
    pub(super) async fn held<S: ServicePlugin>(
        &self,
        subject: Subject<'_, S>,
        missing: &mut String,
    ) -> Result<Vec<String>, ServiceError> {
        let port = self.port(subject.address)?;
        let mut evidence = Vec::new();
        if let Some(log) = &self.log {
            *missing = format!("no line of its output matches `{log}`");
            let line = subject.log.awaited_line().await;
            evidence.push(format!("a line of its output matches `{log}`: {line}"));
        }
        if let (Some(_), Some(port)) = (&self.readiness.port, &port) {
            evidence.push(repeat(missing, || accepts(&subject, port)).await);
        }
        if let (Some(path), Some(port)) = (&self.readiness.http, &port) {
            evidence.push(repeat(missing, || answers(port, path)).await);
        }
        if let Some(command) = &self.readiness.command {
            evidence.push(repeat(missing, || succeeds(&subject, command)).await);
        }
        if evidence.is_empty() {
            evidence.push("it runs; the suite asks for no other sign".into());
        }
        Ok(evidence)
    }

    fn port<'a>(&'a self, address: &'a ServiceAddress) -> Result<Option<Port<'a>>, ServiceError> {
        let found = match &self.readiness.port {
            Some(name) => address.ports.get_key_value(name),
            None if self.readiness.http.is_none() => return Ok(None),
            None if address.ports.len() == 1 => address.ports.first_key_value(),
            None => None,
        };
        if let Some((name, number)) = found {
            return Ok(Some(Port { name, host: &address.host, number: *number }));
        }
        let ports: Vec<&str> = address.ports.keys().map(String::as_str).collect();
        let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
        Err(ServiceError::Config(match &self.readiness.port {
            Some(name) => format!("ready.port is `{name}`; the ports of the service are: {ports}"),
            None => format!("ready.http needs ready.port; the ports of the service are: {ports}"),
        }))
    }
}

/// Tries until it succeeds; a failure is written to `missing`.
async fn repeat<F: Future<Output = Result<String, String>>>(
    missing: &mut String,
    attempt: impl Fn() -> F,
) -> String {
    let (mut interval, longest) = INTERVALS;
    loop {
        match attempt().await {
            Ok(evidence) => return evidence,
            Err(reason) => *missing = reason,
        }
        sleep(interval).await;
        interval = (interval * 2).min(longest);
    }
}

async fn accepts<S: ServicePlugin>(
    subject: &Subject<'_, S>,
    Port { name, host, number }: &Port<'_>,
) -> Result<String, String> {
    let accepts = subject.plugin.accepts(subject.instance, name, (host, *number));
    match timeout(ATTEMPT, accepts).await {
        Ok(Ok(())) => Ok(format!("port {name} ({host}:{number}) accepts connections")),
        Ok(Err(error)) => {
            Err(format!("port {name} ({host}:{number}) takes no connection: {error}"))
        }
        Err(_) => Err(format!("port {name} ({host}:{number}) does not react to connections")),
    }
}

async fn answers(port: &Port<'_>, path: &str) -> Result<String, String> {
    let authority = format!("{}:{}", port.host, port.number);
    let get =
        async { http::get(&connect((port.host, port.number)).await?, &authority, path).await };
    match timeout(ATTEMPT, get).await {
        Ok(Ok(status @ 200..400)) => Ok(format!("GET http://{authority}{path} answered {status}")),
        Ok(Ok(status)) => Err(format!("GET http://{authority}{path} answered {status}")),
        Ok(Err(error)) => Err(format!("GET http://{authority}{path} failed: {error}")),
        Err(_) => Err(format!("GET http://{authority}{path} went without an answer")),
    }
}

/// Connects, and makes sure that somebody else is at the other end: where nobody listens on a port that
/// the system also gives to outgoing connections, a connection may come to meet itself.
pub(super) async fn connect(address: (&str, u16)) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

async fn succeeds<S: ServicePlugin>(
    subject: &Subject<'_, S>,
    command: &[String],
) -> Result<String, String> {
    let id = &subject.request.id;
    let exec = ServiceExec {
        run_id: id.run_id.clone(),
        suite: id.suite.clone(),
        service: Some(id.service.clone()),
        command: command.to_vec(),
        env: Default::default(),
        workdir: None,
        dir: subject.request.dir.clone(),
        timeout: subject.request.spec.start_timeout,
    };
    let shown = command.join(" ");
    match subject.plugin.exec(subject.instance, &exec).await {
        ExecReply::Exited { exit_code: 0, .. } => Ok(format!("`{shown}` exited with 0")),
        ExecReply::Exited { exit_code, stdout, stderr } => {
            let said = stderr.lines().last().or(stdout.lines().last()).unwrap_or("no output");
            Err(format!("`{shown}` exited with {exit_code}: {said}"))
        }
        ExecReply::TimedOut { .. } => Err(format!("`{shown}` did not end")),
        ExecReply::Failed { reason } => Err(format!("`{shown}` could not be run: {reason}")),
    }
}
