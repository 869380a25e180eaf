//! A small shell process that outlives the host, so that even a host that is killed leaves nothing.
//!
//! It reads from a pipe which process groups live. The pipe ends with the host, however the host ends:
//! then the guardian kills what is left and removes the scratch folder. It needs nothing but `sh`, and no
//! hook between fork and exec, which could not be written without `unsafe`.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Pid;

/// The guardian's end of the host.
#[derive(Debug)]
pub(crate) struct Guardian {
    process: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guardian {
    /// Starts the guardian of a scratch folder, and of all processes that carry its mark.
    pub(crate) fn start(scratch: &Path) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("guardian.sh"), "echo-guardian"]).arg(scratch);
        // Without the marks, which it looks for in others; in a group of its own, which Ctrl-C spares.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn()?;
        let pipe = process.stdin.take();
        if let Some(pipe) = &pipe {
            // A guardian that was stopped must not stop the host: a full pipe refuses.
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(Self { process, pipe: Mutex::new(pipe) })
    }

    /// Takes a process group into its care.
    pub(crate) fn watch(&self, group: Pid) {
        self.tell('+', group);
    }

    /// Lets go of a process group, whose number may soon be another's.
    pub(crate) fn release(&self, group: Pid) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: Pid) {
        let line = format!("{sign} {}\n", group.as_raw_nonzero());
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut() {
            // Lines this short are written as a whole or not at all. When it fails, somebody has killed
            // or stopped the guardian; it is a second net, so the host goes on without.
            let _ = pipe.write_all(line.as_bytes());
        }
    }

    /// Lets the guardian do its last work, and waits for its end. Blocks the thread.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.process.wait().map(drop)
    }
}
