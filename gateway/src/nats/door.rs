//! Where NATS clients come in: the listening socket, and what all of its connections share.
//!
//! One task accepts; each client has a task of its own, which a tracker counts. `lame_duck` tells all of them that
//! the gateway is about to close: clients are told and may leave. `closing` has them end as soon as nothing is on
//! its way. Those that have not ended in time are dropped, as all are when the door is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echo_bus::Transport;
use echo_core::config::GatewayLimits;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::congestion::Congestion;
use super::connection;
use super::groups::Groups;
use super::protocol::{self, Info};
use crate::auth::Auth;
use crate::limits::LimitError;

/// How long accepting rests after it failed, which it does when the process has no more file descriptors, so that
/// somebody may give one back.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What all connections share.
pub(super) struct Door {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) auth: Auth,
    pub(super) limits: GatewayLimits,
    pub(super) groups: Arc<Groups>,
    pub(super) congestion: Arc<Congestion>,
    pub(super) lame_duck: CancellationToken,
    pub(super) closing: CancellationToken,
    /// Drops what has not ended.
    cut_off: CancellationToken,
    tls: Option<TlsAcceptor>,
    info: Info,
    places: Semaphore,
    next_client: AtomicU64,
}

/// The NATS door of a gateway.
pub(crate) struct NatsDoor {
    address: SocketAddr,
    door: Arc<Door>,
    clients: TaskTracker,
    _cut_off: DropGuard,
}

/// What a NATS door is made of.
pub(crate) struct DoorOptions {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) auth: Auth,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: GatewayLimits,
    pub(crate) server_name: String,
}

impl NatsDoor {
    /// Lets clients in that come to `listener`.
    pub(crate) fn open(listener: TcpListener, address: SocketAddr, options: DoorOptions) -> Self {
        let server_id = uuid::Uuid::now_v7().simple().to_string().to_uppercase();
        let cut_off = CancellationToken::new();
        let door = Arc::new(Door {
            info: Info {
                host: address.ip().to_string(),
                port: address.port(),
                max_payload: options.limits.max_payload,
                auth_required: !options.auth.is_open(),
                tls_required: options.tls.is_some(),
                ..Info::new(server_id, options.server_name)
            },
            places: Semaphore::new(options.limits.max_connections.min(Semaphore::MAX_PERMITS)),
            transport: options.transport,
            auth: options.auth,
            limits: options.limits,
            groups: Arc::default(),
            congestion: Arc::default(),
            lame_duck: CancellationToken::new(),
            closing: CancellationToken::new(),
            cut_off: cut_off.clone(),
            tls: options.tls,
            next_client: AtomicU64::new(1),
        });
        let clients = TaskTracker::new();
        clients.spawn(accept(listener, Arc::clone(&door), clients.clone()));
        Self { address, door, clients, _cut_off: cut_off.drop_guard() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells clients that the gateway is about to close, gives them `grace` to leave, has those that stay end
    /// once nothing is on its way, and drops those that have not ended within `patience`.
    pub(crate) async fn shutdown(self, grace: Duration, patience: Duration) {
        self.door.lame_duck.cancel();
        self.clients.close();
        if tokio::time::timeout(grace, self.clients.wait()).await.is_ok() {
            return;
        }
        self.door.closing.cancel();
        if tokio::time::timeout(patience, self.clients.wait()).await.is_err() {
            tracing::warn!(clients = self.clients.len(), "clients were cut off at shutdown");
            self.door.cut_off.cancel();
            self.clients.wait().await;
        }
    }
}

async fn accept(listener: TcpListener, door: Arc<Door>, clients: TaskTracker) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let door = Arc::clone(&door);
                    clients.spawn(async move {
                        door.cut_off.run_until_cancelled(greet(stream, peer, &door)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a NATS client could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    };
    tokio::select! {
        () = door.lame_duck.cancelled() => {}
        () = door.cut_off.cancelled() => {}
        () = accepting => {}
    }
}

/// Says hello, turns to TLS where that is on, and serves the client.
async fn greet(mut stream: TcpStream, peer: SocketAddr, door: &Arc<Door>) {
    let client_id = door.next_client.fetch_add(1, Ordering::Relaxed);
    let info = Info { client_id, client_ip: peer.ip().to_string(), ..door.info.clone() };
    let place = door.places.try_acquire();
    if place.is_err() {
        tracing::warn!(%peer, "a client was turned away: {}", LimitError::Connections);
    }
    // Small answers are not held back for more; it works without.
    let _ = stream.set_nodelay(true);
    // What is done once is boxed, so that a connection that stays does not carry its room along.
    let said = Box::pin(say_hello(&mut stream, door, &info, place.is_ok())).await;
    if !said || place.is_err() {
        return;
    }
    match &door.tls {
        None => connection::serve(stream, door, &info).await,
        Some(tls) => Box::pin(encrypt(stream, peer, door, &info, tls)).await,
    }
}

/// Sends the greeting, and with it why the client is turned away, if it is; whether it has gone out.
async fn say_hello(stream: &mut TcpStream, door: &Door, info: &Info, has_place: bool) -> bool {
    let mut hello = Vec::new();
    info.write(&mut hello);
    if !has_place {
        protocol::write_error(&mut hello, &LimitError::Connections.to_string());
    }
    let said = tokio::time::timeout(door.limits.login_timeout, stream.write_all(&hello)).await;
    matches!(said, Ok(Ok(())))
}

/// Turns to TLS, and serves the client.
async fn encrypt(
    stream: TcpStream,
    peer: SocketAddr,
    door: &Arc<Door>,
    info: &Info,
    tls: &TlsAcceptor,
) {
    match tokio::time::timeout(door.limits.login_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection::serve(stream, door, info).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a client did not speak TLS"),
        Err(_) => tracing::debug!(%peer, "a client did not speak TLS in time"),
    }
}
