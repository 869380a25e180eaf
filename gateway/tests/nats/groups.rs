//! Queue groups: members share, groups do not.

use std::collections::HashSet;

use echo_bus::SubscribeOptions;
use echo_sdk::Pattern;
use futures_util::{FutureExt, StreamExt};

use super::{Hub, arrived, next, next_text, soon, text};

#[tokio::test]
async fn members_share_the_messages_and_each_has_its_part() {
    const COUNT: usize = 300;
    let hub = Hub::open().await;
    let clients = [hub.client().await, hub.client().await, hub.client().await];
    let mut members = Vec::new();
    for client in &clients {
        members.push(client.queue_subscribe("work.*", "workers".into()).await.unwrap());
    }
    let mut other_group = clients[0].queue_subscribe("work.*", "auditors".into()).await.unwrap();
    let mut alone = clients[0].subscribe("work.>").await.unwrap();
    for client in &clients {
        arrived(client).await;
    }
    for number in 0..COUNT {
        clients[1].publish("work.a", number.to_string().into()).await.unwrap();
    }
    for number in 0..COUNT {
        assert_eq!(next_text(&mut other_group).await, number.to_string());
        assert_eq!(next_text(&mut alone).await, number.to_string());
    }
    let mut seen = HashSet::new();
    let mut shares = vec![0; members.len()];
    while seen.len() < COUNT {
        let next = members.iter_mut().map(StreamExt::next);
        let (message, place, _) = soon(futures_util::future::select_all(next)).await;
        assert!(seen.insert(text(&message.unwrap())), "one message came twice");
        shares[place] += 1;
    }
    assert!(shares.iter().all(|share| *share > COUNT / 10), "{shares:?}");
}

#[tokio::test]
async fn one_request_after_the_other_goes_round() {
    let hub = Hub::open().await;
    let mut services = Vec::new();
    for number in 0..3 {
        let client = hub.client().await;
        let mut questions = client.queue_subscribe("ask", "services".into()).await.unwrap();
        arrived(&client).await;
        services.push(tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                client.publish(question.reply.unwrap(), number.to_string().into()).await.unwrap();
            }
        }));
    }
    let client = hub.client().await;
    let mut answered = HashSet::new();
    for _ in 0..9 {
        answered.insert(text(&soon(client.request("ask", "".into())).await.unwrap()));
    }
    assert_eq!(answered.len(), 3, "{answered:?}");
    services.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn what_a_member_leaves_behind_goes_to_the_others() {
    const COUNT: usize = 1000;
    let hub = Hub::open().await;
    let (staying, publisher) = (hub.client().await, hub.client().await);
    let mut member = staying.queue_subscribe("t", "g".into()).await.unwrap();
    arrived(&staying).await;
    // It comes and goes by hand, so that it is gone when its hang-up is seen.
    let mut leaving = hub.connected(r#"{"verbose":false}"#).await;
    leaving.say("SUB t g 1\r\nUNSUB 1\r\nPING\r\n").await;
    leaving.expect("PONG").await;
    for number in 0..COUNT {
        publisher.publish("t", number.to_string().into()).await.unwrap();
    }
    for number in 0..COUNT {
        assert_eq!(next_text(&mut member).await, number.to_string());
    }
    // The last member closes the group; the next one opens it anew.
    member.unsubscribe().await.unwrap();
    arrived(&staying).await;
    publisher.publish("t", "nobody".into()).await.unwrap();
    arrived(&publisher).await;
    let mut member = staying.queue_subscribe("t", "g".into()).await.unwrap();
    arrived(&staying).await;
    publisher.publish("t", "again".into()).await.unwrap();
    assert_eq!(next_text(&mut member).await, "again");
}

#[tokio::test]
async fn a_member_without_echo_leaves_its_own_messages_to_others() {
    let hub = Hub::open().await;
    let quiet = hub.client_with(async_nats::ConnectOptions::new().no_echo()).await;
    let other = hub.client().await;
    let mut own = quiet.queue_subscribe("t", "g".into()).await.unwrap();
    let mut others = other.queue_subscribe("t", "g".into()).await.unwrap();
    arrived(&quiet).await;
    arrived(&other).await;
    for number in 0..20 {
        quiet.publish("t", number.to_string().into()).await.unwrap();
    }
    let mut seen = HashSet::new();
    for _ in 0..20 {
        seen.insert(next_text(&mut others).await);
    }
    assert_eq!(seen.len(), 20);
    assert!(own.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_group_and_the_bus_beside_it_both_hear() {
    let hub = Hub::open().await;
    let pattern = Pattern::new("t").unwrap();
    let mut plugin = hub.bus.subscribe(&pattern, SubscribeOptions::default()).await.unwrap();
    let client = hub.client().await;
    let mut member = client.queue_subscribe("t", "a-group.with/any>name".into()).await.unwrap();
    arrived(&client).await;
    client.publish("t", "x".into()).await.unwrap();
    assert_eq!(next(&mut member).await.payload, "x");
    assert_eq!(soon(plugin.next()).await.unwrap().message.json::<String>().unwrap(), "x");
}
