//! What comes in with a request, and what goes out with an answer.

use std::time::Duration;

use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::outbox::Outlet;
use super::problem::Problem;
use crate::limits::LimitError;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// The body of an answer: whole, or one that grows.
pub(super) type Body = Either<Full<Bytes>, Outlet>;

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}

/// An answer of this type.
pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer in JSON.
pub(super) fn json(
    status: StatusCode,
    content_type: &'static str,
    value: &impl Serialize,
) -> Result<Response<Body>, Problem> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        let detail = format!("the answer cannot be written as JSON: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })?;
    Ok(answer(status, content_type, bytes))
}

/// Reads a body whole, up to so many bytes.
pub(super) async fn read(body: Incoming, max: usize) -> Result<Bytes, Problem> {
    // Refused by its length before any of it is read, where it says so.
    if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
        return Err(LimitError::Payload.into());
    }
    match tokio::time::timeout(PATIENCE, Limited::new(body, max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(LimitError::Payload.into()),
        Ok(Err(error)) => Err(Problem::bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "timed-out",
            "the body did not arrive within 30 seconds",
        )),
    }
}
