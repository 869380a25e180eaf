//! The protocol by hand: what the gateway says, byte for byte.

use echo_sdk::{BaseMessage, Topic};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::{Hub, soon};

#[tokio::test]
async fn the_greeting_says_what_clients_look_for() {
    let hub = Hub::open().await;
    let (_first, one) = hub.raw().await;
    let (_second, two) = hub.raw().await;
    assert_eq!(one["proto"], 1);
    assert_eq!((&one["headers"], &one["max_payload"]), (&json!(true), &json!(8 << 20)));
    assert_eq!(one["port"], hub.address().port());
    assert_eq!((&one["host"], &one["client_ip"]), (&json!("127.0.0.1"), &json!("127.0.0.1")));
    assert!(one["version"].as_str().unwrap().starts_with("2.10."));
    assert!(one.get("auth_required").is_none() && one.get("tls_required").is_none());
    assert_eq!(one["server_id"], two["server_id"]);
    assert_ne!(one["client_id"], two["client_id"]);
}

#[tokio::test]
async fn a_verbose_client_gets_an_answer_to_everything() {
    let hub = Hub::open().await;
    // What a client leaves out is verbose, as in nats-server; it need not say who it is.
    let (mut raw, _) = hub.raw().await;
    raw.say("SUB t 1\r\nPUB t 2\r\nhi\r\nUNSUB 1\r\nPING\r\n").await;
    for line in ["+OK", "+OK", "MSG t 1 2", "hi", "+OK", "PONG"] {
        raw.expect(line).await;
    }
}

#[tokio::test]
async fn a_quiet_client_gets_its_own_messages_before_the_pong() {
    let hub = Hub::open().await;
    let mut raw = hub.connected(r#"{"verbose":false,"headers":true}"#).await;
    raw.say("SUB t 1\r\nSUB *  2\r\nUNSUB 2 1\r\n").await;
    raw.say("HPUB t r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\nPUB t 0\r\n\r\nPING\r\n").await;
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "PONG") {
        lines.push(raw.line().await);
    }
    let whole = lines.join("|");
    assert_eq!(whole.matches("HMSG t 1 r 18 20|NATS/1.0|A: b||hi|").count(), 1, "{whole}");
    assert_eq!(whole.matches("HMSG t 2 r 18 20|NATS/1.0|A: b||hi|").count(), 1, "{whole}");
    assert_eq!(whole.matches("MSG t 1 0||").count(), 1, "{whole}");
    assert_eq!(whole.matches("MSG t 2 0||").count(), 0, "{whole}");
}

#[tokio::test]
async fn a_client_that_knows_no_headers_gets_none() {
    let hub = Hub::open().await;
    let mut plain = hub.connected(r#"{"verbose":false}"#).await;
    plain.say("SUB t 1\r\nHPUB t 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n").await;
    plain.expect("MSG t 1 2").await;
    plain.expect("hi").await;
    let (mut raw, _) = hub.raw().await;
    raw.say("CONNECT {\"no_responders\":true,\"headers\":false}\r\n").await;
    assert_eq!(raw.rest().await, "-ERR 'no responders requires headers support'\r\n");
}

#[tokio::test]
async fn who_asks_what_nobody_hears_is_told_so() {
    let hub = Hub::open().await;
    let options = r#"{"verbose":false,"headers":true,"no_responders":true}"#;
    let mut raw = hub.connected(options).await;
    raw.say("SUB _INBOX.x.* 9\r\nPUB nobody _INBOX.x.1 1\r\n?\r\n").await;
    let expected = b"HMSG _INBOX.x.1 9 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
    let mut said = vec![0; expected.len()];
    soon(raw.0.read_exact(&mut said)).await.unwrap();
    assert_eq!(said, expected);
    // A client that did not ask for it is not told.
    let mut old = hub.connected(r#"{"verbose":false,"headers":true}"#).await;
    old.say("SUB _INBOX.x.* 9\r\nPUB nobody _INBOX.x.1 1\r\n?\r\nPING\r\n").await;
    old.expect("PONG").await;
}

#[tokio::test]
async fn a_subject_that_is_none_is_refused_and_the_client_stays() {
    let hub = Hub::open().await;
    let mut raw = hub.connected(r#"{"verbose":false,"pedantic":true}"#).await;
    for subject in ["a..b", ".a", "a.", "a.*", "a.>"] {
        raw.say(format!("PUB {subject} 1\r\nx\r\n")).await;
        raw.expect("-ERR 'Invalid Publish Subject'").await;
    }
    raw.say(b"PUB a\xff 1\r\nx\r\n").await;
    raw.expect("-ERR 'Invalid Publish Subject'").await;
    for subject in ["a..b", "a.>.b", "a*"] {
        raw.say(format!("SUB {subject} 1\r\n")).await;
        raw.expect("-ERR 'Invalid Subject'").await;
    }
    raw.say("HPUB t 12 12\r\nHTTP/1.1\r\n\r\n\r\n").await;
    let refusal = raw.line().await;
    assert!(refusal.starts_with("-ERR 'Permissions Violation for Publish to \"t\""), "{refusal}");
    raw.say("PING\r\n").await;
    raw.expect("PONG").await;
}

#[tokio::test]
async fn what_is_no_command_ends_the_connection_with_a_reason() {
    let hub = Hub::open().await;
    let long = format!("SUB {} 1\r\n", "x".repeat(5000));
    for (said, error) in [
        ("GET / HTTP/1.1\r\n\r\n", "Unknown Protocol Operation"),
        ("\r\n", "Unknown Protocol Operation"),
        ("PUB t\r\n", "Parser Error"),
        ("PUB t 1\r\nabc\r\n", "Parser Error"),
        ("CONNECT {\r\n", "Parser Error"),
        ("CONNECT {\"protocol\":7}\r\n", "invalid client protocol"),
        (&long, "Maximum Control Line Exceeded"),
    ] {
        let (mut raw, _) = hub.raw().await;
        raw.say(said).await;
        assert_eq!(raw.rest().await, format!("-ERR '{error}'\r\n"), "{said:?}");
    }
    // Nobody else notices.
    hub.connected("{\"verbose\":false}").await;
}

#[tokio::test]
async fn commands_come_in_pieces_of_any_size() {
    let hub = Hub::open().await;
    let mut raw = hub.connected(r#"{"verbose":false}"#).await;
    for byte in b"SUB t 1\r\nPUB t 5\r\nhello\r\nPING\r\n" {
        raw.say([*byte]).await;
    }
    for line in ["MSG t 1 5", "hello", "PONG"] {
        raw.expect(line).await;
    }
}

#[tokio::test]
async fn a_subscription_of_the_same_name_changes_nothing() {
    let hub = Hub::open().await;
    let mut raw = hub.connected(r#"{"verbose":false}"#).await;
    raw.say("SUB t 1\r\nSUB u 1\r\nUNSUB 2\r\nPUB u 1\r\nx\r\nPUB t 1\r\ny\r\n").await;
    for line in ["MSG t 1 1", "y"] {
        raw.expect(line).await;
    }
}

#[tokio::test]
async fn what_a_plugin_publishes_goes_out_with_its_id() {
    let hub = Hub::open().await;
    let mut raw = hub.connected(r#"{"verbose":false,"headers":true}"#).await;
    raw.say("SUB t 1\r\nPING\r\n").await;
    raw.expect("PONG").await;
    let sent = BaseMessage::builder("plugin").data(&json!([1])).key("k").build().unwrap();
    let payload = serde_json::to_string(&sent).unwrap();
    hub.bus.publish(&Topic::new("t").unwrap(), sent.clone()).await.unwrap();
    let id = format!("Nats-Msg-Id: {}", sent.id());
    let headers = "NATS/1.0\r\n".len() + id.len() + "\r\nEcho-Key: k\r\n\r\n".len();
    raw.expect(&format!("HMSG t 1 {headers} {}", headers + payload.len())).await;
    for line in ["NATS/1.0", &id, "Echo-Key: k", "", &payload] {
        raw.expect(line).await;
    }
}
