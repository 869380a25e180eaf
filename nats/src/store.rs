//! What hosts share, in a key-value bucket of JetStream.
//!
//! The bucket is made when it is first needed. Watching begins anew when the server ends a watch, so that a
//! watcher misses no key's latest value.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_nats::jetstream::kv::{
    Config, CreateErrorKind, DeleteErrorKind, Entry, Operation, Store, UpdateErrorKind,
};
use async_nats::jetstream::stream::StorageType;
use echo_bus::store::{
    Change, ChangeStream, Expected, SharedStore, StoreError, Stored, Watch, check_key,
};
use echo_sdk::BoxFuture;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use crate::DurableOptions;
use crate::connection::Connection;
use crate::options::Storage;

/// The bucket's name.
const BUCKET: &str = "ECHO";

#[derive(Debug)]
pub(crate) struct NatsStore {
    connection: Arc<Connection>,
    storage: Storage,
    replicas: usize,
    bucket: OnceCell<Store>,
}

impl NatsStore {
    pub(crate) fn new(connection: Arc<Connection>, options: &DurableOptions) -> Self {
        let (storage, replicas) = (options.storage, options.replicas.max(1));
        Self { connection, storage, replicas, bucket: OnceCell::new() }
    }

    async fn bucket(&self) -> Result<&Store, StoreError> {
        self.bucket.get_or_try_init(|| self.make()).await
    }

    async fn make(&self) -> Result<Store, StoreError> {
        let Some(jetstream) = &self.connection.jetstream else {
            let text = "JetStream is not enabled on the NATS server; start it with `--jetstream`";
            return Err(StoreError::Failed(text.to_owned()));
        };
        if let Ok(bucket) = jetstream.get_key_value(BUCKET).await {
            return Ok(bucket);
        }
        let config = Config {
            bucket: BUCKET.to_owned(),
            history: 1,
            num_replicas: self.replicas,
            storage: match self.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            ..Config::default()
        };
        match jetstream.create_key_value(config).await {
            Ok(bucket) => Ok(bucket),
            // Another host may have been quicker, with other settings.
            Err(error) => jetstream.get_key_value(BUCKET).await.map_err(|_| failed(&error)),
        }
    }

    async fn write(
        &self,
        key: &str,
        value: Vec<u8>,
        expected: Expected,
    ) -> Result<u64, StoreError> {
        check_key(key)?;
        let bucket = self.bucket().await?;
        let conflict = || StoreError::Conflict { key: key.to_owned() };
        match expected {
            Expected::Anything => {
                bucket.put(key, value.into()).await.map_err(|error| failed(&error))
            }
            Expected::Nothing => {
                bucket.create(key, value.into()).await.map_err(|error| match error.kind() {
                    CreateErrorKind::AlreadyExists => conflict(),
                    _ => failed(&error),
                })
            }
            Expected::Revision(revision) => {
                let updated = bucket.update(key, value.into(), revision).await;
                updated.map_err(|error| match error.kind() {
                    UpdateErrorKind::WrongLastRevision => conflict(),
                    _ => failed(&error),
                })
            }
        }
    }

    async fn remove(&self, key: &str, expected: Expected) -> Result<(), StoreError> {
        check_key(key)?;
        let bucket = self.bucket().await?;
        let conflict = || StoreError::Conflict { key: key.to_owned() };
        let found = read(bucket, key).await?;
        let revision = match (expected, found) {
            (Expected::Anything | Expected::Nothing, None) => return Ok(()),
            (Expected::Anything, Some(_)) => None,
            (Expected::Revision(revision), Some(found)) if found.revision == revision => {
                Some(revision)
            }
            _ => return Err(conflict()),
        };
        let deleted = bucket.delete_expect_revision(key, revision).await;
        deleted.map_err(|error| match error.kind() {
            DeleteErrorKind::WrongLastRevision => conflict(),
            _ => failed(&error),
        })
    }
}

async fn read(bucket: &Store, key: &str) -> Result<Option<Stored>, StoreError> {
    let entry = bucket.entry(key).await.map_err(|error| failed(&error))?;
    Ok(entry.and_then(|entry| change(entry).stored))
}

fn failed(error: &dyn std::error::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn change(entry: Entry) -> Change {
    let Entry { key, value, revision, operation, .. } = entry;
    let stored = match operation {
        Operation::Put => Some(Stored { value: value.into(), revision }),
        Operation::Delete | Operation::Purge => None,
    };
    Change { key, stored }
}

impl SharedStore for NatsStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move {
            check_key(key)?;
            read(self.bucket().await?, key).await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Vec<u8>,
        expected: Expected,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.write(key, value, expected))
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        expected: Expected,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.remove(key, expected))
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let keys = self.bucket().await?.keys().await.map_err(|error| failed(&error))?;
            let keys = keys.try_filter(|key| std::future::ready(key.starts_with(prefix)));
            let mut keys: Vec<String> = keys.try_collect().await.map_err(|error| failed(&error))?;
            keys.sort_unstable();
            Ok(keys)
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Watch, StoreError>> {
        Box::pin(async move {
            let watching = self.bucket().await?.watch_with_history(">").await;
            let changes = watching.map_err(|error| failed(&error))?.boxed();
            Ok(Watch::new(NatsWatch { prefix: prefix.to_owned(), changes }))
        })
    }
}

type Entries<E> = Pin<Box<dyn Stream<Item = Result<Entry, E>> + Send>>;

struct NatsWatch<E> {
    prefix: String,
    changes: Entries<E>,
}

impl<E: std::error::Error + 'static> ChangeStream for NatsWatch<E> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Change, StoreError>>> {
        loop {
            match ready!(self.changes.poll_next_unpin(cx)) {
                Some(Ok(entry)) if entry.key.starts_with(&self.prefix) => {
                    return Poll::Ready(Some(Ok(change(entry))));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(failed(&error)))),
                None => return Poll::Ready(None),
            }
        }
    }
}
