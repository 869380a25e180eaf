//! Commands within a running container.

mod kill;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecInspectResponse;
use echo_sdk::contract::service::{ExecReply, ServiceExec};
use echo_sdk::service::OutputTail;
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::container::Container;
use crate::engine::{Engine, runtime_reason, said};

/// The variable by which a command and its descendants are found when they have to be killed.
pub const MARK: &str = "ECHO_CORE_EXEC";

/// Exit codes with which engines say that the command was not even started.
const NOT_STARTED: [i64; 2] = [126, 127];

/// How much of the output is looked at for the engine's own word, in bytes.
const MAX_BEGINNING: usize = 1024;

/// What a command's standard error ends with when it outlives its time.
const NOT_KILLED: &[u8] =
    b"[the command could not be killed; it goes on until the service is stopped]\n";

/// One command in one container.
#[derive(Debug)]
struct Command {
    engine: Arc<Engine>,
    container: String,
    options: CreateExecOptions<String>,
    mark: String,
    deadline: Instant,
}

/// What a command has written.
#[derive(Debug, Default)]
struct Output {
    stdout: OutputTail,
    stderr: OutputTail,
    /// The first of both, where the engine may have put a word of its own.
    beginning: Vec<u8>,
}

/// Runs a command. When the future is dropped, or the time is over, the command is killed: a task of its
/// own sees it to its end.
pub async fn run(container: &Container, request: &ServiceExec) -> ExecReply {
    let command = Command::new(container, request);
    let (mut answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let reply = command.run(answer.closed()).await;
        // Nobody may wait for it any more by now.
        let _ = answer.send(reply);
    });
    let lost = || ExecReply::Failed { reason: "the plugin is shutting down".to_owned() };
    answered.await.unwrap_or_else(|_| lost())
}

impl Command {
    fn new(container: &Container, request: &ServiceExec) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The last dot keeps 1 from being found in 10.
        let mark = format!("{MARK}={}.{number}.", std::process::id());
        let variables = request.env.iter().map(|(name, value)| format!("{name}={value}"));
        let absolute = |dir: &String| Path::new(&container.workdir).join(dir).display().to_string();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(request.command.clone()),
            env: Some(variables.chain([mark.clone()]).collect()),
            working_dir: request.workdir.as_ref().map(absolute),
            ..Default::default()
        };
        Self {
            engine: container.engine.clone(),
            container: container.id.clone(),
            options,
            mark,
            deadline: Instant::now() + request.timeout,
        }
    }

    /// Runs the command to its end, or to its deadline, or until it is `withdrawn`; it is gone then.
    async fn run(&self, withdrawn: impl Future<Output = ()>) -> ExecReply {
        // Not to be cut off: what is cut off between the request and its answer may or may not start.
        let (id, attached) = match self.begin().await {
            Ok(begun) => begun,
            Err(reason) => return ExecReply::Failed { reason },
        };
        let mut output = Output::default();
        let attended = self.attend(&id, attached, &mut output);
        let ended = tokio::select! {
            ended = timeout_at(self.deadline, attended) => ended.ok(),
            () = withdrawn => None,
        };
        match ended {
            Some(Ok(exit_code)) => {
                let (stdout, stderr) = output.into_texts();
                ExecReply::Exited { exit_code, stdout, stderr }
            }
            Some(Err(reason)) => ExecReply::Failed { reason },
            None => {
                if !self.kill(&id).await {
                    output.stderr.write(NOT_KILLED);
                }
                let (stdout, stderr) = output.into_texts();
                ExecReply::TimedOut { stdout, stderr }
            }
        }
    }

    /// Starts the command; gives the engine's name for it, and its ends.
    async fn begin(&self) -> Result<(String, StartExecResults), String> {
        let docker = self.engine.docker();
        let created = docker.create_exec(&self.container, self.options.clone()).await;
        let id = created.map_err(|error| self.not_run(&said(&error)))?.id;
        let attached = docker.start_exec(&id, None::<StartExecOptions>).await;
        Ok((id, attached.map_err(|error| self.not_run(&said(&error)))?))
    }

    /// Takes what the command writes until it has ended; gives its exit code.
    async fn attend(
        &self,
        id: &str,
        attached: StartExecResults,
        output: &mut Output,
    ) -> Result<i32, String> {
        // The input is held until the end, since closing it could end the output.
        let StartExecResults::Attached { output: mut chunks, input: _input } = attached else {
            return Err(self.not_run("the engine did not attach to it"));
        };
        while let Some(chunk) = chunks.next().await {
            output.take(&chunk.map_err(|error| self.not_run(&said(&error)))?);
        }
        let ended = self.ended(id).await?;
        let exit_code = ended.exit_code.unwrap_or_default();
        if NOT_STARTED.contains(&exit_code) && ended.pid.unwrap_or_default() == 0 {
            let said = String::from_utf8_lossy(&output.beginning);
            if let Some(said) = said.lines().next().filter(|said| is_runtime_s(said)) {
                return Err(self.not_run(said));
            }
        }
        i32::try_from(exit_code).map_err(|_| self.not_run("its exit code is out of range"))
    }

    /// How the command ended. Its output may end before it does, so it is waited for, by the engine's
    /// events.
    async fn ended(&self, id: &str) -> Result<ExecInspectResponse, String> {
        let mut endings = None;
        loop {
            let seen = self.look(id).await?;
            if is_over(&seen) {
                return Ok(seen);
            }
            let endings = endings.get_or_insert_with(|| self.engine.endings(&self.container, id));
            endings.next().await.ok_or_else(|| self.not_run("the engine hung up"))?;
        }
    }

    async fn look(&self, id: &str) -> Result<ExecInspectResponse, String> {
        let seen = self.engine.docker().inspect_exec(id).await;
        seen.map_err(|error| self.not_run(&said(&error)))
    }

    fn not_run(&self, said: &str) -> String {
        let program = self.options.cmd.iter().flatten().next().map_or("", |program| program);
        format!("`{program}` could not be run: {}", runtime_reason(said))
    }
}

impl Output {
    fn take(&mut self, chunk: &LogOutput) {
        match chunk {
            LogOutput::StdErr { message } => {
                self.begin_with(message);
                self.stderr.write(message);
            }
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                self.begin_with(message);
                self.stdout.write(message);
            }
            LogOutput::StdIn { .. } => {}
        }
    }

    fn begin_with(&mut self, bytes: &[u8]) {
        let room = MAX_BEGINNING.saturating_sub(self.beginning.len());
        self.beginning.extend(bytes.iter().take(room));
    }

    fn into_texts(self) -> (String, String) {
        (self.stdout.into_text(), self.stderr.into_text())
    }
}

/// Whether a command has run and ended. One that has not started does not run either: Docker then has no
/// exit code for it, and Podman one of 0 and no process, but has it removable at its end.
fn is_over(seen: &ExecInspectResponse) -> bool {
    let has_process = seen.pid.unwrap_or_default() != 0;
    let is_told = |code: i64| code != 0 || has_process || seen.can_remove == Some(true);
    seen.running != Some(true) && seen.exit_code.is_some_and(is_told)
}

/// Whether a line is the engine's word for a command that was not started, and not the command's own:
/// Docker's begins with it, Podman's ends with it.
fn is_runtime_s(line: &str) -> bool {
    line.starts_with("OCI runtime exec failed: ")
        || line.starts_with("Error: ") && line.contains(": OCI ")
}
