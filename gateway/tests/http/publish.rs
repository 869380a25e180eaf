//! Publishing and requesting.

use base64::Engine;
use echo_sdk::Form;
use serde_json::json;

use crate::support::{Fixture, next};

#[tokio::test]
async fn plain_json_becomes_a_message() {
    let door = Fixture::new().await;
    let mut heard = door.subscribe("order.>").await;
    let request = door
        .request("POST", "/v1/publish/order.created")
        .header("echo-key", "customer-7")
        .header("content-type", "application/json");
    let answer = door.send(request, r#"{"n": 1}"#).await;
    assert_eq!(answer.status, 202);
    let received = next(&mut heard).await;
    assert_eq!(answer.json(), json!({"topic": "order.created", "id": received.message.id()}));
    assert_eq!(received.message.data_bytes(), br#"{"n": 1}"#);
    assert_eq!((received.message.source(), received.message.key()), ("owner", Some("customer-7")));
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_whole_message_stays_what_it_is() {
    let door = Fixture::new().await;
    let mut heard = door.subscribe("a").await;
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    let whole = json!({
        "id": id, "source": "me", "data": {"n": 1}, "schema": "greeting/1",
        "headers": {"key": "k", "reply_to": "a.answers"},
    });
    let answer = door.post("/v1/publish/a", whole.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["id"].as_str()), (202, Some(id)));
    let message = next(&mut heard).await.message;
    assert_eq!(
        (message.source(), message.schema(), message.key()),
        ("me", Some("greeting/1"), Some("k"))
    );
    assert_eq!(message.reply_to().unwrap().as_str(), "a.answers");
}

#[tokio::test]
async fn text_and_bytes_are_taken_where_they_are_announced() {
    let door = Fixture::new().await;
    let mut heard = door.subscribe("a").await;
    for (kind, body, form, data) in [
        ("text/plain", &b"hello"[..], Form::Text, json!("hello")),
        ("application/octet-stream", b"\xff", Form::Bytes, json!("/w==")),
        ("application/x-www-form-urlencoded", b"[1]", Form::Json, json!([1])),
        ("application/vnd.a+json; charset=utf-8", b"7", Form::Json, json!(7)),
    ] {
        let request = door.request("POST", "/v1/publish/a").header("content-type", kind);
        assert_eq!(door.send(request, body).await.status, 202, "{kind}");
        let message = next(&mut heard).await.message;
        assert_eq!((message.form(), message.data().unwrap()), (form, &data), "{kind}");
    }
}

#[tokio::test]
async fn cloud_events_come_in_either_mode() {
    let door = Fixture::new().await;
    let mut heard = door.subscribe("a").await;
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/shop", "type": "created", "data": {"n": 1},
        "partitionkey": "k", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    let request = door
        .request("POST", "/v1/publish/a")
        .header("content-type", "application/cloudevents+json; charset=utf-8");
    assert_eq!(door.send(request, event.to_string()).await.status, 202);
    let structured = next(&mut heard).await.message;
    assert_eq!((structured.source(), structured.key()), ("/shop", Some("k")));
    assert_eq!(structured.field("ce-type"), Some("created"));
    assert!(structured.trace_context().is_some());

    let request = door
        .request("POST", "/v1/publish/a")
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/shop")
        .header("ce-type", "created");
    assert_eq!(door.send(request, r#"{"n":1}"#).await.status, 202);
    let binary = next(&mut heard).await.message;
    assert_eq!(binary.id(), structured.id(), "the same event");
    assert_eq!(binary.data_bytes(), structured.data_bytes());

    let request = door
        .request("POST", "/v1/publish/a")
        .header("content-type", "application/cloudevents+json");
    let refused = door.send(request, r#"{"specversion":"1.0"}"#).await.problem(400);
    assert!(refused.contains("`id`"), "{refused}");
    let request = door
        .request("POST", "/v1/publish/a")
        .header("content-type", "application/cloudevents-batch+json");
    door.send(request, "[]").await.problem(415);
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_a_sentence() {
    let door = Fixture::with(json!({"limits": {"max_payload": "1kb"}})).await;
    let refused = door.post("/v1/publish/a", "{\"n\": ").await.problem(400);
    assert!(refused.contains("no JSON") && refused.contains("column"), "{refused}");
    let refused = door.post("/v1/publish/a..b", "1").await.problem(400);
    assert!(refused.contains("`a..b`"), "{refused}");
    let refused = door.post("/v1/publish/a.%3E", "1").await.problem(400);
    assert!(refused.contains("wildcard"), "{refused}");
    let refused = door.post("/v1/publish/a", vec![b'1'; 2_048]).await.problem(413);
    assert!(refused.contains("max_payload"), "{refused}");
    let refused = door.post("/v1/publish/a?format=message", "1").await.problem(400);
    assert!(refused.contains("`format`"), "{refused}");
}

#[tokio::test]
async fn a_request_is_answered_with_the_first_answer() {
    let door = Fixture::new().await;
    door.answer("sum", |data| json!(data[0].as_u64().unwrap() + data[1].as_u64().unwrap())).await;
    let answer = door.post("/v1/request/sum?timeout=20s", "[1, 2]").await;
    assert_eq!(answer.status, 200);
    let message = answer.json();
    assert_eq!((&message["source"], &message["data"]), (&json!("responder"), &json!(3)));
    let answer = door.post("/v1/request/sum?format=cloudevents", "[1, 2]").await;
    assert_eq!(answer.header("content-type"), "application/cloudevents+json");
    let event = answer.json();
    assert_eq!((&event["specversion"], &event["data"]), (&json!("1.0"), &json!(3)));
}

#[tokio::test]
async fn a_request_without_an_answer_says_why() {
    let door = Fixture::new().await;
    let refused = door.post("/v1/request/nobody", "1").await;
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.problem(503).contains("nobody answers to `nobody`"));
    let _silent = door.subscribe("silent").await;
    let refused = door.post("/v1/request/silent?timeout=10ms", "1").await.problem(504);
    assert!(refused.contains("within 10ms"), "{refused}");
    for timeout in ["soon", "11m"] {
        door.post(&format!("/v1/request/silent?timeout={timeout}"), "1").await.problem(400);
    }
}

#[tokio::test]
async fn a_connection_publishes_no_faster_than_it_may() {
    let door = Fixture::with(json!({"limits": {"max_rate": 3}})).await;
    for _ in 0..3 {
        assert_eq!(door.post("/v1/publish/a", "1").await.status, 202);
    }
    let refused = door.post("/v1/publish/a", "1").await;
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.problem(429).contains("max_rate"));
}

#[tokio::test]
async fn a_client_may_publish_what_it_may_and_nothing_else() {
    let door = Fixture::with(json!({"tokens": [{
        "name": "ci", "token": "0123456789abcdef", "publish": {"allow": ["ci.>"]},
    }]}))
    .await;
    let post = |path: &str, body: String| {
        let login = base64::prelude::BASE64_STANDARD.encode(":0123456789abcdef");
        let request = door.bare("POST", path).header("authorization", format!("Basic {login}"));
        door.send(request, body)
    };
    assert_eq!(post("/v1/publish/ci.a", "1".to_owned()).await.status, 202);
    let refused = post("/v1/publish/test.run.start", "1".to_owned()).await.problem(403);
    assert!(refused.contains("`ci` may not publish to `test.run.start`"), "{refused}");
    // Nor have somebody else publish there, as an answer.
    let whole = json!({"source": "me", "data": 1, "headers": {"reply_to": "test.run.start"}});
    let refused = post("/v1/publish/ci.a", whole.to_string()).await.problem(403);
    assert!(refused.contains("answers sent to `test.run.start`"), "{refused}");
}
