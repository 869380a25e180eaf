//! Keeps web pages out that a browser on this machine shows.
//!
//! A page may send requests to this machine, and one whose name was made to lead here (DNS rebinding) may read
//! the answers as well. So a request has to name an address, `localhost` or a configured name as its host, and
//! one that a browser sends has to come from a page that is configured. Programs send no `Origin` and are not
//! concerned.

use echo_core::config::GatewayConfig;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Response, StatusCode};

use super::body::{Body, full};
use super::problem::Problem;

/// What a browser says of where a request comes from, with requests that carry no `Origin` as well.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const ASK_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");

/// Which hosts requests may name, and which pages they may come from.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    origins: Vec<String>,
    hosts: Vec<String>,
}

impl Guard {
    /// Lets through what the configuration names.
    pub fn new(config: &GatewayConfig) -> Self {
        let hosts = config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase());
        Self { origins: config.allowed_origins.clone(), hosts: hosts.collect() }
    }

    /// Looks at a request; gives the page's origin when a page that is allowed sends it.
    pub(super) fn check(&self, parts: &Parts) -> Result<Option<HeaderValue>, Problem> {
        self.check_host(parts)?;
        let origin = only(&parts.headers, header::ORIGIN)?;
        let Some(origin) = origin else {
            return match parts.headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
                None | Some(b"none" | b"same-origin") => Ok(None),
                Some(_) => Err(Problem::forbidden(
                    "a web page sent this request without saying which; only pages of `gateway.allowed_origins` may",
                )),
            };
        };
        if self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
            return Ok(Some(origin.clone()));
        }
        let name = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        Err(Problem::forbidden(format!(
            "a web page of `{name}` sent this request; add it to `gateway.allowed_origins` if it may"
        )))
    }

    fn check_host(&self, parts: &Parts) -> Result<(), Problem> {
        let named = only(&parts.headers, header::HOST)?;
        let named = named.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let named = named.ok_or_else(|| {
            Problem::bad_request("the request names no host; send it with one header `Host`")
        })?;
        // A request to a proxy names its host twice.
        let both = [Some(&named), parts.uri.authority()];
        match both.into_iter().flatten().find(|host| !self.is_allowed(host.host())) {
            None => Ok(()),
            Some(host) => Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected",
                format!(
                    "this host does not go by the name `{}`; use its address, or add the name to `gateway.allowed_hosts`",
                    host.host()
                ),
            )),
        }
    }

    fn is_allowed(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name = |name: &str| host.eq_ignore_ascii_case(name);
        // An address is what it is: no page's name can be made to be one.
        bare.parse::<std::net::IpAddr>().is_ok()
            || is_name("localhost")
            || self.hosts.iter().any(|name| is_name(name))
    }
}

/// A header that may be there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Problem::bad_request(format!("the header `{name}` is there twice"))),
    }
}

/// Tells a browser that the page may read the answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Answers what a browser asks before it sends a page's request: which methods and headers it may have.
pub(super) fn preflight(parts: &Parts, methods: &[Method]) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
        headers.insert(header::ALLOW, methods.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    // What a page may send beside is up to the page: the host looks at each header itself.
    if let Some(wanted) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    if parts.headers.contains_key(ASK_PRIVATE) {
        headers.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use serde_json::json;

    fn guard() -> Guard {
        let config = json!({
            "allowed_origins": ["https://tools.example.org"], "allowed_hosts": ["Bus.Example.org"],
        });
        Guard::new(&serde_json::from_value(config).unwrap())
    }

    fn check(headers: &[(&str, &str)]) -> Result<bool, u16> {
        let request = headers
            .iter()
            .fold(Request::get("/healthz"), |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let checked = guard().check(&parts);
        checked.map(|origin| origin.is_some()).map_err(|p| p.into_response().status().as_u16())
    }

    #[test]
    fn a_host_goes_by_its_addresses_and_configured_names() {
        for host in ["127.0.0.1", "127.0.0.1:8222", "[::1]:8222", "localhost:1", "LOCALHOST"] {
            assert_eq!(check(&[("host", host)]), Ok(false), "{host}");
        }
        assert_eq!(check(&[("host", "bus.example.org:8222")]), Ok(false));
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "x@y"] {
            assert_eq!(check(&[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(check(&[]), Err(400));
        assert_eq!(check(&[("host", "localhost"), ("host", "evil.example")]), Err(400));
    }

    #[test]
    fn a_page_is_let_in_when_it_is_configured() {
        let from = |name: &str, value: &str| check(&[("host", "localhost"), (name, value)]);
        assert_eq!(from("origin", "https://tools.example.org"), Ok(true));
        for origin in ["null", "http://tools.example.org", "https://tools.example.org.evil", ""] {
            assert_eq!(from("origin", origin), Err(403), "{origin}");
        }
        assert_eq!(from("sec-fetch-site", "none"), Ok(false));
        assert_eq!(from("sec-fetch-site", "same-origin"), Ok(false));
        assert_eq!(from("sec-fetch-site", "cross-site"), Err(403));
        assert_eq!(from("sec-fetch-site", "same-site"), Err(403));
    }
}
