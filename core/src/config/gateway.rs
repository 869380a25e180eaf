//! The doors of a host: where it listens, and who may do what through them.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use echo_sdk::{Pattern, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::size;

/// The shortest token that a file may name: what is shorter can be guessed.
const MIN_TOKEN_LEN: usize = 16;

/// The doors of a host, and who may do what through them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Where NATS clients connect, or "off".
    pub nats: Door,
    /// Where HTTP clients connect, or "off".
    pub http: Door,
    /// Whether everybody who reaches the doors is let in, without a token, to do everything.
    pub open: bool,
    /// Users that log in with a password.
    pub users: Vec<UserConfig>,
    /// Tokens beside the one that the host makes for itself.
    pub tokens: Vec<TokenConfig>,
    /// Signed tokens (JWT) that somebody else gives out.
    pub jwt: Option<JwtConfig>,
    /// Encryption of both doors; without it they speak in the clear.
    pub tls: Option<TlsConfig>,
    /// The web pages whose scripts may speak HTTP to the host, such as `https://tools.example.org`.
    pub allowed_origins: Vec<String>,
    /// The names beside its addresses under which HTTP clients reach the host, such as `bus.example.org`.
    pub allowed_hosts: Vec<String>,
    /// Where the host keeps its token, says that it runs, and remembers which library it is loading; without it,
    /// `$XDG_STATE_HOME/echo-core` or `~/.local/state/echo-core`.
    pub state_dir: Option<PathBuf>,
    /// What one client may take of the host.
    pub limits: GatewayLimits,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        let local = |port| Door::On(SocketAddr::from(([127, 0, 0, 1], port)));
        Self {
            nats: local(4222),
            http: local(8222),
            open: false,
            users: Vec::new(),
            tokens: Vec::new(),
            jwt: None,
            tls: None,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            state_dir: None,
            limits: GatewayLimits::default(),
        }
    }
}

/// The folder of a host's state: the configured one, or `$XDG_STATE_HOME/echo-core`, or
/// `~/.local/state/echo-core`; none where none of them is known.
pub fn state_dir(configured: Option<&Path>) -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    configured
        .map(Path::to_owned)
        .or_else(|| variable("XDG_STATE_HOME").map(|home| home.join("echo-core")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/echo-core")))
}

/// Where one protocol is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Nowhere.
    Off,
    /// At this address; port 0 takes one that is free.
    On(SocketAddr),
}

impl Door {
    /// The address, unless the door is off.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::On(address) => Some(address),
        }
    }
}

impl Serialize for Door {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::On(address) => serializer.collect_str(address),
        }
    }
}

impl<'de> Deserialize<'de> for Door {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::On).map_err(|_| {
            let way_out = "write an IP address and a port, such as \"127.0.0.1:4222\", or \"off\"";
            de::Error::custom(format!("`{text}` cannot be listened on; {way_out}"))
        })
    }
}

impl JsonSchema for Door {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Door".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["127.0.0.1:4222", "off"] })
    }
}

/// A text that logs and error messages must not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Which topics are allowed: those that `allow` selects and `deny` does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicRules {
    /// The patterns that are allowed; without the key all are, with an empty list none.
    pub allow: Option<Vec<Pattern>>,
    /// The patterns that are not, whatever is allowed.
    pub deny: Vec<Pattern>,
}

/// What a client may publish and subscribe to; what is left out is not restricted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Permissions {
    /// What it may publish.
    pub publish: TopicRules,
    /// What it may subscribe to.
    pub subscribe: TopicRules,
    /// Whether it may answer requests that reach it, whatever it may publish besides: once each, within two
    /// minutes.
    pub allow_responses: bool,
}

/// A user that logs in with a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The user's name.
    pub user: String,
    /// The password's argon2 hash in PHC form, `$argon2id$v=19$…`; never the password itself.
    pub password: Secret,
    /// What the user may publish.
    #[serde(default)]
    pub publish: TopicRules,
    /// What the user may subscribe to.
    #[serde(default)]
    pub subscribe: TopicRules,
    /// Whether the user may answer requests, whatever it may publish besides.
    #[serde(default)]
    pub allow_responses: bool,
}

impl UserConfig {
    /// What the user may do.
    pub fn permissions(&self) -> Permissions {
        permissions(&self.publish, &self.subscribe, self.allow_responses)
    }
}

/// A token that lets a client in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// What the token's holder is called in logs and as the source of its messages.
    pub name: String,
    /// The token, of at least 16 characters.
    pub token: Secret,
    /// What its holder may publish.
    #[serde(default)]
    pub publish: TopicRules,
    /// What its holder may subscribe to.
    #[serde(default)]
    pub subscribe: TopicRules,
    /// Whether its holder may answer requests, whatever it may publish besides.
    #[serde(default)]
    pub allow_responses: bool,
}

impl TokenConfig {
    /// What the token's holder may do.
    pub fn permissions(&self) -> Permissions {
        permissions(&self.publish, &self.subscribe, self.allow_responses)
    }
}

fn permissions(publish: &TopicRules, subscribe: &TopicRules, allow_responses: bool) -> Permissions {
    Permissions { publish: publish.clone(), subscribe: subscribe.clone(), allow_responses }
}

/// How a JWT is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: the key is a secret that both sides know.
    HS256,
    /// RSA with SHA-256: the key is a public key in PEM form.
    RS256,
    /// Ed25519: the key is a public key in PEM form.
    EdDSA,
}

/// The signed tokens that are taken: each with `sub`, `exp` and the audience that is set here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// How they are signed; a token that is signed in another way is refused.
    pub algorithm: JwtAlgorithm,
    /// The file with the key, seen from the working folder.
    pub key_file: PathBuf,
    /// Whom they have to be meant for (`aud`).
    pub audience: String,
    /// Who has to have given them out (`iss`); without it, anybody with the key.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What one may do that has no claim `permissions` of its own; without it such a token is refused.
    #[serde(default)]
    pub permissions: Option<Permissions>,
}

/// Encryption of the doors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The host's certificate and those that vouch for it, in PEM form.
    pub cert: PathBuf,
    /// The certificate's private key, in PEM form.
    pub key: PathBuf,
    /// The authorities of clients' certificates, in PEM form; with it a client needs such a certificate.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// What clients may take of the host; whoever goes past it is told, and cut off where nothing else helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayLimits {
    /// How many clients each door serves at once.
    #[schemars(range(min = 1))]
    pub max_connections: usize,
    /// How many subscriptions one connection may have.
    #[schemars(range(min = 1))]
    pub max_subscriptions: usize,
    /// The largest payload or body.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub max_payload: usize,
    /// How much may wait for a client that reads too slowly before it is cut off.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub max_pending: usize,
    /// How many messages a second one connection may publish; without it, as many as it can.
    #[schemars(range(min = 1))]
    pub max_rate: Option<u32>,
    /// How long a client may take to log in, or to send a request's head.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub login_timeout: Duration,
    /// How often a silent client is asked whether it is still there.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub ping_interval: Duration,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_subscriptions: 100_000,
            max_payload: 8 * 1024 * 1024,
            max_pending: 64 * 1024 * 1024,
            max_rate: None,
            login_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(30),
        }
    }
}

impl GatewayConfig {
    /// What is wrong beyond the form of single values: the place as a JSON pointer, and a sentence.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = self.door_faults();
        faults.extend(self.name_faults());
        for (index, TokenConfig { name, token, .. }) in self.tokens.iter().enumerate() {
            if token.reveal().len() < MIN_TOKEN_LEN {
                let fault = format!(
                    "the token of `{name}` is shorter than {MIN_TOKEN_LEN} characters; take a long random one, such as `openssl rand -hex 32` prints"
                );
                faults.push((format!("/gateway/tokens/{index}/token"), fault));
            }
        }
        for (index, UserConfig { user, password, .. }) in self.users.iter().enumerate() {
            if !password.reveal().starts_with("$argon2") {
                let fault = format!(
                    "the password of `{user}` is no argon2 hash; write its hash, `$argon2id$v=19$…`, never the password itself"
                );
                faults.push((format!("/gateway/users/{index}/password"), fault));
            }
        }
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            if !is_origin(origin) {
                let fault = format!(
                    "`{origin}` is no origin; write a scheme and a host without a path, such as \"https://tools.example.org\""
                );
                faults.push((format!("/gateway/allowed_origins/{index}"), fault));
            }
        }
        faults
    }

    fn door_faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let knows_somebody =
            !self.users.is_empty() || !self.tokens.is_empty() || self.jwt.is_some();
        if self.open && knows_somebody {
            let fault = "`gateway.open` lets everybody in, so users, tokens and jwt would change nothing; remove it, or them";
            faults.push(("/gateway/open".to_owned(), fault.to_owned()));
        }
        let doors = [("nats", self.nats), ("http", self.http)];
        let is_public =
            |door: Door| door.address().is_some_and(|address| !address.ip().is_loopback());
        for (name, _) in doors.into_iter().filter(|(_, door)| is_public(*door)) {
            if self.open || !knows_somebody {
                let fault = format!(
                    "`gateway.{name}` can be reached from other machines, and whoever gets in may run programs; set `gateway.users`, `gateway.tokens` or `gateway.jwt`, or listen on 127.0.0.1"
                );
                faults.push((format!("/gateway/{name}"), fault));
            }
        }
        if let (Door::On(nats), Door::On(http)) = (self.nats, self.http)
            && nats == http
            && nats.port() != 0
        {
            let fault = format!("`gateway.http` and `gateway.nats` both listen on {nats}");
            faults.push(("/gateway/http".to_owned(), fault));
        }
        faults
    }

    fn name_faults(&self) -> Vec<(String, String)> {
        let users = self.users.iter().map(|user| &user.user).enumerate();
        let users = users.map(|(index, name)| (format!("/gateway/users/{index}/user"), name));
        let tokens = self.tokens.iter().map(|token| &token.name).enumerate();
        let tokens = tokens.map(|(index, name)| (format!("/gateway/tokens/{index}/name"), name));
        let mut seen = std::collections::HashSet::new();
        let mut faults = Vec::new();
        for (pointer, name) in users.chain(tokens) {
            if name.is_empty() || name.chars().any(char::is_control) || name.contains(':') {
                let fault = format!(
                    "{name:?} names nobody; a name has no colon and no control character, and is not empty"
                );
                faults.push((pointer, fault));
            } else if !seen.insert(name) {
                faults.push((pointer, format!("`{name}` is there twice; put both into one")));
            }
        }
        faults
    }
}

/// A scheme and a host, perhaps a port: what browsers send as `Origin`.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let is_plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
        !host.is_empty() && host.chars().all(is_plain)
    })
}
