//! A disk that loses what was not synced, and fails when it is told to; and the tests that need one.

mod faults;
mod forward;
mod full;
mod model;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::disk::{Disk, DiskFile};
use crate::{Log, OpenError, Options, Recovery};

/// What a power cut leaves or takes as a whole.
const SECTOR: usize = 512;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends in the middle of it: nothing works from here on.
    Crash,
    /// The call fails, half done if it writes; a sync forgets what it was to make last.
    Io,
    /// There is no room, of which a write learns half-way.
    NoSpace,
}

/// The calls that faults are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Any,
    Create,
    Write,
    Sync,
}

#[derive(Debug, Clone, Default)]
struct Content {
    /// As the process sees it.
    cached: Vec<u8>,
    /// As it is on the disk.
    lasting: Vec<u8>,
    /// Places that are newer in the cache.
    dirty: Vec<(usize, usize)>,
}

#[derive(Debug, Clone)]
enum Change {
    Name(String, usize),
    Remove(String),
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    lasting_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    /// The next fault: of which calls, after how many of them.
    plan: Option<(Call, usize, Fault)>,
    /// Once the plan has come true, it goes on.
    lasts: bool,
    crashed: bool,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    content: usize,
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl SimDisk {
    /// Opens a log on it.
    pub(crate) fn open(&self, options: &Options) -> Result<(Log, Recovery), OpenError> {
        Log::open_on(Arc::new(self.clone()), Path::new("sim"), None, options.clone())
    }

    /// Plans a fault for the next call of a kind but `after`.
    pub(crate) fn plan(&self, call: Call, after: usize, fault: Fault) {
        self.0.lock().plan = Some((call, after, fault));
    }

    /// Plans that every call of a kind fails until [`heal`](Self::heal).
    pub(crate) fn plan_lasting(&self, call: Call, fault: Fault) {
        let mut state = self.0.lock();
        (state.plan, state.lasts) = (Some((call, 0, fault)), true);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        (state.plan, state.lasts) = (None, false);
    }

    /// The process ends now.
    pub(crate) fn crash(&self) {
        self.0.lock().crashed = true;
    }

    /// The disk as another process finds it after a kill: all that was written is there.
    pub(crate) fn after_kill(&self) -> Self {
        let state = self.0.lock();
        let (contents, names) = (state.contents.clone(), state.names.clone());
        let (lasting_names, changes) = (state.lasting_names.clone(), state.changes.clone());
        let next = State { contents, names, lasting_names, changes, ..State::default() };
        Self(Arc::new(Mutex::new(next)))
    }

    /// The disk after a power cut: of what was not synced, some sectors are there and some changes of names,
    /// the first ones of them.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let state = self.0.lock();
        let mut contents = state.contents.clone();
        for content in &mut contents {
            content.lasting.resize(content.cached.len(), 0);
            for (start, end) in std::mem::take(&mut content.dirty) {
                let first = start / SECTOR * SECTOR;
                for sector in
                    (first..end).step_by(SECTOR).filter(|_| random.next_u32().is_multiple_of(2))
                {
                    let sector = sector.max(start)..(sector + SECTOR).min(end);
                    let newer = content.cached[sector.clone()].to_vec();
                    content.lasting[sector].copy_from_slice(&newer);
                }
            }
            content.cached = content.lasting.clone();
        }
        let mut names = state.lasting_names.clone();
        let kept = random.next_u32() as usize % (state.changes.len() + 1);
        state.changes[..kept].iter().for_each(|change| change.apply(&mut names));
        let lasting_names = names.clone();
        Self(Arc::new(Mutex::new(State { contents, names, lasting_names, ..State::default() })))
    }

    /// Flips a bit that is on the disk.
    pub(crate) fn flip(&self, name: &str, at: usize) {
        let mut state = self.0.lock();
        let content = state.names[name];
        state.contents[content].cached[at] ^= 1;
        state.contents[content].lasting[at] ^= 1;
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// The fault of this call.
    fn fault(&self, call: Call) -> io::Result<Option<Fault>> {
        let mut state = self.0.lock();
        if state.crashed {
            return Err(broken());
        }
        let Some((planned, after, fault)) = &mut state.plan else { return Ok(None) };
        if *planned != Call::Any && *planned != call {
            return Ok(None);
        }
        if *after > 0 {
            *after -= 1;
            return Ok(None);
        }
        let fault = *fault;
        if !state.lasts {
            state.plan = None;
        }
        state.crashed |= fault == Fault::Crash;
        Ok(Some(fault))
    }

    fn change(&self, change: Change) {
        let mut state = self.0.lock();
        change.apply(&mut state.names);
        state.changes.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Name(name, content) => {
                names.retain(|_, other| other != content);
                names.insert(name.clone(), *content);
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, size: u32) -> io::Result<Arc<dyn DiskFile>> {
        match self.fault(Call::Create)? {
            Some(Fault::NoSpace) => return Err(full()),
            Some(_) => return Err(broken()),
            None => {}
        }
        let zeros = vec![0; size as usize];
        let mut state = self.0.lock();
        state.contents.push(Content { cached: zeros.clone(), lasting: zeros, dirty: Vec::new() });
        let content = state.contents.len() - 1;
        drop(state);
        self.change(Change::Name(name.to_owned(), content));
        Ok(Arc::new(SimFile { disk: self.clone(), content }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.0.lock().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), content }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.fault(Call::Any)?.is_some() {
            return Err(broken());
        }
        let content = self.0.lock().names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        self.change(Change::Name(to.to_owned(), content));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if self.fault(Call::Any)?.is_some() {
            return Err(broken());
        }
        self.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.fault(Call::Any)?.is_some() {
            return Err(broken());
        }
        let mut state = self.0.lock();
        state.changes.clear();
        state.lasting_names = state.names.clone();
        Ok(())
    }
}

impl SimFile {
    fn with<T>(&self, with: impl FnOnce(&mut Content) -> T) -> T {
        with(&mut self.disk.0.lock().contents[self.content])
    }

    fn put(&self, bytes: &[u8], offset: usize) {
        self.with(|content| {
            let end = offset + bytes.len();
            content.cached.resize(content.cached.len().max(end), 0);
            content.cached[offset..end].copy_from_slice(bytes);
            content.dirty.push((offset, end));
        });
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|content| content.cached.len()) as u64)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|content| {
            let there = content.cached.get(offset as usize..).unwrap_or_default();
            let len = there.len().min(buffer.len());
            buffer[..len].copy_from_slice(&there[..len]);
            Ok(len)
        })
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fault = self.disk.fault(Call::Write)?;
        let len = if fault.is_some() { bytes.len() / 2 } else { bytes.len() };
        self.put(&bytes[..len], offset as usize);
        match fault {
            Some(Fault::NoSpace) => Err(full()),
            Some(_) => Err(broken()),
            None => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let fault = self.disk.fault(Call::Sync)?;
        self.with(|content| {
            let dirty = match fault {
                // As it was when the power went.
                Some(Fault::Crash) => return Err(broken()),
                _ => std::mem::take(&mut content.dirty),
            };
            if fault.is_some() {
                return Err(broken());
            }
            content.lasting.resize(content.cached.len(), 0);
            for (start, end) in dirty {
                let end = end.min(content.cached.len());
                let newer = content.cached[start.min(end)..end].to_vec();
                content.lasting[start.min(end)..end].copy_from_slice(&newer);
            }
            Ok(())
        })
    }
}

/// How many cases a test tries; `PROPTEST_CASES` asks for more.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
