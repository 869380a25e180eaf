//! Services of the type `process`.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use echo_sdk::contract::service::{ExecReply, ServiceAddress, ServiceExec, ServiceStart};
use echo_sdk::contract::suite::{Readiness, ServiceSpec};
use echo_sdk::service::{LogSink, Scope, ServiceError, ServicePlugin, Stream};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::command::{self, Rest};
use crate::config::{PortKeys, ProcessConfig};
use crate::environment::{self, Environment, port_variable};
use crate::group::{Group, Launch, Launched, Yard, kill_marked, no_scratch};
use crate::marks::Mark;
use crate::ports::{HeldPort, PortPool};

/// Where services of this type are reached.
const HOST: &str = "127.0.0.1";

/// The service type `process`.
#[derive(Debug)]
pub(crate) struct Processes {
    yard: Arc<Yard>,
    ports: PortPool,
}

/// A program that runs, or has ended and was not stopped yet.
#[derive(Debug)]
pub(crate) struct Process {
    group: Arc<Group>,
    ports: Vec<(String, HeldPort)>,
    environment: Environment,
    workdir: PathBuf,
    /// The folder that relative folders start from.
    dir: PathBuf,
    /// How it ended, once it has.
    ending: watch::Receiver<Option<String>>,
    watcher: Mutex<Option<JoinHandle<()>>>,
    scratch: Mutex<Option<TempDir>>,
}

impl Processes {
    pub(crate) fn new(yard: Arc<Yard>) -> Self {
        Self { yard, ports: PortPool::default() }
    }

    fn take_ports(&self, keys: &PortKeys) -> Result<Vec<(String, HeldPort)>, ServiceError> {
        let take = |(name, number): &(String, u16)| {
            self.ports.take(name, *number).map(|port| (name.clone(), port))
        };
        keys.0.iter().map(take).collect()
    }
}

impl ServicePlugin for Processes {
    type Instance = Process;

    fn service_type(&self) -> &str {
        "process"
    }

    async fn start(&self, request: &ServiceStart, log: LogSink) -> Result<Process, ServiceError> {
        let config = ProcessConfig::of(request)?;
        let scratch = self.yard.scratch(&request.id.service);
        let scratch = scratch.map_err(|error| ServiceError::Failed(no_scratch(&error)))?;
        let ports = self.take_ports(&config.ports)?;
        let environment = environment_of(request, &config, scratch.path(), &ports);
        let dir = request.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
        let workdir = dir.join(config.workdir.unwrap_or_default());
        let launch = Launch {
            run_id: &request.id.run_id,
            command: &config.command,
            environment: environment.clone(),
            workdir: &workdir,
        };
        let launched = self.yard.launch(launch).map_err(ServiceError::Unavailable)?;
        let group = launched.group.clone();
        let (ended, ending) = watch::channel(None);
        let watcher = Mutex::new(Some(tokio::spawn(watch_over(launched, log, ended))));
        let scratch = Mutex::new(Some(scratch));
        Ok(Process { group, ports, environment, workdir, dir, ending, watcher, scratch })
    }

    fn address(&self, process: &Process) -> ServiceAddress {
        let ports = process.ports.iter().map(|(name, port)| (name.clone(), port.number)).collect();
        let instance = process.group.id().as_raw_nonzero().to_string();
        ServiceAddress { host: HOST.to_owned(), ports, instance, peers: None }
    }

    /// Its first port accepts connections; a service without ports is ready when it runs.
    fn default_readiness(&self, spec: &ServiceSpec) -> Readiness {
        let ports = spec.config.get("ports").and_then(|ports| PortKeys::of(ports).ok());
        let first = ports.and_then(|ports| ports.0.into_iter().next());
        Readiness { port: first.map(|(name, _)| name), ..Readiness::default() }
    }

    async fn exec(&self, process: &Process, request: &ServiceExec) -> ExecReply {
        let mut environment = process.environment.clone();
        environment::extend(&mut environment, &request.env);
        let workdir = match &request.workdir {
            Some(workdir) => process.dir.join(workdir),
            None => process.workdir.clone(),
        };
        let (run_id, command) = (&request.run_id, request.command.as_slice());
        let launch = Launch { run_id, command, environment, workdir: &workdir };
        command::run(&self.yard, launch, request.timeout).await
    }

    async fn ended(&self, process: &Process) -> String {
        let mut ending = process.ending.clone();
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or_default(),
            Err(_) => "unseen, because the plugin stopped watching it".to_owned(),
        }
    }

    async fn ended_by_itself(&self, process: &Process) -> bool {
        process.group.ended_by_itself()
    }

    async fn stop(&self, process: &Process, limit: Duration) -> Result<(), ServiceError> {
        process.group.signal(Signal::TERM);
        if timeout(limit, self.ended(process)).await.is_err() {
            process.group.signal(Signal::KILL);
            self.ended(process).await;
        }
        let watcher = process.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher {
            // It has said how the process ended, which is the last that it does.
            let _ = watcher.await;
        }
        let scratch = process.scratch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(scratch) = scratch else { return Ok(()) };
        kill_marked(Mark::of_service(scratch.path())).await;
        let path = scratch.path().to_owned();
        match spawn_blocking(move || scratch.close()).await {
            Ok(Err(error)) => Err(ServiceError::Failed(format!(
                "its scratch folder {} could not be removed: {error}",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    async fn cleanup(&self, scope: Scope<'_>) -> Result<Vec<String>, ServiceError> {
        match scope {
            // A start is cut off before it has begun or not at all: nothing in it waits.
            Scope::Service(_) => Ok(Vec::new()),
            Scope::Run(run_id) => Ok(self.yard.end_run(run_id).await),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let watcher = self.watcher.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = watcher {
            watcher.abort();
        }
        self.group.signal(Signal::KILL);
    }
}

/// Reads what a program writes until it has ended, and then says how.
async fn watch_over(launched: Launched, log: LogSink, ended: watch::Sender<Option<String>>) {
    let Launched { mut child, group } = launched;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (log.writer(Stream::Stdout), log.writer(Stream::Stderr));
    let reading = async move {
        tokio::join!(
            command::read(stdout, |piece| out.write(piece)),
            command::read(stderr, |piece| err.write(piece)),
        );
    };
    let (status, _) = command::to_end(&mut child, &group, reading, None, Rest::Killed).await;
    group.note_ending(status.as_ref().ok().and_then(ExitStatusExt::signal));
    ended.send_replace(Some(command::ending(status)));
}

fn environment_of(
    request: &ServiceStart,
    config: &ProcessConfig,
    scratch: &Path,
    ports: &[(String, HeldPort)],
) -> Environment {
    let mut environment = environment::of_host(config.inherit_env);
    let id = &request.id;
    environment::extend(
        &mut environment,
        [
            ("ECHO_RUN_ID", id.run_id.as_str()),
            ("ECHO_SUITE", &id.suite),
            ("ECHO_SERVICE", &id.service),
        ],
    );
    let numbers = ports.iter().map(|(name, port)| (port_variable(name), port.number.to_string()));
    environment::extend(&mut environment, numbers);
    let first = ports.first().map(|(_, port)| ("PORT", port.number.to_string()));
    environment::extend(&mut environment, first);
    environment::extend(&mut environment, &config.env);
    // Last, for what is left of the service is known by it.
    environment::extend(&mut environment, [("ECHO_SCRATCH", scratch)]);
    environment
}
