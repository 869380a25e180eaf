//! What stands on the wire, and a proxy that breaks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use echo_bus::{Settlement, SubscribeOptions, Transport};
use echo_sdk::{BaseMessage, TraceContext};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::server::NatsServer;
use crate::support::*;

/// Stands between hosts and a server. Cuts the connection on which certain bytes are first sent to the server, and
/// does not let these through.
pub struct Proxy {
    port: u16,
    has_cut: Arc<AtomicBool>,
    _connections: JoinSet<()>,
}

impl Proxy {
    pub async fn start(server: u16, cut_at: &'static [u8]) -> Self {
        Self::start_slow(server, cut_at, Duration::ZERO).await
    }

    /// One whose server seems to be that far away.
    pub async fn start_slow(server: u16, cut_at: &'static [u8], delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let has_cut = Arc::<AtomicBool>::default();
        let cut = Arc::clone(&has_cut);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut within = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let cut = Arc::clone(&cut);
                within.spawn(async move {
                    // Whichever ends first ends the other.
                    tokio::select! {
                        () = upwards(from_client, to_server, cut_at, &cut) => {}
                        () = downwards(from_server, to_client, delay) => {}
                    }
                });
            }
        });
        Self { port, has_cut, _connections: connections }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::Acquire)
    }
}

async fn upwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut_at: &[u8], cut: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..read];
        let is_there = !cut_at.is_empty() && chunk.windows(cut_at.len()).any(|it| it == cut_at);
        if is_there && !cut.swap(true, Ordering::AcqRel) {
            return;
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

async fn downwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (late, mut due) = tokio::sync::mpsc::unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
    let reading = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let at = tokio::time::Instant::now() + delay;
            let _ = late.send((at, buffer[..read].to_vec()));
        }
    };
    let writing = async {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

#[tokio::test]
async fn any_tool_reads_a_message_and_its_headers() {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let tool = tool(&server.url()).await;
    let mut plain = tool.subscribe("test.>").await.unwrap();
    let mut durable = tool.subscribe("_ECHO.K.*.orders.>").await.unwrap();
    listens(&tool).await;
    let trace = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1, tracestate: None };
    let message = BaseMessage::builder("shop")
        .key("customer-7")
        .data(&json!({"total": 12.5}))
        .trace_context(trace)
        .build()
        .unwrap()
        .with_hops(3);
    let id = message.id().to_string();
    for to in ["test.a", "orders.new"] {
        publish(&bus, to, message.clone()).await;
    }
    for seen in [plain.next().await.unwrap(), durable.next().await.unwrap()] {
        let headers = seen.headers.unwrap();
        let header = |name: &str| headers.get(name).map(|value| value.as_str());
        assert_eq!(header("Echo-Key"), Some("customer-7"));
        assert_eq!(header("Echo-Hops"), Some("3"));
        let traced = "00-01010101010101010101010101010101-0202020202020202-01";
        assert_eq!(header("traceparent"), Some(traced));
        let body: Value = serde_json::from_slice(&seen.payload).unwrap();
        assert_eq!((&body["id"], &body["source"]), (&json!(id), &json!("shop")));
        assert_eq!(body["data"], json!({"total": 12.5}));
        let is_durable = seen.subject.starts_with("_ECHO.K.");
        let is_own = header("Nats-Msg-Id") == Some(id.as_str());
        assert_eq!(is_own, !is_durable, "on another durable topic it is another message");
    }
}

#[tokio::test]
async fn a_message_is_the_same_on_the_other_host() {
    let server = NatsServer::start();
    let (one, other) = (host(&server.url()).await, host(&server.url()).await);
    let slot = slot(&other, "one", &["test.>", "orders.>"]).await;
    let mut receiver = slot.receiver();
    let message = BaseMessage::builder("shop").key("k").data(&json!([1, "ä"])).build().unwrap();
    for to in ["test.a", "orders.a"] {
        publish(&one, to, message.clone().with_hops(2)).await;
        assert!(std::future::poll_fn(|cx| receiver.poll_recv(cx)).await);
        let seen = receiver.current().unwrap();
        assert_eq!((&seen.topic, seen.message.attempt(), seen.message.hops()), (&topic(to), 1, 2));
        assert_eq!((seen.message.id(), seen.message.key()), (message.id(), Some("k")));
        assert_eq!(seen.message.timestamp(), message.timestamp());
        assert_eq!(seen.message.data_bytes(), message.data_bytes());
        receiver.settle(Settlement::Done);
    }
}

#[tokio::test]
async fn what_a_tool_publishes_is_a_message() {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let slot = slot(&bus, "one", &["test.>", "orders.>"]).await;
    let mut receiver = slot.receiver();
    let tool = tool(&server.url()).await;
    for to in ["test.a", "orders.a"] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Tenant", "a");
        tool.publish_with_headers(to, headers, "{\"n\": 4}".into()).await.unwrap();
        assert!(std::future::poll_fn(|cx| receiver.poll_recv(cx)).await);
        let seen = receiver.current().unwrap();
        assert_eq!(seen.topic, to);
        assert_eq!(seen.message.json::<Value>().unwrap(), json!({"n": 4}));
        assert_eq!(seen.message.field("Tenant"), Some("a"));
        receiver.settle(Settlement::Done);
    }
}

#[tokio::test]
async fn a_tool_shares_a_slots_queue_group_and_its_requests_are_answered() {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let slot = slot(&bus, "one", &["test.>"]).await;
    let mut receiver = slot.receiver();
    let tool = tool(&server.url()).await;
    let answering = async {
        take(&mut receiver).await;
        let reply = receiver.current().unwrap().message.reply_to().unwrap();
        publish(&bus, reply.as_str(), message(42)).await;
        receiver.settle(Settlement::Done);
    };
    let (answer, ()) = tokio::join!(tool.request("test.ask", "21".into()), answering);
    let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
    assert_eq!(answer["data"], 42);
    let mut member = tool.queue_subscribe("test.>", "one".to_owned()).await.unwrap();
    listens(&tool).await;
    let pattern = pattern("test.>");
    let mut all = bus.subscribe(&pattern, SubscribeOptions::default()).await.unwrap();
    for number in 0..200 {
        publish(&bus, "test.n", message(number)).await;
        all.next().await.unwrap();
    }
    listens(&tool).await;
    let by_tool = std::iter::from_fn(|| futures_util::FutureExt::now_or_never(member.next()));
    let by_tool = by_tool.flatten().count();
    until("each message went to one of them", async || by_tool + slot.stats().held == 200).await;
    assert!((1..200).contains(&by_tool), "{by_tool} of 200 went to the tool");
}
