//! One message to a bus on which nothing happens: how long until its handler runs.
//!
//! The publisher is a thread outside of the runtime, whose own threads are all asleep; what is measured is
//! for the most part how long the system takes to wake one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use echo_sdk::{BaseMessage, Plugin, PluginError, ProcessingStatus, Topic};
use tokio::runtime::{Handle, Runtime};

use crate::BenchError;
use crate::harness::{Contender, OURS, Round};
use crate::ours::{Place, host};
use crate::work::{TOPIC, message};

/// How long nothing happens before each message. It is not waited for anything: this is what makes the bus
/// and the processor idle.
const IDLE: Duration = Duration::from_millis(1);

/// A clock that whoever handles a message stops.
pub(crate) struct StopWatch {
    epoch: Instant,
    /// When the message was handled, in nanoseconds since the epoch; 0 while it is not.
    handled_at: AtomicU64,
}

impl StopWatch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { epoch: Instant::now(), handled_at: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Stops the clock.
    pub(crate) fn stop(&self) {
        self.handled_at.store(self.now(), Ordering::Release);
    }

    /// Sends one message after another, each to an idle bus, and takes the times; on a thread of its own.
    pub(crate) async fn times(
        self: Arc<Self>,
        messages: u64,
        send: impl Fn() -> Result<(), BenchError> + Send + 'static,
    ) -> Result<Round, BenchError> {
        let runtime = Handle::current();
        let times = move || {
            let _within = runtime.enter();
            let began = Instant::now();
            let mut latencies = Vec::with_capacity(messages as usize);
            for _ in 0..messages {
                thread::sleep(IDLE);
                self.handled_at.store(0, Ordering::Release);
                let sent = self.now();
                send()?;
                latencies.push(self.stopped() - sent);
            }
            Ok(Round { latencies, ..Round::since(began, messages) })
        };
        // Not a thread of the runtime's pool for blocking work: nothing of the runtime is to be awake.
        let (done, finished) = tokio::sync::oneshot::channel();
        let thread =
            thread::Builder::new().name("bench-publisher".to_owned()).spawn(move || {
                let _ = done.send(times());
            })?;
        let round = finished.await.unwrap_or_else(|_| {
            Err(BenchError::Peer { peer: "the publisher", fault: "panicked".to_owned() })
        });
        drop(thread.join());
        round
    }

    /// When the clock was stopped. Looks all the time, which keeps this core awake and no other.
    fn stopped(&self) -> u64 {
        loop {
            match self.handled_at.load(Ordering::Acquire) {
                0 => std::hint::spin_loop(),
                at => return at,
            }
        }
    }
}

struct Stopping(Arc<StopWatch>);

impl Plugin for Stopping {
    fn name(&self) -> &str {
        "bench"
    }

    async fn process_message(
        &self,
        _: &Topic,
        _: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        self.0.stop();
        Ok(ProcessingStatus::Acknowledged)
    }
}

pub(super) fn sides(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = vec![ours().await?];
        #[cfg(feature = "bench-peers")]
        sides.push(crate::peers::idle());
        Ok(sides)
    })
}

async fn ours() -> Result<Contender, BenchError> {
    let watch = StopWatch::new();
    let stopping = Arc::clone(&watch);
    let host = host(Place::default(), move |_| Ok(Stopping(Arc::clone(&stopping)))).await?;
    let client = host.client("bench-client");
    let (topic, prebuilt) = (Topic::new(TOPIC)?, message()?);
    Ok(Contender::new(OURS, move |messages| {
        // The host lives as long as the rounds.
        let _host = &host;
        let (client, topic, prebuilt) = (client.clone(), topic.clone(), prebuilt.clone());
        let send = move || Ok(client.try_publish(&topic, prebuilt.clone())?);
        Arc::clone(&watch).times(messages, send)
    }))
}
