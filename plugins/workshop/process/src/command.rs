//! A command from its start to its end, with what it wrote.

use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use echo_sdk::contract::service::ExecReply;
use echo_sdk::service::OutputTail;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::timeout;

use crate::group::{Group, Launch, Launched, Yard};

/// How long output is still read after a process has ended, when another one keeps the pipe open.
const DRAIN: Duration = Duration::from_millis(250);

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// What becomes of a group whose leader has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is killed: a service is over.
    Killed,
    /// It runs on: a command may leave something running behind itself, until its run or service ends.
    Spared,
}

/// Runs a command to its end, or kills it with its group when it takes too long. Dropping the future
/// kills it likewise.
pub(crate) async fn run(yard: &Yard, launch: Launch<'_>, limit: Duration) -> ExecReply {
    let name = launch.command.first().cloned().unwrap_or_default();
    let Launched { mut child, group } = match yard.launch(launch) {
        Ok(launched) => launched,
        Err(reason) => return ExecReply::Failed { reason },
    };
    let (mut out, mut err) = (OutputTail::default(), OutputTail::default());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        tokio::join!(
            read(stdout, |piece| out.write(piece)),
            read(stderr, |piece| err.write(piece)),
        );
    };
    let (status, timed_out) = to_end(&mut child, &group, reading, Some(limit), Rest::Spared).await;
    let (stdout, stderr) = (out.into_text(), err.into_text());
    match status {
        _ if timed_out => ExecReply::TimedOut { stdout, stderr },
        Ok(status) => ExecReply::Exited { exit_code: exit_code(status), stdout, stderr },
        Err(error) => {
            ExecReply::Failed { reason: format!("the end of `{name}` could not be seen: {error}") }
        }
    }
}

/// Reads a process's output until it has ended; past a limit, its group is killed. Says how it ended, and
/// whether the limit had passed.
pub(crate) async fn to_end(
    child: &mut Child,
    group: &Group,
    reading: impl Future<Output = ()>,
    limit: Option<Duration>,
    rest: Rest,
) -> (io::Result<ExitStatus>, bool) {
    let mut reading = pin!(reading);
    let mut read_up = false;
    let mut deadline = pin!(tokio::time::sleep(limit.unwrap_or(Duration::MAX)));
    let mut timed_out = false;
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status,
            () = &mut reading, if !read_up => read_up = true,
            () = &mut deadline, if !timed_out => {
                timed_out = true;
                group.signal(Signal::KILL);
            }
        }
    };
    group.close(rest == Rest::Killed);
    if !read_up {
        // What has been written is there at once; only for more is there a limit.
        let _ = timeout(DRAIN, reading).await;
    }
    (status, timed_out)
}

/// Reads a pipe to its end.
pub(crate) async fn read(pipe: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        take(piece.get(..count).unwrap_or_default());
    }
}

/// The exit code; 128 and the signal's number when a signal ended it.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// How a process ended, for people: `exit code 3`, `signal 9 (SIGKILL)`.
pub(crate) fn ending(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match status.code() {
            Some(code) => format!("exit code {code}"),
            None => status.to_string().replacen("signal: ", "signal ", 1),
        },
        Err(error) => format!("in a way that could not be seen: {error}"),
    }
}
