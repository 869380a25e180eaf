//! The doors of a host, opened and closed together.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use echo_bus::Transport;
use echo_core::config::GatewayLimits;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::auth::Auth;
use crate::nats::{DoorOptions, NatsDoor};

/// Which doors a gateway has, and who comes in.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Where NATS clients connect; port 0 takes one that is free.
    pub nats: Option<SocketAddr>,
    /// Who may come in.
    pub auth: Auth,
    /// Encryption; without it the doors speak in the clear.
    pub tls: Option<TlsAcceptor>,
    /// What one client may take.
    pub limits: GatewayLimits,
    /// What the host calls itself.
    pub server_name: String,
    /// How long clients have to leave by themselves at shutdown.
    pub grace: Duration,
    /// How long those that stay have to take what is on its way to them.
    pub patience: Duration,
}

impl GatewayOptions {
    /// No doors yet, for clients that `auth` lets in; limits as in the default configuration.
    pub fn new(auth: Auth) -> Self {
        Self {
            nats: None,
            auth,
            tls: None,
            limits: GatewayLimits::default(),
            server_name: "echo-core".to_owned(),
            grace: Duration::from_millis(250),
            patience: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOptions")
            .field("nats", &self.nats)
            .field("tls", &self.tls.is_some())
            .field("limits", &self.limits)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Why a gateway did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Something else listens there.
    #[error(
        "{address} is taken, perhaps by another host; stop what listens there, or give `gateway.{door}` another address"
    )]
    AddressTaken {
        /// The key of the configuration that names the address.
        door: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let it listen there.
    #[error("`gateway.{door}` cannot listen on {address}; give it an address of this machine")]
    Listen {
        /// The key of the configuration that names the address.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The doors of a host; they close when it is dropped.
pub struct Gateway {
    nats: Option<NatsDoor>,
    grace: Duration,
    patience: Duration,
}

impl Gateway {
    /// Opens the doors to a bus. Returns once clients can connect.
    ///
    /// # Errors
    /// [`GatewayError`] when one of the addresses cannot be listened on; then no door is open.
    pub async fn start(
        options: GatewayOptions,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, GatewayError> {
        let GatewayOptions { nats, auth, tls, limits, server_name, grace, patience } = options;
        let nats = match nats {
            Some(address) => Some(listen("nats", address).await?),
            None => None,
        };
        let nats = nats.map(|(listener, address)| {
            let options = DoorOptions { transport, auth, tls, limits, server_name };
            NatsDoor::open(listener, address, options)
        });
        Ok(Self { nats, grace, patience })
    }

    /// Where NATS clients connect.
    pub fn nats_address(&self) -> Option<SocketAddr> {
        self.nats.as_ref().map(NatsDoor::address)
    }

    /// Closes the doors: lets nobody in any more, tells clients (lame duck mode, in NATS' words) and gives them
    /// time to leave, delivers to those that stay what is on its way, and disconnects them.
    pub async fn shutdown(self) {
        if let Some(nats) = self.nats {
            nats.shutdown(self.grace, self.patience).await;
        }
    }
}

async fn listen(
    door: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => GatewayError::AddressTaken { door, address },
        _ => GatewayError::Listen { door, address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("nats", &self.nats_address()).finish_non_exhaustive()
    }
}
