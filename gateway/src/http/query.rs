//! What stands behind the `?` of an address.

use std::time::Duration;

use echo_sdk::duration;
use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// How long a request may wait for its answer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// How long it waits when it does not say.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How messages are written to a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// As whole messages.
    #[default]
    Message,
    /// As CloudEvents in JSON.
    CloudEvents,
}

/// The keys and values of a query.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) token: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) format: Format,
}

impl Query {
    /// Reads a query in which only these keys may stand.
    pub(super) fn read(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| {
                Problem::bad_request(format!("the value of `{key}` in the address is no UTF-8"))
            })?;
            if seen.contains(&key) {
                let fault = format!("`{key}` stands twice in the address; leave one out");
                return Err(Problem::bad_request(fault));
            }
            seen.push(key);
            match key {
                _ if !known.contains(&key) => return Err(unknown(key, known)),
                "token" => query.token = Some(value.into_owned()),
                "timeout" => query.timeout = Some(timeout(&value)?),
                "format" => query.format = format(&value)?,
                _ => return Err(unknown(key, known)),
            }
        }
        Ok(query)
    }
}

/// Reads how long a request may wait.
pub(super) fn timeout(text: &str) -> Result<Duration, Problem> {
    let timeout = duration::parse(text).map_err(Problem::bad_request)?;
    if timeout > LONGEST_TIMEOUT {
        let most = duration::format(LONGEST_TIMEOUT);
        let fault =
            format!("a timeout of {text} is longer than a request may wait; the most is {most}");
        return Err(Problem::bad_request(fault));
    }
    Ok(timeout)
}

fn format(text: &str) -> Result<Format, Problem> {
    match text {
        "message" => Ok(Format::Message),
        "cloudevents" => Ok(Format::CloudEvents),
        other => Err(Problem::bad_request(format!(
            "`{other}` is no format of messages; take `message` or `cloudevents`"
        ))),
    }
}

fn unknown(key: &str, known: &[&str]) -> Problem {
    if key == "token" {
        return Problem::bad_request(
            "a token is taken in the address for event streams and WebSockets alone; send it as `Authorization: Bearer TOKEN`",
        );
    }
    let known = match known {
        [] => "it has none".to_owned(),
        known => format!("it has `{}`", known.join("`, `")),
    };
    Problem::bad_request(format!("the address has no key `{key}`; {known}"))
}
