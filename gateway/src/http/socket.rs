//! `GET /v1/ws`: everything over one WebSocket. What is said, `frames` lists.
//!
//! One task reads frames and acts on them, and writes at the same time what waits in the outbox. A publish is
//! waited for, so a client that publishes faster than there is room is slowed down by it. Each subscription, and each
//! request that waits for its answer, is a task of a set that ends with the connection; subscriptions and requests
//! are bounded in number, what waits for the client in bytes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use echo_sdk::{Subscription, Topic};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, Utf8Bytes};

use super::body::{Body, full};
use super::door::{Connection, Door};
use super::events::{self, End};
use super::frames::{self, Ask, Op};
use super::outbox::{Outbox, Outlet, Refused, outbox};
use super::problem::Problem;
use super::query::{self, DEFAULT_TIMEOUT, Format};
use super::routes::Call;
use super::{incoming, publish};
use crate::auth::{Access, Responses};
use crate::limits::LimitError;

/// How many requests of a connection may wait for their answers.
const MAX_REQUESTS: usize = 1_024;

/// What a frame may have beside its data, in bytes.
const FRAME_OVERHEAD: usize = 64 * 1024;

/// How long a client may take to read what is left for it when the host ends the connection.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers with a change of protocols, after which the WebSocket is served by a task of its own.
pub(super) fn open(call: Call) -> Result<Response<Body>, Problem> {
    let accept = handshake(&call.parts)?;
    let Call { connection, access, parts, .. } = call;
    let upgrade = hyper::upgrade::on(Request::from_parts(parts, ()));
    let door = Arc::clone(&connection.door);
    door.spawn(run(upgrade, connection, access));
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn handshake(parts: &Parts) -> Result<HeaderValue, Problem> {
    let has = |name: header::HeaderName, word: &str| {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
    let accept = key.map(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())));
    match accept {
        Some(Ok(accept))
            if has(header::CONNECTION, "upgrade")
                && has(header::UPGRADE, "websocket")
                && has(header::SEC_WEBSOCKET_VERSION, "13") =>
        {
            Ok(accept)
        }
        _ => Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade",
            "this address speaks WebSocket 13; open it with a WebSocket client",
        )
        .with(header::UPGRADE, HeaderValue::from_static("websocket"))),
    }
}

async fn run(upgrade: OnUpgrade, connection: Arc<Connection>, access: Access) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a WebSocket was not opened"),
    };
    let limits = &connection.door.limits;
    let largest = limits.max_payload.saturating_add(FRAME_OVERHEAD);
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest));
    let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let (outbox, outlet) = outbox(limits.max_pending);
    let mut writing = pin!(write(sink, outlet, limits.ping_interval));
    let session = Session::new(Arc::clone(&connection), access, outbox);
    let close = tokio::select! {
        _ = &mut writing => return,
        close = session.serve(stream) => close,
    };
    // What is left is written, the last word included; a client that does not read it is gone.
    let ending = async {
        if let Some(mut sink) = writing.await {
            let _ = sink.send(Message::Close(Some(close))).await;
        }
    };
    let _ = tokio::time::timeout(CLOSE_PATIENCE, ending).await;
}

/// Writes what waits, and asks now and then whether the client is still there, until nothing more can come; gives
/// the socket back, unless the client is gone.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut outlet: Outlet,
    period: Duration,
) -> Option<SplitSink<Socket, Message>> {
    loop {
        let message = match tokio::time::timeout(period, outlet.next()).await {
            Ok(None) => return Some(sink),
            Ok(Some(bytes)) => match Utf8Bytes::try_from(bytes) {
                Ok(text) => Message::Text(text),
                Err(_) => continue,
            },
            Err(_) => Message::Ping(Bytes::new()),
        };
        sink.send(message).await.ok()?;
    }
}

/// What the tasks of one connection share.
struct Shared {
    connection: Arc<Connection>,
    access: Access,
    responses: Mutex<Responses>,
}

impl Shared {
    fn door(&self) -> &Door {
        &self.connection.door
    }
}

/// One client.
struct Session {
    shared: Arc<Shared>,
    outbox: Outbox,
    subscriptions: HashMap<String, AbortHandle>,
    /// Subscriptions, each of which gives the reason for which all have to end.
    pumps: JoinSet<Option<End>>,
    requests: JoinSet<()>,
}

impl Session {
    fn new(connection: Arc<Connection>, access: Access, outbox: Outbox) -> Self {
        let shared = Shared { connection, access, responses: Mutex::default() };
        Self {
            shared: Arc::new(shared),
            outbox,
            subscriptions: HashMap::new(),
            pumps: JoinSet::new(),
            requests: JoinSet::new(),
        }
    }

    /// Serves the client until one side ends it; gives the word for the end.
    async fn serve(mut self, mut stream: SplitStream<Socket>) -> CloseFrame {
        let shared = Arc::clone(&self.shared);
        // Two questions, and the time to answer the second.
        let silence = shared.door().limits.ping_interval.saturating_mul(3);
        let mut expired = pin!(shared.access.expired());
        let end = loop {
            tokio::select! {
                biased;
                () = shared.door().closing.cancelled() => break End::Closing,
                () = &mut expired => break End::Expired,
                Some(ended) = self.pumps.join_next() => {
                    if let Ok(Some(end)) = ended {
                        break end;
                    }
                }
                Some(_) = self.requests.join_next() => {}
                read = tokio::time::timeout(silence, stream.next()) => match read {
                    Ok(Some(Ok(message))) => match self.take(message).await {
                        Ok(()) => {}
                        Err(Stop::Said(close)) => return close,
                        Err(Stop::Slow) => break End::Slow,
                    },
                    Ok(Some(Err(SocketError::Capacity(error)))) => {
                        return close(CloseCode::Size, &error.to_string());
                    }
                    _ => return close(CloseCode::Away, "the client is gone"),
                },
            }
        };
        // Those that fill the outbox go first, so that the last word is the last.
        self.pumps.shutdown().await;
        self.requests.shutdown().await;
        self.outbox.push_last(frames::end(end));
        let code = match end {
            End::Slow | End::Expired => CloseCode::Policy,
            End::Closing | End::Closed => CloseCode::Away,
        };
        close(code, end.detail())
    }

    async fn take(&mut self, message: Message) -> Result<(), Stop> {
        match message {
            Message::Text(text) => self.act(text.as_str()).await,
            Message::Binary(_) => {
                Err(Stop::Said(close(CloseCode::Unsupported, "frames are text: JSON")))
            }
            Message::Close(_) => Err(Stop::Said(close(CloseCode::Normal, ""))),
            // The library answers pings itself.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    async fn act(&mut self, text: &str) -> Result<(), Stop> {
        let ask: Ask<'_> = match serde_json::from_str(text) {
            Ok(ask) => ask,
            Err(error) => {
                let problem = Problem::bad_request(format!("the frame cannot be read: {error}"));
                return self.say(frames::error(None, &problem));
            }
        };
        let acted = match ask.op {
            Op::Publish => self.publish(&ask).await,
            Op::Subscribe => match self.subscribe(&ask).await {
                Ok((id, subscription)) => {
                    // The word that it is done goes before its messages.
                    self.say(frames::done(&id))?;
                    self.start(id, subscription, ask.format);
                    return Ok(());
                }
                Err(problem) => Err(problem),
            },
            Op::Unsubscribe => self.unsubscribe(&ask),
            // The answer is the word that it is done.
            Op::Request => match self.request(&ask) {
                Ok(()) => return Ok(()),
                Err(problem) => Err(problem),
            },
        };
        match (acted, ask.id.as_deref()) {
            (Err(problem), id) => self.say(frames::error(id, &problem)),
            (Ok(()), Some(id)) => self.say(frames::done(id)),
            (Ok(()), None) => Ok(()),
        }
    }

    fn say(&self, frame: Bytes) -> Result<(), Stop> {
        match self.outbox.push(frame) {
            Ok(()) => Ok(()),
            Err(Refused::Slow) => Err(Stop::Slow),
            Err(Refused::Gone) => Err(Stop::Said(close(CloseCode::Away, ""))),
        }
    }

    async fn publish(&self, ask: &Ask<'_>) -> Result<(), Problem> {
        let Shared { connection, access, responses } = &*self.shared;
        let topic = Ask::need("topic", ask.topic.as_deref())?;
        let topic = Topic::new(topic).map_err(Problem::bad_request)?;
        connection.count()?;
        let message = incoming::from_json(access, &topic, ask.format, ask.json())?;
        if !responses.lock().may_publish(access, &topic) {
            return Err(publish::refused(access, &topic));
        }
        publish::deliver(&*connection.door.transport, &topic, message).await
    }

    async fn subscribe(&self, ask: &Ask<'_>) -> Result<(String, Subscription), Problem> {
        let id = Ask::need("id", ask.id.as_deref())?;
        let pattern = Ask::need("pattern", ask.pattern.as_deref())?;
        if self.subscriptions.contains_key(id) {
            let fault = format!("there is a subscription `{id}` already; give this one another id");
            return Err(Problem::bad_request(fault));
        }
        if self.subscriptions.len() >= self.shared.door().limits.max_subscriptions {
            return Err(LimitError::Subscriptions.into());
        }
        let subscription = events::open(self.shared.door(), &self.shared.access, pattern).await?;
        Ok((id.to_owned(), subscription))
    }

    fn start(&mut self, id: String, subscription: Subscription, format: Format) {
        let (shared, outbox) = (Arc::clone(&self.shared), self.outbox.clone());
        let task = pump(subscription, shared, outbox, id.clone(), format);
        self.subscriptions.insert(id, self.pumps.spawn(task));
    }

    fn unsubscribe(&mut self, ask: &Ask<'_>) -> Result<(), Problem> {
        let id = Ask::need("id", ask.id.as_deref())?;
        let found = self.subscriptions.remove(id);
        let task = found.ok_or_else(|| {
            Problem::bad_request(format!("there is no subscription `{id}` on this connection"))
        })?;
        task.abort();
        Ok(())
    }

    /// Begins a request; its answer comes as a frame of its own.
    fn request(&mut self, ask: &Ask<'_>) -> Result<(), Problem> {
        let id = Ask::need("id", ask.id.as_deref())?.to_owned();
        let access = &self.shared.access;
        let topic = publish::topic(access, Ask::need("topic", ask.topic.as_deref())?)?;
        let timeout = ask.timeout.as_deref().map_or(Ok(DEFAULT_TIMEOUT), query::timeout)?;
        if self.requests.len() >= MAX_REQUESTS {
            let detail = format!("{MAX_REQUESTS} requests of this connection wait already");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", detail));
        }
        self.shared.connection.count()?;
        let message = incoming::from_json(access, &topic, ask.format, ask.json())?;
        let (shared, outbox, format) = (Arc::clone(&self.shared), self.outbox.clone(), ask.format);
        self.requests.spawn(async move {
            let answer = shared.door().transport.request(&topic, message, timeout).await;
            let frame = answer.map_err(Problem::from).and_then(|answer| {
                let frame = frames::answer(&id, format, &topic, &answer);
                frame.map_err(|error| {
                    Problem::bad_request(format!("the answer is no JSON: {error}"))
                })
            });
            let frame = frame.unwrap_or_else(|problem| frames::error(Some(&id), &problem));
            // A client that is too slow for answers as well finds out with its next message.
            let _ = outbox.push(frame);
        });
        Ok(())
    }
}

/// Why reading stops.
enum Stop {
    /// There is nothing more to say but this.
    Said(CloseFrame),
    /// The client does not read.
    Slow,
}

fn close(code: CloseCode, reason: &str) -> CloseFrame {
    // A close frame has room for 123 bytes.
    let end = reason.floor_char_boundary(123);
    CloseFrame { code, reason: reason.get(..end).unwrap_or_default().into() }
}

/// Hands the messages of one subscription on; gives the reason for which the connection has to end.
async fn pump(
    mut subscription: Subscription,
    shared: Arc<Shared>,
    outbox: Outbox,
    id: String,
    format: Format,
) -> Option<End> {
    while let Some(received) = subscription.next().await {
        if !shared.access.may_receive(&received.topic) {
            continue;
        }
        if let Some(reply) = received.message.reply_to() {
            shared.responses.lock().note(&shared.access, &reply);
        }
        match frames::message(&id, format, &received.topic, &received.message) {
            Ok(frame) => match outbox.push(frame) {
                Ok(()) => tokio::task::coop::consume_budget().await,
                Err(Refused::Slow) => return Some(End::Slow),
                Err(Refused::Gone) => return None,
            },
            Err(error) => tracing::debug!(%error, "a message could not be written as JSON"),
        }
    }
    Some(End::Closed)
}
