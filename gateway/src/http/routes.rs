//! From a request to what it does.

use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::body::{self, Body};
use super::door::{Connection, Door};
use super::login::Login;
use super::problem::Problem;
use super::query::Query;
use super::{events, guard, host, publish, socket};
use crate::auth::Access;

/// The document of all routes, held to [`ROUTES`] by a test.
const OPENAPI: &str = include_str!("openapi.json");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Publish,
    Request,
    Subscribe,
    Socket,
    Topics,
    Plugins,
    Metrics,
    Health,
    OpenApi,
}

impl Action {
    /// Whether everybody may have it.
    fn is_public(self) -> bool {
        matches!(self, Self::Health | Self::OpenApi)
    }
}

/// One thing that can be asked for.
struct Route {
    method: Method,
    /// What stands in braces at the end is the rest of the path.
    path: &'static str,
    /// The keys that may stand behind the `?`.
    query: &'static [&'static str],
    action: Action,
}

const fn get(path: &'static str, query: &'static [&'static str], action: Action) -> Route {
    Route { method: Method::GET, path, query, action }
}

const fn post(path: &'static str, query: &'static [&'static str], action: Action) -> Route {
    Route { method: Method::POST, path, query, action }
}

static ROUTES: [Route; 9] = [
    post("/v1/publish/{topic}", &[], Action::Publish),
    post("/v1/request/{topic}", &["timeout", "format"], Action::Request),
    get("/v1/subscribe/{pattern}", &["format", "token"], Action::Subscribe),
    get("/v1/ws", &["token"], Action::Socket),
    get("/v1/topics", &[], Action::Topics),
    get("/v1/plugins", &[], Action::Plugins),
    get("/metrics", &[], Action::Metrics),
    get("/healthz", &[], Action::Health),
    get("/openapi.json", &[], Action::OpenApi),
];

impl Route {
    /// The rest of a path that this route is for, decoded.
    fn tail(&self, path: &str) -> Option<String> {
        let Some((head, _)) = self.path.split_once('{') else {
            return (path == self.path).then(String::new);
        };
        let tail = path.strip_prefix(head).filter(|tail| !tail.is_empty())?;
        Some(percent_decode_str(tail).decode_utf8_lossy().into_owned())
    }
}

/// A request that somebody may make.
pub(super) struct Call {
    pub(super) connection: Arc<Connection>,
    pub(super) access: Access,
    /// Whether the client showed who it is, where it need not have.
    pub(super) is_known: bool,
    pub(super) parts: Parts,
    body: parking_lot::Mutex<Option<Incoming>>,
    /// The rest of the path: a topic or a pattern.
    pub(super) tail: String,
    pub(super) query: Query,
}

impl Call {
    pub(super) fn door(&self) -> &Arc<Door> {
        &self.connection.door
    }

    /// Counts a message that is to be published.
    pub(super) fn count(&self) -> Result<(), Problem> {
        Ok(self.connection.count()?)
    }

    /// Reads the body, which is there once.
    pub(super) async fn read_body(&self) -> Result<Bytes, Problem> {
        let body = self.body.lock().take();
        match body {
            Some(body) => body::read(body, self.door().limits.max_payload).await,
            None => Ok(Bytes::new()),
        }
    }
}

/// Answers a request.
pub(super) async fn answer(
    request: Request<Incoming>,
    connection: Arc<Connection>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (origin, answered) = match connection.door.guard.check(&parts) {
        Ok(origin) => (origin, dispatch(parts, body, connection).await),
        Err(problem) => (None, Err(problem)),
    };
    let mut response = answered.unwrap_or_else(Problem::into_response);
    let headers = response.headers_mut();
    let fixed = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    headers.extend([
        fixed(header::CACHE_CONTROL, "no-store"),
        fixed(header::REFERRER_POLICY, "no-referrer"),
        fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ]);
    if let Some(origin) = origin {
        guard::allow(headers, origin);
    }
    response
}

async fn dispatch(
    parts: Parts,
    body: Incoming,
    connection: Arc<Connection>,
) -> Result<Response<Body>, Problem> {
    let found = ROUTES.iter().filter_map(|route| Some((route, route.tail(parts.uri.path())?)));
    let found: Vec<(&Route, String)> = found.collect();
    let methods: Vec<Method> = found.iter().map(|(route, _)| route.method.clone()).collect();
    if parts.method == Method::OPTIONS && !found.is_empty() {
        return Ok(guard::preflight(&parts, &methods));
    }
    let wanted = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let is_asked = |(route, _): &(&Route, String)| route.method == *wanted;
    let Some((route, tail)) = found.into_iter().find(is_asked) else {
        return Err(no_route(&parts, &methods));
    };
    let query = Query::read(parts.uri.query(), route.query)?;
    let login = Login::read(&parts.headers, query.token.clone())?;
    let (access, is_known) = if route.action.is_public() && login.is_empty() {
        (Access::nobody(), false)
    } else {
        (login.admit(&connection.door.auth).await?, true)
    };
    let body = parking_lot::Mutex::new(Some(body));
    perform(route.action, Call { connection, access, is_known, parts, body, tail, query }).await
}

async fn perform(action: Action, call: Call) -> Result<Response<Body>, Problem> {
    match action {
        Action::Publish => publish::publish(call).await,
        Action::Request => publish::request(call).await,
        Action::Subscribe => events::subscribe(call).await,
        Action::Socket => socket::open(call),
        Action::Topics => publish::topics(call).await,
        Action::Plugins => host::plugins(call).await,
        Action::Metrics => host::metrics(&call),
        Action::Health => host::health(call).await,
        Action::OpenApi => Ok(body::answer(StatusCode::OK, "application/json", OPENAPI)),
    }
}

fn no_route(parts: &Parts, methods: &[Method]) -> Problem {
    let path = parts.uri.path();
    if methods.is_empty() {
        let detail = format!("there is nothing at `{path}`; /openapi.json says what there is");
        return Problem::new(StatusCode::NOT_FOUND, "not-found", detail);
    }
    let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    let detail = format!("`{path}` is asked for with {allowed}, not with {}", parts.method);
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail);
    match HeaderValue::from_str(&allowed) {
        Ok(allowed) => problem.with(header::ALLOW, allowed),
        Err(_) => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_lists_the_routes_and_no_other() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut listed = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let empty = Vec::new();
                let parameters = operation["parameters"].as_array().unwrap_or(&empty);
                let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
                let query: BTreeSet<_> =
                    query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
                let is_public =
                    operation["security"] == serde_json::json!([{}, {"bearer": []}, {"basic": []}]);
                listed.insert((method.to_uppercase(), path.clone(), query, is_public));
            }
        }
        let routed = ROUTES.iter().map(|route| {
            let query = route.query.iter().map(|key| (*key).to_owned()).collect();
            (route.method.to_string(), route.path.to_owned(), query, route.action.is_public())
        });
        assert_eq!(listed, routed.collect());
    }

    #[test]
    fn the_rest_of_a_path_is_decoded() {
        let route = &ROUTES[2];
        assert_eq!(route.tail("/v1/subscribe/test.%3E").as_deref(), Some("test.>"));
        assert_eq!(route.tail("/v1/subscribe/a/b").as_deref(), Some("a/b"));
        assert_eq!(route.tail("/v1/subscribe/"), None);
        assert_eq!(route.tail("/v1/subscribe"), None);
        assert_eq!(ROUTES[3].tail("/v1/ws/more"), None);
    }
}
