//! A host that stays, with doors on free ports and a state folder of its own.

use super::{Folder, Ran, Running};

/// A host that said that it is ready; killed when dropped.
pub struct Host {
    running: Running,
    /// The line that it printed.
    pub ready: String,
}

impl Host {
    pub fn start(folder: &Folder, args: &[&str]) -> Self {
        let mut command = folder.command(&[&["serve"], args].concat());
        command.env("ECHO_GATEWAY__NATS", "127.0.0.1:0").env("ECHO_GATEWAY__HTTP", "127.0.0.1:0");
        let mut running = Running::spawn(command);
        let ready = running.until_out("ready");
        Self { running, ready }
    }

    /// What stands behind `name=` in the line.
    pub fn said(&self, name: &str) -> &str {
        let found = self
            .ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.ready))
    }

    /// Ends it as a supervisor does.
    pub fn end(self) -> Ran {
        self.running.signal("TERM");
        self.running.end()
    }

    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }
}
