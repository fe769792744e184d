//! TLS (RFC 8446, RFC 5246), for clients and for nodes among each other, by `rustls`, which does no I/O of its own.
//!
//! A node has one certificate, which it shows to whoever connects, and to other nodes when it dials them. Whoever shows a certificate
//! that the authority of the nodes has signed is a node of the cluster ([`Shown::Node`]); that authority signs nothing else, so
//! names in certificates of nodes are not looked at: a node says who it is in its greeting. Clients may have an authority of their own: what it has signed says by
//! its name who they are.
//!
//! In reading order: [`Tls`] what a node needs · [`name`] what a certificate calls its owner · [`stream`] a connection · [`door`] the runtime with such
//! connections.

#![expect(clippy::disallowed_methods, reason = "the files are read by the control thread")]

mod door;
mod name;
mod stream;
#[cfg(test)]
mod tests;

pub use door::Secure;
pub use stream::{Stream, StreamRead, StreamWrite};

use crate::Shown;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

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
    /// Authorities whose certificates say which client shows them. None of those of the nodes.
    pub client_ca: Option<PathBuf>,
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

/// How a node speaks TLS: what its files say, or said when they were read last. Cheap to clone; all clones are read anew together.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    now: Arc<RwLock<Arc<Sides>>>,
}

/// What was made of the files.
struct Sides {
    /// For whoever connects.
    server: Arc<ServerConfig>,
    /// For nodes that are dialled.
    client: Option<Arc<ClientConfig>>,
    /// Tell which authority has signed.
    nodes: Option<Arc<dyn ClientCertVerifier>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// What was in the files.
    texts: Vec<Text>,
}

/// A file that was read.
#[derive(PartialEq)]
struct Text {
    path: PathBuf,
    pem: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are nobody's business.
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    /// Reads a node's files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let sides = Sides::of(files, Text::all(files)?)?;
        Ok(Self { files: Arc::new(files.clone()), now: Arc::new(RwLock::new(Arc::new(sides))) })
    }

    /// Reads the files again: connections from now on go by what is in them. Returns whether that is anything new. After an error all is as it was.
    pub fn read_again(&self) -> Result<bool, TlsError> {
        let texts = Text::all(&self.files)?;
        if texts == self.sides().texts {
            return Ok(false);
        }
        let sides = Sides::of(&self.files, texts)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sides);
        Ok(true)
    }

    fn sides(&self) -> Arc<Sides> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For who accepts connections without this crate's runtime.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.sides().server)
    }

    /// Whether connections in the clear are taken as well.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.files.optional
    }

    /// What somebody who has connected has shown of itself with these certificates, and the name of a client among them (RFC 2253).
    #[must_use]
    pub fn shown(&self, chain: Option<&[CertificateDer<'_>]>) -> (Shown, Option<String>) {
        let Some((cert, between)) = chain.and_then(<[_]>::split_first) else { return (Shown::Encrypted, None) };
        let sides = self.sides();
        let has_signed = |authority: &Option<Arc<dyn ClientCertVerifier>>| {
            authority.as_ref().is_some_and(|authority| authority.verify_client_cert(cert, between, UnixTime::now()).is_ok())
        };
        if has_signed(&sides.nodes) {
            (Shown::Node, None)
        } else if has_signed(&sides.clients) {
            (Shown::Encrypted, name::of(cert))
        } else {
            // It was good when it was shown, and is no more.
            (Shown::Encrypted, None)
        }
    }
}

impl Sides {
    fn of(files: &TlsFiles, texts: Vec<Text>) -> Result<Self, TlsError> {
        let text = |path: &Path| texts.iter().find(|text| text.path == path).expect("all files were read");
        let provider = Arc::new(ring::default_provider());
        let (chain, key) = (text(&files.cert).certificates()?, text(&files.key));
        let key = PrivateKeyDer::from_pem_slice(&key.pem).map_err(|e| key.unreadable(e))?;
        let roots = |path: &Option<PathBuf>| path.as_deref().map(|path| text(path).roots()).transpose();
        let (node_roots, client_roots) = (roots(&files.node_ca)?, roots(&files.client_ca)?);
        let verifier = |roots: RootCertStore, path: &Option<PathBuf>| {
            let made = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).allow_unauthenticated().build();
            made.map_err(|e| TlsError::File { path: path.clone().unwrap_or_default(), why: e.to_string() })
        };
        let mut all = RootCertStore::empty();
        for roots in [&node_roots, &client_roots].into_iter().flatten() {
            all.extend(roots.roots.iter().cloned());
        }
        if let (Some(nodes), Some(clients), Some(path)) = (&node_roots, &client_roots, &files.client_ca)
            && clients.roots.iter().any(|root| nodes.roots.contains(root))
        {
            let why = "an authority of the nodes is in it: each client would be a node".into();
            return Err(TlsError::File { path: path.clone(), why });
        }
        let nodes = node_roots.clone().map(|roots| verifier(roots, &files.node_ca)).transpose()?;
        let clients = client_roots.map(|roots| verifier(roots, &files.client_ca)).transpose()?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let server =
            if all.is_empty() { server.with_no_client_auth() } else { server.with_client_cert_verifier(verifier(all, &files.node_ca)?) };
        let server = Arc::new(server.with_single_cert(chain.clone(), key.clone_key())?);
        let dialling = |roots: RootCertStore| -> Result<_, TlsError> {
            let nodes = Arc::new(Nodes { roots: Arc::new(roots), provider: Arc::clone(&provider) });
            let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
            let client = client.dangerous().with_custom_certificate_verifier(nodes);
            Ok(Arc::new(client.with_client_auth_cert(chain.clone(), key.clone_key())?))
        };
        let client = node_roots.map(dialling).transpose()?;
        Ok(Self { server, client, nodes, clients, texts })
    }
}

impl Text {
    /// All files of a node.
    fn all(files: &TlsFiles) -> Result<Vec<Self>, TlsError> {
        let paths = [Some(&files.cert), Some(&files.key), files.node_ca.as_ref(), files.client_ca.as_ref()];
        let read = |path: &PathBuf| match fs::read(path) {
            Ok(pem) => Ok(Self { path: path.clone(), pem }),
            Err(error) => Err(TlsError::File { path: path.clone(), why: error.to_string() }),
        };
        paths.into_iter().flatten().map(read).collect()
    }

    fn bad(&self, why: impl fmt::Display) -> TlsError {
        TlsError::File { path: self.path.clone(), why: why.to_string() }
    }

    fn unreadable(&self, error: rustls::pki_types::pem::Error) -> TlsError {
        match error {
            rustls::pki_types::pem::Error::NoItemsFound => self.bad("there is no private key in it"),
            other => self.bad(other),
        }
    }

    /// The certificates in it, one at the least.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let some = CertificateDer::pem_slice_iter(&self.pem).collect::<Result<Vec<_>, _>>().map_err(|e| self.unreadable(e))?;
        if some.is_empty() { Err(self.bad("there is no certificate in it")) } else { Ok(some) }
    }

    /// The same as authorities.
    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in self.certificates()? {
            roots.add(root).map_err(|e| self.bad(e))?;
        }
        Ok(roots)
    }
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
