use echo_sdk::testing::{example_faults, message, mock_with, request};

use super::*;

fn echo() -> (Echo, echo_sdk::testing::Probe) {
    let (context, probe) = mock_with("echo", manifest().config);
    (Echo::new(context).unwrap(), probe)
}

#[tokio::test]
async fn the_manifests_examples_hold() {
    assert_eq!(example_faults(&manifest(), Echo::new).await, [""; 0]);
}

#[tokio::test]
async fn each_status_is_answered_when_asked_for() {
    let (echo, probe) = echo();
    let topic = Topic::new("plugin.echo.say").unwrap();
    let answer = async |data: Value, attempt| {
        echo.process_message(&topic, &request(&data).with_attempt(attempt)).await.unwrap()
    };
    let later = json!({ "status": "retry_later", "after": "2s" });
    let two_seconds = Duration::from_secs(2);
    assert_eq!(answer(later.clone(), 1).await, ProcessingStatus::RetryLater(two_seconds));
    assert_eq!(answer(later, 2).await, ProcessingStatus::Acknowledged);
    let failed = answer(json!({ "status": "failed", "reason": "no" }), 1).await;
    assert_eq!(failed, ProcessingStatus::Failed("no".into()));
    let forwarded = answer(json!({ "status": "forward", "topic": "a.b" }), 1).await;
    assert!(matches!(forwarded, ProcessingStatus::Forward(topic, _) if topic == "a.b"));
    assert_eq!(answer(json!("plain"), 1).await, ProcessingStatus::Acknowledged);
    assert_eq!(probe.replies().len(), 2);
    assert_eq!(echo.metrics().await, json!({ "said": 2 }));
}

#[tokio::test]
async fn an_unknown_status_is_an_error() {
    let (echo, _) = echo();
    let topic = Topic::new("plugin.echo.say").unwrap();
    let handled = echo.process_message(&topic, &message(&json!({ "status": "dance" }))).await;
    assert!(handled.unwrap_err().to_string().contains("dance"));
}

#[test]
fn a_wrong_configuration_is_refused() {
    let config = serde_json::Map::from_iter([("topic".into(), json!("a..b"))]);
    let (context, _) = mock_with("echo", config);
    assert!(Echo::new(context).unwrap_err().to_string().contains("a..b"));
}
