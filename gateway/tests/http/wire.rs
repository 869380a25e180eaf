//! Clients that do not behave, byte by byte.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Fixture, PATIENCE, TOKEN};

/// What the host answers to these bytes until it hangs up.
async fn say(door: &Fixture, bytes: &str) -> String {
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    // A host that hangs up on bytes that it has not read resets the connection.
    let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_request_names_its_host() {
    let door = Fixture::new().await;
    let answer = say(&door, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("names no host"), "{answer}");
    let twice =
        "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = say(&door, twice).await;
    assert!(answer.starts_with("HTTP/1.1 421") && answer.contains("evil.example"), "{answer}");
}

#[tokio::test]
async fn a_head_is_bounded_in_size_and_time() {
    let door = Fixture::with(json!({"limits": {"login_timeout": "50ms"}})).await;
    let many: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer =
        say(&door, &format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "x".repeat(128 * 1024);
    let answer = say(&door, &format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    // A head that never ends, and one that never begins.
    assert!(!say(&door, "GET /healthz HTTP/1.1\r\nHost: loc").await.starts_with("HTTP/1.1 2"));
    assert_eq!(say(&door, "").await, "");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let door = Fixture::with(json!({"limits": {"max_payload": "1kb"}})).await;
    let head = format!(
        "POST /v1/publish/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    );
    let answer = say(&door, &format!("{head}Content-Length: 1000000000\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // One that does not say how long it is is cut off at the bound.
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1_024));
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(4));
    let answer = say(&door, &chunks).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn bytes_that_are_no_http_are_answered_or_dropped() {
    let door = Fixture::new().await;
    for bytes in ["\0\u{1}\u{2}\r\n\r\n", "CONNECT {\"verbose\":false}\r\n", "GET\r\n\r\n"] {
        let answer = say(&door, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test]
async fn only_so_many_clients_are_served_at_once() {
    let door = Fixture::with(json!({"limits": {"max_connections": 1}})).await;
    let mut first = TcpStream::connect(door.address()).await.unwrap();
    let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    first.write_all(health.as_bytes()).await.unwrap();
    first.read_exact(&mut [0; 12]).await.unwrap();
    assert_eq!(say(&door, health).await, "", "the second is turned away");
    drop(first);
    tokio::time::timeout(PATIENCE, async {
        while say(&door, &format!("{}Connection: close\r\n\r\n", &health[..health.len() - 2]))
            .await
            .is_empty()
        {}
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped() {
    let limits = json!({"limits": {"max_pending": "64kb", "ping_interval": "100ms"}});
    let door = Fixture::with(limits).await;
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    let subscribe = format!(
        "GET /v1/subscribe/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(subscribe.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    let much = json!("x".repeat(256 * 1024));
    let topic = echo_sdk::Topic::new("a").unwrap();
    for _ in 0..100 {
        door.publish("a", &much).await;
    }
    // Its subscription is gone, and so is its task: a shutdown has nobody to wait for.
    assert!(
        !echo_bus::Transport::is_heard(&door.bus, &topic) || {
            tokio::time::timeout(PATIENCE, async {
                while echo_bus::Transport::is_heard(&door.bus, &topic) {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .is_ok()
        }
    );
    let begun = std::time::Instant::now();
    door.shutdown(PATIENCE).await;
    assert!(begun.elapsed() < PATIENCE / 2, "it was waited for: {:?}", begun.elapsed());
    let _ = Duration::ZERO;
}
