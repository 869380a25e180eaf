//! A NATS server of the bench's own: on a free port of loopback, ended with the case.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::BenchError;

const PEER: &str = "nats-server";

/// How long the server may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// What stands in the server's log before its address.
const LISTENING: &str = "Listening for client connections on ";

/// What the server says when it takes connections.
const READY: &str = "Server is ready";

/// A running server; killed and waited for when it is dropped.
pub(crate) struct NatsServer {
    process: Child,
    address: String,
    /// Where JetStream keeps its files; removed with the server.
    _files: TempDir,
}

impl NatsServer {
    /// Starts a server with JetStream, as it is without a configuration.
    pub(crate) fn start() -> Result<Self, BenchError> {
        let files = tempfile::tempdir()?;
        let mut process = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir"])
            .arg(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| BenchError::Peer {
                peer: PEER,
                fault: format!("did not start ({error}); install it so that it is in the PATH"),
            })?;
        let log = process.stderr.take();
        let mut server = Self { process, address: String::new(), _files: files };
        let (tell, told) = mpsc::channel();
        // Reads the log to its end, so that the server never waits for somebody to read it; ends with it.
        std::thread::spawn(move || {
            let mut address = None;
            for line in log.into_iter().flat_map(|log| BufReader::new(log).lines()) {
                let Ok(line) = line else { return };
                if let Some((_, found)) = line.split_once(LISTENING) {
                    address = Some(found.trim().to_owned());
                }
                if line.contains(READY)
                    && let Some(address) = address.take()
                {
                    // Nobody listens any more when the patience is over.
                    let _ = tell.send(address);
                }
            }
        });
        server.address = told.recv_timeout(PATIENCE).map_err(|_| BenchError::Peer {
            peer: PEER,
            fault: "was not ready in time; run it by hand to see what it says".to_owned(),
        })?;
        Ok(server)
    }

    /// Its address, as clients take it.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
