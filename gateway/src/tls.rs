//! Encryption of the doors: TLS 1.2 and 1.3 by rustls, over ring, which is there for the NATS client already
//! and builds with a C compiler alone.
//!
//! The provider is given to each configuration, so nothing depends on what a process has set as its default.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use echo_core::config::TlsConfig;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Why the doors cannot speak TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file holds no certificate.
    #[error("{} of `gateway.tls.{key}` holds no certificate (`BEGIN CERTIFICATE`)", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
        /// The key that names it.
        key: &'static str,
    },
    /// A file cannot be read, is not in PEM form, or holds what cannot be worked with.
    #[error("{} of `gateway.tls.{key}` cannot be used: {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Why.
        reason: String,
    },
}

/// Reads certificates and key, and makes what turns a connection into an encrypted one. Blocks for files.
///
/// # Errors
/// [`TlsError`] with the file that cannot be read or used.
pub fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&config.cert, "cert")?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| unusable(&config.key, "key", pem_fault(&error)))?;
    let verifier = match &config.client_ca {
        Some(file) => client_verifier(file, &provider)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&config.cert, "cert", error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&config.key, "key", error))?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Takes the certificates of clients that the authorities in the file have signed, and no client without one.
fn client_verifier(
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(file, "client_ca")? {
        roots.add(authority).map_err(|error| unusable(file, "client_ca", error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| unusable(file, "client_ca", error))
}

fn certificates(file: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| unusable(file, key, pem_fault(&error));
    let found = CertificateDer::pem_file_iter(file).map_err(failed)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_owned(), key });
    }
    Ok(found)
}

fn unusable(file: &Path, key: &'static str, reason: impl ToString) -> TlsError {
    TlsError::Unusable { file: file.to_owned(), key, reason: reason.to_string() }
}

/// What is wrong with a file, in words that say what should be there.
fn pem_fault(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds no private key in PEM form".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
