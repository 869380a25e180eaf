//! Telemetry set up for a whole process: one test, because it can be set up once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};

use echo_core::config::TelemetryConfig;
use echo_core::telemetry::{
    Exports, Handling, HostTelemetry, Outcome, SlotMetrics, TelemetryError, init,
};
use echo_sdk::{BaseMessage, ProcessingStatus, Telemetry, Topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A collector: takes HTTP requests on any number of connections and passes on head and body.
async fn collector(listener: TcpListener, requests: mpsc::UnboundedSender<(String, Vec<u8>)>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(take_requests(stream, requests.clone()));
    }
}

async fn take_requests(
    mut stream: TcpStream,
    requests: mpsc::UnboundedSender<(String, Vec<u8>)>,
) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            more(&mut stream, &mut bytes).await?;
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap().to_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        while bytes.len() < head_end + length {
            more(&mut stream, &mut bytes).await?;
        }
        requests.send((head, bytes[head_end..head_end + length].to_vec())).ok()?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        bytes.drain(..head_end + length);
    }
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(bytes).await.ok()? > 0).then_some(())
}

async fn scrape(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

fn handle_one(exports: Exports) {
    let plugin = HostTelemetry::new("worker", exports);
    plugin.counter("greetings", 1, &[]);
    let message = BaseMessage::builder("test").build().unwrap();
    Handling::begin(&plugin, &Topic::new("greet.all").unwrap(), &message)
        .0
        .end(Outcome::Answered(&ProcessingStatus::Acknowledged));
}

/// None of them leaves anything set up behind.
fn settings_that_do_not_work(taken: SocketAddr) {
    let refused = |change: fn(&mut TelemetryConfig)| {
        let mut config = TelemetryConfig::default();
        change(&mut config);
        init(&config).unwrap_err().to_string()
    };
    assert!(refused(|config| config.log = "plugin=loud".into()).contains("plugin=loud"));
    let https = refused(|config| config.otlp_endpoint = Some("https://example.org".into()));
    assert!(https.contains("http://"), "{https}");
    let config = TelemetryConfig { prometheus: Some(taken), ..TelemetryConfig::default() };
    let error = init(&config).unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
}

#[tokio::test]
async fn exporters_reach_a_collector_and_prometheus() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = listener.local_addr().unwrap();
    settings_that_do_not_work(endpoint);

    let (sender, mut requests) = mpsc::unbounded_channel();
    let collecting = tokio::spawn(collector(listener, sender));
    let config = TelemetryConfig {
        otlp_endpoint: Some(format!("http://{endpoint}/")),
        prometheus: Some((Ipv4Addr::LOCALHOST, 0).into()),
        service_name: "my-service".into(),
        ..TelemetryConfig::default()
    };
    let guard = init(&config).unwrap();
    assert!(guard.exports().spans() && guard.exports().metrics());
    handle_one(guard.exports());
    SlotMetrics::new("worker").dead.increment(2);

    let address = guard.prometheus_address().unwrap();
    let answer = scrape(address, "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    for text in [answer, guard.prometheus_text().unwrap()] {
        assert!(text.contains(r#"plugin_greetings_total{plugin="worker"} 1"#), "{text}");
        assert!(text.contains(r#"echo_messages_dead_total{slot="worker"} 2"#), "{text}");
        assert!(text.contains("# HELP echo_messages_dead_total "), "{text}");
    }
    assert!(scrape(address, "GET /").await.starts_with("HTTP/1.1 404 "));
    assert!(scrape(address, "DELETE /metrics").await.starts_with("HTTP/1.1 405 "));

    guard.shutdown().await.unwrap();
    let (head, body) = requests.recv().await.unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    for text in ["service.name", "my-service", "process greet.all", "messaging.message.id"] {
        assert!(contains(&body, text), "{text} is not in the request");
    }
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");

    let again = init(&TelemetryConfig::default()).unwrap_err();
    assert!(matches!(again, TelemetryError::AlreadySetUp), "{again}");
    collecting.abort();
}
