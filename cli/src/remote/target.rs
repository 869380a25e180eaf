//! Which bus a command means, and how it is let in.
//!
//! `ECHO_URL` names it. Without it, the host that runs on this machine is meant, which the state folder tells of;
//! then the configuration's `bus.url`; then the place where hosts and NATS servers listen by default. A local
//! host's token is found in the state folder; another server knows the program by what stands in the address, or else by
//! what `[bus.nats]` says.

use std::fmt;
use std::net::IpAddr;

use async_nats::{ConnectOptions, ServerAddr};
use echo_core::config::{BusUrl, Config, NatsConfig, Secret};
use echo_gateway::auth::state::{self, HostState, StateError};
use echo_gateway::auth::token::state_dir;

use super::RemoteError;

/// Where hosts and NATS servers listen by default.
const DEFAULT: &str = "nats://127.0.0.1:4222";

/// The port of a bus whose address names none.
const DEFAULT_PORT: u16 = 4222;

/// Where a bus is, and how a server there knows this program.
#[derive(Debug)]
pub struct Target {
    /// The addresses without secrets.
    addresses: Vec<ServerAddr>,
    identity: Identity,
    tls: NatsConfig,
}

/// How a server knows this program.
#[derive(Debug)]
enum Identity {
    Nobody,
    Token(Secret),
    User(String, Secret),
    /// By what the configuration says.
    Configured,
}

impl Target {
    /// Finds the bus that is meant. Blocks for the files of the state folder.
    ///
    /// # Errors
    /// [`RemoteError`] when the address is none, or several hosts run here and none is named.
    pub fn find(url: Option<&str>, config: &Config) -> Result<Self, RemoteError> {
        let state = |port| -> Result<HostState, RemoteError> {
            let folder = state_dir(config.gateway.state_dir.as_deref())?;
            Ok(state::find(&folder, port)?)
        };
        let Some(url) = url.filter(|url| !url.is_empty()) else {
            return match (state(None), &config.bus.url) {
                (Ok(host), _) => Self::of_host(&host, config),
                (Err(RemoteError::State(StateError::Several { .. })), _) => {
                    // Of several, the one that listens where hosts do by default needs no naming.
                    Self::of_host(&state(Some(DEFAULT_PORT)).or_else(|_| state(None))?, config)
                }
                (Err(_), BusUrl::Nats(addresses)) => Self::new(addresses, config),
                (Err(_), BusUrl::Local) => Self::new(&[DEFAULT.to_owned()], config),
            };
        };
        let url: BusUrl = url.parse()?;
        let addresses = match url {
            BusUrl::Nats(addresses) => addresses,
            BusUrl::Local => return Self::of_host(&state(None)?, config),
        };
        let target = Self::new(&addresses, config)?;
        match (&target.identity, target.local_port()) {
            // A host of this machine's that is not found is a server, or another user's host.
            (Identity::Nobody | Identity::Configured, Some(port)) => match state(Some(port)) {
                Ok(host) => Self::of_host(&host, config),
                Err(_) => Ok(target),
            },
            _ => Ok(target),
        }
    }

    fn of_host(host: &HostState, config: &Config) -> Result<Self, RemoteError> {
        let url = host.url().ok_or(RemoteError::DoorOff)?;
        let mut target = Self::new(&[url], config)?;
        if host.tls && target.tls.ca.is_none() {
            target.tls.ca = config.gateway.tls.as_ref().map(|tls| tls.cert.clone());
        }
        Ok(target)
    }

    fn new(addresses: &[String], config: &Config) -> Result<Self, RemoteError> {
        let nats = &config.bus.nats;
        let is_configured = nats.user.is_some()
            || nats.token.is_some()
            || nats.nkey.is_some()
            || nats.creds.is_some();
        let mut identity = if is_configured { Identity::Configured } else { Identity::Nobody };
        let mut without_secrets = Vec::with_capacity(addresses.len());
        for address in addresses {
            let (scheme, rest) = address.split_once("://").unwrap_or(("nats", address));
            let host = match rest.rsplit_once('@') {
                None => rest,
                Some((secret, host)) => {
                    identity = match secret.split_once(':') {
                        Some((user, password)) => {
                            Identity::User(decoded(user), Secret::new(decoded(password)))
                        }
                        None => Identity::Token(Secret::new(decoded(secret))),
                    };
                    host
                }
            };
            let address = format!("{scheme}://{host}").parse();
            without_secrets
                .push(address.map_err(|source| RemoteError::File { key: "ECHO_URL", source })?);
        }
        Ok(Self { addresses: without_secrets, identity, tls: nats.clone() })
    }

    /// The port, where the address is of this machine.
    fn local_port(&self) -> Option<u16> {
        let [address] = self.addresses.as_slice() else { return None };
        let host = address.host();
        let is_local =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_local.then(|| address.port())
    }

    /// The addresses, without secrets.
    pub(super) fn addresses(&self) -> Vec<ServerAddr> {
        self.addresses.clone()
    }

    /// How to connect.
    pub(super) async fn options(&self) -> Result<ConnectOptions, RemoteError> {
        let options = ConnectOptions::new();
        let mut options = match &self.identity {
            Identity::Nobody => options,
            Identity::Token(token) => options.token(token.reveal().to_owned()),
            Identity::User(user, password) => {
                options.user_and_password(user.clone(), password.reveal().to_owned())
            }
            Identity::Configured => configured(options, &self.tls).await?,
        };
        if let Some(ca) = &self.tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let (Some(cert), Some(key)) = (&self.tls.cert, &self.tls.key) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        Ok(options)
    }
}

async fn configured(
    options: ConnectOptions,
    nats: &NatsConfig,
) -> Result<ConnectOptions, RemoteError> {
    let file = |key| move |source| RemoteError::File { key, source };
    if let (Some(user), Some(password)) = (&nats.user, &nats.password) {
        return Ok(options.user_and_password(user.clone(), password.reveal().to_owned()));
    }
    if let Some(token) = &nats.token {
        return Ok(options.token(token.reveal().to_owned()));
    }
    if let Some(nkey) = &nats.nkey {
        let seed = tokio::fs::read_to_string(nkey).await.map_err(file("bus.nats.nkey"))?;
        return Ok(options.nkey(seed.trim().to_owned()));
    }
    match &nats.creds {
        Some(creds) => options.credentials_file(creds).await.map_err(file("bus.nats.creds")),
        None => Ok(options),
    }
}

/// A part of an address with its `%40` and the like resolved; one that is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The addresses as people may see them.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}:{}", address.host(), address.port())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(state: &tempfile::TempDir) -> Config {
        let mut config = Config::default();
        config.gateway.state_dir = Some(state.path().to_owned());
        config
    }

    fn host(port: u16) -> HostState {
        HostState {
            pid: 1,
            nats: Some(([127, 0, 0, 1], port).into()),
            http: None,
            token: Some(Secret::new("t0ken")),
            tls: false,
        }
    }

    fn token(target: &Target) -> Option<&str> {
        match &target.identity {
            Identity::Token(token) => Some(token.reveal()),
            _ => None,
        }
    }

    #[test]
    fn the_running_host_is_found_with_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let target = Target::find(None, &config).unwrap();
        assert_eq!((target.to_string().as_str(), token(&target)), ("127.0.0.1:4222", None));
        let _host = state::announce(folder.path(), &host(5222)).unwrap();
        for url in [
            None,
            Some(""),
            Some("local"),
            Some("nats://127.0.0.1:5222"),
            Some("nats://localhost:5222"),
        ] {
            let target = Target::find(url, &config).unwrap();
            assert_eq!(target.to_string(), "127.0.0.1:5222", "{url:?}");
            assert_eq!(token(&target), Some("t0ken"), "{url:?}");
        }
        let other = Target::find(Some("nats://example:5222"), &config).unwrap();
        assert_eq!((other.to_string().as_str(), token(&other)), ("example:5222", None));
        let own = Target::find(Some("nats://mine@127.0.0.1:5222"), &config).unwrap();
        assert_eq!(token(&own), Some("mine"));
        let _second = state::announce(folder.path(), &host(6222)).unwrap();
        let several = Target::find(None, &config).unwrap_err().to_string();
        assert!(several.contains("5222, 6222"), "{several}");
    }

    #[test]
    fn an_address_says_who_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let target = Target::find(Some("nats://me:p%40ss@a:1,nats://b"), &config).unwrap();
        assert_eq!(target.to_string(), "a:1,b:4222");
        let Identity::User(user, password) = &target.identity else { panic!("{target:?}") };
        assert_eq!((user.as_str(), password.reveal()), ("me", "p@ss"));
        assert!(!format!("{target:?}").contains("p@ss"));
        assert!(matches!(Target::find(Some("http://a"), &config), Err(RemoteError::Url(_))));
        assert_eq!(decoded("50%"), "50%");
        assert_eq!(decoded("%zz%2"), "%zz%2");
    }
}
