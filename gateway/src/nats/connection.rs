//! One client's connection: a task that reads, delivers and writes.
//!
//! The task owns all of the connection's state. It polls its reading side, then what goes out, in turn, so that
//! neither waits for the other: while a publish waits for room, messages for the client go on. The two share
//! the [`Output`] behind a lock that nobody else ever takes. What the client is told last is written, within
//! [`FAREWELL`], before the socket is closed.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Interval, MissedTickBehavior};

use super::door::Door;
use super::output::Output;
use super::protocol::{Info, text};
use super::session::Session;
use crate::limits::{LimitError, MAX_UNANSWERED_PINGS};

/// How long a client that is cut off has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The client has left.
    Left,
    /// The client is told an error.
    Error(Cow<'static, str>),
    /// The client reads too slowly.
    SlowConsumer,
    /// The gateway closes.
    Closed,
}

/// Serves a client until it leaves or is cut off.
pub(super) async fn serve<S>(stream: S, door: &Arc<Door>, info: &Info)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let output = Mutex::new(Output::new(&door.congestion, door.limits.max_pending));
    let end = converse(&mut reader, &mut writer, door, info, &output).await;
    let client = info.client_id;
    match &end {
        End::Error(text) => {
            tracing::debug!(client, error = %text, "a client was cut off");
            output.lock().error(text);
        }
        End::SlowConsumer => {
            tracing::warn!(client, "a client was cut off: {}", LimitError::Pending);
            return;
        }
        End::Left => return,
        End::Closed => {}
    }
    // A client that neither reads nor leaves has had its time.
    let parting = Box::pin(part(&mut reader, &mut writer, &output));
    let _ = tokio::time::timeout(FAREWELL, parting).await;
}

/// Writes what is left, and reads until the client closes: a socket that is closed with something unread loses
/// what was written last.
async fn part<R, W>(reader: &mut R, writer: &mut W, output: &Mutex<Output>) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    poll_fn(|cx| output.lock().poll_flush(writer, cx)).await?;
    writer.shutdown().await?;
    let mut unread = [0; 1024];
    while reader.read(&mut unread).await? > 0 {}
    Ok(())
}

async fn converse<R, W>(
    reader: &mut R,
    writer: &mut W,
    door: &Arc<Door>,
    info: &Info,
    output: &Mutex<Output>,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let quiet = AtomicBool::new(false);
    let heard = AtomicBool::new(false);
    let waits = |waits: bool| {
        quiet.store(waits, Ordering::Relaxed);
        heard.fetch_or(!waits, Ordering::Relaxed);
    };
    let mut session = Session::new(door, output);
    let mut reading = pin!(session.run(reader, waits));
    let mut lame_duck = pin!(door.lame_duck.cancelled());
    let mut closing = pin!(door.closing.cancelled());
    let mut was_told = false;
    let mut keep_alive = KeepAlive::new(door.limits.ping_interval);
    poll_fn(|cx| {
        if !was_told && lame_duck.as_mut().poll(cx).is_ready() {
            was_told = true;
            output.lock().append(|out| Info { lame_duck: true, ..info.clone() }.write(out));
        }
        if let Poll::Ready(end) = reading.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        if keep_alive.poll(cx, &heard, output).is_ready() {
            return Poll::Ready(End::Error(text::STALE.into()));
        }
        match poll_output(&mut *writer, output, cx) {
            Poll::Ready(Err(end)) => Poll::Ready(end),
            // Nothing is on its way in or out.
            Poll::Ready(Ok(())) if was_told && quiet.load(Ordering::Relaxed) => {
                closing.as_mut().poll(cx).map(|()| End::Closed)
            }
            _ => Poll::Pending,
        }
    })
    .await
}

/// Takes what subscriptions have and writes; ready once nothing is left for now.
fn poll_output<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &Mutex<Output>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), End>> {
    let mut output = output.lock();
    let has_more = output.deliver(cx)?;
    let flushed = output.poll_flush(writer, cx);
    if has_more {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    flushed.map_err(|_| End::Left)
}

/// Asks a client that says nothing whether it is still there.
struct KeepAlive {
    interval: Pin<Box<Interval>>,
    unanswered: u32,
}

impl KeepAlive {
    fn new(period: Duration) -> Self {
        let start = tokio::time::Instant::now() + period;
        let mut interval = tokio::time::interval_at(start, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval: Box::pin(interval), unanswered: 0 }
    }

    /// Ready once the client has left too many questions unanswered.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        heard: &AtomicBool,
        output: &Mutex<Output>,
    ) -> Poll<()> {
        while self.interval.poll_tick(cx).is_ready() {
            if heard.swap(false, Ordering::Relaxed) {
                self.unanswered = 0;
                continue;
            }
            if self.unanswered >= MAX_UNANSWERED_PINGS {
                return Poll::Ready(());
            }
            self.unanswered += 1;
            output.lock().append(|out| out.extend_from_slice(b"PING\r\n"));
        }
        Poll::Pending
    }
}
