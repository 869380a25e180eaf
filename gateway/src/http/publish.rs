//! `POST /v1/publish/{topic}` and `POST /v1/request/{topic}`.

use std::time::Duration;

use echo_bus::Transport;
use echo_sdk::{BaseMessage, PublishError, Topic};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::body::{self, Body};
use super::problem::Problem;
use super::query::{DEFAULT_TIMEOUT, Format};
use super::routes::Call;
use super::{cloudevents, incoming};
use crate::auth::Access;

/// How long a publish waits for room in the queues of those who are to get the message.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks a host for its slots, what they subscribe to and what they have counted.
const TOPICS: &str = "system.topics.list";

/// What is answered to a message that was published.
#[derive(Serialize)]
struct Published<'a> {
    topic: &'a Topic,
    id: String,
}

/// Publishes the body.
pub(super) async fn publish(call: Call) -> Result<Response<Body>, Problem> {
    let (topic, message) = read(&call).await?;
    let id = message.id().to_string();
    deliver(&*call.door().transport, &topic, message).await?;
    body::json(StatusCode::ACCEPTED, "application/json", &Published { topic: &topic, id })
}

/// Publishes the body and answers with the first answer.
pub(super) async fn request(call: Call) -> Result<Response<Body>, Problem> {
    let (topic, message) = read(&call).await?;
    let timeout = call.query.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let answer = call.door().transport.request(&topic, message, timeout).await?;
    match call.query.format {
        Format::Message => body::json(StatusCode::OK, "application/json", &answer),
        Format::CloudEvents => {
            let event = cloudevents::to_event(&topic, &answer).map_err(PublishError::from)?;
            body::json(StatusCode::OK, cloudevents::MEDIA_TYPE, &event)
        }
    }
}

async fn read(call: &Call) -> Result<(Topic, BaseMessage), Problem> {
    let topic = topic(&call.access, &call.tail)?;
    call.count()?;
    let bytes = call.read_body().await?;
    let message = incoming::from_body(&call.access, &topic, &call.parts.headers, &bytes)?;
    Ok((topic, message))
}

/// Reads a topic that the client may publish to.
pub(super) fn topic(access: &Access, text: &str) -> Result<Topic, Problem> {
    let topic = Topic::new(text).map_err(Problem::bad_request)?;
    if access.may_publish(&topic) { Ok(topic) } else { Err(refused(access, &topic)) }
}

pub(super) fn refused(access: &Access, topic: &Topic) -> Problem {
    Problem::forbidden(format!("`{}` may not publish to `{topic}`", access.name()))
}

/// Publishes, waiting for room as long as a client may be kept waiting.
pub(super) async fn deliver(
    transport: &dyn Transport,
    topic: &Topic,
    message: BaseMessage,
) -> Result<(), Problem> {
    match tokio::time::timeout(PATIENCE, transport.publish(topic, message)).await {
        Ok(published) => Ok(published?),
        Err(_) => Err(Problem::unavailable(
            "full",
            format!("those who get `{topic}` had no room for 30 seconds; nobody got the message"),
        )),
    }
}

/// `GET /v1/topics`: what the host answers when it is asked over the bus.
pub(super) async fn topics(call: Call) -> Result<Response<Body>, Problem> {
    let topic = topic(&call.access, TOPICS)?;
    let question = BaseMessage::builder(call.access.name()).data(&json!({})).build();
    let question = question.map_err(PublishError::from)?;
    let answer = call.door().transport.request(&topic, question, DEFAULT_TIMEOUT).await?;
    Ok(body::answer(StatusCode::OK, "application/json", answer.data_bytes().to_vec()))
}
