//! The managed state of the slots of one process, by slot and ordering key.
//!
//! Without a log it is in memory, for as long as the transport is: plugins and slots come and go. With one it is
//! there, and a document is written in the record that settles the message that changed it, with what follows from
//! that; memory holds what was used last.
//!
//! * **Order.** Checking a document's revision, handing its change to the log and putting it into memory happen under
//!   one lock, never held across a wait.
//! * **Lasting.** A document is read with its last change, though that is not on disk yet: what builds on it is handed
//!   to the log behind it, which keeps both or neither. Once a change is known to be lost, the document is read from
//!   the log again, so a message that was taken back finds the state without it.
//! * **Room.** Without a log a change is refused that would take more than the transport may; with one, documents that
//!   last are let go of then.

use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use echo_log::{LogError, Receipt};
use echo_sdk::{PublishError, Received, StateError};
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::LocalTransport;
use super::durable::{Durable, told};
use crate::state::{Change, CommitError, Document, Entries, Lasting};

/// The form in which a document is written; another one, of a later version, is not read.
const VERSION: u8 = 1;

/// What a document takes in memory beside names and values, about.
const OVERHEAD: usize = 200;

/// By what the log and the memory know a document.
pub(super) type Address = Box<[u8]>;

/// What the addresses of a slot begin with; `slot` holds no control character.
pub(super) fn addresses(slot: &str) -> Address {
    [b"state\0", slot.as_bytes(), b"\0"].concat().into()
}

/// In the order of the keys, and the one of messages without a key first.
pub(super) fn address(slot: &str, key: Option<&str>) -> Address {
    let (mark, key) = key.map_or((b'\0', ""), |key| (b'\x01', key));
    [&*addresses(slot), &[mark], key.as_bytes()].concat().into()
}

/// The key that an [`address`] was made of.
pub(super) fn key_of(address: &[u8], slot: &str) -> Option<Option<String>> {
    let (mark, key) = address.strip_prefix(&*addresses(slot))?.split_first()?;
    Some((*mark != 0).then(|| String::from_utf8_lossy(key).into_owned()))
}

#[derive(Debug)]
pub(super) struct Shelf {
    books: Mutex<Books>,
    max_bytes: usize,
    pub(super) durable: Option<Weak<Durable>>,
}

#[derive(Debug)]
struct Books {
    held: HashMap<Address, Held, RandomState>,
    bytes: usize,
    /// Never given out twice, in this process or the one before it.
    next_revision: u64,
    /// Counts what was let go of.
    let_go: u64,
}

#[derive(Debug)]
struct Held {
    entries: Entries,
    revision: u64,
    size: usize,
    /// Says whether it is on disk; `None` where it is, or there is none.
    lasting: Option<echo_log::Durable>,
}

impl Held {
    fn lasts(&self) -> bool {
        self.lasting.as_ref().is_none_or(|lasting| matches!(lasting.now(), Some(Ok(()))))
    }

    fn is_lost(&self) -> bool {
        self.lasting.as_ref().is_some_and(|lasting| matches!(lasting.now(), Some(Err(_))))
    }
}

/// Why a document was not put.
#[derive(Debug)]
pub(super) enum NotPut {
    Conflict,
    Log(LogError),
}

impl From<LogError> for NotPut {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unfounded => Self::Conflict,
            error => Self::Log(error),
        }
    }
}

/// A document that is to be put into another's place.
#[derive(Debug)]
pub(super) struct Put {
    shelf: Arc<Shelf>,
    address: Address,
    change: Change,
}

impl Put {
    /// Puts it in memory alone.
    pub(super) fn now(self) -> Result<(), CommitError> {
        let Self { shelf, address, change } = self;
        let mut books = shelf.books.lock();
        if !books.is_latest(&address, change.base.revision) {
            return Err(CommitError::Conflict);
        }
        let size = change.entries.size() + address.len() + OVERHEAD;
        let before = books.held.get(&address).map_or(0, |held| held.size);
        if size > before && books.bytes - before + size > shelf.max_bytes {
            let max = shelf.max_bytes;
            let text = format!(
                "the states of this host would take more than the {max} bytes that they may in memory"
            );
            return Err(PublishError::Refused(text).into());
        }
        let revision = books.revision();
        if change.entries.is_empty() {
            books.remove(&address);
        } else {
            let held = Held { entries: change.entries, revision, size, lasting: None };
            books.insert(address, held);
        }
        Ok(())
    }

    /// Puts it in memory if `commit` hands its record to the log: its address with what is written there, behind what
    /// it builds on.
    pub(super) fn with(
        &self,
        commit: impl for<'a> FnOnce(
            &'a [(&'a [u8], Option<&'a [u8]>)],
            Option<&'a echo_log::Durable>,
        ) -> Result<Receipt, LogError>,
    ) -> Result<Receipt, NotPut> {
        let Change { base, entries } = &self.change;
        let mut books = self.shelf.books.lock();
        if !books.is_latest(&self.address, base.revision) {
            return Err(NotPut::Conflict);
        }
        let revision = books.revision();
        let written = (!entries.is_empty()).then(|| write(entries, revision));
        let receipt = commit(&[(&self.address, written.as_deref())], base.lasting.on())?;
        let size = entries.size() + self.address.len() + OVERHEAD;
        let (entries, lasting) = (entries.clone(), Some(receipt.durable.clone()));
        books.insert(self.address.clone(), Held { entries, revision, size, lasting });
        books.shrink(self.shelf.max_bytes, &self.address);
        Ok(receipt)
    }
}

impl Books {
    fn revision(&mut self) -> u64 {
        self.next_revision += 1;
        self.next_revision
    }

    fn is_latest(&self, address: &[u8], revision: u64) -> bool {
        self.held.get(address).map_or(0, |held| held.revision) == revision
    }

    fn insert(&mut self, address: Address, held: Held) {
        self.bytes += held.size;
        if let Some(before) = self.held.insert(address, held) {
            self.bytes -= before.size;
        }
    }

    fn remove(&mut self, address: &[u8]) {
        if let Some(before) = self.held.remove(address) {
            self.bytes -= before.size;
            self.let_go += 1;
        }
    }

    /// Lets go of documents that last, a good part of them at once, and not of the one that is of use now.
    fn shrink(&mut self, max: usize, used: &[u8]) {
        if self.bytes <= max {
            return;
        }
        let Self { held, bytes, let_go, .. } = self;
        held.retain(|address, held| {
            let stays = *bytes <= max / 4 * 3 || **address == *used || !held.lasts();
            if !stays {
                *bytes -= held.size;
                *let_go += 1;
            }
            stays
        });
    }
}

impl Shelf {
    pub(super) fn new(max_bytes: usize, durable: Option<Weak<Durable>>) -> Arc<Self> {
        // Later than all that an earlier process gave out, as clocks go.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let next_revision = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2);
        let books = Books { held: HashMap::default(), bytes: 0, next_revision, let_go: 0 };
        Arc::new(Self { books: Mutex::new(books), max_bytes, durable })
    }

    pub(super) async fn load(&self, address: &Address) -> Result<Document, StateError> {
        loop {
            let let_go = {
                let mut books = self.books.lock();
                match books.held.get(address) {
                    Some(held) if held.is_lost() => books.remove(address),
                    Some(Held { entries, revision, lasting, .. }) => {
                        let (entries, revision) = (entries.clone(), *revision);
                        let lasting = Lasting::of(lasting.as_ref());
                        return Ok(Document { entries, revision, lasting, ..Document::default() });
                    }
                    None => {}
                }
                books.let_go
            };
            match &self.durable {
                Some(durable) => self.bring(address, durable, let_go).await?,
                None => return Ok(Document::default()),
            }
        }
    }

    /// A document to be put.
    pub(super) fn put(self: &Arc<Self>, address: Address, change: Change) -> Put {
        Put { shelf: Arc::clone(self), address, change }
    }

    /// What memory knows of the addresses that begin with `prefix` and come behind `after`, in their order and at most
    /// `limit` of them: whether there is a document. Looks at all that it holds.
    pub(super) fn known(&self, prefix: &[u8], after: &[u8], limit: usize) -> Vec<(Address, bool)> {
        let books = self.books.lock();
        let mut least = BinaryHeap::new();
        for (address, held) in &books.held {
            if address.starts_with(prefix) && **address > *after && !held.is_lost() {
                least.push((address, !held.entries.is_empty()));
                if least.len() > limit {
                    least.pop();
                }
            }
        }
        let least = least.into_sorted_vec().into_iter();
        least.map(|(address, is_there)| (address.clone(), is_there)).collect()
    }

    /// Brings a document from the log into memory, unless something was let go of meanwhile, which may have been
    /// a later one.
    async fn bring(
        &self,
        address: &Address,
        durable: &Weak<Durable>,
        let_go: u64,
    ) -> Result<(), StateError> {
        let failed = |text: &str| StateError::Failed(text.to_owned());
        let durable = durable.upgrade().ok_or_else(|| failed("the bus is closed"))?;
        let read_at = address.clone();
        let reading = tokio::task::spawn_blocking(move || durable.log.value(&read_at));
        let value = reading.await.map_err(|error| failed(&error.to_string()))?;
        let (entries, revision) = match value.map_err(|error| failed(&error.to_string()))? {
            Some(value) => read(&value).ok_or_else(|| failed("it is of another version"))?,
            None => (Entries::default(), 0),
        };
        let size = entries.size() + address.len() + OVERHEAD;
        let mut books = self.books.lock();
        if books.let_go == let_go && !books.held.contains_key(address) {
            books.insert(address.clone(), Held { entries, revision, size, lasting: None });
            books.shrink(self.max_bytes, address);
        }
        Ok(())
    }
}

impl LocalTransport {
    /// Whether documents go into a log.
    pub(super) fn keeps(&self) -> bool {
        self.0.durable.is_some()
    }

    /// A document of a slot to be put.
    pub(super) fn put(&self, slot: &str, key: Option<&str>, change: Change) -> Put {
        self.0.shelf.put(address(slot, key), change)
    }

    /// Puts a document and delivers a batch, both or neither, once there is room for all of it.
    pub(super) async fn deliver_with(
        &self,
        batch: Vec<Received>,
        put: Put,
    ) -> Result<(), CommitError> {
        let reserved = self.reserve_all(&batch).await?;
        put.now()?;
        self.hand_out(reserved, batch);
        Ok(())
    }
}

impl From<NotPut> for CommitError {
    fn from(error: NotPut) -> Self {
        match error {
            NotPut::Conflict => Self::Conflict,
            NotPut::Log(error @ (LogError::Closed | LogError::TooLarge { .. })) => {
                Self::Publish(super::durable::refused(error))
            }
            NotPut::Log(error) => Self::State(StateError::Failed(told(&error))),
        }
    }
}

/// Version and revision, then each entry with the lengths of its name and its value.
fn write(entries: &Entries, revision: u64) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&revision.to_le_bytes());
    for (name, value) in entries.iter() {
        // Names and values are smaller than 32 bits can say.
        for part in [name.as_bytes(), value] {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn read(bytes: &[u8]) -> Option<(Entries, u64)> {
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (revision, mut rest) = rest.split_first_chunk()?;
    let mut entries = Entries::default();
    while !rest.is_empty() {
        let name = str::from_utf8(part(&mut rest)?).ok()?;
        let value = part(&mut rest)?;
        entries.set(name, Some(value.into())).ok()?;
    }
    Some((entries, u64::from_le_bytes(*revision)))
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, behind) = rest.split_first_chunk()?;
    let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *rest = behind;
    Some(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;
    use crate::local::states::SlotStates;
    use crate::local::undecided::undecided;
    use crate::state::States;

    fn entries(count: usize, len: usize) -> Entries {
        let mut entries = Entries::default();
        for n in 0..count {
            entries.set(&format!("e{n}"), Some(vec![b'1'; len].into())).unwrap();
        }
        entries
    }

    fn put(shelf: &Arc<Shelf>, key: &str, base: &Document, of: Entries) -> Result<(), CommitError> {
        let change = Change { base: base.clone(), entries: of };
        shelf.put(address("s", Some(key)), change).now()
    }

    #[tokio::test]
    async fn the_first_change_wins_and_the_other_reads_again() {
        let shelf = Shelf::new(1 << 20, None);
        let states = SlotStates::new(&shelf, "s");
        let nothing = states.load(Some("k")).await.unwrap();
        put(&shelf, "k", &nothing, entries(1, 1)).unwrap();
        let refused = put(&shelf, "k", &nothing, entries(2, 1));
        assert!(matches!(refused, Err(CommitError::Conflict)));
        let first = states.load(Some("k")).await.unwrap();
        assert_eq!(first.entries, entries(1, 1));
        put(&shelf, "k", &first, Entries::default()).unwrap();
        assert_eq!(states.load(Some("k")).await.unwrap(), Document::default());
        assert!(matches!(put(&shelf, "k", &first, entries(1, 1)), Err(CommitError::Conflict)));
        assert_eq!(states.load(None).await.unwrap(), Document::default());
        assert_ne!(address("s", None), address("s", Some("")));
    }

    #[tokio::test]
    async fn memory_is_bounded_and_given_back() {
        let shelf = Shelf::new(2000, None);
        let nothing = Document::default();
        put(&shelf, "a", &nothing, entries(1, 1000)).unwrap();
        let refused = put(&shelf, "b", &nothing, entries(1, 1000)).unwrap_err();
        assert!(refused.to_string().contains("2000 bytes"), "{refused}");
        let states = SlotStates::new(&shelf, "s");
        let full = states.load(Some("a")).await.unwrap();
        put(&shelf, "a", &full, Entries::default()).unwrap();
        put(&shelf, "b", &nothing, entries(1, 1000)).unwrap();
        assert_eq!(shelf.books.lock().held.len(), 1);
    }

    #[tokio::test]
    async fn what_builds_on_an_undecided_change_goes_behind_it_and_is_lost_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (log, durable) = undecided(dir.path()).await;
        let shelf = Shelf::new(1 << 20, None);
        let states = SlotStates::new(&shelf, "s");
        let of = |base: &Document, entries| {
            let change = Change { base: base.clone(), entries };
            shelf.put(address("s", Some("k")), change)
        };
        let kept = |durable| Ok(Receipt { placed: Default::default(), durable });
        let nothing = states.load(Some("k")).await.unwrap();
        assert!(nothing.lasts().await);
        let first = of(&nothing, entries(1, 1)).with(|_, after| {
            assert!(after.is_none());
            kept(durable.clone())
        });
        first.unwrap();
        let read = states.load(Some("k")).await.unwrap();
        assert_eq!(read.entries, entries(1, 1));
        let refused = of(&read, entries(2, 1)).with(|_, after| {
            assert!(after.unwrap().now().is_none());
            Err(LogError::Unfounded)
        });
        assert!(matches!(refused, Err(NotPut::Conflict)));
        drop(log);
        assert!(!read.lasts().await);
        assert_eq!(states.load(Some("k")).await.unwrap(), Document::default());
    }

    #[test]
    fn what_is_of_use_now_is_not_let_go_of() {
        let shelf = Shelf::new(2000, None);
        let mut books = shelf.books.lock();
        for n in 0u64..10 {
            let held = Held { entries: Entries::default(), revision: n, size: 500, lasting: None };
            let name = address("s", Some(&n.to_string()));
            books.insert(name.clone(), held);
            books.shrink(2000, &name);
            assert!(books.is_latest(&name, n) && books.bytes <= 2000, "{n}");
        }
        // One that is larger than all of the room is there until the next one is.
        let (large, next) = (address("large", None), address("next", None));
        for (name, size) in [(&large, 5000), (&next, 500)] {
            let held = Held { entries: Entries::default(), revision: 7, size, lasting: None };
            books.insert(name.clone(), held);
            books.shrink(2000, name);
            assert!(books.is_latest(name, 7));
        }
        assert!(books.bytes <= 2000 && !books.held.contains_key(&large));
    }

    proptest::proptest! {
        #[test]
        fn a_document_reads_back_and_no_bytes_make_the_reader_panic(
            count in 0usize..5, len in 0usize..50, bytes: Vec<u8>, cut in 0usize..300,
        ) {
            let written = write(&entries(count, len), 7);
            proptest::prop_assert_eq!(read(&written), Some((entries(count, len), 7)));
            let _ = read(&bytes);
            let _ = read(written.get(..cut).unwrap_or(&written));
        }
    }
}
