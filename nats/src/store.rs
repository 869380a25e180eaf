//! What hosts share, in key-value buckets of JetStream.
//!
//! A bucket is made when it is first needed. Watching begins anew when the server ends a watch or was away, so
//! that a watcher misses no key's latest value.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, push};
use async_nats::jetstream::kv::{
    CreateErrorKind, DeleteErrorKind, Entry, Operation, Store, UpdateErrorKind, Watch as Entries,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use echo_bus::store::{
    Change, ChangeStream, Expected, SharedStore, StoreError, Stored, Watch, check_key,
};
use echo_sdk::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use crate::DurableOptions;
use crate::connection::Connection;
use crate::options::Storage;

/// How long to wait before turning to a server again that did not answer.
const PATIENCE: Duration = Duration::from_millis(200);

/// The bucket of what hosts share.
pub(crate) const SHARED: &str = "ECHO";

/// The bucket of managed state.
pub(crate) const STATE: &str = "ECHO_STATE";

/// The header of an entry that is none any more.
const OPERATION: &str = "KV-Operation";

#[derive(Debug)]
pub(crate) struct NatsStore {
    connection: Arc<Connection>,
    storage: Storage,
    replicas: usize,
    name: &'static str,
    bucket: OnceCell<Store>,
}

impl NatsStore {
    /// The bucket of this name, made when it is first needed.
    pub(crate) fn new(
        connection: Arc<Connection>,
        options: &DurableOptions,
        name: &'static str,
    ) -> Self {
        let (storage, replicas) = (options.storage, options.replicas.max(1));
        Self { connection, storage, replicas, name, bucket: OnceCell::new() }
    }

    async fn bucket(&self) -> Result<&Store, StoreError> {
        self.bucket.get_or_try_init(|| self.make()).await
    }

    async fn make(&self) -> Result<Store, StoreError> {
        let Some(jetstream) = &self.connection.jetstream else {
            let text = "JetStream is not enabled on the NATS server; start it with `--jetstream`";
            return Err(StoreError::Failed(text.to_owned()));
        };
        if let Ok(bucket) = jetstream.get_key_value(self.name).await {
            return Ok(bucket);
        }
        let made = jetstream.create_stream(self.config()).await;
        // Another host may have been quicker, with other settings.
        jetstream.get_key_value(self.name).await.map_err(|error| match &made {
            Ok(_) => failed(&error),
            Err(error) => failed(error),
        })
    }

    /// The stream that a bucket is. The client would make it as well, but first asks for more than servers before
    /// 2.10 know of.
    fn config(&self) -> Config {
        Config {
            name: format!("KV_{}", self.name),
            subjects: vec![format!("$KV.{}.>", self.name)],
            max_messages_per_subject: 1,
            max_messages: -1,
            max_bytes: -1,
            max_message_size: -1,
            max_consumers: -1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            num_replicas: self.replicas,
            storage: match self.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            ..Config::default()
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

    /// The keys that have a value and that a pattern matches; the server passes over all others.
    pub(crate) async fn keys_of(&self, pattern: &str) -> Result<Vec<String>, StoreError> {
        let bucket = self.bucket().await?;
        let config = push::OrderedConfig {
            deliver_subject: self.connection.client.new_inbox(),
            filter_subject: format!("{}{pattern}", bucket.prefix),
            headers_only: true,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..push::OrderedConfig::default()
        };
        let consumer = bucket.stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| failed(&error))?;
        let mut left = consumer.cached_info().num_pending;
        let mut found = consumer.messages().await.map_err(|error| failed(&error))?;
        let mut keys = Vec::new();
        while left > 0 {
            let next = found.try_next().await.map_err(|error| failed(&error))?;
            let Some(message) = next else { break };
            left = message.info().map_err(failed_with)?.pending;
            let is_put = message.headers.as_ref().is_none_or(|all| all.get(OPERATION).is_none());
            let key = message.subject.strip_prefix(&*bucket.prefix).filter(|_| is_put);
            keys.extend(key.map(str::to_owned));
        }
        Ok(keys)
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

fn failed_with(error: async_nats::Error) -> StoreError {
    failed(&*error)
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
            let bucket = self.bucket().await?.clone();
            let entries = bucket.watch_with_history(">").await.map_err(|error| failed(&error))?;
            let watching = Watching { bucket, entries, prefix: prefix.to_owned(), seen: 0 };
            let changes = stream::unfold(watching, async |mut watching| {
                let change = watching.next().await;
                Some((change, watching))
            });
            Ok(Watch::new(NatsWatch(changes.boxed())))
        })
    }
}

/// A watch at the server, and what of it was seen.
struct Watching {
    bucket: Store,
    entries: Entries,
    prefix: String,
    /// The latest revision.
    seen: u64,
}

impl Watching {
    /// The next change, however often the watch has to begin anew for it.
    async fn next(&mut self) -> Change {
        loop {
            match self.entries.next().await {
                Some(Ok(entry)) if entry.revision > self.seen => {
                    self.seen = entry.revision;
                    if entry.key.starts_with(&self.prefix) {
                        return change(entry);
                    }
                }
                // It is shown anew what it has seen.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => self.begin_anew().await,
            }
        }
    }

    async fn begin_anew(&mut self) {
        loop {
            match self.bucket.watch_with_history(">").await {
                Ok(entries) => {
                    self.entries = entries;
                    return;
                }
                Err(error) => tracing::warn!(%error, "the shared store is watched again"),
            }
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

struct NatsWatch(BoxStream<'static, Change>);

impl ChangeStream for NatsWatch {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Change, StoreError>>> {
        self.0.poll_next_unpin(cx).map(|change| change.map(Ok))
    }
}
