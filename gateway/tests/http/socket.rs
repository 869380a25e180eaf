//! WebSockets.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{Fixture, PATIENCE, TOKEN, next};

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(door: &Fixture) -> Self {
        Self::open_with(door, &[("authorization", &format!("Bearer {TOKEN}"))]).await.unwrap()
    }

    async fn open_with(door: &Fixture, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("ws://{}/v1/ws", door.address()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(door.address()).await.unwrap();
        Ok(Self(client_async(request, stream).await?.0))
    }

    async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Option<Message> {
        let message = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap()?;
        Some(message.unwrap())
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.message().await.unwrap() {
                Message::Text(text) => return serde_json::from_str(text.as_str()).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Says a frame and hears the word that it is done.
    async fn done(&mut self, frame: Value) {
        let id = frame["id"].clone();
        self.say(frame).await;
        assert_eq!(self.hear().await, json!({"op": "done", "id": id}));
    }

    /// Hears an error, and gives its id, status and sentence.
    async fn error(&mut self) -> (Value, u64, String) {
        let frame = self.hear().await;
        assert_eq!(frame["op"], "error", "{frame}");
        let problem = &frame["problem"];
        let detail = problem["detail"].as_str().unwrap().to_owned();
        (frame["id"].clone(), problem["status"].as_u64().unwrap(), detail)
    }
}

#[tokio::test]
async fn a_client_publishes_subscribes_and_unsubscribes() {
    let door = Fixture::new().await;
    let mut heard = door.subscribe("a.>").await;
    let mut socket = Socket::open(&door).await;
    socket.done(json!({"op": "subscribe", "id": "s", "pattern": "a.*"})).await;
    socket.say(json!({"op": "publish", "id": "p", "topic": "a.b", "data": {"n": 1}})).await;
    let (first, second) = (socket.hear().await, socket.hear().await);
    let is_done = |frame: &Value| frame["op"] == "done";
    let (done, message) = if is_done(&first) { (first, second) } else { (second, first) };
    assert_eq!(done, json!({"op": "done", "id": "p"}));
    assert_eq!(
        (&message["op"], &message["id"], &message["topic"]),
        (&json!("message"), &json!("s"), &json!("a.b"))
    );
    assert_eq!(message["message"]["data"], json!({"n": 1}));
    assert_eq!(next(&mut heard).await.message.source(), "owner");

    socket.done(json!({"op": "unsubscribe", "id": "s"})).await;
    door.publish("a.b", &json!(2)).await;
    socket
        .done(json!({"op": "subscribe", "id": "s", "pattern": "b", "format": "cloudevents"}))
        .await;
    door.publish("b", &json!(3)).await;
    let event = socket.hear().await;
    assert_eq!((&event["topic"], &event["event"]["data"]), (&json!("b"), &json!(3)));
    assert!(event.get("message").is_none());
}

#[tokio::test]
async fn requests_are_answered_side_by_side() {
    let door = Fixture::new().await;
    door.answer("double", |data| json!(data.as_u64().unwrap() * 2)).await;
    let mut silent = door.subscribe("silent").await;
    let mut socket = Socket::open(&door).await;
    socket
        .say(json!({"op": "request", "id": "1", "topic": "silent", "data": 1, "timeout": "20s"}))
        .await;
    let question = next(&mut silent).await.message;
    socket.say(json!({"op": "request", "id": "2", "topic": "double", "data": 21})).await;
    let answer = socket.hear().await;
    assert_eq!((&answer["op"], &answer["id"]), (&json!("answer"), &json!("2")));
    assert_eq!(answer["message"]["data"], 42);
    // Another client answers the first, over a WebSocket as well.
    let mut other = Socket::open(&door).await;
    let reply = question.reply_to().unwrap();
    other.done(json!({"op": "publish", "id": "r", "topic": reply, "data": "late"})).await;
    let answer = socket.hear().await;
    assert_eq!((&answer["id"], &answer["message"]["data"]), (&json!("1"), &json!("late")));
    socket.say(json!({"op": "request", "id": "3", "topic": "nobody"})).await;
    let (id, status, detail) = socket.error().await;
    assert_eq!((id, status), (json!("3"), 503));
    assert!(detail.contains("nobody answers"), "{detail}");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_connection_goes_on() {
    let door = Fixture::with(json!({"limits": {"max_subscriptions": 1}})).await;
    let mut socket = Socket::open(&door).await;
    for (frame, id, status, word) in [
        (json!({"op": "dance"}), Value::Null, 400, "dance"),
        (json!({"op": "publish", "id": "1"}), Value::Null, 400, "topic"),
        (json!({"op": "publish", "id": "1", "topic": "a..b"}), json!("1"), 400, "a..b"),
        (json!({"op": "publish", "topic": "a", "more": 1}), Value::Null, 400, "more"),
        (json!({"op": "subscribe", "pattern": "a"}), Value::Null, 400, "`id`"),
        (json!({"op": "subscribe", "id": "1", "pattern": "a*"}), json!("1"), 400, "a*"),
        (json!({"op": "unsubscribe", "id": "1"}), json!("1"), 400, "no subscription `1`"),
        (json!({"op": "request", "id": "1", "topic": "a", "timeout": "1d"}), json!("1"), 400, "1d"),
    ] {
        socket.say(frame.clone()).await;
        let (_, said, detail) = socket.error().await;
        assert_eq!(said, status, "{frame}: {detail}");
        assert!(detail.contains(word), "{frame}: {detail}");
        let _ = id;
    }
    socket.done(json!({"op": "subscribe", "id": "1", "pattern": "a"})).await;
    socket.say(json!({"op": "subscribe", "id": "1", "pattern": "a"})).await;
    assert!(socket.error().await.2.contains("another id"));
    socket.say(json!({"op": "subscribe", "id": "2", "pattern": "a"})).await;
    let (id, status, detail) = socket.error().await;
    assert_eq!((id, status), (json!("2"), 429));
    assert!(detail.contains("max_subscriptions"), "{detail}");
}

#[tokio::test]
async fn a_responder_may_answer_once_and_no_more() {
    let door = Fixture::with(json!({"tokens": [{
        "name": "worker", "token": "0123456789abcdef", "allow_responses": true,
        "publish": {"allow": []}, "subscribe": {"allow": ["work"]},
    }]}))
    .await;
    let login = [("authorization", "Bearer 0123456789abcdef")];
    let mut socket = Socket::open_with(&door, &login).await.unwrap();
    socket.done(json!({"op": "subscribe", "id": "s", "pattern": "work"})).await;
    let asking = door.post("/v1/request/work?timeout=20s", "1");
    let working = async {
        let question = socket.hear().await;
        let reply = question["message"]["headers"]["reply_to"].clone();
        let answer = json!({"op": "publish", "id": "a", "topic": reply, "data": "done"});
        socket.done(answer.clone()).await;
        socket.say(answer).await;
        let (_, status, detail) = socket.error().await;
        assert_eq!(status, 403);
        assert!(detail.contains("`worker` may not publish"), "{detail}");
    };
    let (asked, ()) = tokio::join!(asking, working);
    assert_eq!(asked.json()["data"], "done");
}

#[tokio::test]
async fn a_page_opens_one_only_when_it_is_named() {
    let door = Fixture::new().await;
    let bearer = format!("Bearer {TOKEN}");
    for headers in [
        vec![("authorization", bearer.as_str()), ("origin", "https://evil.example")],
        vec![("authorization", "Bearer wrong")],
        vec![],
    ] {
        let refused = Socket::open_with(&door, &headers).await;
        let Err(Error::Http(answer)) = refused.map(drop) else { panic!("{headers:?}") };
        let expected = if headers.len() == 2 { 403 } else { 401 };
        assert_eq!(answer.status(), expected, "{headers:?}");
    }
    let plain = door.get("/v1/ws").await;
    assert_eq!(plain.header("upgrade"), "websocket");
    plain.problem(426);
}

#[tokio::test]
async fn a_slow_reader_is_told_and_cut_off() {
    let door = Fixture::with(json!({"limits": {"max_pending": "64kb"}})).await;
    let mut socket = Socket::open(&door).await;
    socket.done(json!({"op": "subscribe", "id": "s", "pattern": "a"})).await;
    let much = json!("x".repeat(64 * 1024));
    for _ in 0..400 {
        tokio::time::timeout(PATIENCE, door.publish("a", &much)).await.unwrap();
    }
    let mut seen = 0;
    let end = loop {
        let frame = socket.hear().await;
        if frame["op"] != "message" {
            break frame;
        }
        seen += 1;
    };
    assert_eq!((&end["op"], &end["reason"]), (&json!("end"), &json!("slow")));
    assert!(seen < 400, "a reader of nothing got all {seen}");
    let Some(Message::Close(Some(close))) = socket.message().await else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Policy);
}

#[tokio::test]
async fn shutdown_tells_the_client() {
    let door = Fixture::new().await;
    let mut socket = Socket::open(&door).await;
    socket.done(json!({"op": "subscribe", "id": "s", "pattern": "a"})).await;
    let hearing = async {
        assert_eq!(socket.hear().await["reason"], "closing");
        let Some(Message::Close(Some(close))) = socket.message().await else { panic!("no close") };
        assert_eq!(close.code, CloseCode::Away);
    };
    tokio::join!(door.shutdown(PATIENCE), hearing);
}

#[tokio::test]
async fn frames_are_bounded_and_text() {
    let door = Fixture::with(json!({"limits": {"max_payload": "1kb"}})).await;
    let mut socket = Socket::open(&door).await;
    let much = "x".repeat(128 * 1024);
    // The host may hang up before all of it is written.
    let _ = socket.0.send(Message::text(json!({"op": "publish", "data": much}).to_string())).await;
    match tokio::time::timeout(PATIENCE, socket.0.next()).await.unwrap() {
        Some(Ok(Message::Close(Some(close)))) => assert_eq!(close.code, CloseCode::Size),
        Some(Err(Error::Io(_) | Error::Protocol(_))) | None => {}
        other => panic!("{other:?}"),
    }
    let mut socket = Socket::open(&door).await;
    socket.0.send(Message::binary(vec![1])).await.unwrap();
    let Some(Message::Close(Some(close))) = socket.message().await else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Unsupported);
}
