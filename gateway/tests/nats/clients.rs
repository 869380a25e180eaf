//! What clients do every day, with the real client of NATS.

use std::sync::Arc;

use async_nats::{ConnectOptions, HeaderMap, RequestErrorKind};
use echo_bus::SubscribeOptions;
use echo_gateway::Gateway;
use echo_sdk::{BaseMessage, Form, Pattern, Topic};
use futures_util::StreamExt;
use serde_json::json;

use super::{Hub, arrived, next, next_text, options, soon, text};

#[tokio::test]
async fn what_is_published_is_heard_by_those_whose_pattern_matches() {
    let hub = Hub::open().await;
    let client = hub.client().await;
    let mut exact = client.subscribe("orders.new").await.unwrap();
    let mut one = client.subscribe("orders.*").await.unwrap();
    let mut all = client.subscribe("orders.>").await.unwrap();
    let mut none = client.subscribe("invoices.>").await.unwrap();
    arrived(&client).await;
    let other = hub.client().await;
    for (subject, payload) in [("orders.new", "1"), ("orders.new.eu", "2"), ("orders.old", "3")] {
        other.publish(subject, payload.into()).await.unwrap();
    }
    other.publish("invoices.new", "4".into()).await.unwrap();
    arrived(&other).await;
    assert_eq!(next_text(&mut exact).await, "1");
    assert_eq!((next_text(&mut one).await, next_text(&mut one).await), ("1".into(), "3".into()));
    for expected in ["1", "2", "3"] {
        assert_eq!(next_text(&mut all).await, expected);
    }
    assert_eq!(next(&mut none).await.subject.as_str(), "invoices.new");
}

#[tokio::test]
async fn bytes_and_headers_arrive_as_they_were_sent() {
    let hub = Hub::open().await;
    let (publisher, subscriber) = (hub.client().await, hub.client().await);
    let mut heard = subscriber.subscribe("t").await.unwrap();
    arrived(&subscriber).await;
    let mut headers = HeaderMap::new();
    headers.append("Tenant", "a");
    headers.append("Tenant", "b, c");
    headers.insert("Echo-Key", "k");
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let payloads = [
        &b"{\"a\": 1 }"[..],
        b" {}\n",
        b"plain",
        b"",
        b"\r\n",
        b"\xff\x00",
        b"{\"source\":",
        &all_bytes,
    ];
    for payload in payloads {
        let bytes = payload.to_vec().into();
        publisher.publish_with_headers("t", headers.clone(), bytes).await.unwrap();
        let message = next(&mut heard).await;
        assert_eq!(message.payload, payload);
        assert_eq!(message.headers.unwrap(), headers);
        publisher.publish("t", payload.to_vec().into()).await.unwrap();
        let message = next(&mut heard).await;
        assert_eq!((&message.payload[..], message.headers), (payload, None));
    }
}

#[tokio::test]
async fn plugins_see_messages_and_tools_see_json() {
    let hub = Hub::open().await;
    let mut plugin = hub
        .bus
        .subscribe(&Pattern::new("from.tool").unwrap(), SubscribeOptions::default())
        .await
        .unwrap();
    let tool = hub.client_with(ConnectOptions::new().name("dashboard")).await;
    tool.publish_with_reply("from.tool", "reply.here", "{\"n\":1}".into()).await.unwrap();
    let received = soon(plugin.next()).await.unwrap();
    let message = received.message;
    assert_eq!((message.source(), message.form()), ("dashboard", Form::Json));
    assert_eq!(message.data().unwrap(), &json!({"n": 1}));
    assert_eq!(message.reply_to().unwrap().as_str(), "reply.here");

    let mut heard = tool.subscribe("from.plugin").await.unwrap();
    arrived(&tool).await;
    let sent = BaseMessage::builder("plugin").data(&json!([1])).key("k").build().unwrap();
    hub.bus.publish(&Topic::new("from.plugin").unwrap(), sent.clone()).await.unwrap();
    let message = next(&mut heard).await;
    let read: BaseMessage = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(read, sent);
    let headers = message.headers.unwrap();
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), sent.id().to_string());
    assert_eq!(headers.get("Echo-Key").unwrap().as_str(), "k");

    // A whole message that a tool sends stays what it is.
    let whole = serde_json::to_vec(&sent).unwrap();
    tool.publish("from.tool", whole.into()).await.unwrap();
    assert_eq!(soon(plugin.next()).await.unwrap().message, sent);
}

#[tokio::test]
async fn a_request_is_answered_and_one_that_nobody_hears_fails_at_once() {
    let hub = Hub::open().await;
    let (asking, answering) = (hub.client().await, hub.client().await);
    let mut questions = answering.subscribe("square").await.unwrap();
    arrived(&answering).await;
    let answerer = answering.clone();
    let answers = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let number: u64 = text(&question).parse().unwrap();
            let answer = (number * number).to_string().into();
            answerer.publish(question.reply.unwrap(), answer).await.unwrap();
        }
    });
    for number in 0..100_u64 {
        let answer = soon(asking.request("square", number.to_string().into())).await.unwrap();
        assert_eq!(text(&answer), (number * number).to_string());
    }
    for subject in ["nobody.hears", "$JS.API.INFO", "$SYS.REQ.SERVER.PING"] {
        let failed = soon(asking.request(subject, "?".into())).await.unwrap_err();
        assert_eq!(failed.kind(), RequestErrorKind::NoResponders, "{subject}");
    }
    answers.abort();
}

#[tokio::test]
async fn an_answer_of_the_bus_finds_the_client() {
    let hub = Hub::open().await;
    let mut plugin = hub
        .bus
        .subscribe(&Pattern::new("ask").unwrap(), SubscribeOptions::default())
        .await
        .unwrap();
    let bus = Arc::clone(&hub.bus);
    let answers = tokio::spawn(async move {
        let received = plugin.next().await.unwrap();
        let answer = BaseMessage::builder("plugin").data("here").build().unwrap();
        bus.publish(&received.message.reply_to().unwrap(), answer).await.unwrap();
    });
    let client = hub.client().await;
    let answer = soon(client.request("ask", "?".into())).await.unwrap();
    let message: BaseMessage = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(message.json::<String>().unwrap(), "here");
    answers.await.unwrap();

    // The other way round: the host asks, a client answers.
    let mut questions = client.subscribe("tool").await.unwrap();
    arrived(&client).await;
    let bus = Arc::clone(&hub.bus);
    let asked = tokio::spawn(async move {
        let question = BaseMessage::builder("host").build().unwrap();
        bus.request(&Topic::new("tool").unwrap(), question, super::PATIENCE).await
    });
    let question = next(&mut questions).await;
    client.publish(question.reply.unwrap(), "\"yes\"".into()).await.unwrap();
    let answer = soon(asked).await.unwrap().unwrap();
    assert_eq!(answer.json::<String>().unwrap(), "yes");
}

#[tokio::test]
async fn a_subscription_ends_after_its_messages_or_when_it_is_drained() {
    let hub = Hub::open().await;
    let (publisher, client) = (hub.client().await, hub.client().await);
    let mut three = client.subscribe("t").await.unwrap();
    let mut drained = client.subscribe("t").await.unwrap();
    three.unsubscribe_after(3).await.unwrap();
    arrived(&client).await;
    for number in 0..1000 {
        publisher.publish("t", number.to_string().into()).await.unwrap();
    }
    arrived(&publisher).await;
    let mut numbers = Vec::new();
    while let Some(message) = soon(three.next()).await {
        numbers.push(text(&message));
    }
    assert_eq!(numbers, ["0", "1", "2"]);
    // What was published before comes still.
    drained.drain().await.unwrap();
    let mut count = 0;
    while let Some(message) = soon(drained.next()).await {
        assert_eq!(text(&message), count.to_string());
        count += 1;
    }
    assert_eq!(count, 1000);
}

#[tokio::test]
async fn a_client_without_echo_does_not_hear_itself() {
    let hub = Hub::open().await;
    let quiet = hub.client_with(ConnectOptions::new().no_echo()).await;
    let other = hub.client().await;
    let mut heard = quiet.subscribe("t").await.unwrap();
    let mut heard_by_other = other.subscribe("t").await.unwrap();
    arrived(&quiet).await;
    arrived(&other).await;
    for round in ["1", "2"] {
        quiet.publish("t", format!("own {round}").into()).await.unwrap();
        arrived(&quiet).await;
        other.publish("t", format!("other {round}").into()).await.unwrap();
        arrived(&other).await;
        assert_eq!(next_text(&mut heard).await, format!("other {round}"));
        assert_eq!(next_text(&mut heard_by_other).await, format!("own {round}"));
        assert_eq!(next_text(&mut heard_by_other).await, format!("other {round}"));
    }
}

#[tokio::test]
async fn a_client_comes_back_when_the_gateway_does() {
    let hub = Hub::open().await;
    let address = hub.address();
    let (connected, mut is_connected) = tokio::sync::mpsc::unbounded_channel();
    let client = hub
        .client_with(ConnectOptions::new().event_callback(move |event| {
            let connected = connected.clone();
            async move {
                if event == async_nats::Event::Connected {
                    connected.send(()).unwrap();
                }
            }
        }))
        .await;
    soon(is_connected.recv()).await.unwrap();
    let mut heard = client.subscribe("t").await.unwrap();
    arrived(&client).await;
    let Hub { gateway, bus } = hub;
    soon(gateway.shutdown()).await;
    let again = echo_gateway::GatewayOptions { nats: Some(address), ..options() };
    let gateway = Gateway::start(again, bus).await.unwrap();
    soon(is_connected.recv()).await.unwrap();
    // The client subscribes anew before it does anything else.
    client.publish("t", "still here".into()).await.unwrap();
    assert_eq!(next_text(&mut heard).await, "still here");
    soon(gateway.shutdown()).await;
}

#[tokio::test]
async fn many_messages_keep_their_order_and_their_number() {
    const COUNT: usize = 200_000;
    let hub = Hub::open().await;
    let options = ConnectOptions::new().subscription_capacity(2 * COUNT);
    let (publisher, subscriber) = (hub.client().await, hub.client_with(options).await);
    let mut heard = subscriber.subscribe("t.>").await.unwrap();
    arrived(&subscriber).await;
    let publishing = tokio::spawn(async move {
        for number in 0..COUNT {
            publisher.publish("t.a", number.to_string().into()).await.unwrap();
        }
        arrived(&publisher).await;
    });
    for number in 0..COUNT {
        assert_eq!(next_text(&mut heard).await, number.to_string());
    }
    publishing.await.unwrap();
}
