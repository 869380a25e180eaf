//! Who comes in through the NATS door, and what they may do there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, Event};
use echo_core::config::{GatewayConfig, GatewayLimits, Secret};
use echo_gateway::GatewayOptions;
use echo_gateway::auth::Auth;
use serde_json::json;

use super::{Hub, arrived, next, next_text, options, soon};

const OWN: &str = "the-hosts-own-token";

fn auth() -> Auth {
    let config: GatewayConfig = serde_json::from_value(json!({"tokens": [
        {
            "name": "limited",
            "token": "a-token-of-someone",
            "publish": {"allow": ["mine.>"]},
            "subscribe": {"allow": ["mine.>", "shared.>", "_INBOX.>"], "deny": ["shared.secret"]},
        },
        {
            "name": "service",
            "token": "a-token-of-a-service",
            "publish": {"allow": []},
            "allow_responses": true,
        },
    ]}))
    .unwrap();
    Auth::new(&config, Some(&Secret::new(OWN))).unwrap()
}

async fn closed() -> Hub {
    Hub::with(GatewayOptions { auth: auth(), ..options() }).await
}

fn token(token: &str) -> ConnectOptions {
    ConnectOptions::with_token(token.to_owned())
}

#[tokio::test]
async fn nobody_comes_in_without_the_token() {
    let hub = closed().await;
    for wrong in [ConnectOptions::new(), token("guess")] {
        let refused = wrong.connect(hub.address().to_string()).await.unwrap_err();
        assert_eq!(refused.kind(), ConnectErrorKind::AuthorizationViolation);
    }
    arrived(&hub.client_with(token(OWN)).await).await;
    // As clients send what `echo-core url` prints, `nats://TOKEN@127.0.0.1:4222`.
    for known in [format!("\"auth_token\":\"{OWN}\""), format!("\"user\":\"{OWN}\"")] {
        hub.connected(&format!("{{\"verbose\":false,{known}}}")).await;
    }
}

#[tokio::test]
async fn nothing_is_done_before_the_client_is_known() {
    let hub = closed().await;
    let (mut raw, info) = hub.raw().await;
    assert_eq!(info["auth_required"], true);
    // Not even a payload is waited for.
    raw.say("PUB t 8000000\r\n").await;
    assert_eq!(raw.rest().await, "-ERR 'Authorization Violation'\r\n");
    let (mut raw, _) = hub.raw().await;
    raw.say(format!("CONNECT {{\"verbose\":true,\"auth_token\":\"{OWN}\"}}\r\n")).await;
    raw.expect("+OK").await;
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let login_timeout = Duration::from_millis(50);
    let limits = GatewayLimits { login_timeout, ..GatewayLimits::default() };
    let hub = Hub::with(GatewayOptions { auth: auth(), limits, ..options() }).await;
    let (mut raw, _) = hub.raw().await;
    assert_eq!(raw.rest().await, "-ERR 'Authentication Timeout'\r\n");
}

/// What the gateway tells a client of its errors.
fn with_errors(
    options: ConnectOptions,
) -> (ConnectOptions, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let options = options.event_callback(move |event| {
        if let Event::ServerError(error) = event {
            sender.send(error.to_string()).unwrap();
        }
        std::future::ready(())
    });
    (options, receiver)
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_in_the_words_of_a_server() {
    let hub = closed().await;
    let owner = hub.client_with(token(OWN)).await;
    let mut all = owner.subscribe(">").await.unwrap();
    arrived(&owner).await;
    let (options, mut errors) = with_errors(token("a-token-of-someone"));
    let client = hub.client_with(options).await;
    client.publish("theirs", "no".into()).await.unwrap();
    assert_eq!(
        soon(errors.recv()).await.unwrap(),
        "nats: Permissions Violation for Publish to \"theirs\""
    );
    client.subscribe("theirs").await.unwrap();
    assert_eq!(
        soon(errors.recv()).await.unwrap(),
        "nats: Permissions Violation for Subscription to \"theirs\""
    );
    client.queue_subscribe("theirs", "g".into()).await.unwrap();
    assert_eq!(
        soon(errors.recv()).await.unwrap(),
        "nats: Permissions Violation for Subscription to \"theirs\" using queue \"g\""
    );
    client.publish_with_reply("mine.a", "test.run.start", "no".into()).await.unwrap();
    assert_eq!(
        soon(errors.recv()).await.unwrap(),
        "nats: Permissions Violation for Publish with Reply of \"test.run.start\""
    );
    client.publish("mine.a", "yes".into()).await.unwrap();
    let message = next(&mut all).await;
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("mine.a", &b"yes"[..]));
    // A part of a pattern that is denied is kept back.
    let mut shared = client.subscribe("shared.*").await.unwrap();
    arrived(&client).await;
    owner.publish("shared.secret", "hidden".into()).await.unwrap();
    owner.publish("shared.news", "seen".into()).await.unwrap();
    assert_eq!(next_text(&mut shared).await, "seen");
}

#[tokio::test]
async fn a_service_may_answer_and_nothing_else() {
    let hub = closed().await;
    let owner = hub.client_with(token(OWN)).await;
    let (options, mut errors) = with_errors(token("a-token-of-a-service"));
    let service = hub.client_with(options).await;
    let mut questions = service.subscribe("ask").await.unwrap();
    arrived(&service).await;
    let answered = Arc::new(Mutex::new(None));
    let asking = tokio::spawn({
        let answered = Arc::clone(&answered);
        async move {
            let answer = owner.request("ask", "?".into()).await.unwrap();
            *answered.lock().unwrap() = Some(answer.payload);
        }
    });
    let reply = next(&mut questions).await.reply.unwrap();
    service.publish(reply.clone(), "!".into()).await.unwrap();
    soon(asking).await.unwrap();
    assert_eq!(answered.lock().unwrap().as_deref(), Some(&b"!"[..]));
    // Once each.
    service.publish(reply, "again".into()).await.unwrap();
    assert!(soon(errors.recv()).await.unwrap().contains("Permissions Violation for Publish"));
}
