//! The door with TLS.

use std::path::Path;
use std::sync::Arc;

use echo_core::config::TlsConfig;
use echo_gateway::http::HttpOptions;
use echo_gateway::tls::acceptor;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{Fixture, config, options};

/// An authority, a host's certificate and a client's, in PEM files of a folder.
fn certificates(folder: &Path) -> TlsConfig {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    write("ca.pem", authority.pem());
    for (name, subject) in [("host", "localhost"), ("client", "client")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([subject.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    TlsConfig { cert: folder.join("host.pem"), key: folder.join("host.key"), client_ca: None }
}

async fn door(tls: &TlsConfig) -> Fixture {
    let (bus, options) = options(&config(json!({"limits": {"login_timeout": "2s"}})));
    Fixture::open(bus, HttpOptions { tls: Some(acceptor(tls).unwrap()), ..options }).await
}

/// What the host answers to a client that trusts the authority, with a certificate of its own or without.
async fn health(door: &Fixture, folder: &Path, client: Option<&str>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let file = |end: &str| folder.join(format!("{name}.{end}"));
            let chain = vec![CertificateDer::from_pem_file(file("pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let stream = TcpStream::connect(door.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_door_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let door = door(&certificates(folder.path())).await;
    let answer = health(&door, folder.path(), None).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut plain = TcpStream::connect(door.address()).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn with_authorities_a_client_needs_a_certificate_of_theirs() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tls = certificates(folder.path());
    let tls = TlsConfig { client_ca: Some(folder.path().join("ca.pem")), ..tls };
    let door = door(&tls).await;
    let answer = health(&door, folder.path(), Some("client")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(health(&door, folder.path(), None).await.is_err());
    certificates(elsewhere.path());
    for end in ["pem", "key"] {
        let foreign = elsewhere.path().join(format!("client.{end}"));
        std::fs::copy(foreign, folder.path().join(format!("foreign.{end}"))).unwrap();
    }
    assert!(health(&door, folder.path(), Some("foreign")).await.is_err());
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = certificates(folder.path());
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("empty.pem"), "").unwrap();
    for (tls, file, why) in [
        (TlsConfig { cert: path("none.pem"), ..good.clone() }, "none.pem", "No such file"),
        (TlsConfig { cert: path("empty.pem"), ..good.clone() }, "empty.pem", "no certificate"),
        (TlsConfig { key: path("empty.pem"), ..good.clone() }, "empty.pem", "no private key"),
        (TlsConfig { key: path("client.key"), ..good.clone() }, "client.key", "gateway.tls.key"),
        (
            TlsConfig { client_ca: Some(path("empty.pem")), ..good.clone() },
            "empty.pem",
            "gateway.tls.client_ca",
        ),
    ] {
        let error = acceptor(&tls).map(drop).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(why), "{error}");
    }
}
