//! NATS clients at a gateway: real ones, and bytes by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod access;
mod clients;
mod groups;
mod limits;
mod shutdown;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Message, Subscriber};
use echo_bus::{LocalOptions, LocalTransport, Transport};
use echo_gateway::auth::Auth;
use echo_gateway::{Gateway, GatewayOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it came too late")
}

/// A gateway on a bus within this process.
struct Hub {
    gateway: Gateway,
    bus: Arc<dyn Transport>,
}

fn options() -> GatewayOptions {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    GatewayOptions { nats: Some(any), ..GatewayOptions::new(Auth::open()) }
}

fn bus() -> Arc<dyn Transport> {
    Arc::new(LocalTransport::new(LocalOptions::default()).unwrap())
}

impl Hub {
    async fn open() -> Self {
        Self::with(options()).await
    }

    async fn with(options: GatewayOptions) -> Self {
        let bus = bus();
        let gateway = Gateway::start(options, Arc::clone(&bus)).await.unwrap();
        Self { gateway, bus }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.nats_address().unwrap()
    }

    async fn client(&self) -> Client {
        self.client_with(ConnectOptions::new()).await
    }

    async fn client_with(&self, options: ConnectOptions) -> Client {
        soon(options.connect(self.address().to_string())).await.unwrap()
    }

    /// A connection by hand that has read the greeting, with its `INFO`.
    async fn raw(&self) -> (Raw, serde_json::Value) {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let mut raw = Raw(BufReader::new(stream));
        let info = raw.line().await;
        let info = serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        (raw, info)
    }

    /// A connection by hand that has said who it is.
    async fn connected(&self, options: &str) -> Raw {
        let (mut raw, _) = self.raw().await;
        raw.say(&format!("CONNECT {options}\r\nPING\r\n")).await;
        raw.expect("PONG").await;
        raw
    }
}

/// A client by hand.
struct Raw(BufReader<TcpStream>);

impl Raw {
    async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).await.unwrap();
    }

    /// The next line, without its end; empty when the gateway has hung up.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn expect(&mut self, line: &str) {
        assert_eq!(self.line().await, line);
    }

    /// All that comes until the gateway hangs up.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        soon(self.0.read_to_end(&mut rest)).await.unwrap();
        String::from_utf8(rest).unwrap()
    }
}

/// Waits until the gateway has done all that the client has asked for so far. The client's own `flush` waits for
/// its socket alone; a drained subscription ends with the answer to a ping.
async fn arrived(client: &Client) {
    let mut mark = client.subscribe("_INBOX.mark").await.unwrap();
    mark.drain().await.unwrap();
    while soon(mark.next()).await.is_some() {}
}

async fn next(subscriber: &mut Subscriber) -> Message {
    soon(subscriber.next()).await.expect("the subscription has ended")
}

async fn next_text(subscriber: &mut Subscriber) -> String {
    text(&next(subscriber).await)
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}
