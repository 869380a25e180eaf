//! What hosts share beside messages.

use echo_bus::Transport;
use echo_bus::store::{Expected, StoreError};

use crate::server::NatsServer;
use crate::support::*;

#[tokio::test]
async fn whoever_read_first_changes_and_the_other_host_reads_again() {
    let server = NatsServer::start();
    let (one, other) = (host(&server.url()).await, host(&server.url()).await);
    let (here, there) = (one.store(), other.store());
    assert_eq!(here.get("run.1").await.unwrap(), None);
    let first = here.put("run.1", b"a".to_vec(), Expected::Nothing).await.unwrap();
    let refused = there.put("run.1", b"b".to_vec(), Expected::Nothing).await;
    assert!(matches!(refused, Err(StoreError::Conflict { key }) if key == "run.1"));
    let read = there.get("run.1").await.unwrap().unwrap();
    assert_eq!((read.value.as_slice(), read.revision), (&b"a"[..], first));
    let second = there.put("run.1", b"b".to_vec(), Expected::Revision(first)).await.unwrap();
    let refused = here.put("run.1", b"c".to_vec(), Expected::Revision(first)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    let refused = here.delete("run.1", Expected::Revision(first)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    here.delete("run.1", Expected::Revision(second)).await.unwrap();
    assert_eq!(there.get("run.1").await.unwrap(), None);
    there.delete("run.1", Expected::Anything).await.unwrap();
    here.put("run.1", b"d".to_vec(), Expected::Nothing).await.unwrap();
    assert!(matches!(here.get("no such key").await, Err(StoreError::Key(_))));
}

#[tokio::test]
async fn a_watcher_sees_what_is_there_and_what_other_hosts_change() {
    let server = NatsServer::start();
    let (one, other) = (host(&server.url()).await, host(&server.url()).await);
    let (here, there) = (one.store(), other.store());
    for key in ["x.1", "x.2", "y.1"] {
        here.put(key, b"old".to_vec(), Expected::Anything).await.unwrap();
    }
    let mut watch = there.watch("x.").await.unwrap();
    let mut next = async || {
        let change = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        (change.key, change.stored.map(|stored| stored.value))
    };
    assert_eq!(next().await, ("x.1".to_owned(), Some(b"old".to_vec())));
    assert_eq!(next().await, ("x.2".to_owned(), Some(b"old".to_vec())));
    here.put("y.1", b"new".to_vec(), Expected::Anything).await.unwrap();
    here.put("x.2", b"new".to_vec(), Expected::Anything).await.unwrap();
    here.delete("x.1", Expected::Anything).await.unwrap();
    assert_eq!(next().await, ("x.2".to_owned(), Some(b"new".to_vec())));
    assert_eq!(next().await, ("x.1".to_owned(), None));
    assert_eq!(here.keys("").await.unwrap(), ["x.2", "y.1"]);
    assert_eq!(here.keys("y").await.unwrap(), ["y.1"]);
}

#[tokio::test]
async fn a_watcher_misses_nothing_when_the_server_is_restarted() {
    let mut server = NatsServer::start();
    let bus = host(&server.url()).await;
    let store = bus.store();
    store.put("x.1", b"1".to_vec(), Expected::Anything).await.unwrap();
    let mut watch = store.watch("x.").await.unwrap();
    let mut next = async || {
        let change = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        change.unwrap().stored.unwrap().value
    };
    assert_eq!(next().await, b"1");
    server.restart();
    until("the store is back", async || {
        store.put("x.1", b"2".to_vec(), Expected::Anything).await.is_ok()
    })
    .await;
    while next().await != b"2" {}
}
