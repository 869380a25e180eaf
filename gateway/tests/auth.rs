//! Who comes in: the host's token, tokens, users, signed tokens, and everybody where that is asked for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use argon2::password_hash::PasswordHasher;
use argon2::{Argon2, Params};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use echo_core::config::{GatewayConfig, Secret};
use echo_gateway::auth::{Auth, AuthError, AuthSetupError, Credentials, hash_password};
use echo_sdk::{Pattern, Topic};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

const OWN: &str = "the-hosts-own-token";
const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn config(value: Value) -> GatewayConfig {
    serde_json::from_value(value).unwrap()
}

fn auth(value: Value) -> Auth {
    Auth::new(&config(value), Some(&Secret::new(OWN))).unwrap()
}

fn token(token: &str) -> Credentials<'_> {
    Credentials { token: Some(token), ..Credentials::default() }
}

fn user<'a>(user: &'a str, password: &'a str) -> Credentials<'a> {
    Credentials { user: Some(user), password: Some(password), ..Credentials::default() }
}

async fn who(auth: &Auth, credentials: Credentials<'_>) -> Result<String, AuthError> {
    auth.admit(credentials).await.map(|access| access.name().to_owned())
}

#[tokio::test]
async fn nobody_comes_in_without_proof_unless_the_host_is_open() {
    let closed = auth(json!({}));
    assert!(!closed.is_open());
    assert_eq!(who(&closed, Credentials::default()).await, Err(AuthError::Missing));
    assert_eq!(who(&closed, token("")).await, Err(AuthError::Missing));
    assert_eq!(who(&closed, token("guess")).await, Err(AuthError::Refused));
    assert_eq!(who(&closed, token(OWN)).await.unwrap(), "owner");
    // Without a token of its own, a host with no users lets nobody in.
    let none = Auth::new(&config(json!({})), None).unwrap();
    assert_eq!(who(&none, token("")).await, Err(AuthError::Missing));
    let open = auth(json!({"open": true}));
    assert!(open.is_open());
    assert_eq!(who(&open, Credentials::default()).await.unwrap(), "anyone");
    assert_eq!(who(&open, token("whatever")).await.unwrap(), "anyone");
}

#[tokio::test]
async fn a_token_comes_as_addresses_and_basic_logins_carry_it() {
    let auth = auth(json!({"tokens": [{
        "name": "dashboard", "token": "0123456789abcdef", "publish": {"allow": []},
    }]}));
    for shown in [
        token("0123456789abcdef"),
        user("0123456789abcdef", ""),
        user("", "0123456789abcdef"),
        Credentials { user: Some("0123456789abcdef"), ..Credentials::default() },
    ] {
        let access = auth.admit(shown).await.unwrap();
        assert_eq!(access.name(), "dashboard");
        assert!(!access.may_publish(&Topic::new("a").unwrap()));
        assert!(access.may_subscribe(&Pattern::new(">").unwrap()));
    }
    assert_eq!(who(&auth, token("0123456789abcdeF")).await, Err(AuthError::Refused));
    assert_eq!(who(&auth, token("0123456789abcde")).await, Err(AuthError::Refused));
}

#[tokio::test]
async fn a_user_comes_in_with_the_right_password_alone() {
    let hash = hash_password("swordfish").unwrap();
    let other = hash_password("other").unwrap();
    let auth = auth(json!({"users": [
        {"user": "ci", "password": hash, "subscribe": {"allow": ["test.>"]}},
        {"user": "ops", "password": other},
    ]}));
    // The second time is answered from memory, and must be as strict.
    for _ in 0..2 {
        let access = auth.admit(user("ci", "swordfish")).await.unwrap();
        assert_eq!(access.name(), "ci");
        assert!(!access.may_subscribe(&Pattern::new(">").unwrap()));
        for (name, password) in [("ci", "swordfis"), ("ci", "other"), ("nobody", "swordfish")] {
            assert_eq!(who(&auth, user(name, password)).await, Err(AuthError::Refused), "{name}");
        }
    }
    assert_eq!(who(&auth, user("ops", "other")).await.unwrap(), "ops");
}

#[test]
fn a_password_that_is_no_hash_is_refused_at_the_start() {
    for password in
        ["swordfish", "$argon2id$v=19$nonsense", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ"]
    {
        let users = json!({"users": [{"user": "ci", "password": password}]});
        let error = Auth::new(&config(users), None).unwrap_err();
        assert!(matches!(&error, AuthSetupError::PasswordHash { user } if user == "ci"), "{error}");
    }
}

/// More logins than may wait: each is answered, and those that found no place are told to come again.
#[tokio::test]
async fn a_flood_of_logins_is_bounded() {
    // A check of about a millisecond: longer than all of them take to arrive.
    let quick = Argon2::from(Params::new(1_024, 1, 1, None).unwrap());
    let hash = quick.hash_password(b"swordfish").unwrap().to_string();
    let auth = auth(json!({"users": [{"user": "ci", "password": hash}]}));
    let login = |n| {
        let auth = &auth;
        async move { who(auth, user("ci", &format!("guess {n}"))).await }
    };
    let answers = futures_util::future::join_all((0..400).map(login)).await;
    let refused = answers.iter().filter(|answer| **answer == Err(AuthError::Refused)).count();
    let busy = answers.iter().filter(|answer| **answer == Err(AuthError::Busy)).count();
    assert_eq!(refused + busy, 400, "{answers:?}");
    assert!(busy > 0 && refused >= 256, "{busy} of 400 logins were told to come again");
    assert_eq!(who(&auth, user("ci", "swordfish")).await.unwrap(), "ci");
}

/// The tokens were made with other tools than ours: OpenSSL, and Python's `hmac`.
#[tokio::test]
async fn tokens_of_other_makers_are_taken() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    for (algorithm, key) in [
        ("RS256", data.join("rs256.pem")),
        ("EdDSA", data.join("eddsa.pem")),
        ("HS256", folder.path().join("secret")),
    ] {
        let jwt = json!({"algorithm": algorithm, "key_file": key, "audience": "echo-core"});
        let auth = Auth::new(&config(json!({"jwt": jwt})), None).unwrap();
        let file = data.join(format!("{}.jwt", algorithm.to_lowercase()));
        let signed = std::fs::read_to_string(file).unwrap();
        assert_eq!(who(&auth, token(signed.trim())).await.unwrap(), "robot", "{algorithm}");
        // One bit of the signature's first character makes it another one.
        let (head, signature) = signed.trim().rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        let forged = format!("{head}.{first}{}", &signature[1..]);
        assert_eq!(who(&auth, token(&forged)).await, Err(AuthError::Refused), "{algorithm}");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Puts a signed token together; `sign` gets what is signed.
fn jwt(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hs256(text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), text).as_ref().to_vec()
}

fn with_key(folder: &Path, algorithm: &str, key: &[u8], more: Value) -> GatewayConfig {
    let file = folder.join(format!("{algorithm}.key"));
    std::fs::write(&file, key).unwrap();
    let mut jwt = json!({"algorithm": algorithm, "key_file": file, "audience": "echo-core"});
    jwt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config(json!({"jwt": jwt}))
}

#[tokio::test]
async fn a_signed_token_carries_who_and_what() {
    let folder = tempfile::tempdir().unwrap();
    let auth = Auth::new(&with_key(folder.path(), "HS256", SECRET, json!({})), None).unwrap();
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let good = json!({
        "sub": "robot", "aud": ["others", "echo-core"], "exp": now() + 60, "nbf": now() - 60,
        "permissions": {"publish": {"allow": ["ci.>"]}},
    });
    let signed = jwt(&header, &good, hs256);
    for shown in [
        Credentials { jwt: Some(&signed), ..Credentials::default() },
        token(&signed),
        Credentials { user: Some("any"), jwt: Some(&signed), ..Credentials::default() },
    ] {
        let access = auth.admit(shown).await.unwrap();
        assert_eq!(access.name(), "robot");
        assert!(access.may_publish(&Topic::new("ci.a").unwrap()));
        assert!(!access.may_publish(&Topic::new("test.run.start").unwrap()));
    }
    let without = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        jwt(&header, &claims, hs256)
    };
    for (token_text, why) in [
        (without("exp", json!(now() - 60)), "expired"),
        (without("nbf", json!(now() + 600)), "nbf"),
        (without("aud", json!("others")), "aud"),
        (without("permissions", Value::Null), "permissions"),
        (without("exp", json!(-1)), "exp"),
        (without("exp", json!(1e300)), "exp"),
    ] {
        let refused = who(&auth, token(&token_text)).await.unwrap_err();
        assert!(matches!(refused, AuthError::Jwt(_)), "{refused}");
        assert!(refused.to_string().contains(why), "{why}: {refused}");
    }
    let critical = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    let (head, _) = signed.rsplit_once('.').unwrap();
    for refused in [
        jwt(&json!({"alg": "none"}), &good, |_| Vec::new()),
        jwt(&json!({"alg": "RS256"}), &good, hs256),
        jwt(&critical, &good, hs256),
        jwt(&header, &good, |_| vec![0; 32]),
        without("exp", Value::Null),
        without("sub", json!(7)),
        format!("{head}."),
        "..".to_owned(),
        "a.b.c".to_owned(),
    ] {
        assert_eq!(who(&auth, token(&refused)).await, Err(AuthError::Refused), "{refused}");
    }
}

#[tokio::test]
async fn who_gave_a_token_out_and_what_it_may_by_default_can_be_set() {
    let folder = tempfile::tempdir().unwrap();
    let more = json!({"issuer": "us", "permissions": {"publish": {"allow": []}}});
    let auth = Auth::new(&with_key(folder.path(), "HS256", SECRET, more), None).unwrap();
    let signed = |issuer: &str| {
        let claims = json!({"sub": "a", "aud": "echo-core", "exp": now() + 60, "iss": issuer});
        jwt(&json!({"alg": "HS256"}), &claims, hs256)
    };
    let access = auth.admit(token(&signed("us"))).await.unwrap();
    assert!(!access.may_publish(&Topic::new("a").unwrap()));
    let refused = who(&auth, token(&signed("them"))).await.unwrap_err();
    assert!(refused.to_string().contains("iss"), "{refused}");
}

#[tokio::test]
async fn an_access_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let auth = Auth::new(&with_key(folder.path(), "HS256", SECRET, json!({})), None).unwrap();
    // The clocks may be thirty seconds apart, so this one has a second left.
    let claims = json!({"sub": "a", "aud": "echo-core", "exp": now() - 29, "permissions": {}});
    let access = auth.admit(token(&jwt(&json!({"alg": "HS256"}), &claims, hs256))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), access.expired()).await.unwrap();
}

fn pem(kind: &str, der: &[u8]) -> Vec<u8> {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n").into_bytes()
}

#[tokio::test]
async fn a_token_signed_with_ed25519_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let public = pem("PUBLIC KEY", &[&prefix, pair.public_key().as_ref()].concat());
    let auth = Auth::new(&with_key(folder.path(), "EdDSA", &public, json!({})), None).unwrap();
    let claims = json!({"sub": "ed", "aud": "echo-core", "exp": now() + 60, "permissions": {}});
    let header = json!({"alg": "EdDSA"});
    let signed = jwt(&header, &claims, |text| pair.sign(text).as_ref().to_vec());
    assert_eq!(who(&auth, token(&signed)).await.unwrap(), "ed");
    // The public key is known to all: it must not do as a secret.
    let forged = jwt(&json!({"alg": "HS256"}), &claims, |text| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), text).as_ref().to_vec()
    });
    assert_eq!(who(&auth, token(&forged)).await, Err(AuthError::Refused));
}

#[test]
fn a_key_that_cannot_be_used_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for (algorithm, key, why) in [
        ("HS256", &b"short"[..], "32 bytes"),
        ("RS256", b"no pem", "no public key"),
        ("EdDSA", &pem("PUBLIC KEY", b"nonsense"), "broken"),
    ] {
        let error =
            Auth::new(&with_key(folder.path(), algorithm, key, json!({})), None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(why) && text.contains(&format!("{algorithm}.key")), "{text}");
    }
    let missing = json!({"jwt": {"algorithm": "HS256", "key_file": "/nowhere", "audience": "a"}});
    let error = Auth::new(&config(missing), None).unwrap_err();
    assert!(matches!(error, AuthSetupError::KeyFile { .. }), "{error}");
}

#[test]
fn secrets_are_not_shown() {
    let config = config(json!({"tokens": [{"name": "a", "token": "0123456789abcdef"}]}));
    let auth = Auth::new(&config, Some(&Secret::new(OWN))).unwrap();
    for shown in [format!("{config:?}"), format!("{auth:?}"), format!("{:?}", token(OWN))] {
        assert!(!shown.contains("0123456789abcdef") && !shown.contains(OWN), "{shown}");
    }
}
