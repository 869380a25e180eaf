//! A run of its own for each test, and a look at what the engine has of it.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echo_plugin_container::{Containers, Engine, manifest};
use echo_sdk::contract::RunId;
use echo_sdk::contract::service::{
    self, CleanupReply, ExecReply, LogsReply, ServiceAddress, ServiceCleanup, ServiceExec,
    ServiceId, ServiceLogs, ServiceStart, ServiceStop, StartReply, StopReply,
};
use echo_sdk::service::ServiceKit;
use echo_sdk::testing::{Probe, mock_with};
use echo_sdk::{BaseMessage, Plugin, ProcessingStatus, Topic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const TYPE: &str = "generic_container";
pub const SUITE: &str = "suite";
pub const IMAGE: &str = "echo-core-test/busybox:1";

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A run with a plugin of its own. What it leaves is removed when the test fails.
pub struct Run {
    pub kit: ServiceKit<Containers>,
    pub probe: Probe,
    pub id: RunId,
    pub dir: TempDir,
}

impl Run {
    pub async fn new() -> Self {
        Self::on(None).await
    }

    /// A run on the engine at an address.
    pub async fn on(engine: Option<String>) -> Self {
        if let Err(error) = Engine::find(engine.as_deref()).await {
            panic!("start a Docker engine: scripts/setup-engine ({error})");
        }
        let has_image = docker(&["image", "inspect", IMAGE]).status.success();
        assert!(has_image, "build the images of the tests: scripts/test-images");
        let (context, probe) = mock_with("container", manifest().config);
        let kit = ServiceKit::new(context, Containers::new(engine));
        Self { kit, probe, id: RunId::fresh(), dir: tempfile::tempdir().unwrap() }
    }

    pub fn service(&self, service: &str) -> ServiceId {
        ServiceId { run_id: self.id.clone(), suite: SUITE.to_owned(), service: service.to_owned() }
    }

    /// The request to start a service of the tests' image; `keys` go over the defaults.
    pub fn request(&self, service: &str, keys: Value) -> ServiceStart {
        let mut spec =
            json!({"type": TYPE, "image": IMAGE, "pull": "never", "start_timeout": "30s"});
        let Value::Object(keys) = keys else { panic!("keys are an object") };
        spec.as_object_mut().unwrap().extend(keys);
        ServiceStart {
            id: self.service(service),
            spec: serde_json::from_value(spec).unwrap(),
            dir: Some(self.dir.path().to_owned()),
        }
    }

    pub async fn start(&self, service: &str, keys: Value) -> StartReply {
        self.ask(service::start_topic(TYPE), &self.request(service, keys)).await
    }

    /// Starts a service that has to become ready.
    pub async fn up(&self, service: &str, keys: Value) -> ServiceAddress {
        match self.start(service, keys).await {
            StartReply::Ready { address } => address,
            StartReply::Failed { reason, log } => panic!("{reason}\n{}", log.join("\n")),
        }
    }

    /// Starts a service that must not become ready; gives the reason and its last lines.
    pub async fn refused(&self, service: &str, keys: Value) -> (String, Vec<String>) {
        match self.start(service, keys).await {
            StartReply::Failed { reason, log } => (reason, log),
            StartReply::Ready { .. } => panic!("`{service}` is ready and should not be"),
        }
    }

    pub fn command(&self, service: &str, command: &[&str]) -> ServiceExec {
        ServiceExec {
            run_id: self.id.clone(),
            suite: SUITE.to_owned(),
            service: Some(service.to_owned()),
            command: command.iter().map(|&argument| argument.to_owned()).collect(),
            env: Default::default(),
            workdir: None,
            dir: None,
            timeout: PATIENCE,
        }
    }

    pub async fn exec(&self, command: &ServiceExec) -> ExecReply {
        self.ask(service::exec_topic(TYPE), command).await
    }

    /// What a command that has to succeed writes to standard output.
    pub async fn output(&self, service: &str, command: &[&str]) -> String {
        match self.exec(&self.command(service, command)).await {
            ExecReply::Exited { exit_code: 0, stdout, .. } => stdout,
            other => panic!("{command:?}: {other:?}"),
        }
    }

    pub async fn log(&self, service: &str) -> Vec<String> {
        let logs = ServiceLogs { id: self.service(service), lines: 100 };
        self.ask::<LogsReply>(service::logs_topic(TYPE), &logs).await.lines
    }

    pub async fn stop(&self, service: &str) -> StopReply {
        self.ask(service::stop_topic(TYPE), &ServiceStop { id: self.service(service) }).await
    }

    pub async fn cleanup(&self) -> CleanupReply {
        let cleanup = ServiceCleanup { run_id: self.id.clone() };
        self.ask(format!("service.cleanup.{TYPE}"), &cleanup).await
    }

    /// Cleans up, and makes sure that nothing is left.
    pub async fn finish(self) {
        let CleanupReply { failures, .. } = self.cleanup().await;
        assert_eq!(failures, [""; 0]);
        assert_eq!(self.left(), [""; 0]);
    }

    /// What the engine has of the run, as it lists it itself.
    pub fn left(&self) -> Vec<String> {
        [self.containers(), self.networks(), self.volumes()].concat()
    }

    pub fn containers(&self) -> Vec<String> {
        self.listed(&["ps", "--all", "--format", "{{.Names}}"])
    }

    pub fn networks(&self) -> Vec<String> {
        self.listed(&["network", "ls", "--format", "{{.Name}}"])
    }

    pub fn volumes(&self) -> Vec<String> {
        self.listed(&["volume", "ls", "--format", "{{.Name}}"])
    }

    fn listed(&self, list: &[&str]) -> Vec<String> {
        let filter = format!("label=echo-core.run={}", self.id);
        let listed = docker(&[list, &["--filter", &filter]].concat());
        assert!(listed.status.success(), "{listed:?}");
        String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Gives the plugin a request, and takes its answer.
    async fn ask<R: DeserializeOwned>(&self, topic: String, request: &impl Serialize) -> R {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let reply_to = format!("reply.{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let message = BaseMessage::builder("test").data(request);
        let message = message.reply_to(Topic::new(reply_to.clone()).unwrap()).build().unwrap();
        let topic = Topic::new(topic).unwrap();
        let handled = self.kit.process_message(&topic, &message);
        let status = tokio::time::timeout(PATIENCE, handled).await.expect("an answer in time");
        assert_eq!(status.unwrap(), ProcessingStatus::Acknowledged);
        self.probe.published_on(&reply_to).remove(0).message.json().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let remove = |command: &[&str], names: Vec<String>| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                if !names.is_empty() {
                    docker(&[command, &names].concat());
                }
            };
            remove(&["rm", "--force", "--volumes"], self.containers());
            remove(&["network", "rm"], self.networks());
            remove(&["volume", "rm"], self.volumes());
        }
    }
}

/// The engine's own client, to see what is there without the code that is tested.
pub fn docker(arguments: &[&str]) -> Output {
    let output = Command::new("docker").args(arguments).output();
    output.expect("the docker client runs; install it with scripts/setup-engine")
}

/// What the engine says of a container, by a template of `docker inspect`.
pub fn inspect(name: &str, template: &str) -> String {
    let output = docker(&["inspect", "--format", template, name]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A command that runs until it is told to end.
pub fn obedient() -> Value {
    json!(["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"])
}
