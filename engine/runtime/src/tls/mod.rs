//! TLS (RFC 8446, RFC 5246), for clients and for nodes among each other, by `rustls`, which does no I/O of its own.
//!
//! A node has one certificate, which it shows to whoever connects, and to other nodes when it dials them. Whoever shows a certificate
//! that the authority of the nodes has signed is a node of the cluster ([`Shown::Node`](crate::Shown)); that authority signs nothing else, so
//! names in certificates of nodes are not looked at: a node says who it is in its greeting.
//!
//! In reading order: [`Tls`] what a node needs · [`stream`] a connection · [`door`] the runtime with such connections.

mod door;
mod stream;
#[cfg(test)]
mod tests;

pub use door::Secure;
pub use stream::{Stream, StreamRead, StreamWrite};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier},
};
use std::{path::PathBuf, sync::Arc};

/// Memory of a TLS connection beside that of any connection, in bytes: its session with both directions' keys, and what of a record has come.
pub const SESSION_BYTES: usize = 24 * 1024;

/// The files of a node, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// The key of that.
    pub key: PathBuf,
    /// Authorities whose certificates make whoever shows them a node of the cluster. Without one nobody is.
    pub node_ca: Option<PathBuf>,
    /// Whether connections in the clear are taken as well.
    pub optional: bool,
}

/// Why a node has no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not PEM of the right sort.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key do not go together, say.
    #[error(transparent)]
    Setup(#[from] Error),
}

/// How a node speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Option<Arc<ClientConfig>>,
    optional: bool,
}

impl Tls {
    /// Reads a node's files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unreadable(&files.key, e))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let Some(node_ca) = &files.node_ca else {
            let server = server.with_no_client_auth().with_single_cert(chain, key)?;
            return Ok(Self { server: Arc::new(server), client: None, optional: files.optional });
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(node_ca)? {
            roots.add(root).map_err(|e| TlsError::File { path: node_ca.clone(), why: e.to_string() })?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).allow_unauthenticated();
        let verifier = verifier.build().map_err(|e| TlsError::File { path: node_ca.clone(), why: e.to_string() })?;
        let server = server.with_client_cert_verifier(verifier).with_single_cert(chain.clone(), key.clone_key())?;
        let nodes = Arc::new(Nodes { roots, provider: Arc::clone(&provider) });
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(nodes)
            .with_client_auth_cert(chain, key)?;
        Ok(Self { server: Arc::new(server), client: Some(Arc::new(client)), optional: files.optional })
    }
}

fn unreadable(path: &std::path::Path, error: rustls::pki_types::pem::Error) -> TlsError {
    let why = match error {
        rustls::pki_types::pem::Error::NoItemsFound => "there is no private key in it".to_owned(),
        other => other.to_string(),
    };
    TlsError::File { path: path.to_owned(), why }
}

/// The certificates in a file, one at the least.
fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let some = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|e| unreadable(path, e))?;
    if some.is_empty() {
        return Err(TlsError::File { path: path.to_owned(), why: "there is no certificate in it".into() });
    }
    Ok(some)
}

/// Takes every certificate that the authority of the nodes has signed, whatever name is in it.
#[derive(Debug)]
struct Nodes {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Nodes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let cert = ParsedCertificate::try_from(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&cert, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
