//! What a request shows of whoever sends it: `Authorization: Bearer`, `Authorization: Basic`, or a token in the
//! query.
//!
//! A token in the query is for what a browser opens without headers of its own, event streams and WebSockets, and
//! taken there alone. It goes into no log of the host's; no page that leads on can tell it, and no cache keeps
//! it (`Referrer-Policy`, `Cache-Control`).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::problem::Problem;
use crate::auth::{Access, Auth, Credentials};

/// What a request shows.
#[derive(Default)]
pub(super) struct Login {
    token: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

impl Login {
    /// Reads it from the headers, or takes the token of the query.
    pub(super) fn read(headers: &HeaderMap, in_query: Option<String>) -> Result<Self, Problem> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(Self { token: in_query, ..Self::default() });
        };
        header.to_str().ok().and_then(Self::from_header).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "the header `Authorization` is `Bearer TOKEN`, or `Basic` and user and password in Base64",
            )
        })
    }

    fn from_header(text: &str) -> Option<Self> {
        let (scheme, shown) = text.split_once(' ')?;
        let shown = shown.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self { token: Some(shown.to_owned()), ..Self::default() });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(shown).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self { token: None, user: Some(user.to_owned()), password: Some(password.to_owned()) })
    }

    /// Whether it shows anything at all.
    pub(super) fn is_empty(&self) -> bool {
        self.token.is_none() && self.user.is_none()
    }

    pub(super) async fn admit(&self, auth: &Auth) -> Result<Access, Problem> {
        let credentials = Credentials {
            token: self.token.as_deref(),
            user: self.user.as_deref(),
            password: self.password.as_deref(),
            jwt: None,
        };
        Ok(auth.admit(credentials).await?)
    }
}
