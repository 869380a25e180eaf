//! A door to a real bus, and a real client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use echo_bus::{LocalOptions, LocalTransport, SubscribeOptions, Transport};
use echo_core::config::{GatewayConfig, Secret};
use echo_gateway::auth::Auth;
use echo_gateway::http::{Guard, HostView, HttpDoor, HttpOptions, PluginView};
use echo_sdk::{BaseMessage, BoxFuture, Pattern, Received, Subscription, Topic};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const TOKEN: &str = "a-token-of-the-host";

/// What no test may wait longer for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A host without plugins, whose metrics are one line.
struct Bare;

impl HostView for Bare {
    fn metrics(&self) -> Option<String> {
        Some("echo_workers 1\n".to_owned())
    }

    fn plugins(&self) -> BoxFuture<'_, Option<Vec<PluginView>>> {
        Box::pin(async { Some(Vec::new()) })
    }
}

pub struct Fixture {
    pub bus: LocalTransport,
    door: Mutex<Option<HttpDoor>>,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer that was read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is a problem of this status, and gives its sentence.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].as_str().unwrap().starts_with("urn:echo-core:problem:"));
        problem["detail"].as_str().unwrap().to_owned()
    }
}

pub fn config(value: Value) -> GatewayConfig {
    serde_json::from_value(value).unwrap()
}

/// What a door with this configuration is made of.
pub fn options(config: &GatewayConfig) -> (LocalTransport, HttpOptions) {
    let bus = LocalTransport::new(LocalOptions::default()).unwrap();
    let options = HttpOptions {
        transport: Arc::new(bus.clone()),
        auth: Auth::new(config, Some(&Secret::new(TOKEN))).unwrap(),
        guard: Guard::new(config),
        tls: None,
        limits: config.limits.clone(),
        host: Arc::new(Bare),
    };
    (bus, options)
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(json!({})).await
    }

    pub async fn with(value: Value) -> Self {
        let (bus, options) = options(&config(value));
        Self::open(bus, options).await
    }

    pub async fn open(bus: LocalTransport, options: HttpOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let door = HttpDoor::open(listener, address, options);
        assert_eq!(door.address(), address);
        Self { bus, door: Mutex::new(Some(door)), address, client }
    }

    pub fn client(&self) -> &Client<HttpConnector, Full<Bytes>> {
        &self.client
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the door.
    pub async fn shutdown(&self, patience: Duration) {
        let door = self.door.lock().unwrap().take().unwrap();
        tokio::time::timeout(PATIENCE, door.shutdown(patience)).await.unwrap();
    }

    /// A request with the host's token.
    pub fn request(&self, method: &str, path: &str) -> Builder {
        self.bare(method, path).header("authorization", format!("Bearer {TOKEN}"))
    }

    /// A request that shows nothing.
    pub fn bare(&self, method: &str, path: &str) -> Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.address()))
    }

    pub async fn begin(&self, request: Builder, body: impl Into<Bytes>) -> Response<Incoming> {
        let request = request.body(Full::new(body.into())).unwrap();
        tokio::time::timeout(PATIENCE, self.client.request(request)).await.unwrap().unwrap()
    }

    pub async fn send(&self, request: Builder, body: impl Into<Bytes>) -> Answer {
        let (parts, body) = self.begin(request, body).await.into_parts();
        let bytes = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap();
        let text = String::from_utf8(bytes.to_bytes().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path), "").await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.request("POST", path), body).await
    }

    pub async fn subscribe(&self, pattern: &str) -> Subscription {
        let pattern = Pattern::new(pattern).unwrap();
        self.bus.subscribe(&pattern, SubscribeOptions::default()).await.unwrap()
    }

    pub async fn publish(&self, topic: &str, data: &Value) {
        let message = BaseMessage::builder("test").data(data).build().unwrap();
        self.bus.publish(&Topic::new(topic).unwrap(), message).await.unwrap();
    }

    /// Answers each request to a topic with what `say` makes of its data.
    pub async fn answer(&self, topic: &str, say: impl Fn(&Value) -> Value + Send + 'static) {
        let (mut requests, bus) = (self.subscribe(topic).await, self.bus.clone());
        tokio::spawn(async move {
            while let Some(Received { message, .. }) = requests.next().await {
                let answer = say(message.data().unwrap());
                let answer = BaseMessage::builder("responder").data(&answer).build().unwrap();
                if let Some(reply) = message.reply_to() {
                    bus.publish(&reply, answer).await.unwrap();
                }
            }
        });
    }
}

pub async fn next(subscription: &mut Subscription) -> Received {
    tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap()
}
