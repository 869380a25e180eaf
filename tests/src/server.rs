//! A NATS server for one test: on a free port, with a folder of its own, gone with the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// How long a server may take to be ready.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A running nats-server with JetStream.
#[derive(Debug)]
pub struct NatsServer {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl NatsServer {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with more lines in its configuration.
    pub fn start_with(configuration: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let text = format!("{configuration}\njetstream {{ store_dir: {:?} }}\n", folder.path());
        fs::write(folder.path().join("server.conf"), text).unwrap();
        // The system picks a port that is free.
        let (process, port) = launch(folder.path(), -1);
        Self { process, port, folder }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, as `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the server at once and starts it again on the same port, with what it had stored.
    pub fn restart(&mut self) {
        self.end();
        (self.process, _) = launch(self.folder.path(), i32::from(self.port));
    }

    fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a server and waits until it says that it is ready and where.
fn launch(folder: &Path, port: i32) -> (Child, u16) {
    let mut process = Command::new("nats-server")
        .arg("--config")
        .arg(folder.join("server.conf"))
        .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("nats-server does not start ({error}); scripts/setup-clients installs it")
        });
    let log = BufReader::new(process.stderr.take().unwrap());
    let (ready_by, ready) = mpsc::channel();
    // Reads to the end of the log, so that the server never waits for room in the pipe.
    std::thread::spawn(move || {
        let (mut port, mut last) = (None, String::new());
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                port = address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
            }
            if line.contains("Server is ready") {
                let _ = ready_by.send(port.ok_or_else(|| "it did not say where".to_owned()));
            }
            last = line;
        }
        let _ = ready_by.send(Err(last));
    });
    match ready.recv_timeout(STARTS_WITHIN) {
        Ok(Ok(port)) => (process, port),
        other => {
            let _ = process.kill();
            panic!("nats-server did not become ready: {other:?}, {:?}", process.wait());
        }
    }
}
