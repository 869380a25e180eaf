//! The managed state of slots, in a key-value bucket of JetStream: a document for each ordering key of each slot.
//!
//! Nothing makes one step of a put, a publish and an acknowledgement, so a message is settled in this order: the
//! document is put on condition that it is as the handler read it, and with the entries it holds which message it has
//! taken in and what follows from that; then what follows is published, under ids by which the server knows it a
//! second time; then the message is acknowledged.
//!
//! * **Kill.** Before the put nothing has happened. After it, the message comes again, and whoever gets it finds it in
//!   the document: its handler does not run, what follows is published, which has no effect where it had one, and it
//!   is acknowledged.
//! * **Conflict.** Whoever read the document before another put is refused by its revision, and nothing of what it
//!   made is out: it runs again. So does a host that lost its messages to another.
//! * **Forgetting.** A document holds a message, and what follows from it, until the server has said that it knows of
//!   the acknowledgement: it does not come again then. The host that settled the message leaves out with the next put
//!   that it makes to the document what followed from it, and its name stays among the last [`MAX_DONE`]: a host that
//!   was cut off for longer than `ack_wait`, and goes on with a message that another one has settled meanwhile, is
//!   found by that, unless more than so many others have changed the document since. What a host leaves behind when
//!   it is killed stays, up to [`MAX_TAKEN`] messages; the oldest goes first, which was settled long since: a
//!   message that is not stays in the hands of a host, or comes again within `ack_wait` of its end.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use echo_bus::state::{Change, CommitError, Document, Entries, Origin, States, Taken, pack};
use echo_bus::store::{Expected, SharedStore, StoreError, Stored};
use echo_sdk::{BoxFuture, PublishError, Received, StateError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::DurableOptions;
use crate::connection::Connection;
use crate::store::{self, NatsStore};

/// The most messages that a document remembers with what follows from them.
const MAX_TAKEN: usize = 1024;

/// The most messages that a document remembers when they are settled.
const MAX_DONE: usize = 64;

/// How many messages a host knows the phase of before it lets go of those that have ended.
const MAX_PHASES: usize = 64 * 1024;

/// Stands for no key; no key is written like this.
const SHARED: &str = "/shared";

/// What a message at the server takes beside its payload, at most.
const HEADERS: usize = 1024;

/// What this host knows of a message that a document has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It may come again.
    Begun,
    /// It does not come again, and another host took it in.
    Ended,
}

/// The documents of all slots, as one host sees them.
#[derive(Debug)]
pub(crate) struct StateBucket {
    store: NatsStore,
    connection: Arc<Connection>,
    /// Tells this host from all others, those before it included.
    host: u64,
    phases: Mutex<Phases>,
}

/// What is known of messages that may come again, or that documents remember for longer than they need to.
#[derive(Debug, Default)]
struct Phases(HashMap<Origin, Phase>);

impl Phases {
    /// A message does not come again.
    fn end(&mut self, origin: Origin) {
        if self.0.remove(&origin).is_some() {
            return;
        }
        if self.0.len() >= MAX_PHASES {
            self.0.retain(|_, phase| *phase == Phase::Begun);
        }
        self.0.insert(origin, Phase::Ended);
    }
}

impl StateBucket {
    pub(crate) fn new(connection: &Arc<Connection>, options: &DurableOptions) -> Arc<Self> {
        let store = NatsStore::new(Arc::clone(connection), options, store::STATE);
        // The half that is random.
        let (_, host) = Uuid::now_v7().as_u64_pair();
        let connection = Arc::clone(connection);
        Arc::new(Self { store, connection, host, phases: Mutex::default() })
    }

    /// The states of one slot.
    pub(crate) fn of(self: &Arc<Self>, slot: &str) -> Arc<dyn States> {
        Arc::new(SlotStates { bucket: Arc::clone(self), slot: slot.to_owned() })
    }

    async fn load(&self, slot: &str, key: Option<&str>) -> Result<Document, StateError> {
        let stored = self.store.get(&address(slot, key)).await;
        match stored.map_err(|error| StateError::Failed(error.to_string()))? {
            Some(stored) => read(&stored).map_err(|error| {
                StateError::Failed(format!("its document is none of this version: {error}"))
            }),
            None => Ok(Document::default()),
        }
    }

    /// Puts a document that has taken in a message, in the place of the one that was read.
    pub(crate) async fn put(
        &self,
        slot: &str,
        key: Option<&str>,
        change: Change,
        origin: Origin,
        effects: &[Received],
    ) -> Result<(), CommitError> {
        let Change { mut base, entries } = change;
        self.forget(&mut base.taken, &mut base.done);
        let effects = effects.iter().map(pack).collect();
        base.taken.push(Taken { origin, by: self.host, effects });
        let write = self.prepare(slot, key, &base, &entries)?;
        // Before the put: once that is made, another document's may look.
        let before = self.phases.lock().0.insert(origin, Phase::Begun);
        let put = self.write(write).await;
        // One that was there is of an earlier put, which nobody knows the end of.
        if before.is_none() && matches!(put, Err(CommitError::Conflict)) {
            self.phases.lock().0.remove(&origin);
        }
        put
    }

    /// A document with other entries, if it fits into a message.
    fn prepare(
        &self,
        slot: &str,
        key: Option<&str>,
        base: &Document,
        entries: &Entries,
    ) -> Result<Write, CommitError> {
        let value = write(entries, &base.taken, &base.done)?;
        let (len, max) = (value.len() + HEADERS, self.connection.client.max_payload());
        if len > max {
            return Err(PublishError::TooLarge { len, max }.into());
        }
        let expected = match base.revision {
            0 => Expected::Nothing,
            revision => Expected::Revision(revision),
        };
        Ok(Write { address: address(slot, key), value, expected })
    }

    async fn write(&self, write: Write) -> Result<(), CommitError> {
        let Write { address, value, expected } = write;
        let put = self.store.put(&address, value, expected).await;
        put.map(drop).map_err(|error| match error {
            StoreError::Conflict { .. } => CommitError::Conflict,
            // It may have been put.
            error => StateError::Failed(error.to_string()).into(),
        })
    }

    /// The keys of a slot that have a document, in their order.
    async fn keys(&self, slot: &str) -> Result<Vec<Option<String>>, StateError> {
        let slot = token(slot);
        let found = self.store.keys_of(&format!("{slot}.*")).await;
        let found = found.map_err(|error| StateError::Failed(error.to_string()))?;
        let tokens = found.iter().filter_map(|address| address.strip_prefix(&*slot)?.get(1..));
        let mut keys: Vec<_> = tokens.filter_map(key_of).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Keeps those that may come again, and the names of the others.
    fn forget(&self, taken: &mut Vec<Taken>, done: &mut Vec<Origin>) {
        let mut phases = self.phases.lock();
        taken.retain(|it| {
            let stays = match phases.0.get(&it.origin) {
                Some(Phase::Begun) => true,
                Some(Phase::Ended) => phases.0.remove(&it.origin).is_none(),
                None => it.by != self.host,
            };
            if !stays {
                done.push(it.origin);
            }
            stays
        });
        let too_many = (taken.len() + 1).saturating_sub(MAX_TAKEN);
        done.extend(taken.drain(..too_many).map(|it| it.origin));
        done.drain(..done.len().saturating_sub(MAX_DONE));
    }

    /// A message does not come again: the server knows that it is acknowledged.
    pub(crate) fn finished(&self, origin: Origin) {
        self.phases.lock().end(origin);
    }
}

/// A document on its way to the server.
struct Write {
    address: String,
    value: Vec<u8>,
    expected: Expected,
}

struct SlotStates {
    bucket: Arc<StateBucket>,
    slot: String,
}

impl States for SlotStates {
    fn load<'a>(&'a self, key: Option<&'a str>) -> BoxFuture<'a, Result<Document, StateError>> {
        Box::pin(self.bucket.load(&self.slot, key))
    }

    fn put<'a>(
        &'a self,
        key: Option<&'a str>,
        Change { base, entries }: Change,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            self.bucket.write(self.bucket.prepare(&self.slot, key, &base, &entries)?).await
        })
    }

    /// The server lists them all for each page.
    fn keys<'a>(
        &'a self,
        after: Option<&'a Option<String>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StateError>> {
        Box::pin(async move {
            let mut keys = self.bucket.keys(&self.slot).await?;
            let seen = after.map_or(0, |after| keys.partition_point(|key| key <= after));
            keys.drain(..seen);
            keys.truncate(limit.max(1));
            Ok(keys)
        })
    }

    fn remembers(&self) -> bool {
        true
    }
}

impl fmt::Debug for SlotStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotStates").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// The key of a document in the bucket.
fn address(slot: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("{}.{}", token(slot), token(key)),
        None => format!("{}.{SHARED}", token(slot)),
    }
}

/// The key that a document's token stands for; `None` where it is none.
fn key_of(token: &str) -> Option<Option<String>> {
    if token == SHARED {
        return Some(None);
    }
    let Some(digits) = token.strip_prefix('=') else {
        return Some(Some(token.to_owned()));
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let text = String::from_utf8(bytes.filter(|_| rest.is_empty())?).ok()?;
    Some(Some(text))
}

/// A text as a token of a key: as it is, where that can be, else its bytes as hexadecimal digits behind `=`.
fn token(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    text.bytes().fold("=".to_owned(), |token, byte| format!("{token}{byte:02x}"))
}

/// A document as it stands in the bucket.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    /// The entries.
    #[serde(borrow)]
    state: BTreeMap<String, &'a RawValue>,
    /// The messages that may come again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taken: Vec<WrittenTaken>,
    /// Those that are settled: eight bytes for each, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    done: String,
}

#[derive(Serialize, Deserialize)]
struct WrittenTaken {
    id: String,
    by: String,
    /// What follows from it, in base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    out: Vec<String>,
}

fn write(entries: &Entries, taken: &[Taken], done: &[Origin]) -> Result<Vec<u8>, StateError> {
    let failed = |error: serde_json::Error| StateError::NotJson(error.to_string());
    let state = entries.iter().map(|(name, json)| {
        let value = serde_json::from_slice(json).map_err(failed)?;
        Ok((name.to_owned(), value))
    });
    let state = state.collect::<Result<_, StateError>>()?;
    let taken = taken.iter().map(|taken| WrittenTaken {
        id: format!("{:016x}", taken.origin),
        by: format!("{:016x}", taken.by),
        out: taken.effects.iter().map(|packed| BASE64.encode(packed)).collect(),
    });
    let taken = taken.collect();
    let done: Vec<u8> = done.iter().flat_map(|origin| origin.to_be_bytes()).collect();
    serde_json::to_vec(&Written { state, taken, done: BASE64.encode(done) }).map_err(failed)
}

fn read(stored: &Stored) -> Result<Document, Box<dyn std::error::Error>> {
    let Written { state, taken, done } = serde_json::from_slice(&stored.value)?;
    let mut entries = Entries::default();
    for (name, json) in state {
        entries.set(&name, Some(json.get().as_bytes().into()))?;
    }
    let taken = taken.into_iter().map(|WrittenTaken { id, by, out }| {
        let effects = out.iter().map(|packed| BASE64.decode(packed)).collect::<Result<_, _>>()?;
        let by = u64::from_str_radix(&by, 16)?;
        Ok(Taken { origin: u64::from_str_radix(&id, 16)?, by, effects })
    });
    let taken = taken.collect::<Result<_, Box<dyn std::error::Error>>>()?;
    let done = BASE64.decode(done)?;
    let (done, _) = done.as_chunks();
    let done = done.iter().map(|origin| u64::from_be_bytes(*origin)).collect();
    Ok(Document { entries, revision: stored.revision, taken, done, ..Document::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_place_of_its_own() {
        let addresses = [
            address("s", None),
            address("s", Some("")),
            address("s", Some("/shared")),
            address("s", Some("a.b")),
            address("s", Some("=612e62")),
            address("s.a", Some("b")),
            address("s", Some("ä b")),
        ];
        for (place, one) in addresses.iter().enumerate() {
            echo_bus::store::check_key(one).unwrap();
            assert!(!addresses[place + 1..].contains(one), "{one}");
        }
        assert_eq!(address("count", Some("k-1")), "count.k-1");
        for key in [None, Some(""), Some("/shared"), Some("=612e62"), Some("ä b"), Some("k-1")] {
            let address = address("s", key);
            assert_eq!(key_of(&address["s.".len()..]), Some(key.map(str::to_owned)));
        }
        assert_eq!(key_of("=612"), None);
    }

    #[test]
    fn what_has_ended_is_forgotten_before_there_is_too_much_of_it() {
        let mut phases = Phases::default();
        phases.0.insert(0, Phase::Begun);
        for origin in 1..=MAX_PHASES as Origin {
            phases.end(origin);
        }
        assert_eq!(phases.0.len(), 2, "the last one, and the one that may come again");
        phases.end(0);
        assert_eq!(phases.0.into_values().collect::<Vec<_>>(), [Phase::Ended]);
    }

    #[test]
    fn a_document_reads_back_as_it_was() {
        let mut entries = Entries::default();
        entries.set("count", Some(b"3".as_slice().into())).unwrap();
        entries.set("last", Some(br#"{"n": [1, 2.50]}"#.as_slice().into())).unwrap();
        let taken = vec![
            Taken { origin: 7, by: u64::MAX, effects: Vec::new() },
            Taken { origin: u64::MAX, by: 1, effects: vec![b"\xff\0".to_vec()] },
        ];
        let done = vec![5, u64::MAX];
        let value = write(&entries, &taken, &done).unwrap();
        let text = String::from_utf8(value.clone()).unwrap();
        assert!(text.starts_with(r#"{"state":{"count":3,"last":{"n": [1, 2.50]}},"taken":["#));
        let document = read(&Stored { value, revision: 5 }).unwrap();
        assert_eq!(document, Document { entries, revision: 5, taken, done, ..Document::default() });
        let known = [7, u64::MAX, 5, 6].map(|origin| document.taken(origin).map(<[_]>::len));
        assert_eq!(known, [Some(0), Some(1), Some(0), None]);
        for value in [&b""[..], b"{}", b"{\"state\":{},\"taken\":[{\"id\":\"x\",\"by\":\"1\"}]}"] {
            assert!(read(&Stored { value: value.to_vec(), revision: 5 }).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_document_is_too_strange(value: Vec<u8>, text: String, key: String) {
            let read_of = |value: Vec<u8>| read(&Stored { value, revision: 1 });
            let _ = read_of(value);
            let _ = read_of(format!("{{\"state\":{text}}}").into_bytes());
            let _ = read_of(format!("{{\"state\":{{}},\"taken\":[{text}]}}").into_bytes());
            let address = address("s", Some(&key));
            echo_bus::store::check_key(&address).unwrap();
            proptest::prop_assert_eq!(key_of(&address[2..]), Some(Some(key)));
            let _ = key_of(&text);
        }
    }
}
