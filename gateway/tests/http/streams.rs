//! Server-sent events.

use std::time::Duration;

use echo_bus::Transport;
use echo_sdk::{BaseMessage, Topic};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::support::{Fixture, PATIENCE, next};

/// One event of a stream.
#[derive(Debug, Default, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: String,
}

/// Reads events as browsers do.
struct Events {
    body: Incoming,
    text: String,
    comments: usize,
}

impl Events {
    async fn open(door: &Fixture, path: &str) -> Self {
        let answer = door.begin(door.request("GET", path), "").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
        Self { body: answer.into_body(), text: String::new(), comments: 0 }
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut event = Event::default();
                for line in block.lines() {
                    match line.split_once(": ").unwrap_or((line, "")) {
                        ("id", value) => event.id = value.to_owned(),
                        ("event", value) => event.name = value.to_owned(),
                        ("data", value) => event.data.push_str(value),
                        ("", _) | (":", _) => self.comments += 1,
                        other => panic!("{other:?}"),
                    }
                }
                self.text = rest.to_owned();
                if event == Event::default() {
                    continue;
                }
                return Some(event);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.unwrap()?;
            let bytes = frame.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn json(&mut self) -> (String, Value) {
        let event = self.next().await.unwrap();
        (event.name, serde_json::from_str(&event.data).unwrap())
    }
}

#[tokio::test]
async fn messages_come_as_events() {
    let door = Fixture::new().await;
    let mut events = Events::open(&door, "/v1/subscribe/order.%3E").await;
    // Once the answer has begun, nothing is missed.
    door.publish("other", &json!(0)).await;
    let spread = "{\n  \"n\": 1\n}";
    door.post("/v1/publish/order.created", spread).await;
    let event = events.next().await.unwrap();
    let message: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!((event.name.as_str(), &message["data"]), ("order.created", &json!({"n": 1})));
    assert_eq!(message["id"], event.id);
}

#[tokio::test]
async fn messages_come_as_cloud_events_where_that_is_asked_for() {
    let door = Fixture::new().await;
    let mut events = Events::open(&door, "/v1/subscribe/a?format=cloudevents").await;
    door.publish("a", &json!({"n": 1})).await;
    let (name, event) = events.json().await;
    assert_eq!((name.as_str(), &event["specversion"]), ("a", &json!("1.0")));
    assert_eq!((&event["type"], &event["data"]), (&json!("a"), &json!({"n": 1})));
}

#[tokio::test]
async fn what_is_denied_is_kept_back() {
    let door = Fixture::with(json!({"tokens": [{
        "name": "dashboard", "token": "0123456789abcdef",
        "subscribe": {"allow": ["a.>"], "deny": ["a.secret"]},
    }]}))
    .await;
    let open =
        |path: &str| door.bare("GET", path).header("authorization", "Bearer 0123456789abcdef");
    for path in ["/v1/subscribe/%3E", "/v1/subscribe/a.secret", "/v1/subscribe/*"] {
        let refused = door.send(open(path), "").await.problem(403);
        assert!(refused.contains("`dashboard` may not subscribe"), "{refused}");
    }
    let answer = door.begin(open("/v1/subscribe/a.*"), "").await;
    let mut events = Events { body: answer.into_body(), text: String::new(), comments: 0 };
    door.publish("a.secret", &json!(1)).await;
    door.publish("a.known", &json!(2)).await;
    assert_eq!(events.json().await.0, "a.known");
}

#[tokio::test]
async fn silence_is_broken_now_and_then() {
    let door = Fixture::with(json!({"limits": {"ping_interval": "20ms"}})).await;
    let mut events = Events::open(&door, "/v1/subscribe/a").await;
    while !events.text.contains(": still here\n\n: still here\n\n") {
        let frame = tokio::time::timeout(PATIENCE, events.body.frame()).await.unwrap().unwrap();
        let bytes = frame.unwrap().into_data().unwrap();
        events.text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    door.publish("a", &json!(1)).await;
    assert_eq!(events.json().await.0, "a");
    assert!(events.comments >= 2);
}

#[tokio::test]
async fn a_slow_reader_is_told_and_cut_off_and_holds_up_nobody() {
    let door = Fixture::with(json!({"limits": {"max_pending": "64kb"}})).await;
    let mut slow = Events::open(&door, "/v1/subscribe/a").await;
    let mut other = door.subscribe("a").await;
    // More than the sockets' buffers and the outbox hold together; nobody reads the stream meanwhile.
    let much = json!("x".repeat(64 * 1024));
    for _ in 0..400 {
        tokio::time::timeout(PATIENCE, door.publish("a", &much)).await.unwrap();
    }
    for _ in 0..400 {
        tokio::time::timeout(PATIENCE, other.next()).await.unwrap().unwrap();
    }
    let mut seen = 0;
    let end = loop {
        let (name, data) = slow.json().await;
        if name != "a" {
            break (name, data["reason"].clone());
        }
        seen += 1;
    };
    assert_eq!(end, ("$end".to_owned(), json!("slow")));
    assert!(seen < 400, "a reader of nothing got all {seen}");
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind() {
    let door = Fixture::new().await;
    let events = Events::open(&door, "/v1/subscribe/a").await;
    let topic = Topic::new("a").unwrap();
    assert!(door.bus.is_heard(&topic));
    drop(events);
    tokio::time::timeout(PATIENCE, async {
        while door.bus.is_heard(&topic) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_stream_ends_with_the_bus() {
    let door = Fixture::new().await;
    let mut events = Events::open(&door, "/v1/subscribe/a").await;
    door.bus.close();
    let (name, data) = events.json().await;
    assert_eq!((name.as_str(), &data["reason"]), ("$end", &json!("closed")));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn shutdown_tells_streams_and_answers_what_is_in_hand() {
    let door = Fixture::new().await;
    let mut events = Events::open(&door, "/v1/subscribe/a").await;
    let mut questions = door.subscribe("slow.question").await;
    let asking = async {
        let asked = door.post("/v1/request/slow.question?timeout=20s", "1").await;
        assert_eq!((asked.status.as_u16(), &asked.json()["data"]), (200, &json!(2)));
    };
    let closing = async {
        // The question has arrived; it is answered only once the door is closing.
        let question = next(&mut questions).await.message;
        let answering = async {
            let (name, data) = events.json().await;
            assert_eq!((name.as_str(), &data["reason"]), ("$end", &json!("closing")));
            let answer = BaseMessage::builder("responder").data(&2).build().unwrap();
            door.bus.publish(&question.reply_to().unwrap(), answer).await.unwrap();
        };
        tokio::join!(door.shutdown(PATIENCE), answering);
    };
    tokio::join!(asking, closing);
    assert!(events.next().await.is_none());
    let refused = tokio::net::TcpStream::connect(door.address()).await;
    assert!(refused.is_err(), "nobody comes in any more");
}

#[tokio::test]
async fn what_has_not_ended_in_time_is_dropped() {
    let door = Fixture::new().await;
    let mut silent = door.subscribe("silent").await;
    let request = door.request("POST", "/v1/request/silent?timeout=10m").body(Full::from("1"));
    let asking = tokio::spawn(door.client().request(request.unwrap()));
    next(&mut silent).await;
    door.shutdown(Duration::from_millis(10)).await;
    assert!(tokio::time::timeout(PATIENCE, asking).await.unwrap().unwrap().is_err());
}
