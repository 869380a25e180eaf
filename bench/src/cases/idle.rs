//! One message to a bus on which nothing happens: how long until its handler runs.
//!
//! The publisher is a thread outside of the runtime, whose own threads are all asleep, and goes to sleep
//! itself once it has published; what is measured is for the most part how long the system takes to wake a
//! thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
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
    /// Who waits for that.
    publisher: Mutex<Option<Thread>>,
}

impl StopWatch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            handled_at: AtomicU64::new(0),
            publisher: Mutex::default(),
        })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Stops the clock, then wakes the publisher.
    pub(crate) fn stop(&self) {
        self.handled_at.store(self.now(), Ordering::Release);
        if let Ok(publisher) = self.publisher.lock()
            && let Some(publisher) = &*publisher
        {
            publisher.unpark();
        }
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
            if let Ok(mut publisher) = self.publisher.lock() {
                *publisher = Some(thread::current());
            }
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

    /// Waits until the clock is stopped, asleep: a thread that only looks would keep the system from
    /// running the woken one on its core. Gives the time at which it was stopped.
    fn stopped(&self) -> u64 {
        loop {
            match self.handled_at.load(Ordering::Acquire) {
                0 => thread::park(),
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
