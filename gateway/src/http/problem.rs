//! What a client is told when something is not done: problem details after RFC 9457, with one sentence.

use echo_bus::BusError;
use echo_sdk::{PublishError, RequestError};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::{Body, full};
use crate::auth::AuthError;
use crate::limits::LimitError;

/// Why something is not done.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// What kind of problem it is, for programs: `urn:echo-core:problem:<kind>`.
    #[serde(rename = "type", serialize_with = "as_urn")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// What went wrong and the way out: one sentence.
    detail: String,
    #[serde(skip)]
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

fn as_urn<S: serde::Serializer>(kind: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:echo-core:problem:{kind}"))
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, detail: impl ToString) -> Self {
        let title = status.canonical_reason().unwrap_or("Problem");
        Self { kind, title, status, detail: detail.to_string(), header: None }
    }

    /// The client asks for what does not make sense.
    pub(super) fn bad_request(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// The client may not do that.
    pub(super) fn forbidden(detail: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// The client may do it later.
    pub(super) fn unavailable(kind: &'static str, detail: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail)
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// The same with one more header of the answer.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// The answer that tells it.
    pub(super) fn into_response(self) -> Response<Body> {
        // Strings and a number always serialise.
        let text = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(full(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.header.map(|header| *header) {
            headers.insert(name, value);
        }
        response
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Busy => Self::unavailable("busy", error),
            error => Self::new(StatusCode::UNAUTHORIZED, "unauthorized", error)
                .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"echo-core\"")),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Full { .. } => Self::unavailable("full", error),
            PublishError::Closed => Self::unavailable("closed", error),
            PublishError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", error)
            }
            PublishError::Refused(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", error)
            }
            PublishError::Transport(_) => Self::new(StatusCode::BAD_GATEWAY, "transport", error),
            error => Self::bad_request(error),
        }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoResponders { .. } => Self::unavailable("no-responders", error),
            RequestError::TimedOut { .. } => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "timed-out", error)
            }
            RequestError::Publish(error) => error.into(),
            error => Self::new(StatusCode::BAD_GATEWAY, "transport", error),
        }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Topic(error) => Self::bad_request(error),
            error => Self::unavailable("closed", error),
        }
    }
}

impl From<LimitError> for Problem {
    fn from(limit: LimitError) -> Self {
        let too_many = |detail| Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", detail);
        match limit {
            LimitError::Rate => too_many(
                "this connection publishes faster than `gateway.limits.max_rate` lets it; wait a moment",
            )
            .with(RETRY_AFTER, HeaderValue::from_static("1")),
            LimitError::Subscriptions => too_many(
                "this connection has as many subscriptions as `gateway.limits.max_subscriptions` lets it; end some",
            ),
            LimitError::Payload => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "the body is larger than `gateway.limits.max_payload` lets it be",
            ),
            other => Self::unavailable("limit", other),
        }
    }
}
