//! A host that can be killed with -9: the test's program again, which acts as the host in its test named `host` where
//! variables tell it to, and speaks by lines of standard output.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How often a test kills its host, unless `KILLS` asks for another number.
pub fn rounds(usual: u64) -> u64 {
    std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Says a line, as the host.
pub fn say(sign: char, what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{sign}{what}\n").as_bytes()).unwrap();
}

/// The host, and the lines that it says.
#[derive(Debug)]
pub struct Running {
    host: Child,
    /// What it says; ends with it.
    pub lines: Receiver<String>,
}

impl Running {
    /// Starts a host with these variables.
    pub fn start<'a>(variables: impl IntoIterator<Item = (&'a str, &'a OsStr)>) -> Self {
        let mut host = Command::new(std::env::current_exe().unwrap());
        host.args(["--exact", "host", "--nocapture"]).envs(variables);
        let mut host = host.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(host.stdout.take().unwrap());
        let (sender, lines) = channel();
        // Ends with the host's output.
        std::thread::spawn(move || {
            for line in out.split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { host, lines }
    }

    /// The next line that it says.
    pub fn next(&self) -> String {
        let said = self.lines.recv_timeout(Duration::from_secs(60));
        said.unwrap_or_else(|error| panic!("the host says nothing: {error}"))
    }

    /// Ends it at once; gives what it had said, in whole lines: a pipe takes short ones as a whole.
    pub fn kill(mut self) -> Vec<String> {
        self.host.kill().unwrap();
        self.host.wait().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, but where the test fails.
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}
