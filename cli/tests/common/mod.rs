//! Runs the program in a folder of the test's own.

#![allow(dead_code, reason = "not every test file uses all of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test whose surroundings fail has failed")]

pub mod host;
pub mod project;
pub mod server;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

/// A folder of the test's own, removed at its end.
pub struct Folder(tempfile::TempDir);

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// The program in this folder, with nothing of the caller's that it would listen to.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echo-core"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for name in ["ECHO_URL", "ECHO_CONFIG", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", self.path().join("state"));
        command
    }

    /// Runs it to its end, against the bus at this address.
    pub fn run_at(&self, url: &str, args: &[&str]) -> Ran {
        Ran::of(self.command(args).env("ECHO_URL", url).output().unwrap())
    }

    /// Runs it to its end, with this on its standard input.
    pub fn run_with(&self, input: &str, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        Ran::of(child.wait_with_output().unwrap())
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs it to an end with this code.
    #[track_caller]
    pub fn expect(&self, expected: i32, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, expected, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran
    }
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { code: code(output.status), stdout, stderr }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// Each line of standard output as JSON.
    pub fn lines(&self) -> Vec<Value> {
        lines(&self.stdout)
    }
}

/// Each line of a text as JSON.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
}

/// A program that is still running, followed by its standard error; killed when dropped.
pub struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: BufReader<std::process::ChildStderr>,
    seen: String,
}

impl Running {
    pub fn start(folder: &Folder, args: &[&str]) -> Self {
        Self::spawn(folder.command(args))
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr, seen: String::new() }
    }

    /// Waits for a line of standard error that holds this, and gives it.
    #[track_caller]
    pub fn until(&mut self, wanted: &str) -> String {
        wait_for(&mut self.stderr, wanted, &mut self.seen)
    }

    /// Waits for a line of standard output that holds this, and gives it.
    #[track_caller]
    pub fn until_out(&mut self, wanted: &str) -> String {
        wait_for(&mut self.stdout, wanted, &mut self.seen)
    }

    /// What is open in it: where the links of its file descriptors lead.
    pub fn open(&self) -> Vec<String> {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let links = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent =
            Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ran {
        let mut stdout = String::new();
        // The rest of standard error is small; standard output holds the summary.
        self.stderr.read_to_string(&mut self.seen).unwrap();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        Ran { code: code(status), stdout, stderr: std::mem::take(&mut self.seen) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_for(lines: &mut impl BufRead, wanted: &str, seen: &mut String) -> String {
    loop {
        let mut line = String::new();
        let len = lines.read_line(&mut line).unwrap();
        assert!(len > 0, "it ended without `{wanted}`:\n{seen}");
        seen.push_str(&line);
        if line.contains(wanted) {
            return line;
        }
    }
}

/// Waits for what other processes bring about, looking again and again, ten seconds at most.
#[track_caller]
pub fn eventually(is_so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < std::time::Duration::from_secs(10), "it did not come so far");
        std::thread::yield_now();
    }
}

/// The command lines of this machine's processes that hold a text.
pub fn processes_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let command_lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = command_lines.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    texts.filter(|line| line.contains(text)).collect()
}
