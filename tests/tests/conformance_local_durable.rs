//! The local transport keeps the delivery contract with a log under its durable topics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_bus::{
    DurableLog, DurableOptions, LocalOptions, LocalTransport, LogOptions, OpenError, Transport,
};
use echo_sdk::{BoxFuture, Pattern};
use echo_tests::conformance::{DURABLE, Ground, Joining};
use tempfile::TempDir;

/// A bus within this process and its log on a disk.
struct Local<T>(TempDir, PhantomData<T>);

/// Which topics are durable.
trait Durable: Send + Sync + 'static {
    const TOPICS: &str;
}

/// Those that the suite publishes durable messages to.
struct Some;

impl Durable for Some {
    const TOPICS: &str = DURABLE;
}

/// All of them: what holds of any topic holds of durable ones.
struct All;

impl Durable for All {
    const TOPICS: &str = ">";
}

/// How long a host that was let go of may take to close its log.
const PATIENCE: Duration = Duration::from_secs(10);

impl<T: Durable> Local<T> {
    async fn open(&self) -> DurableLog {
        let options = DurableOptions {
            topics: vec![Pattern::new(T::TOPICS).unwrap()],
            dir: self.0.path().to_owned(),
            log: LogOptions { segment_size: 4 << 20, ..LogOptions::default() },
        };
        let began = Instant::now();
        loop {
            match DurableLog::open(options.clone()) {
                Ok((log, report)) => {
                    assert_eq!(report.damage, []);
                    return log;
                }
                Err(OpenError::InUse { .. }) if began.elapsed() < PATIENCE => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl<T: Durable> Ground for Local<T> {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), PhantomData)
    }

    fn name(&self) -> &'static str {
        "local with a log"
    }

    /// The disk takes its own time.
    fn is_in_process(&self) -> bool {
        false
    }

    fn connects_hosts(&self) -> bool {
        false
    }

    fn join(&self, joining: Joining) -> BoxFuture<'_, Arc<dyn Transport>> {
        Box::pin(async move {
            let mut options = LocalOptions::default();
            options.max_payload = joining.max_payload.unwrap_or(options.max_payload);
            let log = self.open().await;
            Arc::new(LocalTransport::durable(options, log).unwrap()) as Arc<dyn Transport>
        })
    }
}

echo_tests::conformance!(Local<Some>, declares: [pressure, batches, durable], lacks: [hosts]);

/// What finds a queue full waits in the log, so nobody is held back.
mod all_durable {
    use super::*;

    echo_tests::sentences!(all, each_holds, Local<All>);
    echo_tests::sentences!(durable, each_holds, Local<All>);
}
