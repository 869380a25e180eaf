//! `GET /v1/subscribe/{pattern}`: messages as server-sent events.
//!
//! Each message is an event with the message's id as `id`, its topic as `event` and its JSON as `data`. Silence is
//! broken by a comment now and then, so that whatever stands between sees a connection that lives. The last event
//! of a stream that the host ends is `$end`, with the reason as JSON.

use std::pin::pin;
use std::sync::Arc;

use echo_bus::SubscribeOptions;
use echo_sdk::{BaseMessage, Overflow, Pattern, Received, Subscription, Topic};
use http_body_util::Either;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::Error as JsonError;
use tokio::time::{MissedTickBehavior, interval_at};

use super::body::Body;
use super::cloudevents;
use super::door::{Connection, Door};
use super::outbox::{Outbox, Refused, outbox};
use super::problem::Problem;
use super::query::Format;
use super::routes::Call;
use crate::auth::Access;

/// The event that ends a stream. Topics that begin with `$` are for systems, so no message's is the same.
const END: &str = "$end";

/// How many messages wait at most for the task that hands them on, which waits for nobody.
const CAPACITY: usize = 8_192;

/// Why a stream or a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// The client reads more slowly than messages come.
    Slow,
    /// The host is shutting down.
    Closing,
    /// The client's token has expired.
    Expired,
    /// The bus is closed.
    Closed,
}

impl End {
    /// The same in a sentence.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Slow => "messages came faster than they were read; subscribe again, to less",
            Self::Closing => "the host is shutting down",
            Self::Expired => "the token has expired",
            Self::Closed => "the bus is closed",
        }
    }
}

/// Answers with a stream of events.
pub(super) async fn subscribe(call: Call) -> Result<Response<Body>, Problem> {
    let subscription = open(call.door(), &call.access, &call.tail).await?;
    let (outbox, outlet) = outbox(call.door().limits.max_pending);
    let connection = Arc::clone(&call.connection);
    let (access, format) = (call.access.clone(), call.query.format);
    call.door().spawn(async move {
        if let Some(end) = pump(subscription, &connection, &access, format, &outbox).await {
            outbox.push_last(ending(end));
        }
    });
    let mut response = Response::new(Either::Right(outlet));
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Subscribes to a pattern, if the client may.
pub(super) async fn open(
    door: &Door,
    access: &Access,
    pattern: &str,
) -> Result<Subscription, Problem> {
    let pattern = Pattern::new(pattern).map_err(Problem::bad_request)?;
    if !access.may_subscribe(&pattern) {
        let detail = format!("`{}` may not subscribe to `{pattern}`", access.name());
        return Err(Problem::forbidden(detail));
    }
    let options = SubscribeOptions { capacity: CAPACITY, overflow: Overflow::Block };
    Ok(door.transport.subscribe(&pattern, options).await?)
}

/// Hands messages on until the stream ends; gives the reason, unless the client is gone.
async fn pump(
    mut subscription: Subscription,
    connection: &Connection,
    access: &Access,
    format: Format,
    outbox: &Outbox,
) -> Option<End> {
    let door = &connection.door;
    let mut expired = pin!(access.expired());
    let period = door.limits.ping_interval;
    let mut silence = interval_at(tokio::time::Instant::now() + period, period);
    silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let entry = tokio::select! {
            biased;
            () = outbox.closed() => return None,
            () = door.closing.cancelled() => return Some(End::Closing),
            () = &mut expired => return Some(End::Expired),
            received = subscription.next() => {
                let Some(received) = received else { return Some(End::Closed) };
                silence.reset();
                let Some(entry) = entry(access, format, &received) else { continue };
                entry
            }
            _ = silence.tick() => Bytes::from_static(b": still here\n\n"),
        };
        match outbox.push(entry) {
            Ok(()) => tokio::task::coop::consume_budget().await,
            Err(Refused::Slow) => return Some(End::Slow),
            Err(Refused::Gone) => return None,
        }
    }
}

/// A message as an event, if it may reach the client.
fn entry(access: &Access, format: Format, received: &Received) -> Option<Bytes> {
    let Received { topic, message } = received;
    if !access.may_receive(topic) {
        return None;
    }
    match text(format, topic, message) {
        Ok(data) => Some(event(Some(&message.id().to_string()), topic.as_str(), &data)),
        Err(error) => {
            tracing::debug!(%topic, %error, "a message could not be written as JSON");
            None
        }
    }
}

/// A message as it is written to a client.
pub(super) fn text(
    format: Format,
    topic: &Topic,
    message: &BaseMessage,
) -> Result<String, JsonError> {
    match format {
        Format::Message => serde_json::to_string(message),
        Format::CloudEvents => {
            let event = cloudevents::to_event(topic, message);
            serde_json::to_string(&event.map_err(serde::ser::Error::custom)?)
        }
    }
}

fn ending(end: End) -> Bytes {
    let data = serde_json::json!({ "reason": end, "detail": end.detail() });
    event(None, END, &data.to_string())
}

/// One event. Data of several lines, which JSON may have between its tokens, stands in as many lines.
fn event(id: Option<&str>, name: &str, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + name.len() + 80);
    let id = id.map(|id| ("id", id));
    let data = data.split(['\n', '\r']).map(|line| ("data", line));
    for (field, value) in id.into_iter().chain([("event", name)]).chain(data) {
        for part in [field, ": ", value, "\n"] {
            text.push_str(part);
        }
    }
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_an_id_a_name_and_its_data_line_by_line() {
        assert_eq!(event(Some("7"), "a.b", "{}"), "id: 7\nevent: a.b\ndata: {}\n\n");
        assert_eq!(event(None, "a", "{\n\r1}"), "event: a\ndata: {\ndata: \ndata: 1}\n\n");
        let end = String::from_utf8(ending(End::Slow).to_vec()).unwrap();
        assert!(end.starts_with("event: $end\ndata: {") && end.contains("\"slow\""), "{end}");
    }
}
