//! What the hosts of a bus share beside messages: values by key, each with a revision.
//!
//! A revision counts up with every change of the store, so that whoever read a value can change it on condition
//! that nobody else has. Keys are tokens joined by dots, as topics are, of letters, digits, `-`, `_`, `/` and `=`.
//! A watcher gets the values that there are and then each change; changes of one key that come faster than it
//! reads may be seen as one, the latest.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use echo_sdk::BoxFuture;
use parking_lot::Mutex;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The key is none.
    #[error(
        "`{0}` is no key of the store; use letters, digits, `-`, `_`, `/` and `=`, joined by single dots"
    )]
    Key(String),
    /// Somebody else was quicker.
    #[error("`{key}` was changed by somebody else; read it again")]
    Conflict {
        /// The key.
        key: String,
    },
    /// The store cannot be reached, or failed.
    #[error("the shared store failed: {0}")]
    Failed(String),
}

/// A value and the revision that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: Vec<u8>,
    /// The store's revision at which it was written.
    pub revision: u64,
}

/// On what condition a key is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Anything,
    /// Nothing is there.
    Nothing,
    /// What is there was written at this revision.
    Revision(u64),
}

/// A key that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What it holds now; `None` when it was deleted.
    pub stored: Option<Stored>,
}

/// Values that the hosts of a bus share.
pub trait SharedStore: Send + Sync {
    /// The value of a key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>>;

    /// Writes a value, if what is there is as expected; gives the new revision.
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Vec<u8>,
        expected: Expected,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Deletes a key, if what is there is as expected. A key that is not there is deleted already.
    fn delete<'a>(
        &'a self,
        key: &'a str,
        expected: Expected,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The keys that begin with `prefix`, in order.
    fn keys<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// Watches the keys that begin with `prefix`: those that there are first, then each change.
    fn watch<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Watch, StoreError>>;
}

/// Where a [`Watch`] takes its changes from; implemented by stores.
pub trait ChangeStream: Send {
    /// The next change, or `None` once the store is gone.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Change, StoreError>>>;
}

/// The changes of a store's keys.
pub struct Watch(Box<dyn ChangeStream>);

impl Watch {
    /// Wraps a store's stream.
    pub fn new(changes: impl ChangeStream + 'static) -> Self {
        Self(Box::new(changes))
    }

    /// Waits for the next change; `None` once the store is gone. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the store cannot be watched any more.
    pub async fn next(&mut self) -> Option<Result<Change, StoreError>> {
        std::future::poll_fn(|cx| self.0.poll_next(cx)).await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Checks a key by the rule that every store keeps.
///
/// # Errors
/// [`StoreError::Key`].
pub fn check_key(key: &str) -> Result<(), StoreError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_/=".contains(c);
    let is_token = |token: &str| !token.is_empty() && token.chars().all(is_allowed);
    if key.split('.').all(is_token) { Ok(()) } else { Err(StoreError::Key(key.to_owned())) }
}

/// A store within one process; clones share it. Nothing of it waits.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Values>>);

#[derive(Debug, Default)]
struct Values {
    stored: BTreeMap<String, Stored>,
    revision: u64,
    watchers: HashMap<u64, Watcher>,
    next_watcher: u64,
}

/// What a watcher has not read: one change for each key at most.
#[derive(Debug, Default)]
struct Watcher {
    prefix: String,
    unread: BTreeMap<u64, Change>,
    waker: Option<Waker>,
}

impl Values {
    fn check(&self, key: &str, expected: Expected) -> Result<(), StoreError> {
        check_key(key)?;
        let found = self.stored.get(key).map(|stored| stored.revision);
        let is_expected = match expected {
            Expected::Anything => true,
            Expected::Nothing => found.is_none(),
            Expected::Revision(revision) => found == Some(revision),
        };
        if is_expected { Ok(()) } else { Err(StoreError::Conflict { key: key.to_owned() }) }
    }

    fn tell(&mut self, key: &str, stored: Option<&Stored>) -> Vec<Waker> {
        let revision = self.revision;
        let told = self.watchers.values_mut().filter(|it| key.starts_with(&it.prefix));
        told.filter_map(|watcher| {
            watcher.unread.retain(|_, change| change.key != key);
            let change = Change { key: key.to_owned(), stored: stored.cloned() };
            watcher.unread.insert(revision, change);
            watcher.waker.take()
        })
        .collect()
    }
}

impl MemoryStore {
    fn write(
        &self,
        key: &str,
        value: Option<Vec<u8>>,
        expected: Expected,
    ) -> Result<u64, StoreError> {
        let mut values = self.0.lock();
        values.check(key, expected)?;
        if value.is_none() && !values.stored.contains_key(key) {
            return Ok(values.revision);
        }
        values.revision += 1;
        let revision = values.revision;
        let stored = value.map(|value| Stored { value, revision });
        let wakers = values.tell(key, stored.as_ref());
        match stored {
            Some(stored) => drop(values.stored.insert(key.to_owned(), stored)),
            None => drop(values.stored.remove(key)),
        }
        drop(values);
        wakers.into_iter().for_each(Waker::wake);
        Ok(revision)
    }

    fn begin_watch(&self, prefix: &str) -> Watch {
        let mut values = self.0.lock();
        let there = values.stored.iter().filter(|(key, _)| key.starts_with(prefix));
        let unread = there.map(|(key, stored)| {
            let change = Change { key: key.clone(), stored: Some(stored.clone()) };
            (stored.revision, change)
        });
        let watcher = Watcher { prefix: prefix.to_owned(), unread: unread.collect(), waker: None };
        let number = values.next_watcher;
        values.next_watcher += 1;
        values.watchers.insert(number, watcher);
        Watch::new(MemoryWatch { number, values: Arc::downgrade(&self.0) })
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl SharedStore for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        ready(check_key(key).map(|()| self.0.lock().stored.get(key).cloned()))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Vec<u8>,
        expected: Expected,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        ready(self.write(key, Some(value), expected))
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        expected: Expected,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.write(key, None, expected).map(drop))
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        let values = self.0.lock();
        ready(Ok(values.stored.keys().filter(|key| key.starts_with(prefix)).cloned().collect()))
    }

    fn watch<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Watch, StoreError>> {
        ready(Ok(self.begin_watch(prefix)))
    }
}

struct MemoryWatch {
    number: u64,
    values: Weak<Mutex<Values>>,
}

impl ChangeStream for MemoryWatch {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Change, StoreError>>> {
        let Some(values) = self.values.upgrade() else { return Poll::Ready(None) };
        let mut values = values.lock();
        let Some(watcher) = values.watchers.get_mut(&self.number) else {
            return Poll::Ready(None);
        };
        match watcher.unread.pop_first() {
            Some((_, change)) => Poll::Ready(Some(Ok(change))),
            None => {
                watcher.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        if let Some(values) = self.values.upgrade() {
            values.lock().watchers.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_read_first_changes_and_the_other_reads_again() {
        let store = MemoryStore::default();
        let first = store.put("a.b", b"1".to_vec(), Expected::Nothing).await.unwrap();
        let refused = store.put("a.b", b"2".to_vec(), Expected::Nothing).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })));
        let second = store.put("a.b", b"2".to_vec(), Expected::Revision(first)).await.unwrap();
        assert!(store.put("a.b", b"3".to_vec(), Expected::Revision(first)).await.is_err());
        let stored = store.get("a.b").await.unwrap().unwrap();
        assert_eq!((stored.value.as_slice(), stored.revision), (&b"2"[..], second));
        assert!(store.delete("a.b", Expected::Revision(first)).await.is_err());
        store.delete("a.b", Expected::Revision(second)).await.unwrap();
        assert_eq!(store.get("a.b").await.unwrap(), None);
        store.delete("a.b", Expected::Anything).await.unwrap();
    }

    #[tokio::test]
    async fn a_watcher_sees_what_is_there_and_the_latest_of_each_change() {
        let store = MemoryStore::default();
        for key in ["x.1", "x.2", "y.1"] {
            store.put(key, b"old".to_vec(), Expected::Anything).await.unwrap();
        }
        let mut watch = store.watch("x.").await.unwrap();
        for value in [&b"new"[..], b"newer"] {
            store.put("x.1", value.to_vec(), Expected::Anything).await.unwrap();
        }
        store.delete("x.2", Expected::Anything).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let change = watch.next().await.unwrap().unwrap();
            seen.push((change.key, change.stored.map(|stored| stored.value)));
        }
        assert_eq!(seen, [("x.1".to_owned(), Some(b"newer".to_vec())), ("x.2".to_owned(), None)]);
        assert_eq!(store.keys("").await.unwrap(), ["x.1", "y.1"]);
        drop(store);
        assert!(watch.next().await.is_none());
    }

    #[test]
    fn keys_are_tokens() {
        for key in ["a", "a.b-c_d/e=f.1"] {
            check_key(key).unwrap();
        }
        for key in ["", ".", "a.", ".a", "a..b", "a b", "a*", "ä"] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }
}
