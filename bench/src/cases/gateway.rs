//! A host's door for NATS clients beside a NATS server: the same clients, the same messages.
//!
//! The host has a runtime of its own, as a server of another process has.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use echo_core::Host;
use echo_gateway::auth::Auth;
use echo_gateway::{Gateway, GatewayOptions};
use tokio::runtime::Runtime;

use crate::BenchError;
use crate::harness::{Contender, OURS};
use crate::ours::exports;
use crate::peers::nats::{self, Sending};

pub(super) fn sides(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    let (door, url) = Door::open()?;
    runtime.block_on(async {
        let ours = nats::through(OURS, &url, Sending::data(), door).await?;
        Ok(vec![ours, nats::core().await?])
    })
}

/// A host with its door, which end with their runtime.
struct Door {
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
    _host: Host,
    _gateway: Gateway,
}

impl Door {
    /// Opens the door to a host without plugins; gives its address too.
    fn open() -> Result<(Self, String), BenchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (host, gateway) = runtime.block_on(async {
            let host = Host::builder().telemetry(exports()?).start().await?;
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let options = GatewayOptions { nats: Some(any), ..GatewayOptions::new(Auth::open()) };
            let gateway = Gateway::start(options, Arc::clone(host.transport())).await;
            Ok::<_, BenchError>((host, gateway.map_err(|error| BenchError::peer(OURS, error))?))
        })?;
        let address = gateway.nats_address().map(|address| address.to_string());
        let url = format!("nats://{}", address.unwrap_or_default());
        Ok((Self { runtime: Some(runtime), _host: host, _gateway: gateway }, url))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Where it is dropped may be within another runtime, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
