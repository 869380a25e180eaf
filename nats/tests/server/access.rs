//! How a host proves who it is, and who the server is.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use echo_nats::{Credentials, NatsError, NatsOptions, NatsTransport, Tls};
use nkeys::KeyPair;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa};
use serde_json::{Value, json};

use crate::server::NatsServer;
use crate::support::*;

/// Connects, and proves that messages travel.
async fn works(options: NatsOptions) {
    let bus = NatsTransport::connect(options).await.unwrap();
    let slot = slot(&bus, "one", &["test.>"]).await;
    publish(&bus, "test.a", message(1)).await;
    assert_eq!(take_all(&mut slot.receiver(), 1).await, [1]);
}

fn with(url: &str, credentials: Credentials) -> NatsOptions {
    NatsOptions { urls: vec![url.to_owned()], credentials, ..NatsOptions::default() }
}

/// Is refused, and the error says what was shown and not what was secret.
async fn is_refused(options: NatsOptions, shown: &str) {
    let error = NatsTransport::connect(options).await.unwrap_err();
    assert!(matches!(error, NatsError::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(shown) && !text.contains("guessed"), "{text}");
}

#[tokio::test]
async fn by_user_and_password() {
    let server = NatsServer::start_with("authorization { user: me, password: secret }");
    let by =
        |password: &str| Credentials::Password { user: "me".into(), password: password.into() };
    works(with(&server.url(), by("secret"))).await;
    is_refused(with(&server.url(), by("guessed")), "user and password").await;
    let address = server.url().replace("nats://", "nats://me:secret@");
    works(with(&address, Credentials::None)).await;
    is_refused(with(&server.url(), Credentials::None), "shows no credentials").await;
}

#[tokio::test]
async fn by_token() {
    let server = NatsServer::start_with("authorization { token: secret }");
    works(with(&server.url(), Credentials::Token("secret".into()))).await;
    is_refused(with(&server.url(), Credentials::Token("guessed".into())), "token").await;
    let address = server.url().replace("nats://", "nats://secret@");
    works(with(&address, Credentials::None)).await;
}

#[tokio::test]
async fn by_nkey() {
    let (known, other) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users: [{{ nkey: {} }}] }}", known.public_key());
    let server = NatsServer::start_with(&users);
    works(with(&server.url(), Credentials::NKey(known.seed().unwrap()))).await;
    is_refused(with(&server.url(), Credentials::NKey(other.seed().unwrap())), "NKey").await;
}

/// A JWT as `nsc` makes them.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let body = part(json!({
        "jti": "1", "iat": 1_700_000_000, "name": "test", "nats": claims,
        "iss": issuer.public_key(), "sub": subject.public_key(),
    }));
    let signed = format!("{header}.{body}");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn write_credentials(path: &Path, jwt: &str, user: &KeyPair) {
    let seed = user.seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn by_credentials_file() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let all = -1;
    let limits = json!({
        "subs": all, "data": all, "payload": all, "imports": all, "exports": all, "conn": all, "leaf": all,
        "wildcards": true,
    });
    let operators = jwt(&operator, &operator, json!({"type": "operator", "version": 2}));
    let accounts = json!({"type": "account", "version": 2, "limits": limits});
    let system = KeyPair::new_account();
    let systems = jwt(&operator, &system, accounts.clone());
    let accounts = jwt(&operator, &account, accounts);
    let users = json!({"type": "user", "version": 2, "subs": all, "data": all, "payload": all});
    let server = NatsServer::start_with(&format!(
        "operator: {operators}\nsystem_account: {0}\nresolver: MEMORY\n\
         resolver_preload: {{ {0}: {systems}, {1}: {accounts} }}",
        system.public_key(),
        account.public_key(),
    ));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.creds");
    write_credentials(&file, &jwt(&account, &user, users.clone()), &user);
    works(with(&server.url(), Credentials::File(file.clone()))).await;
    // Signed by an account that the server does not know.
    write_credentials(&file, &jwt(&KeyPair::new_account(), &other, users), &other);
    is_refused(with(&server.url(), Credentials::File(file)), "credentials file").await;
    let missing = with(&server.url(), Credentials::File(folder.path().join("none.creds")));
    let error = NatsTransport::connect(missing).await.unwrap_err();
    assert!(matches!(error, NatsError::CredentialsFile { .. }), "{error:?}");
    assert!(error.to_string().contains("none.creds"), "{error}");
}

/// Writes an authority, and a certificate and key signed by it for each use, in PEM.
fn write_certificates(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for (name, usage) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn over_tls_with_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path());
    let path = |name: &str| folder.path().join(name);
    let server = NatsServer::start_with(&format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        path("server.pem"),
        path("server-key.pem"),
        path("ca.pem"),
    ));
    let options = |tls: Tls| NatsOptions { tls, ..with(&server.url(), Credentials::None) };
    let identity = Some((path("client.pem"), path("client-key.pem")));
    let ca = Some(path("ca.pem"));
    works(options(Tls { required: true, ca: ca.clone(), identity: identity.clone() })).await;
    // The server asks for it, and so does an address that begins with tls://.
    works(options(Tls { required: false, ca: ca.clone(), identity: identity.clone() })).await;
    let stranger = options(Tls { required: true, ca: None, identity });
    let error = NatsTransport::connect(stranger).await.unwrap_err();
    assert!(matches!(error, NatsError::Tls { .. }), "{error:?}");
    let nobody = options(Tls { required: true, ca: ca.clone(), identity: None });
    assert!(NatsTransport::connect(nobody).await.is_err(), "without a certificate of its own");
    let open = NatsServer::start();
    let plain = NatsOptions {
        tls: Tls { required: true, ca, identity: None },
        ..with(&open.url(), Credentials::None)
    };
    assert!(NatsTransport::connect(plain).await.is_err(), "a server without encryption");
}

#[tokio::test]
async fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("nats://me:secret@{address}");
    let error = NatsTransport::connect(with(&url, Credentials::None)).await.unwrap_err();
    assert!(matches!(error, NatsError::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && !text.contains("secret"), "{text}");
}
