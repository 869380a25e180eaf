//! The folder of enabled plugins is followed while the host runs.
//!
//! One task owns what was seen. It waits until the system tells of a change in one of the folders ([`eyes`]), and then
//! until nothing changes for a moment; it looks at the files ([`folder`]), where blocking is allowed, and does what follows
//! from those that have changed since it last did something: a library that came is loaded, one of an entry that is gone is
//! unloaded, one that holds another version has it take the place of the one that runs, after a transition that goes on.
//! Those that others depend on come first and go last. It acts on changes of the folder alone: what was loaded or
//! unloaded by order stays as it is until its entry changes.
//!
//! What cannot be done is told once. It is tried again when its file changes, or when something that it depends on has
//! come; an unloading that dependents stand in the way of, until they are gone. The task ends with the host, which waits
//! for a change that is going on.

mod eyes;
mod folder;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use echo_sdk::TransitionSettings;
use echo_sdk::contract::system::{PLUGIN_REFUSED, PluginRefused, PluginStatus};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{Host, HostError, Refused, Shared};
use crate::registry::{Managed, RegistryError, Version, announce};
use crate::transition::Records;

use eyes::Eyes;
use folder::{Enabled, Folder};

/// How long nothing may change before it is looked, and how long after a look files are the same if nobody writes them.
const QUIET: Duration = Duration::from_millis(200);

/// How long it is waited for that at most: there are folders in which something always changes.
const BUSY: Duration = Duration::from_secs(2);

/// How often it is tried to unload what others still depend on, or what is about to change.
const LEAVING: Duration = Duration::from_secs(5);

/// A folder that is followed.
#[derive(Debug)]
pub(super) struct Watching {
    dir: PathBuf,
    eyes: Eyes,
    folder: Folder,
    changed: Arc<Notify>,
    /// Before the host looked what is enabled.
    begun: Instant,
    /// The entries that the host could not take when it started.
    refused: Vec<Refused>,
    /// What was done about each entry, or was found to be so.
    done: BTreeMap<PathBuf, Done>,
    /// Plugins whose entries are gone and that cannot go yet, with those entries.
    leaving: BTreeMap<String, PathBuf>,
    /// The last that was told of each entry.
    told: BTreeMap<PathBuf, String>,
    /// Whether it was told that the folder cannot be read.
    is_unreadable: bool,
}

/// What an entry held when something was done about it.
#[derive(Debug)]
struct Done {
    library: Arc<Enabled>,
    outcome: Outcome,
}

/// What came of an entry.
#[derive(Debug)]
enum Outcome {
    /// The plugin is there now.
    Came,
    /// There was nothing to do.
    Same,
    /// It takes the place of what runs, by this transition.
    Changes(Uuid),
    /// The host does without it.
    GivenUp(String),
}

impl Host {
    /// Follows a folder from now on.
    pub(super) fn watch_enabled(&mut self, watching: Watching) {
        let following = watching.follow(Arc::downgrade(&self.shared), self.shared.refused.clone());
        self.tasks.push(tokio::spawn(following));
    }
}

impl Watching {
    /// Begins to watch a folder, before the host looks what is in it. Where that is not possible the host goes without,
    /// which is told.
    pub(super) fn begin(dir: &Path) -> Option<Self> {
        let changed = Arc::new(Notify::new());
        let eyes = match Eyes::open(Arc::clone(&changed)) {
            Ok(eyes) => eyes,
            Err(error) => {
                let dir = dir.display();
                tracing::warn!(%dir, %error, "the folder of enabled plugins is not watched; raise fs.inotify.max_user_instances");
                return None;
            }
        };
        let (dir, folder) = (dir.to_owned(), Folder::default());
        let mut watching = Self {
            dir,
            eyes,
            folder,
            changed,
            begun: Instant::now(),
            refused: Vec::new(),
            done: BTreeMap::new(),
            leaving: BTreeMap::new(),
            told: BTreeMap::new(),
            is_unreadable: false,
        };
        watching.see();
        watching.begun = Instant::now();
        Some(watching)
    }

    /// Follows the folder until the host is gone. `refused` are the entries that it could not take when it started.
    pub(super) async fn follow(mut self, shared: Weak<Shared>, refused: Vec<Refused>) {
        self.refused = refused;
        // The files that were there have been seen once; the second look takes note of them.
        let mut again = Some(QUIET);
        loop {
            self.wait(again).await;
            let Ok((mut seen, refused)) = tokio::task::spawn_blocking(move || {
                let refused = self.see();
                (self, refused)
            })
            .await
            else {
                return;
            };
            let Some(shared) = shared.upgrade() else { return };
            for Refused { file, reason } in refused {
                seen.tell_unfit(&shared, file.into(), reason);
            }
            if let Err(HostError::Ending) = seen.act(&shared).await {
                return;
            }
            again = match (seen.folder.is_unsettled(), seen.leaving.is_empty()) {
                (true, _) => Some(QUIET),
                (false, false) => Some(LEAVING),
                (false, true) => None,
            };
            self = seen;
        }
    }

    /// Waits until something has changed and nothing does any more, or so long.
    async fn wait(&self, again: Option<Duration>) {
        let changed = self.changed.notified();
        match again {
            Some(pause) => {
                if timeout(pause, changed).await.is_err() {
                    return;
                }
            }
            None => changed.await,
        }
        let since = Instant::now();
        while timeout(QUIET, self.changed.notified()).await.is_ok() && since.elapsed() < BUSY {}
    }

    /// Looks at the folder; the files that have turned out to be no libraries. Blocks.
    fn see(&mut self) -> Vec<Refused> {
        if self.eyes.aim(&self.dir) {
            // What changed before there was somebody to see it.
            self.changed.notify_one();
        }
        match self.folder.look(&self.dir) {
            Ok(refused) => {
                self.is_unreadable = false;
                self.told.remove(&self.dir);
                refused
            }
            Err(error) => self.unreadable(&error),
        }
    }

    fn unreadable(&mut self, error: &io::Error) -> Vec<Refused> {
        let reason = format!("the folder of enabled plugins cannot be read: {error}");
        let is_known = std::mem::replace(&mut self.is_unreadable, true);
        let refused = Refused { file: self.dir.display().to_string(), reason };
        (!is_known).then_some(refused).into_iter().collect()
    }

    /// Does what follows from the entries that have changed.
    async fn act(&mut self, shared: &Arc<Shared>) -> Result<(), HostError> {
        // What has come may be what is gone, under another name.
        if !self.folder.has_unknown() {
            self.note_gone(shared);
        }
        self.unload_gone(shared).await?;
        let mut changed = self.changed_entries();
        while let Some((path, library)) = take_next(&mut changed) {
            let name = library.manifest.name.clone();
            let outcome = self.take(shared, &path, &library).await?;
            match &outcome {
                Outcome::GivenUp(reason) => self.tell(shared, path.clone(), reason.clone()),
                Outcome::Came => changed.extend(self.waiting_for(&name)),
                Outcome::Same | Outcome::Changes(_) => {}
            }
            if !matches!(outcome, Outcome::GivenUp(_)) {
                self.told.remove(&path);
            }
            self.done.insert(path, Done { library, outcome });
        }
        Ok(())
    }

    /// Takes note of the entries that are gone, and of the plugins that go with them.
    fn note_gone(&mut self, shared: &Shared) {
        let enabled: BTreeSet<&str> =
            self.folder.libraries().map(|(_, library)| &*library.manifest.name).collect();
        self.leaving.retain(|name, _| !enabled.contains(&**name));
        let gone: Vec<PathBuf> =
            self.done.keys().filter(|path| !self.folder.has(path)).cloned().collect();
        for path in gone {
            self.told.remove(&path);
            let Some(Done { library, .. }) = self.done.remove(&path) else { continue };
            let name = &library.manifest.name;
            if !enabled.contains(&**name) && runs_from(shared, &path, &library) {
                self.leaving.insert(name.clone(), path);
            }
        }
    }

    /// Unloads the plugins whose entries are gone, dependents first.
    async fn unload_gone(&mut self, shared: &Shared) -> Result<(), HostError> {
        let plugins = shared.registry.read().in_order();
        let names: Vec<String> = plugins.iter().rev().map(|it| it.name().to_owned()).collect();
        drop(plugins);
        // What is not there any more was unloaded by somebody else.
        self.leaving.retain(|name, _| names.contains(name));
        for name in names {
            let Some(path) = self.leaving.get(&name).cloned() else { continue };
            match shared.unload(&name, false).await {
                Err(HostError::Ending) => return Err(HostError::Ending),
                Err(error @ HostError::Needed { .. }) => self.tell(shared, path, error.to_string()),
                // It is tried again once that is through.
                Err(HostError::Changing(_)) => {}
                unloaded => {
                    self.leaving.remove(&name);
                    self.told.remove(&path);
                    let error = unloaded.as_ref().err().map(ToString::to_string);
                    let faults = unloaded.into_iter().flatten().flat_map(|it| it.faults);
                    for fault in faults.chain(error) {
                        tracing::warn!(plugin = name, fault, "an unloading went wrong");
                    }
                }
            }
        }
        Ok(())
    }

    /// The entries that hold something else than when something was done about them.
    fn changed_entries(&mut self) -> Vec<(PathBuf, Arc<Enabled>)> {
        let mut changed = Vec::new();
        for (path, library) in self.folder.libraries() {
            let done = self.done.get(path);
            if done.is_some_and(|done| done.library.hash == library.hash) {
                continue;
            }
            let file = path.display().to_string();
            let refused = self.refused.iter().position(|refused| refused.file == file);
            match refused.map(|at| self.refused.swap_remove(at)) {
                // The host has looked at it already, and has told.
                Some(refused) if self.folder.is_as_at(path, self.begun) => {
                    self.told.insert(path.to_owned(), refused.reason.clone());
                    let outcome = Outcome::GivenUp(refused.reason);
                    let done = Done { library: Arc::clone(library), outcome };
                    self.done.insert(path.to_owned(), done);
                }
                _ => {
                    self.told.remove(path);
                    changed.push((path.to_owned(), Arc::clone(library)));
                }
            }
        }
        changed
    }

    /// The entries that were given up and depend on a plugin that has come.
    fn waiting_for(&self, plugin: &str) -> Vec<(PathBuf, Arc<Enabled>)> {
        let waiting = self.done.iter().filter(|(_, done)| {
            matches!(done.outcome, Outcome::GivenUp(_))
                && done.library.manifest.dependencies.contains_key(plugin)
        });
        waiting.map(|(path, done)| (path.clone(), Arc::clone(&done.library))).collect()
    }

    /// Has the host do with what an entry holds.
    async fn take(
        &self,
        shared: &Arc<Shared>,
        path: &Path,
        library: &Enabled,
    ) -> Result<Outcome, HostError> {
        let name = &library.manifest.name;
        let config = &shared.parts.config;
        if config.plugin_settings(name).is_some_and(|settings| !settings.enabled) {
            return Ok(Outcome::Same);
        }
        let running = shared.registry.read().get(name);
        let Some(running) = running else { return self.load(shared, path, library).await };
        let status = running.status();
        let (is_built_in, is_same) = {
            let version = running.current();
            (version.file().is_none(), has_hash(&version, &library.hash))
        };
        if is_same {
            self.end_own(&running, path);
        }
        drop(running);
        if is_built_in || self.is_of_another(path, name) {
            let error = RegistryError::Duplicate(name.clone());
            return Ok(Outcome::GivenUp(error.to_string()));
        }
        match (status, is_same) {
            // Those that depend on it have failed with it, and come again with it.
            (PluginStatus::Failed, _) => match shared.unload(name, true).await {
                Ok(_) => self.load(shared, path, library).await,
                Err(error) => given_up(error),
            },
            (_, true) => Ok(Outcome::Same),
            (_, false) => Ok(change(shared, path, library)),
        }
    }

    /// The version that runs is enabled again: ends the transition that this entry began. One that was ordered goes on,
    /// for that points the entry itself when it is through.
    fn end_own(&self, running: &Managed, path: &Path) {
        let Some(Done { outcome: Outcome::Changes(begun), .. }) = self.done.get(path) else {
            return;
        };
        let ongoing = running.transitions();
        let own = ongoing.iter().filter(|ongoing| ongoing.id == *begun);
        own.for_each(|own| own.end("the version before is enabled again"));
    }

    /// Whether an entry before this one has the plugin's name.
    fn is_of_another(&self, path: &Path, plugin: &str) -> bool {
        let mut before = self.folder.libraries().take_while(|(other, _)| *other != path);
        before.any(|(_, library)| library.manifest.name == plugin)
    }

    async fn load(
        &self,
        shared: &Shared,
        path: &Path,
        library: &Enabled,
    ) -> Result<Outcome, HostError> {
        if let Some(reason) = rolled_back(shared, path, library) {
            return Ok(Outcome::GivenUp(reason));
        }
        match shared.load(path).await {
            Ok(_) => Ok(Outcome::Came),
            Err(error) => given_up(error),
        }
    }

    /// Tells of a file that is no library, unless the host has found it so when it started.
    fn tell_unfit(&mut self, shared: &Shared, path: PathBuf, reason: String) {
        let file = path.display().to_string();
        let is_known = self.refused.iter().any(|refused| refused.file == file);
        if !(is_known && self.folder.is_as_at(&path, self.begun)) {
            self.told.remove(&path);
            self.tell(shared, path, reason);
        }
    }

    /// Tells of an entry, unless that is what was told of it last.
    fn tell(&mut self, shared: &Shared, path: PathBuf, reason: String) {
        if self.told.get(&path) == Some(&reason) {
            return;
        }
        let file = path.display().to_string();
        tracing::warn!(file, reason, "a change of what is enabled is not carried out");
        let event = PluginRefused { file, reason: reason.clone() };
        announce(&*shared.parts.transport, PLUGIN_REFUSED, &event);
        self.told.insert(path, reason);
    }
}

/// An entry that the host does without; nothing more is done where the host ends.
fn given_up(error: HostError) -> Result<Outcome, HostError> {
    match error {
        HostError::Ending => Err(HostError::Ending),
        error => Ok(Outcome::GivenUp(error.to_string())),
    }
}

/// Has what an entry holds take the place of what runs, as the configuration and its manifest say; it tells itself how
/// that goes.
fn change(shared: &Arc<Shared>, path: &Path, library: &Enabled) -> Outcome {
    if let Some(reason) = rolled_back(shared, path, library) {
        return Outcome::GivenUp(reason);
    }
    let (name, file) = (&library.manifest.name, Some(path.to_owned()));
    match shared.begin_transition(name, file, TransitionSettings::default(), true, false) {
        Ok(begun) => Outcome::Changes(begun.id),
        Err(error) => Outcome::GivenUp(error.to_string()),
    }
}

/// Whether what runs under the library's name was loaded from this entry, or in its place.
fn runs_from(shared: &Shared, path: &Path, library: &Enabled) -> bool {
    if rolled_back(shared, path, library).is_some() {
        return true;
    }
    let running = shared.registry.read().get(&library.manifest.name);
    running.is_some_and(|running| {
        let version = running.current();
        version.file() == Some(path) || has_hash(&version, &library.hash)
    })
}

fn has_hash(version: &Version, hash: &str) -> bool {
    version.library.as_ref().is_some_and(|library| library.hash() == hash)
}

/// Why a library is not taken that was rolled back, if it was.
fn rolled_back(shared: &Shared, path: &Path, library: &Enabled) -> Option<String> {
    let name = &library.manifest.name;
    let record = Records::of(&shared.parts.config)?.find(name)?;
    if !record.refuses(&library.hash) {
        return None;
    }
    let (version, why, file) = (&library.manifest.version, record.reason(), path.display());
    Some(format!(
        "`{name}` {version} {why}, so it is not taken again; enable another library, or try this one with `plugin \
         transition {name} {file}`"
    ))
}

/// Takes out an entry that depends on none of the others, so that it comes before those that depend on it; in a circle,
/// any.
fn take_next(entries: &mut Vec<(PathBuf, Arc<Enabled>)>) -> Option<(PathBuf, Arc<Enabled>)> {
    let is_free = |(_, library): &(PathBuf, Arc<Enabled>)| {
        let needs = &library.manifest.dependencies;
        entries.iter().all(|(_, other)| !needs.contains_key(&other.manifest.name))
    };
    let at = entries.iter().position(is_free).unwrap_or_default();
    (!entries.is_empty()).then(|| entries.remove(at))
}
