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
use crate::http::{Guard, HostView, HttpDoor, HttpOptions};
use crate::nats::{DoorOptions, NatsDoor};

/// Which doors a gateway has, and who comes in.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Where NATS clients connect; port 0 takes one that is free.
    pub nats: Option<SocketAddr>,
    /// Where HTTP clients connect, and what they find there.
    pub http: Option<HttpSettings>,
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

/// The HTTP door, as it is asked for.
#[derive(Clone)]
pub struct HttpSettings {
    /// Where clients connect; port 0 takes one that is free.
    pub address: SocketAddr,
    /// What keeps web pages out.
    pub guard: Guard,
    /// What the host says of itself.
    pub host: Arc<dyn HostView>,
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings")
            .field("address", &self.address)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

impl GatewayOptions {
    /// No doors yet, for clients that `auth` lets in; limits as in the default configuration.
    pub fn new(auth: Auth) -> Self {
        Self {
            nats: None,
            http: None,
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
            .field("http", &self.http)
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
    http: Option<HttpDoor>,
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
        let GatewayOptions { nats, http, auth, tls, limits, server_name, grace, patience } =
            options;
        let nats = match nats {
            Some(address) => Some(listen("nats", address).await?),
            None => None,
        };
        let http = match http {
            Some(http) => Some((listen("http", http.address).await?, http)),
            None => None,
        };
        let http = http.map(|((listener, address), HttpSettings { guard, host, .. })| {
            let (transport, auth) = (Arc::clone(&transport), auth.clone());
            let (tls, limits) = (tls.clone(), limits.clone());
            let options = HttpOptions { transport, auth, guard, tls, limits, host };
            HttpDoor::open(listener, address, options)
        });
        let nats = nats.map(|(listener, address)| {
            let options = DoorOptions { transport, auth, tls, limits, server_name };
            NatsDoor::open(listener, address, options)
        });
        Ok(Self { nats, http, grace, patience })
    }

    /// Where NATS clients connect.
    pub fn nats_address(&self) -> Option<SocketAddr> {
        self.nats.as_ref().map(NatsDoor::address)
    }

    /// Where HTTP clients connect.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpDoor::address)
    }

    /// Closes the doors: lets nobody in any more, tells clients (lame duck mode, in NATS' words) and gives them
    /// time to leave, delivers to those that stay what is on its way, and disconnects them. HTTP requests in hand
    /// are answered meanwhile.
    pub async fn shutdown(self) {
        let Self { nats, http, grace, patience } = self;
        let nats = async {
            if let Some(nats) = nats {
                nats.shutdown(grace, patience).await;
            }
        };
        let http = async {
            if let Some(http) = http {
                http.shutdown(patience).await;
            }
        };
        tokio::join!(nats, http);
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
        f.debug_struct("Gateway")
            .field("nats", &self.nats_address())
            .field("http", &self.http_address())
            .finish_non_exhaustive()
    }
}
