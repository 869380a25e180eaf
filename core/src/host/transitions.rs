//! Versions of plugins that take each other's place while the host runs: what is done before messages pass over, and
//! after.
//!
//! Each transition has a task of its own, which holds the plugin's [`changing`](Managed::changing) alone until it is
//! through. A host that ends has all of them roll back, and waits for that.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use echo_sdk::contract::system::PluginStatus;
use echo_sdk::contract::transition::{TransitionEvent, TransitionStep};
use echo_sdk::{Manifest, PluginError, TransitionSettings, TransitionStrategy};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::candidate::{Candidate, Source, entries};
use super::loading::read_apart;
use super::{Host, HostError, Shared, failed};
use crate::library;
use crate::registry::{Managed, Version, initialisation_order, node};
use crate::transition::{Ongoing, Passage, Plan, RecordError, Records, Told};

/// A transition that was begun; it goes on whether or not anybody waits for it.
#[derive(Debug)]
pub struct Transitioning {
    /// Names it in its events.
    pub id: Uuid,
    /// Whether it waits for another of the same plugin.
    pub queued: bool,
    ended: oneshot::Receiver<TransitionEvent>,
}

impl Transitioning {
    /// Waits for its last step.
    ///
    /// # Errors
    /// [`HostError::Ending`] when the host went away before.
    pub async fn ended(self) -> Result<TransitionEvent, HostError> {
        self.ended.await.map_err(|_| HostError::Ending)
    }
}

impl Host {
    /// Has another version of a plugin take its place while messages flow, and waits until it has, or has not. The
    /// last event tells which, and why.
    ///
    /// # Errors
    /// As [`begin_transition`](Self::begin_transition).
    pub async fn transition(
        &self,
        plugin: &str,
        library: &Path,
        settings: TransitionSettings,
    ) -> Result<TransitionEvent, HostError> {
        let library = Some(library.to_owned());
        self.begin_transition(plugin, library, settings, false)?.ended().await
    }

    /// Has another version of a plugin begin to take its place: the one in this file, or in the file that the
    /// plugin was loaded from as it is now. The settings go over those of the configuration and of the new version.
    /// With `queue` it waits for a transition of the plugin that goes on.
    ///
    /// # Errors
    /// [`HostError`] when there is no such plugin, it does not run, or is changed already; or when the settings cannot
    /// be worked with. All else is told as [`TransitionStep::Refused`].
    pub fn begin_transition(
        &self,
        plugin: &str,
        library: Option<PathBuf>,
        settings: TransitionSettings,
        queue: bool,
    ) -> Result<Transitioning, HostError> {
        self.shared.begin_transition(plugin, library, settings, queue, false)
    }

    /// Has the version before go on: ends the transition of the plugin that goes on, or else begins one back to
    /// the version that the current one followed. Gives the transition in question.
    ///
    /// # Errors
    /// [`HostError::NoSuchPlugin`], or [`HostError::NothingBefore`].
    pub fn rollback(&self, plugin: &str) -> Result<Uuid, HostError> {
        self.shared.rollback(plugin)
    }
}

/// A transition that its task carries out.
struct Change {
    plugin: Arc<Managed>,
    library: PathBuf,
    settings: TransitionSettings,
    ongoing: Ongoing,
    /// Whether it goes back to the version before.
    is_back: bool,
}

impl Shared {
    pub(super) fn begin_transition(
        self: &Arc<Self>,
        plugin: &str,
        library: Option<PathBuf>,
        settings: TransitionSettings,
        queue: bool,
        is_back: bool,
    ) -> Result<Transitioning, HostError> {
        let plugin = self.managed(plugin)?;
        let name = || plugin.name().to_owned();
        settings
            .validate()
            .map_err(|source| HostError::TransitionSettings { plugin: name(), source })?;
        if !matches!(plugin.status(), PluginStatus::Running | PluginStatus::Paused) {
            return Err(HostError::NotRunning(name()));
        }
        let library = library.or_else(|| plugin.current().file().map(Path::to_owned));
        let library = library.ok_or_else(|| HostError::BuiltIn(name()))?;
        let (ended, hears_end) = oneshot::channel();
        let mut tasks = self.transitions.lock();
        if self.intake.is_stopped() {
            return Err(HostError::Ending);
        }
        while tasks.try_join_next().is_some() {}
        let ongoing = Ongoing::new();
        let queued = plugin.begin(&ongoing, queue).ok_or_else(|| HostError::Changing(name()))?;
        let id = ongoing.id;
        let change = Change { plugin, library, settings, ongoing, is_back };
        let shared = Arc::clone(self);
        tasks.spawn(async move {
            let last = shared.change_version(&change).await;
            change.plugin.end(change.ongoing.id);
            // Nobody may want to know.
            let _ = ended.send(last);
        });
        Ok(Transitioning { id, queued, ended: hears_end })
    }

    pub(super) fn rollback(self: &Arc<Self>, plugin: &str) -> Result<Uuid, HostError> {
        let ongoing = self.managed(plugin)?.transitions();
        ongoing.iter().for_each(|ongoing| ongoing.end("somebody wants the version before"));
        if let Some(ongoing) = ongoing.first() {
            return Ok(ongoing.id);
        }
        let nothing = || HostError::NothingBefore(plugin.to_owned());
        let records = Records::of(&self.parts.config).ok_or_else(nothing)?;
        let record = records.find(plugin).filter(|record| record.refused.is_empty());
        let before = records.kept_library(&record.ok_or_else(nothing)?).map_err(|_| nothing())?;
        let strategy = Some(TransitionStrategy::Graceful);
        let settings = TransitionSettings { strategy, ..TransitionSettings::default() };
        Ok(self.begin_transition(plugin, Some(before), settings, false, true)?.id)
    }

    /// Has all transitions roll back, and waits until they have.
    pub(super) async fn end_transitions(&self) {
        for plugin in self.registry.read().in_order() {
            plugin.transitions().iter().for_each(|ongoing| ongoing.end("the host ends"));
        }
        let mut tasks = std::mem::take(&mut *self.transitions.lock());
        while tasks.join_next().await.is_some() {}
    }

    /// A transition from its start to its end.
    async fn change_version(&self, change: &Change) -> TransitionEvent {
        let Change { plugin, library, settings, ongoing, is_back } = change;
        let _alone = Arc::clone(plugin.changing()).write_owned().await;
        let old = plugin.current();
        let transport = Arc::clone(&self.parts.transport);
        let strategy = settings.strategy.unwrap_or_default();
        let from = &old.manifest.version;
        let mut told = Told::new(transport, ongoing.id, plugin.name(), from, strategy);
        told.tell(TransitionStep::Started, None);
        let (new, plan) = match self.prepare(plugin, &old, library, settings, &mut told).await {
            Ok(prepared) => prepared,
            Err(error) => {
                // Of anything else a host that is started anew may think otherwise.
                if matches!(error, HostError::Plugin { .. } | HostError::Library(_)) {
                    self.guard(&old, library, &format!("was refused: {error}")).await;
                }
                return told.tell(TransitionStep::Refused, Some(error.to_string()));
            }
        };
        told.tell(TransitionStep::Prepared, None);
        if !is_back {
            self.record(&old, &new, "was on trial when its host ended").await;
        }
        plugin.put_beside(Some(Arc::clone(&new)));
        let mut passage = Passage::new((&old, &new), &plan, &mut told, ongoing.ending());
        let passed = match passage.pass().await {
            Ok(()) => self.check_dependents(&new.manifest).map_err(|error| error.to_string()),
            Err(objection) => Err(objection.0),
        };
        let reason = match passed {
            Ok(()) => {
                return self.commit(plugin, (old, new), &told, *is_back).await;
            }
            Err(reason) => reason,
        };
        let has_begun = passage.has_begun;
        if has_begun {
            passage.told.tell(TransitionStep::RollingBack, Some(reason.clone()));
        }
        if !is_back {
            self.record(&old, &new, &format!("was rolled back: {reason}")).await;
        }
        let faults = passage.roll_back().await;
        plugin.put_beside(None);
        drop(old);
        let faults = faults.into_iter().chain(end(new).await);
        let reason = std::iter::once(reason).chain(faults).collect::<Vec<_>>().join("; ");
        let step = if has_begun { TransitionStep::RolledBack } else { TransitionStep::Refused };
        told.tell(step, Some(reason))
    }

    /// Loads and initialises the new version, and looks whether it may take the old one's place.
    async fn prepare(
        &self,
        plugin: &Managed,
        old: &Arc<Version>,
        library: &Path,
        settings: &TransitionSettings,
        told: &mut Told,
    ) -> Result<(Arc<Version>, Plan), HostError> {
        let _one_change = self.change().await?;
        let (manifest, path) = read_apart(library.to_owned()).await?;
        told.to = Some(manifest.version.clone());
        if manifest.name != plugin.name() {
            let (plugin, found) = (plugin.name().to_owned(), manifest.name);
            return Err(HostError::OtherPlugin { plugin, found });
        }
        let setup = self.parts.config.plugin_setup(&manifest)?;
        let plan = Plan::new(settings.clone().over(setup.transition.clone()), &old.pool_config);
        told.strategy = plan.strategy;
        self.check_dependents(&manifest)?;
        self.guard(old, library, "was being loaded when its host ended").await;
        let candidate = Candidate { manifest, source: Source::Library(path) };
        // Two versions at work at a time have a side each.
        let side = match plan.strategy {
            TransitionStrategy::Gradual => old.slot.side.other(),
            _ => old.slot.side,
        };
        let new = self.parts.make_beside(candidate, setup, &old.slot, side).await?;
        let started = match new.init(self.parts.config.plugins.start_timeout).await {
            Ok(()) => {
                check_state(old, &new).await.map_err(failed(plugin.name(), "given the state"))
            }
            Err(error) => Err(failed(plugin.name(), "initialised")(error)),
        };
        if let Err(error) = started {
            for fault in end(new).await {
                tracing::warn!(%error, fault, "a version that did not start leaves something");
            }
            return Err(error);
        }
        Ok((new, plan))
    }

    /// Whether what a version of a plugin depends on runs, and those that depend on it work with it.
    fn check_dependents(&self, manifest: &Manifest) -> Result<(), HostError> {
        let mut nodes = BTreeMap::new();
        for plugin in self.registry.read().in_order() {
            if matches!(plugin.status(), PluginStatus::Running | PluginStatus::Paused) {
                nodes.insert(plugin.name().to_owned(), node(&plugin.current().manifest)?);
            }
        }
        nodes.insert(manifest.name.clone(), node(manifest)?);
        initialisation_order(&nodes)?;
        Ok(())
    }

    /// The new version stays.
    async fn commit(
        &self,
        plugin: &Managed,
        (old, new): (Arc<Version>, Arc<Version>),
        told: &Told,
        is_back: bool,
    ) -> TransitionEvent {
        plugin.replace();
        new.slot.on_trial.store(false, Ordering::Relaxed);
        let mut faults = Vec::new();
        if is_back {
            self.record(&new, &old, "was rolled back").await;
        } else {
            faults.extend(self.settle(&new).await);
        }
        if faults.is_empty() {
            new.slot.forms.store_own();
        }
        drop(new);
        faults.extend(end(old).await);
        let reason = (!faults.is_empty()).then(|| faults.join("; "));
        told.tell(TransitionStep::Committed, reason)
    }

    /// Records that a host which starts from now on has `stays`, though `refused` may be enabled.
    async fn record(&self, stays: &Arc<Version>, refused: &Version, why: &str) {
        let (Some(records), Some(refused)) = (Records::of(&self.parts.config), &refused.library)
        else {
            return;
        };
        let (stays, refused, why) = (Arc::clone(stays), refused.hash().to_owned(), why.to_owned());
        blocking(NOT_PLACED, move || place(&records, &stays, &refused, &why)).await;
    }

    /// Records that a host which starts from now on has the version that runs, where it would have this library, since that
    /// is what is enabled.
    async fn guard(&self, runs: &Arc<Version>, library: &Path, why: &str) {
        let Some(records) = Records::of(&self.parts.config) else { return };
        let enabled = self.parts.config.plugins.dir.clone();
        let (runs, library, why) = (Arc::clone(runs), library.to_owned(), why.to_owned());
        blocking(NOT_PLACED, move || {
            let Some(loaded) = &runs.library else { return Ok(()) };
            // What is no library cannot be what a host starts with.
            let Ok((manifest, info)) = library::inspect(&library) else { return Ok(()) };
            let is_other = info.hash != loaded.hash() && manifest.name == runs.manifest.name;
            match is_other && is_enabled(&enabled, &library) {
                true => place(&records, &runs, &info.hash, &why),
                false => Ok(()),
            }
        })
        .await;
    }

    /// Has hosts start with a version that stays: what is enabled leads to it, and nothing is refused any more. Says
    /// where that could not be done.
    async fn settle(&self, new: &Version) -> Option<String> {
        let file = new.file()?.to_owned();
        let (name, enabled) = (new.manifest.name.clone(), self.parts.config.plugins.dir.clone());
        let records = Records::of(&self.parts.config);
        blocking("a host that is started anew has the version before", move || {
            point(&enabled, &name, &file).map_err(|error| error.to_string())?;
            let settled = records.map(|records| records.settle(&name));
            settled.unwrap_or(Ok(())).map_err(|error| told_with_source(&error))
        })
        .await
    }
}

/// What it means where [`place`] fails.
const NOT_PLACED: &str = "a host that is started anew may not have the version that this one has";

/// Records that hosts have this version, if it is from a library, and not the one with this hash.
fn place(records: &Records, stays: &Version, refused: &str, why: &str) -> Result<(), String> {
    let Some(library) = &stays.library else { return Ok(()) };
    let bytes = library.bytes().map_err(|error| error.to_string())?;
    let placed = records.place(&stays.manifest.name, refused, &bytes, why);
    placed.map(drop).map_err(|error| told_with_source(&error))
}

/// Does what blocks, and tells what it means where it fails.
async fn blocking(
    meaning: &'static str,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Option<String> {
    let done = tokio::task::spawn_blocking(work).await;
    let fault = done.unwrap_or_else(|error| Err(error.to_string())).err()?;
    tracing::warn!(fault, "{meaning}");
    Some(format!("{meaning}: {fault}"))
}

fn told_with_source(error: &RecordError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// The most documents that are looked at before messages pass over; each is taken up as it is read anyway.
const CHECKED: usize = 1_000;

/// Whether a later version can take up the managed state that there is, and down again.
async fn check_state(old: &Version, new: &Version) -> Result<(), PluginError> {
    match new.schema() > old.schema() {
        true => new.check_documents(CHECKED).await.map(drop),
        false => Ok(()),
    }
}

/// Ends a version that has no workers any more; gives what went wrong, a sentence each.
async fn end(version: Arc<Version>) -> Vec<String> {
    let name = version.manifest.name.clone();
    let workers = version.stop_workers().await;
    let error = version.shut_down().await.err();
    let ended = crate::registry::Ended { workers, unfinished: Vec::new(), error };
    let mut faults = ended.faults(&name);
    faults.extend(version.forget().await.fault());
    faults
}

/// Whether an entry of the folder of enabled plugins leads to this file.
fn is_enabled(enabled: &Path, library: &Path) -> bool {
    let entries = entries(enabled).unwrap_or_default();
    library.canonicalize().is_ok_and(|library| {
        entries.iter().any(|entry| entry.canonicalize().is_ok_and(|it| it == library))
    })
}

/// Points the links in the folder of enabled plugins that lead to a library of this plugin at the new file, so that a host
/// that is started anew has that.
fn point(enabled: &Path, plugin: &str, new: &Path) -> std::io::Result<()> {
    let new = new.canonicalize()?;
    for link in entries(enabled)? {
        let is_other = link.is_symlink() && link.canonicalize().is_ok_and(|to| to != new);
        if is_other && library::manifest(&link).is_ok_and(|manifest| manifest.name == plugin) {
            let fresh = enabled.join(format!(".{}", Uuid::now_v7().simple()));
            std::os::unix::fs::symlink(&new, &fresh)?;
            fs::rename(&fresh, &link)?;
            fs::File::open(enabled)?.sync_all()?;
        }
    }
    Ok(())
}
