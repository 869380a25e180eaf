//! What became of a library that was unloaded.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::plugin::Instance;
use crate::telemetry::count_quarantine;

/// What became of a library.
#[derive(Debug)]
#[must_use = "a library in quarantine has to be counted and shown"]
pub struct UnloadReport {
    /// The plugin's name.
    pub plugin: String,
    /// The file that had been loaded.
    pub path: PathBuf,
    /// The SHA-256 of the file as it had been loaded, in hexadecimal digits.
    pub hash: String,
    /// Whether it is out of memory.
    pub outcome: UnloadOutcome,
    /// What the plugin said if it panicked when it was dropped.
    pub panic: Option<String>,
}

/// Whether a library is out of memory.
#[derive(Debug)]
pub enum UnloadOutcome {
    /// It is, as the list of the process's mappings shows.
    Unloaded,
    /// It stays, never to be used again, until the process ends.
    Quarantined(Quarantine),
}

/// Why a library stays in memory.
#[derive(Debug)]
#[non_exhaustive]
pub enum Quarantine {
    /// So many of its threads still run.
    Threads(usize),
    /// Its plugin's constructor still runs.
    Creating,
    /// Somebody in the host still holds the plugin.
    PluginHeld,
    /// The plugin left its context, or a future of the host's, somewhere that outlives it.
    ContextHeld,
    /// The system gave no thread to drop the plugin on.
    NoThread(io::Error),
    /// So many threads that it has started itself still run.
    OwnThreads(usize),
    /// So many threads have come since it was loaded, and the program does not record whose they are.
    UnknownThreads(usize),
    /// It handles a signal, which nothing takes back.
    SignalHandler(i32),
    /// The system's loader did not close it.
    Refused(String),
    /// It is still mapped after the loader closed it, as when a thread of its own still runs.
    StillMapped,
    /// The list of mappings cannot be read.
    Unconfirmed(io::Error),
}

impl Quarantine {
    /// Whoever else holds the plugin may go on using it, and must not be the one that drops it.
    pub(super) fn keep(instance: Arc<Instance>) -> Self {
        let _ = ManuallyDrop::new(instance);
        Self::PluginHeld
    }
}

/// A library that stays in memory until the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The plugin's name.
    pub plugin: String,
    /// The file that had been loaded.
    pub path: PathBuf,
    /// The SHA-256 of the file as it had been loaded, in hexadecimal digits.
    pub hash: String,
    /// Why it stays: the rest of the sentence.
    pub reason: String,
}

static QUARANTINED: Mutex<Vec<Quarantined>> = Mutex::new(Vec::new());

/// The libraries that this process could not take out of its memory again, in the order in which that showed.
pub fn quarantined() -> Vec<Quarantined> {
    QUARANTINED.lock().clone()
}

impl UnloadReport {
    /// Remembers a library that stays, for [`quarantined`].
    pub(super) fn kept(self) -> Self {
        if let UnloadOutcome::Quarantined(why) = &self.outcome {
            let Self { plugin, path, hash, .. } = &self;
            let (plugin, path, hash) = (plugin.clone(), path.clone(), hash.clone());
            count_quarantine(&plugin);
            QUARANTINED.lock().push(Quarantined { plugin, path, hash, reason: why.to_string() });
        }
        self
    }
}

impl fmt::Display for UnloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, path, outcome, .. } = self;
        let path = path.display();
        match outcome {
            UnloadOutcome::Unloaded => write!(f, "`{plugin}` (`{path}`) is unloaded"),
            UnloadOutcome::Quarantined(why) => {
                write!(f, "`{plugin}` (`{path}`) stays in memory until the host ends: {why}")
            }
        }
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => write!(f, "{count} of its threads did not end in time"),
            Self::Creating => f.write_str("its plugin's constructor does not return"),
            Self::PluginHeld => f.write_str("the host still uses the plugin"),
            Self::ContextHeld => f.write_str("something of the plugin's still holds its context"),
            Self::NoThread(error) => write!(f, "there is no thread to drop it on: {error}"),
            Self::OwnThreads(count) => {
                write!(f, "{count} of the threads that it has started still run")
            }
            Self::UnknownThreads(count) => write!(
                f,
                "{count} threads have come since it was loaded and may be its own; \
                 a program that says `echo_core::record_threads!` can tell"
            ),
            Self::SignalHandler(signal) => {
                write!(f, "it handles the signal {signal}, and its handler cannot be taken back")
            }
            Self::Refused(error) => write!(f, "the system's loader does not close it: {error}"),
            Self::StillMapped => f.write_str("the system's loader keeps it mapped"),
            Self::Unconfirmed(error) => {
                write!(f, "the process's mappings cannot be read: {error}")
            }
        }
    }
}
