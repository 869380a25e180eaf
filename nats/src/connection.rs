//! One connection to the server, and what goes over it without waiting.
//!
//! The client under it reconnects by itself and takes its subscriptions along. What has to begin anew then
//! watches [`Connection::epoch`], which counts up each time.
//!
//! Settlements come from code that cannot wait. They go straight into the client's queue; while that is full
//! they wait for one task, [`run_posts`]. No more can wait than there are messages in hand, so it is bounded: each is
//! settled once, and its signs of life are not told to a server that is away.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, RequestErrorKind};
use async_nats::jetstream::{self, ErrorCode, response::Response};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, Subject};
use bytes::Bytes;
use futures_util::FutureExt;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::confirm::Confirms;
use crate::outgoing::{Outgoing, Way};
use crate::pending::Pending;
use crate::{Credentials, NatsError, NatsOptions};

/// How long the last bytes of a connection that nobody holds any more may take.
pub(crate) const PARTING: Duration = Duration::from_secs(5);

/// What is to be published, no matter when.
#[derive(Debug)]
pub(crate) struct Post {
    subject: Subject,
    payload: Bytes,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// JetStream, where the server has it.
    pub(crate) jetstream: Option<jetstream::Context>,
    /// What the streams have confirmed.
    pub(crate) confirms: Option<Confirms>,
    pub(crate) epoch: watch::Receiver<u64>,
    pub(crate) request_timeout: Duration,
    pub(crate) runtime: Handle,
    posts: mpsc::UnboundedSender<Post>,
    /// Posts that are not with the client yet, and confirmations that are awaited.
    pub(crate) unsettled: Arc<Pending>,
}

impl Connection {
    /// Connects and finds out what the server can do.
    pub(crate) async fn open(options: &NatsOptions) -> Result<Arc<Self>, NatsError> {
        let servers = addresses(&options.urls)?;
        let (count, epoch) = watch::channel(0);
        let connecting = settings(options, &servers).await?.event_callback(move |event| {
            tell(&event);
            if event == Event::Connected {
                count.send_modify(|count| *count += 1);
            }
            std::future::ready(())
        });
        let client = connecting.connect(servers).await;
        let client = client.map_err(|error| refused(error, options))?;
        let context = ContextBuilder::new().timeout(options.request_timeout).build(client.clone());
        let (mut jetstream, mut confirms) = (None, None);
        if has_jetstream(&context).await? {
            let timeout = options.request_timeout.min(options.publish_timeout);
            let outstanding = options.max_outstanding;
            let opened = Confirms::open(&client, epoch.clone(), outstanding, timeout).await;
            confirms =
                Some(opened.map_err(|error| NatsError::JetStream { reason: error.to_string() })?);
            jetstream = Some(context);
        }
        let (posts, queue) = mpsc::unbounded_channel();
        let unsettled = Arc::<Pending>::default();
        tokio::spawn(run_posts(client.clone(), queue, Arc::clone(&unsettled)));
        let (request_timeout, runtime) = (options.request_timeout, Handle::current());
        Ok(Arc::new(Self {
            client,
            jetstream,
            confirms,
            epoch,
            request_timeout,
            runtime,
            posts,
            unsettled,
        }))
    }

    /// Publishes a message on a topic that does not last.
    pub(crate) async fn publish(&self, outgoing: Outgoing) -> Result<(), async_nats::PublishError> {
        let headers = outgoing.headers();
        let Outgoing { subject, payload, way, .. } = outgoing;
        match way {
            Way::Core { reply: Some(reply) } => {
                let client = &self.client;
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
            _ => self.client.publish_with_headers(subject, headers, payload).await,
        }
    }

    /// Whether there is a server at the other end, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Publishes at once, or as soon as the client takes it.
    pub(crate) fn post(&self, subject: &Subject, payload: Bytes) {
        let publishing = self.client.publish(subject.clone(), payload.clone());
        // Only a full queue is to make it wait, not a task that has had its share of time.
        if tokio::task::unconstrained(publishing).now_or_never().is_none() {
            self.unsettled.begin();
            // It ends with the connection, and then there is nobody to tell.
            let _ = self.posts.send(Post { subject: subject.clone(), payload });
        }
    }

    /// Resolves once the server has read all that was sent before; says whether it has.
    pub(crate) async fn round_trip(&self) -> bool {
        let nobody = format!("_ECHO.nobody.{}", self.client.new_inbox());
        let timeout = Some(self.request_timeout);
        let request = async_nats::Request::new().payload(Bytes::new()).timeout(timeout);
        match self.client.send_request(nobody, request).await {
            Ok(_) => true,
            Err(error) => error.kind() == async_nats::RequestErrorKind::NoResponders,
        }
    }
}

impl Drop for Connection {
    /// What was sent last is on its way yet; the client would let it fall.
    fn drop(&mut self) {
        let client = self.client.clone();
        self.runtime.spawn(async move {
            let _ = tokio::time::timeout(PARTING, client.flush()).await;
        });
    }
}

/// Whether the server keeps streams for this host.
///
/// The answer is looked at no closer than that: servers of different versions say different things in it.
async fn has_jetstream(context: &jetstream::Context) -> Result<bool, NatsError> {
    let failed = |reason: String| NatsError::JetStream { reason };
    match context.request("INFO", &()).await {
        Ok(Response::<Value>::Ok(_)) => Ok(true),
        Ok(Response::Err { error }) => match error.error_code() {
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Ok(false)
            }
            _ => Err(failed(error.to_string())),
        },
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(false),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Publishes what found the client's queue full. Ends with the connection.
async fn run_posts(
    client: Client,
    mut queue: mpsc::UnboundedReceiver<Post>,
    unsettled: Arc<Pending>,
) {
    while let Some(Post { subject, payload }) = queue.recv().await {
        let published = client.publish(subject, payload).await;
        unsettled.end();
        if published.is_err() {
            return;
        }
    }
}

/// The addresses, each seen to be one.
fn addresses(urls: &[String]) -> Result<Vec<ServerAddr>, NatsError> {
    if urls.is_empty() {
        return Err(NatsError::Setting {
            key: "urls",
            value: "empty".to_owned(),
            rule: "name one server at least",
        });
    }
    let parsed = |url: &String| {
        let parsed = url.parse::<ServerAddr>();
        parsed.map_err(|_| NatsError::Address { url: without_secrets(url) })
    };
    urls.iter().map(parsed).collect()
}

/// An address without the user, password or token in it.
fn without_secrets(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => url.to_owned(),
    }
}

/// What stands before the `@` of the first address that has it: a user with a password, or a token.
fn in_address(servers: &[ServerAddr]) -> Credentials {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let found = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match found {
        None => Credentials::None,
        Some((token, None)) => Credentials::Token(decoded(token)),
        Some((user, Some(password))) => {
            Credentials::Password { user: decoded(user), password: decoded(password) }
        }
    }
}

async fn settings(
    options: &NatsOptions,
    servers: &[ServerAddr],
) -> Result<ConnectOptions, NatsError> {
    let mut settings = ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.request_timeout))
        .subscription_capacity(options.backlog.max(1))
        .retain_servers_order();
    let credentials = match options.credentials.clone() {
        Credentials::None => in_address(servers),
        given => given,
    };
    settings = match credentials {
        Credentials::None => settings,
        Credentials::Password { user, password } => settings.user_and_password(user, password),
        Credentials::Token(token) => settings.token(token),
        Credentials::NKey(seed) => settings.nkey(seed),
        Credentials::File(path) => settings
            .credentials_file(&path)
            .await
            .map_err(|source| NatsError::CredentialsFile { path, source })?,
    };
    if let Some(ca) = &options.tls.ca {
        settings = settings.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &options.tls.identity {
        settings = settings.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(settings.require_tls(options.tls.required))
}

/// Why there is no connection, as a person can act on it.
fn refused(error: async_nats::ConnectError, options: &NatsOptions) -> NatsError {
    let urls: Vec<String> = options.urls.iter().map(|url| without_secrets(url)).collect();
    let urls = urls.join(", ");
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            let credentials = match options.credentials {
                Credentials::None => "address, which shows no credentials or wrong ones",
                Credentials::Password { .. } => "user and password",
                Credentials::Token(_) => "token",
                Credentials::NKey(_) => "NKey",
                Credentials::File(_) => "credentials file",
            };
            NatsError::Refused { urls, credentials }
        }
        ConnectErrorKind::Tls => NatsError::Tls { urls, source: error },
        _ if is_about_certificates(&error) => NatsError::Tls { urls, source: error },
        _ => NatsError::Unreachable { urls, source: error },
    }
}

/// Whether the connection came about and what was said over it was not what encryption is: a certificate that nobody
/// here trusts, above all.
fn is_about_certificates(error: &async_nats::ConnectError) -> bool {
    let source = std::error::Error::source(error);
    let broken = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    broken.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
}

/// Tells whoever reads the log how the connection is.
fn tell(event: &Event) {
    match event {
        Event::Disconnected => tracing::warn!("the connection to the NATS server is lost"),
        Event::Connected => tracing::info!("connected to the NATS server"),
        Event::LameDuckMode => tracing::warn!("the NATS server is about to end"),
        Event::SlowConsumer(_) => {
            tracing::error!("messages came faster than they could be taken; some were dropped");
        }
        Event::ServerError(error) => tracing::error!(%error, "the NATS server reports an error"),
        Event::ClientError(error) => tracing::warn!(%error, "the NATS connection has an error"),
        Event::Draining | Event::Closed => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_what_is_secret() {
        for (url, shown) in [
            ("nats://me:secret@host:4222", "nats://host:4222"),
            ("token@host", "host"),
            ("nats://host", "nats://host"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
        let error = addresses(&["http://a:b@c".to_owned()]).unwrap_err();
        assert!(error.to_string().starts_with("`http://c` is no address"), "{error}");
        assert!(addresses(&[]).is_err());
    }
}
