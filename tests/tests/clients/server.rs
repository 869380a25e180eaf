//! What clients speak to: a NATS server, or the gateway of a host with the plugins that run suites. Either wants the
//! same token.

use std::net::SocketAddr;

use echo_core::config::GatewayConfig;
use echo_core::{Config, Host};
use echo_gateway::auth::Auth;
use echo_gateway::{Gateway, GatewayOptions};
use echo_tests::server::NatsServer;

const TOKEN: &str = "a-token-of-these-tests";

/// What answers.
pub enum Server {
    /// A NATS server.
    Nats(NatsServer),
    /// A host and its gateway.
    Gateway { host: Host, gateway: Option<Gateway>, address: SocketAddr },
}

impl Server {
    /// A NATS server on a free port.
    pub fn nats() -> Self {
        Self::Nats(NatsServer::start_with(&format!("authorization {{ token: {TOKEN:?} }}")))
    }

    /// A host with its gateway on a free port.
    pub async fn gateway() -> Self {
        let host = Host::builder()
            .plugin(echo_plugin_orchestrator::manifest(), |context| {
                Ok(echo_plugin_orchestrator::Orchestrator::new(context))
            })
            .plugin(echo_plugin_process::manifest(), |context| {
                Ok(echo_plugin_process::ProcessPlugin::new(context))
            })
            .start()
            .await
            .unwrap();
        let gateway = open(&host, SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let address = gateway.nats_address().unwrap();
        Self::Gateway { host, gateway: Some(gateway), address }
    }

    /// The address, with the token.
    pub fn url(&self) -> String {
        let port = match self {
            Self::Nats(server) => server.port(),
            Self::Gateway { address, .. } => address.port(),
        };
        format!("nats://{TOKEN}@127.0.0.1:{port}")
    }

    /// The address with a token that nobody knows.
    pub fn wrong_url(&self) -> String {
        self.url().replace(TOKEN, "not-the-token")
    }

    /// Goes and comes back at the same address.
    pub async fn restart(&mut self) {
        match self {
            Self::Nats(server) => server.restart(),
            Self::Gateway { host, gateway, address } => {
                gateway.take().unwrap().shutdown().await;
                *gateway = Some(open(host, *address).await);
            }
        }
    }
}

async fn open(host: &Host, address: SocketAddr) -> Gateway {
    let mut options = GatewayOptions::new(Auth::new(&config(), None).unwrap());
    options.nats = Some(address);
    Gateway::start(options, host.transport().clone()).await.unwrap()
}

fn config() -> GatewayConfig {
    let text = format!("[[gateway.tokens]]\nname = \"clients\"\ntoken = {TOKEN:?}\n");
    Config::parse("echo-core.toml", &text).unwrap().gateway
}
