//! How the door closes, and how it does not open.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, Event};
use echo_gateway::{Gateway, GatewayError, GatewayOptions};
use tokio::net::TcpStream;

use super::{Hub, arrived, bus, options, soon};

const QUIET: &str = r#"{"verbose":false}"#;

#[tokio::test]
async fn clients_are_told_and_get_what_is_on_its_way() {
    let hub = Hub::open().await;
    let mut raw = hub.connected(QUIET).await;
    raw.say("SUB t 1\r\nPING\r\n").await;
    raw.expect("PONG").await;
    let address = hub.address();
    let payload = "x".repeat(1_000_000);
    let publish = format!("PUB t {}\r\n{payload}\r\n", payload.len());
    let mut other = hub.connected(QUIET).await;
    // More than a socket holds, so that it is on its way for as long as nobody reads.
    for _ in 0..20 {
        other.say(&publish).await;
    }
    other.say("PING\r\n").await;
    other.expect("PONG").await;
    let closing = tokio::spawn(hub.gateway.shutdown());
    for _ in 0..20 {
        raw.expect("MSG t 1 1000000").await;
        raw.expect(&payload).await;
    }
    let info = raw.line().await;
    assert!(info.starts_with("INFO ") && info.contains("\"ldm\":true"), "{info}");
    assert_eq!(raw.rest().await, "");
    let info = other.line().await;
    assert!(info.contains("\"ldm\":true"), "{info}");
    drop((raw, other));
    soon(closing).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_client_hears_of_lame_duck_mode_and_may_leave_at_once() {
    let grace = super::PATIENCE;
    let hub = Hub::with(GatewayOptions { grace, ..options() }).await;
    let (told, mut is_told) = tokio::sync::mpsc::unbounded_channel();
    let client = hub
        .client_with(ConnectOptions::new().event_callback(move |event| {
            if event == Event::LameDuckMode {
                told.send(()).unwrap();
            }
            std::future::ready(())
        }))
        .await;
    let closing = tokio::spawn(hub.gateway.shutdown());
    soon(is_told.recv()).await.unwrap();
    // Nobody is let in any more; who is there is served until it leaves.
    arrived(&client).await;
    client.drain().await.unwrap();
    drop(client);
    // Long before the time to leave is over.
    tokio::time::timeout(grace / 2, closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_keep_the_door_open() {
    let patience = Duration::from_millis(100);
    let hub = Hub::with(GatewayOptions { grace: patience, patience, ..options() }).await;
    let mut stuck = hub.connected(QUIET).await;
    stuck.say("SUB t 1\r\nPING\r\n").await;
    stuck.expect("PONG").await;
    let client = hub.client().await;
    for _ in 0..20 {
        client.publish("t", vec![b'x'; 1_000_000].into()).await.unwrap();
    }
    arrived(&client).await;
    soon(hub.gateway.shutdown()).await;
}

#[tokio::test]
async fn a_gateway_that_is_dropped_hangs_up() {
    let hub = Hub::open().await;
    let address = hub.address();
    let mut raw = hub.connected(QUIET).await;
    drop(hub.gateway);
    assert_eq!(raw.line().await, "");
    soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let hub = Hub::open().await;
    let again = GatewayOptions { nats: Some(hub.address()), ..options() };
    let refused = Gateway::start(again, Arc::clone(&hub.bus)).await.unwrap_err();
    assert!(matches!(refused, GatewayError::AddressTaken { .. }));
    let text = refused.to_string();
    assert!(text.contains(&hub.address().to_string()) && text.contains("gateway.nats"), "{text}");
    let elsewhere = GatewayOptions { nats: Some("192.0.2.1:0".parse().unwrap()), ..options() };
    let refused = Gateway::start(elsewhere, bus()).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Listen { .. }), "{refused}");
}
