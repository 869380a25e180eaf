//! A NATS server of the test's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::Folder;

/// A server that is ready; killed when dropped.
pub struct NatsServer {
    child: Child,
    address: String,
}

impl NatsServer {
    /// Starts one on a free port of this machine.
    pub fn start(folder: &Folder, args: &[&str]) -> Self {
        Self::start_at(folder, "-1", args)
    }

    /// Starts one on a port.
    pub fn start_at(folder: &Folder, port: &str, args: &[&str]) -> Self {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", port]).args(args).current_dir(folder.path());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`apt-get install nats-server` for this test: {error}"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let listening = "Listening for client connections on ";
        let mut said = Vec::new();
        let address = lines.by_ref().find_map(|line| {
            let address = line.split_once(listening).map(|(_, address)| address.to_owned());
            said.push(line);
            address
        });
        let address = address.unwrap_or_else(|| panic!("nats-server ended: {said:#?}"));
        assert!(lines.any(|line| line.contains("Server is ready")));
        // Whoever writes to a pipe that nobody reads stops.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Its address, with nobody's name in it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Its address for whoever shows this: a token, or a user with a password.
    pub fn url_as(&self, who: &str) -> String {
        format!("nats://{who}@{}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
