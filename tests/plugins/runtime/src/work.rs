//! What the plugin does with its tokio.
//!
//! | order | does |
//! |---|---|
//! | `all` | a timer, a socket, a task, blocking work and a message from a task, and replies with what came of each |
//! | `tick` | waits for the next tick of the task that `new` spawned |
//! | `leave tasks` | spawns tasks that wait for good, one with the context in its hands |
//! | `leave blocking work` | blocks a thread of the runtime for good |
//! | `block the runtime` | has a task block the runtime's one thread for good |
//! | `listen for a signal` | with the feature `signal`: installs a signal handler, which nothing takes away again |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echo_sdk::{BaseMessage, PluginContext, PluginError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{interval, sleep, timeout};

/// The plugin at work.
#[derive(Debug)]
pub(crate) struct Work {
    context: PluginContext,
    ticks: Arc<Ticks>,
}

#[derive(Debug, Default)]
struct Ticks {
    count: AtomicU64,
    next: Notify,
}

impl Work {
    /// Begins to tick.
    pub(crate) fn begin(context: PluginContext) -> Self {
        let ticks = Arc::<Ticks>::default();
        let ticking = Arc::clone(&ticks);
        tokio::spawn(async move {
            let mut interval = interval(Duration::from_millis(1));
            loop {
                interval.tick().await;
                ticking.count.fetch_add(1, Ordering::Relaxed);
                ticking.next.notify_waiters();
            }
        });
        Self { context, ticks }
    }

    /// How often it ticked.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.count.load(Ordering::Relaxed)
    }

    pub(crate) async fn obey(&self, message: &BaseMessage) -> Result<(), PluginError> {
        match message.data()?.as_str().unwrap_or_default() {
            "all" => self.all(message).await?,
            "tick" => self.ticks.next.notified().await,
            "leave tasks" => {
                let context = self.context.clone();
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(context);
                });
                tokio::spawn(sleep(Duration::from_secs(3600)));
            }
            "leave blocking work" => started(|| drop(tokio::task::spawn_blocking(block))).await,
            "block the runtime" => started(|| drop(tokio::spawn(async { block() }))).await,
            #[cfg(feature = "signal")]
            "listen for a signal" => {
                use tokio::signal::unix::{SignalKind, signal};
                drop(signal(SignalKind::user_defined1()).map_err(PluginError::processing)?);
            }
            other => return Err(PluginError::InvalidData(format!("no such order: {other}"))),
        }
        Ok(())
    }

    async fn all(&self, message: &BaseMessage) -> Result<(), PluginError> {
        sleep(Duration::from_millis(1)).await;
        let late = timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err();
        let heard = say_again(*b"over the wire").await.map_err(PluginError::processing)?;
        let sum = tokio::spawn(async {
            tokio::task::yield_now().await;
            20 + 22
        })
        .await;
        let thread = || std::thread::current().name().map(str::to_owned);
        let blocked = tokio::task::spawn_blocking(thread).await;
        let (context, sent) = (self.context.clone(), message.clone());
        let told =
            tokio::spawn(async move { context.publish_now("runtime.told", sent).await }).await;
        told.map_err(PluginError::processing)??;
        let answer = json!({
            "late": late,
            "heard": String::from_utf8_lossy(&heard),
            "sum": sum.map_err(PluginError::processing)?,
            "blocked": blocked.is_ok(),
        });
        Ok(self.context.reply(message, &answer).await?)
    }
}

/// Sends bytes over a socket to a task that sends them back.
async fn say_again<const N: usize>(bytes: [u8; N]) -> std::io::Result<[u8; N]> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await?;
        let mut heard = [0; N];
        socket.read_exact(&mut heard).await?;
        socket.write_all(&heard).await
    });
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(&bytes).await?;
    let mut heard = [0; N];
    socket.read_exact(&mut heard).await?;
    server.await.map_err(std::io::Error::other)??;
    Ok(heard)
}

static STARTED: Notify = Notify::const_new();

/// Returns once what `start` starts has begun to block.
async fn started(start: impl FnOnce()) {
    let begun = STARTED.notified();
    start();
    begun.await;
}

/// Never returns.
fn block() {
    STARTED.notify_one();
    loop {
        std::thread::park();
    }
}
