//! Killing a command within a container, for which engines have no call.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use tokio::time::{sleep, timeout};

use super::{Command, is_over};

/// How long a command that was killed may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);

/// How soon it is looked whether it is, for the first time; each further look is twice as late.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// Kills every process whose environment holds the text `$0`. It takes a shell and `tr` in the image; not
/// every grep finds text in a file with zero bytes.
const KILL_MARKED: &str = r#"
for process in /proc/[0-9]*; do
    case "$(tr '\0' '\n' <"$process/environ")" in
        *"$0"*) kill -9 "${process#/proc/}" ;;
    esac
done 2>/dev/null"#;

impl Command {
    /// Kills the command; whether it is gone then.
    ///
    /// Where this machine sees the process and may end it, that is done directly, and nothing has to be
    /// in the image. Else a second command within the container looks for the first one by its mark.
    pub(super) async fn kill(&self, id: &str) -> bool {
        timeout(KILL_TIMEOUT, self.kill_until_over(id)).await.is_ok()
    }

    /// A command that is only just being started has no process yet, and no event tells when it has: the
    /// engine's own comes before. So it is looked for again.
    async fn kill_until_over(&self, id: &str) {
        let mut interval = FIRST_LOOK;
        while let Ok(seen) = self.look(id).await
            && !is_over(&seen)
        {
            let pid = seen.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid
                && !(self.engine.is_local() && self.kill_from_here(pid))
            {
                self.kill_from_within().await;
            }
            sleep(interval).await;
            interval *= 2;
        }
    }

    /// Kills the process and its group, if the number means that process here: the engine may count in
    /// another namespace or on another machine.
    fn kill_from_here(&self, pid: Pid) -> bool {
        let cgroup = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
        let is_ours =
            std::fs::read_to_string(cgroup).is_ok_and(|text| text.contains(&self.container));
        if !is_ours {
            return false;
        }
        match getpgid(Some(pid)) {
            // Runtimes start a command as the leader of a group of its own.
            Ok(group) if group == pid => kill_process_group(pid, Signal::KILL).is_ok(),
            _ => kill_process(pid, Signal::KILL).is_ok(),
        }
    }

    async fn kill_from_within(&self) {
        let command = ["sh", "-c", KILL_MARKED, &self.mark].map(str::to_owned);
        let options = CreateExecOptions { cmd: Some(command.to_vec()), ..Default::default() };
        let docker = self.engine.docker();
        if let Ok(created) = docker.create_exec(&self.container, options).await {
            let detached = StartExecOptions { detach: true, ..Default::default() };
            // Whether it worked shows in whether the command ends.
            let _ = docker.start_exec(&created.id, Some(detached)).await;
        }
    }
}
