//! The listening socket, and what all of its connections share.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use echo_bus::Transport;
use echo_core::config::GatewayLimits;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::guard::Guard;
use super::host::HostView;
use super::routes;
use super::stall::Stalling;
use crate::auth::Auth;
use crate::limits::{LimitError, Rate};

/// How long accepting rests after it failed, which it does when the process has no more file descriptors, so that
/// somebody may give one back.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The most headers that a request may have.
const MAX_HEADERS: usize = 64;

/// The most bytes that the head of a request may have.
const MAX_HEAD: usize = 64 * 1024;

/// What an HTTP door is made of.
#[derive(Clone)]
pub struct HttpOptions {
    /// The bus that it is the door to.
    pub transport: Arc<dyn Transport>,
    /// Who may come in.
    pub auth: Auth,
    /// What keeps web pages out.
    pub guard: Guard,
    /// Encryption; without it the door speaks in the clear.
    pub tls: Option<TlsAcceptor>,
    /// What one client may take.
    pub limits: GatewayLimits,
    /// What the host says of itself.
    pub host: Arc<dyn HostView>,
}

impl std::fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions")
            .field("guard", &self.guard)
            .field("tls", &self.tls.is_some())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What all connections share.
pub(super) struct Door {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) auth: Auth,
    pub(super) guard: Guard,
    pub(super) limits: GatewayLimits,
    pub(super) host: Arc<dyn HostView>,
    /// Nothing new begins, and what goes on ends.
    pub(super) closing: CancellationToken,
    /// Drops what has not ended.
    cut_off: CancellationToken,
    tasks: TaskTracker,
    tls: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
}

impl Door {
    /// Runs a task until it ends or the door is cut off.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut_off = self.cut_off.clone();
        self.tasks.spawn(async move {
            cut_off.run_until_cancelled(task).await;
        });
    }
}

/// What the requests of one connection share.
pub(super) struct Connection {
    pub(super) door: Arc<Door>,
    rate: Option<Mutex<Rate>>,
    /// Given back when the connection ends, and what came of it, such as a WebSocket.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Counts a message that is to be published.
    pub(super) fn count(&self) -> Result<(), LimitError> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.lock().take())
    }
}

/// The HTTP door of a host; it closes when it is dropped.
pub struct HttpDoor {
    address: SocketAddr,
    door: Arc<Door>,
    _cut_off: DropGuard,
}

impl HttpDoor {
    /// Lets clients in that come to `listener`, which listens on `address`.
    pub fn open(listener: TcpListener, address: SocketAddr, options: HttpOptions) -> Self {
        let HttpOptions { transport, auth, guard, tls, limits, host } = options;
        let cut_off = CancellationToken::new();
        let places = limits.max_connections.min(Semaphore::MAX_PERMITS);
        let door = Arc::new(Door {
            transport,
            auth,
            guard,
            limits,
            host,
            closing: CancellationToken::new(),
            cut_off: cut_off.clone(),
            tasks: TaskTracker::new(),
            tls,
            places: Arc::new(Semaphore::new(places)),
        });
        door.spawn(accept(listener, Arc::clone(&door)));
        Self { address, door, _cut_off: cut_off.drop_guard() }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody in any more, has requests in hand answered and streams told that they end, and drops what has
    /// not ended within `patience`.
    pub async fn shutdown(self, patience: Duration) {
        let Door { closing, cut_off, tasks, .. } = &*self.door;
        closing.cancel();
        tasks.close();
        if tokio::time::timeout(patience, tasks.wait()).await.is_err() {
            tracing::warn!(tasks = tasks.len(), "HTTP clients were cut off at shutdown");
            cut_off.cancel();
            tasks.wait().await;
        }
    }
}

impl std::fmt::Debug for HttpDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpDoor").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, door: Arc<Door>) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => match Arc::clone(&door.places).try_acquire_owned() {
                    Ok(place) => {
                        let rate = Rate::of(&door.limits).map(Mutex::new);
                        let connection =
                            Connection { door: Arc::clone(&door), rate, _place: place };
                        door.spawn(greet(stream, peer, Arc::new(connection)));
                    }
                    Err(_) => {
                        tracing::warn!(%peer, "a client was turned away: {}", LimitError::Connections);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "an HTTP client could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    };
    tokio::select! {
        () = door.closing.cancelled() => {}
        () = accepting => {}
    }
}

/// Turns to TLS where that is on, and serves the client.
async fn greet(stream: TcpStream, peer: SocketAddr, connection: Arc<Connection>) {
    // Small answers are not held back for more; it works without.
    let _ = stream.set_nodelay(true);
    let limits = &connection.door.limits;
    let stream = Stalling::new(stream, limits.ping_interval);
    let Some(tls) = connection.door.tls.clone() else {
        return converse(stream, connection).await;
    };
    match tokio::time::timeout(limits.login_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, connection).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a client did not speak TLS"),
        Err(_) => tracing::debug!(%peer, "a client did not speak TLS in time"),
    }
}

async fn converse<S>(stream: S, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let door = Arc::clone(&connection.door);
    let service = service_fn(|request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(routes::answer(request, connection).await) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(door.limits.login_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut http = pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = door.closing.cancelled() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke off");
    }
}
