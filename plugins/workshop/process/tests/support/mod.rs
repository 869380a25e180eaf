//! The plugin on a mock bus, and a way to see real processes end.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;
use std::time::Duration;

use echo_plugin_process::ProcessPlugin;
use echo_sdk::testing::{Probe, mock, request};
use echo_sdk::{Plugin, ProcessingStatus, Topic};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits for so long has failed.
pub const LONG: Duration = Duration::from_secs(30);

/// A web server on `$PORT` that writes `serving` when it is told so by nobody but itself.
pub const WEB: &str = "import http.server, os
server = http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler)
print('serving', flush=True)
server.serve_forever()";

pub struct Bench {
    pub plugin: ProcessPlugin,
    pub probe: Probe,
    /// The suite's folder.
    pub dir: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let (context, probe) = mock("process");
        Self { plugin: ProcessPlugin::new(context), probe, dir: tempfile::tempdir().unwrap() }
    }

    /// Asks, and gives the reply.
    pub async fn ask(&self, topic: &str, data: Value) -> Value {
        let topic = Topic::new(topic).unwrap();
        let message = request(&data);
        let handled = self.plugin.process_message(&topic, &message);
        let status = tokio::time::timeout(LONG, handled).await.expect("an answer in time").unwrap();
        assert_eq!(status, ProcessingStatus::Acknowledged);
        self.probe.replies().pop().unwrap().message.json().unwrap()
    }

    pub async fn start(&self, service: &str, keys: Value) -> Value {
        self.ask("service.start.process", self.start_data(service, keys)).await
    }

    pub fn start_data(&self, service: &str, keys: Value) -> Value {
        let mut data = id(service);
        data["spec"] = keys;
        data["spec"]["type"] = json!("process");
        data["dir"] = json!(self.dir.path());
        data
    }

    /// Starts a shell script that is ready when it has written a line that begins with `up`; gives the
    /// rest of that line.
    pub async fn start_script(&self, service: &str, script: &str) -> String {
        let keys = json!({ "command": ["sh", "-c", script], "ready": { "log": "^up" } });
        let reply = self.start(service, keys).await;
        assert_eq!(reply["result"], "ready", "{reply}");
        let lines = self.lines(service).await;
        let up = lines.iter().find_map(|line| line.strip_prefix("up"));
        up.expect("it was ready").trim().to_owned()
    }

    pub async fn lines(&self, service: &str) -> Vec<String> {
        let mut data = id(service);
        data["lines"] = json!(1000);
        let reply = self.ask("service.logs.process", data).await;
        serde_json::from_value(reply["lines"].clone()).unwrap()
    }

    pub async fn stop(&self, service: &str) -> Value {
        self.ask("service.stop.process", id(service)).await
    }

    /// Runs a command on this machine.
    pub async fn run(&self, command: &[&str]) -> Value {
        self.ask("service.exec.local", self.exec_data(None, command)).await
    }

    pub async fn run_in(&self, service: &str, command: &[&str]) -> Value {
        self.ask("service.exec.process", self.exec_data(Some(service), command)).await
    }

    pub fn exec_data(&self, service: Option<&str>, command: &[&str]) -> Value {
        let mut data =
            json!({ "run_id": "r1", "suite": "s", "command": command, "timeout": "20s" });
        data["dir"] = json!(self.dir.path());
        if let Some(service) = service {
            data["service"] = json!(service);
        }
        data
    }

    pub async fn event<T: serde::de::DeserializeOwned>(&self, topic: &str) -> T {
        let next = tokio::time::timeout(LONG, self.probe.next(topic));
        next.await.expect("the event in time").message.json().unwrap()
    }
}

pub fn id(service: &str) -> Value {
    json!({ "run_id": "r1", "suite": "s", "service": service })
}

pub fn reason(reply: &Value) -> &str {
    assert_eq!(reply["result"], "failed", "{reply}");
    reply["reason"].as_str().unwrap()
}

pub fn stdout(reply: &Value) -> &str {
    assert_eq!(reply["result"], "exited", "{reply}");
    reply["stdout"].as_str().unwrap()
}

/// Waits until all of the processes, whose ids stand in the text, have ended.
pub async fn ended(pids: &str) {
    assert!(!pids.trim().is_empty());
    for pid in pids.split_whitespace() {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let limit = Timespec::try_from(LONG).unwrap();
        let wait = move || poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit));
        let ends = tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
        assert_eq!(ends, 1, "process {pid:?} lives on");
    }
}

/// Whether a process runs.
pub fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

pub fn is_empty(folder: &Path) -> bool {
    folder.read_dir().unwrap().next().is_none()
}

/// Asserts that the output of `env` has each variable of this process.
pub fn assert_host_environment(env: &str) {
    for (name, _) in std::env::vars() {
        let start = format!("{name}=");
        assert!(env.lines().any(|line| line.starts_with(&start)), "{name} is missing");
    }
}
