//! Processes that left their group, known by a variable of the environment that they inherited.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// How often the processes are looked through: one that starts others while it is looked for is found in
/// a later round.
const ROUNDS: usize = 8;

/// A variable of the environment with its value.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Vec<u8>);

impl Mark {
    /// The mark of a service and of all that was run within it: its scratch folder.
    pub(crate) fn of_service(scratch: &Path) -> Self {
        Self([b"ECHO_SCRATCH=", scratch.as_os_str().as_bytes()].concat())
    }

    /// The mark of all that a host runs for a run.
    pub(crate) fn of_run(track: &[u8]) -> Self {
        Self([b"ECHO_TRACK=", track].concat())
    }

    /// Kills all that carry the mark and says what they were. Where there is no /proc, it finds nothing.
    /// Reads files, so it blocks the thread for some milliseconds.
    pub(crate) fn kill_all(&self) -> Vec<String> {
        let mut killed: Vec<(Pid, String)> = Vec::new();
        for _ in 0..ROUNDS {
            let mut found = self.bearers();
            found.retain(|(pid, _)| !killed.iter().any(|(known, _)| known == pid));
            if found.is_empty() {
                break;
            }
            for (pid, _) in &found {
                // It may have ended meanwhile.
                let _ = kill_process(*pid, Signal::KILL);
            }
            killed.append(&mut found);
        }
        killed.into_iter().map(|(pid, name)| format!("process {pid} ({name})")).collect()
    }

    fn bearers(&self) -> Vec<(Pid, String)> {
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let bearer = |entry: fs::DirEntry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            // Of others' processes it cannot be read; they are not ours.
            let environ = fs::read(entry.path().join("environ")).ok()?;
            let bears = environ.split(|byte| *byte == 0).any(|variable| variable == self.0);
            let name = || fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            bears.then(|| (pid, name().trim_end().to_owned()))
        };
        processes.flatten().filter_map(bearer).collect()
    }
}
