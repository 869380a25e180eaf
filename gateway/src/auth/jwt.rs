//! Signed tokens (JWT, RFC 7519): signed in the one way that is configured, meant for this host, in their time.
//!
//! The token never chooses how it is checked: its header has to name the configured algorithm, and nothing
//! critical that this host does not know.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use echo_core::config::{JwtAlgorithm, JwtConfig, Permissions};
use ring::hmac;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use webpki::RawPublicKeyEntity;
use webpki::ring::{ED25519, RSA_PKCS1_2048_8192_SHA256};

use super::{Access, AuthError, AuthSetupError};

/// How far the clocks of this host and of whoever signs may be apart.
const LEEWAY: Duration = Duration::from_secs(30);

/// The shortest key of HS256, which RFC 7518 asks for.
const MIN_SECRET_LEN: usize = 32;

/// The longest token; what is longer is not looked at.
const MAX_LEN: usize = 16 * 1024;

/// Checks signed tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    config: JwtConfig,
    key: Key,
}

enum Key {
    Secret(hmac::Key),
    Rsa(SubjectPublicKeyInfoDer<'static>),
    Ed25519(SubjectPublicKeyInfoDer<'static>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970; a fraction is allowed.
    exp: f64,
    nbf: Option<f64>,
    aud: Audience,
    iss: Option<String>,
    permissions: Option<Permissions>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(name) => name == wanted,
            Self::Several(names) => names.iter().any(|name| name == wanted),
        }
    }
}

impl Jwt {
    /// Reads the key.
    pub(super) fn new(config: &JwtConfig) -> Result<Self, AuthSetupError> {
        let file = &config.key_file;
        let bytes = std::fs::read(file)
            .map_err(|source| AuthSetupError::KeyFile { file: file.clone(), source })?;
        let refused = |why| AuthSetupError::Key { file: file.clone(), why };
        let public = || {
            let key = SubjectPublicKeyInfoDer::from_pem_slice(&bytes)
                .map_err(|_| refused("it holds no public key in PEM form (`BEGIN PUBLIC KEY`)"))?;
            RawPublicKeyEntity::try_from(&key).map_err(|_| refused("its public key is broken"))?;
            Ok(key)
        };
        let key = match config.algorithm {
            JwtAlgorithm::HS256 => {
                let secret = bytes.trim_ascii();
                if secret.len() < MIN_SECRET_LEN {
                    return Err(refused("a secret of HS256 has at least 32 bytes"));
                }
                Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))
            }
            JwtAlgorithm::RS256 => Key::Rsa(public()?),
            JwtAlgorithm::EdDSA => Key::Ed25519(public()?),
        };
        Ok(Self { config: config.clone(), key })
    }

    /// Whether a text could be a signed token: three parts, joined by dots.
    pub(super) fn is_like(text: &str) -> bool {
        text.split('.').count() == 3
    }

    pub(super) fn admit(&self, token: &str, now: SystemTime) -> Result<Access, AuthError> {
        let claims = self.claims(token).ok_or(AuthError::Refused)?;
        let instant = |seconds: f64| {
            Duration::try_from_secs_f64(seconds)
                .ok()
                .and_then(|since| UNIX_EPOCH.checked_add(since))
        };
        let end = instant(claims.exp).and_then(|end| end.checked_add(LEEWAY));
        let end = end.ok_or(AuthError::Jwt("its `exp` is no time"))?;
        if now >= end {
            return Err(AuthError::Jwt("it has expired"));
        }
        if let Some(begin) = claims.nbf {
            let begin = instant(begin).ok_or(AuthError::Jwt("its `nbf` is no time"))?;
            if now + LEEWAY < begin {
                return Err(AuthError::Jwt("it is not valid yet (`nbf`)"));
            }
        }
        if !claims.aud.names(&self.config.audience) {
            return Err(AuthError::Jwt("it is meant for somebody else (`aud`)"));
        }
        if self.config.issuer.is_some() && claims.iss != self.config.issuer {
            return Err(AuthError::Jwt("somebody else gave it out (`iss`)"));
        }
        let permissions = claims.permissions.or_else(|| self.config.permissions.clone());
        let permissions = permissions
            .ok_or(AuthError::Jwt("it has no claim `permissions`, and the host no default"))?;
        Ok(Access::new(&claims.sub, permissions, Some(end)))
    }

    /// The claims of a token whose signature is right.
    fn claims(&self, token: &str) -> Option<Claims> {
        if token.len() > MAX_LEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = part(header)?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let is_ours = header.alg == self.algorithm() && header.crit.is_none();
        if !is_ours || !self.is_signed(signed.as_bytes(), &signature) {
            return None;
        }
        part(claims)
    }

    fn algorithm(&self) -> &'static str {
        match self.config.algorithm {
            JwtAlgorithm::HS256 => "HS256",
            JwtAlgorithm::RS256 => "RS256",
            JwtAlgorithm::EdDSA => "EdDSA",
        }
    }

    fn is_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        let by_public = |key, algorithm| {
            let key = RawPublicKeyEntity::try_from(key);
            key.is_ok_and(|key| key.verify_signature(algorithm, signed, signature).is_ok())
        };
        match &self.key {
            Key::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Key::Rsa(key) => by_public(key, RSA_PKCS1_2048_8192_SHA256),
            Key::Ed25519(key) => by_public(key, ED25519),
        }
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&bytes).ok()
}
