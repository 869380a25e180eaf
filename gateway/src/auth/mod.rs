//! Who may come in, and what they may do.
//!
//! [`Auth`] looks at what a client shows and gives an [`Access`], which each door asks before it publishes,
//! subscribes and delivers. There are four ways in: the host's own token ([`token`]), the tokens, users and
//! signed tokens of the configuration, and, where the host is told so, [`Auth::open`], no proof at all.
//!
//! `Auth` holds no state but the passwords that were right before, so every method may be called from any
//! thread; [`Auth::admit`] may be dropped at any time. What a connection may answer is its own state:
//! [`Responses`].
//!
//! [`state`] is how the commands of this machine's user find a running host and its token.

pub mod state;
pub mod token;

mod access;
mod covers;
mod jwt;
mod passwords;
mod responses;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use echo_core::config::{GatewayConfig, Permissions, Secret};
use ring::hmac;
use ring::rand::SystemRandom;

use self::jwt::Jwt;
use self::passwords::Passwords;

pub use access::Access;
pub use passwords::hash_password;
pub use responses::Responses;

/// Why a client was not let in; none of them says which part was wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It showed nothing.
    #[error(
        "this host wants a token, or a user and a password; `echo-core url` prints its address with its token"
    )]
    Missing,
    /// It showed something that is not known.
    #[error("the token, or the user with this password, is not known to this host")]
    Refused,
    /// It showed a signed token of the right key that is not good here and now.
    #[error("the signed token is not taken: {0}")]
    Jwt(&'static str),
    /// Too many others are being checked.
    #[error("too many clients log in at once; try again in a moment")]
    Busy,
}

/// Why nobody can be let in as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthSetupError {
    /// A user's password is not a hash.
    #[error(
        "the password of the user `{user}` in `gateway.users` is no argon2 hash in PHC form; write its hash, `$argon2id$v=19$…`"
    )]
    PasswordHash {
        /// The user.
        user: String,
    },
    /// The key of signed tokens cannot be read.
    #[error("the key {} of `gateway.jwt` cannot be read", file.display())]
    KeyFile {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key of signed tokens is none.
    #[error("the key {} of `gateway.jwt` cannot be used: {why}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers, without which no secret is one")]
    Random,
}

/// What a client shows of itself.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// A token, plain or signed.
    pub token: Option<&'a str>,
    /// A user's name; without a password it is read as a token, since addresses such as
    /// `nats://TOKEN@127.0.0.1:4222` put it there.
    pub user: Option<&'a str>,
    /// The user's password.
    pub password: Option<&'a str>,
    /// A signed token.
    pub jwt: Option<&'a str>,
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Decides who may come in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Auth(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Open(Access),
    Closed(Box<Known>),
}

#[derive(Debug)]
struct Known {
    key: hmac::Key,
    /// Keyed hashes of the tokens: comparing them takes as long wherever they differ, and a token is
    /// nowhere in memory for longer than it is looked at.
    tokens: Vec<(hmac::Tag, Access)>,
    passwords: Passwords,
    jwt: Option<Jwt>,
}

impl Auth {
    /// Everybody may come in and do everything, as `anyone`.
    pub fn open() -> Self {
        Self(Arc::new(Inner::Open(Access::new("anyone", Permissions::default(), None))))
    }

    /// Those may come in whom the configuration names, and whoever has the host's own token, as `owner`,
    /// who may do everything. With `gateway.open`, as [`open`](Self::open).
    ///
    /// Reads the key of signed tokens, so call it where blocking is fine.
    ///
    /// # Errors
    /// [`AuthSetupError`] when a password is no hash, or the key of signed tokens cannot be used.
    pub fn new(config: &GatewayConfig, own: Option<&Secret>) -> Result<Self, AuthSetupError> {
        if config.open {
            return Ok(Self::open());
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| AuthSetupError::Random)?;
        let tag = |token: &Secret| hmac::sign(&key, token.reveal().as_bytes());
        let own = own.map(|own| (tag(own), Access::new("owner", Permissions::default(), None)));
        let tokens = config
            .tokens
            .iter()
            .map(|token| (tag(&token.token), Access::new(&token.name, token.permissions(), None)));
        Ok(Self(Arc::new(Inner::Closed(Box::new(Known {
            tokens: own.into_iter().chain(tokens).collect(),
            passwords: Passwords::new(&config.users, key.clone())?,
            jwt: config.jwt.as_ref().map(Jwt::new).transpose()?,
            key,
        })))))
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        matches!(*self.0, Inner::Open(_))
    }

    /// Lets a client in that shows what this host knows.
    ///
    /// # Errors
    /// [`AuthError`] when it shows nothing, something that is not known, or too many are being checked.
    pub async fn admit(&self, credentials: Credentials<'_>) -> Result<Access, AuthError> {
        let known = match &*self.0 {
            Inner::Open(access) => return Ok(access.clone()),
            Inner::Closed(known) => known,
        };
        match credentials {
            Credentials { jwt: Some(jwt), .. } => known.by_jwt(jwt),
            Credentials { token: Some(token), .. } => known.by_token(token),
            Credentials { user: Some(user), password: None | Some(""), .. } => known.by_token(user),
            Credentials { user: None | Some(""), password: Some(token), .. } => {
                known.by_token(token)
            }
            Credentials { user: Some(user), password: Some(password), .. } => {
                known.passwords.admit(user, password).await
            }
            Credentials { .. } => Err(AuthError::Missing),
        }
    }
}

impl Known {
    fn by_token(&self, token: &str) -> Result<Access, AuthError> {
        let is_it =
            |tag: &hmac::Tag| hmac::verify(&self.key, token.as_bytes(), tag.as_ref()).is_ok();
        match self.tokens.iter().find(|(tag, _)| is_it(tag)) {
            Some((_, access)) => Ok(access.clone()),
            None if token.is_empty() => Err(AuthError::Missing),
            None if self.jwt.is_some() && Jwt::is_like(token) => self.by_jwt(token),
            None => Err(AuthError::Refused),
        }
    }

    fn by_jwt(&self, token: &str) -> Result<Access, AuthError> {
        let jwt = self.jwt.as_ref().ok_or(AuthError::Refused)?;
        jwt.admit(token, SystemTime::now())
    }
}
