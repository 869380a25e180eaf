//! Process groups: a program together with all that it starts.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use echo_sdk::contract::RunId;
use echo_sdk::{LogLevel, PluginContext};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

use crate::environment::Environment;
use crate::guardian::Guardian;
use crate::marks::Mark;

/// Where everything is started, and what it takes to be sure that it ends.
#[derive(Debug)]
pub(crate) struct Yard {
    context: PluginContext,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ground: Option<Ground>,
    /// The groups that may live, by run.
    groups: Vec<(RunId, Weak<Group>)>,
}

/// The folder of all scratch folders with its guardian; made with the first process.
#[derive(Debug)]
struct Ground {
    folder: TempDir,
    guardian: Option<Arc<Guardian>>,
}

/// A program that is to be started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) command: &'a [String],
    pub(crate) environment: Environment,
    pub(crate) workdir: &'a Path,
}

/// A program that was started: its process, and the group that it leads.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) group: Arc<Group>,
}

impl Yard {
    pub(crate) fn new(context: PluginContext) -> Self {
        Self { context, state: Mutex::default() }
    }

    /// A new scratch folder; dropping it removes it.
    pub(crate) fn scratch(&self, name: &str) -> io::Result<TempDir> {
        let folder = self.folder()?;
        tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(folder)
    }

    /// Starts a program as the leader of a group of its own, with its output to be read.
    ///
    /// # Errors
    /// A sentence that names the program, and what is missing.
    pub(crate) fn launch(&self, launch: Launch<'_>) -> Result<Launched, String> {
        let Launch { run_id, command, environment, workdir } = launch;
        let [program, arguments @ ..] = command else { return Err("the command is empty".into()) };
        let track = self.track(run_id).map_err(|error| no_scratch(&error))?;
        let path = environment.get::<std::ffi::OsStr>("PATH".as_ref()).cloned();
        let mut builder = Command::new(program);
        builder.args(arguments).env_clear().envs(environment).env("ECHO_TRACK", track);
        builder.current_dir(workdir).process_group(0).kill_on_drop(true);
        builder.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = builder.spawn().map_err(|error| refusal(program, workdir, path, &error))?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let Some(id) = id else { return Err(format!("`{program}` has no process id")) };
        let mut state = self.state();
        let guardian = state.ground.as_ref().and_then(|ground| ground.guardian.clone());
        let group = Arc::new(Group::new(id, guardian));
        state.groups.retain(|(_, group)| group.strong_count() > 0);
        state.groups.push((run_id.clone(), Arc::downgrade(&group)));
        Ok(Launched { child, group })
    }

    /// Kills all that still runs for a run, and says what had left its group.
    pub(crate) async fn end_run(&self, run_id: &RunId) -> Vec<String> {
        let groups: Vec<_> = {
            let state = self.state();
            let of_run = state.groups.iter().filter(|(run, _)| run == run_id);
            of_run.filter_map(|(_, group)| group.upgrade()).collect()
        };
        groups.iter().for_each(|group| group.signal(Signal::KILL));
        match self.track(run_id) {
            Ok(track) => kill_marked(Mark::of_run(track.as_encoded_bytes())).await,
            // Nothing can have been started without a folder.
            Err(_) => Vec::new(),
        }
    }

    /// Lets the guardian remove what is left; another is started with the next process.
    pub(crate) async fn close(&self) {
        let Some(Ground { folder, guardian }) = self.state().ground.take() else { return };
        let finished = spawn_blocking(move || {
            if let Some(guardian) = guardian.and_then(Arc::into_inner) {
                guardian.finish()?;
            }
            match folder.close() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        });
        if let Ok(Err(error)) = finished.await {
            let text = format!("the scratch folder of the processes was not removed: {error}");
            self.context.log(LogLevel::Warn, &text);
        }
    }

    /// The value of the variable that marks all that is started for a run.
    fn track(&self, run_id: &RunId) -> io::Result<OsString> {
        let mut track = self.folder()?.into_os_string();
        track.push(":");
        track.push(run_id.as_str());
        Ok(track)
    }

    fn folder(&self) -> io::Result<PathBuf> {
        let mut state = self.state();
        if let Some(ground) = &state.ground {
            return Ok(ground.folder.path().to_owned());
        }
        let folder = tempfile::Builder::new().prefix("echo-core-").tempdir()?;
        let guardian = match Guardian::start(folder.path()) {
            Ok(guardian) => Some(Arc::new(guardian)),
            Err(error) => {
                let text =
                    format!("processes will outlive a host that is killed: no `sh`: {error}");
                self.context.log(LogLevel::Warn, &text);
                None
            }
        };
        let path = folder.path().to_owned();
        state.ground = Some(Ground { folder, guardian });
        Ok(path)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process group. It is killed when this is dropped, unless its leader has ended before.
#[derive(Debug)]
pub(crate) struct Group {
    id: Pid,
    guardian: Option<Arc<Guardian>>,
    fate: Mutex<Fate>,
}

/// What is known of a group's leader.
#[derive(Debug, Default)]
struct Fate {
    /// It has ended and was reaped, so its number may be another's.
    over: bool,
    /// The signals that were sent from here.
    sent: Vec<i32>,
    /// The signal that ended it.
    ended_by: Option<i32>,
}

impl Group {
    fn new(id: Pid, guardian: Option<Arc<Guardian>>) -> Self {
        if let Some(guardian) = &guardian {
            guardian.watch(id);
        }
        Self { id, guardian, fate: Mutex::default() }
    }

    /// The id of the group and of its leader.
    pub(crate) fn id(&self) -> Pid {
        self.id
    }

    /// Sends a signal to all of the group, while its number is known to be its own.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut fate = self.fate();
        if !fate.over {
            fate.sent.push(signal.as_raw());
            // The group may have ended by itself.
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Whether its leader has ended for another reason than a signal from here, be it that nobody has
    /// noticed yet. An exit after a signal was sent is an answer to it.
    pub(crate) fn ended_by_itself(&self) -> bool {
        let fate = self.fate();
        if fate.sent.is_empty() {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            return fate.over || !matches!(waitid(WaitId::Pid(self.id), look), Ok(None));
        }
        fate.ended_by.is_some_and(|signal| !fate.sent.contains(&signal))
    }

    /// Notes which signal ended the leader, if one did.
    pub(crate) fn note_ending(&self, signal: Option<i32>) {
        self.fate().ended_by = signal;
    }

    /// Its leader has ended and was reaped just now; it has no signal to expect from here any more. With
    /// `kill`, what is left of the group goes too.
    pub(crate) fn close(&self, kill: bool) {
        let mut fate = self.fate();
        if std::mem::replace(&mut fate.over, true) {
            return;
        }
        if kill {
            let _ = kill_process_group(self.id, Signal::KILL);
        }
        if let Some(guardian) = &self.guardian {
            guardian.release(self.id);
        }
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.close(true);
    }
}

/// Kills all that carry a mark, without blocking the caller's thread.
pub(crate) async fn kill_marked(mark: Mark) -> Vec<String> {
    // It fails when the runtime ends, and then the guardian does the same.
    spawn_blocking(move || mark.kill_all()).await.unwrap_or_default()
}

/// Why there is no scratch folder, as a sentence.
pub(crate) fn no_scratch(error: &io::Error) -> String {
    let folder = std::env::temp_dir();
    format!("no scratch folder could be made in {} (TMPDIR): {error}", folder.display())
}

fn refusal(program: &str, workdir: &Path, path: Option<OsString>, error: &io::Error) -> String {
    let file = workdir.join(program);
    let by_path = !program.contains('/');
    match error.kind() {
        _ if !workdir.is_dir() => {
            format!("`{program}` cannot run in {}: there is no such folder", workdir.display())
        }
        io::ErrorKind::NotFound if by_path => {
            let path = path.unwrap_or_default();
            format!("there is no program `{program}` in PATH ({})", path.display())
        }
        io::ErrorKind::NotFound if file.exists() => {
            format!(
                "`{}` cannot be run: the interpreter that it names is not there",
                file.display()
            )
        }
        io::ErrorKind::NotFound => format!("there is no program `{}`", file.display()),
        io::ErrorKind::PermissionDenied if !by_path => {
            format!("`{}` may not be run: {error}", file.display())
        }
        _ => format!("`{program}` could not be started: {error}"),
    }
}
