//! TLS of a client's connections.

use bytes::{Buf, BytesMut};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    io::{self, BufRead, Write},
    path::Path,
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Bytes that are received at a time.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Whom a client takes for its server; connections are encrypted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts servers whose certificates are for the host that is connected to, and that an authority in this PEM file has signed.
    ///
    /// # Errors
    /// If the file cannot be read, or has no good certificate in it.
    pub fn with_authority(file: impl AsRef<Path>) -> io::Result<Self> {
        Self::read(file.as_ref(), None)
    }

    /// The same for whoever looks after the cluster: it shows the certificate of a node, PEM, with its key, and may do everything.
    ///
    /// # Errors
    /// If a file cannot be read, or is not what it should be.
    pub fn as_node(authority: impl AsRef<Path>, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Self> {
        Self::read(authority.as_ref(), Some((cert.as_ref(), key.as_ref())))
    }

    fn read(authority: &Path, identity: Option<(&Path, &Path)>) -> io::Result<Self> {
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(authority).map_err(|e| bad(e.to_string()))? {
            roots.add(root.map_err(|e| bad(e.to_string()))?).map_err(|e| bad(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(bad("there is no certificate in it".into()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let config = config.map_err(|e| bad(e.to_string()))?.with_root_certificates(roots);
        let Some((cert, key)) = identity else { return Ok(Self(Arc::new(config.with_no_client_auth()))) };
        let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|e| bad(format!("{}: {e}", cert.display())))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(format!("{}: {e}", key.display())))?;
        Ok(Self(Arc::new(config.with_client_auth_cert(chain, key).map_err(|e| bad(e.to_string()))?)))
    }
}

/// The TLS side of one connection; it does no I/O by itself but through the stream that it is given.
pub(crate) struct Session {
    tls: ClientConnection,
    /// Received and still encrypted.
    received: BytesMut,
}

/// A socket that takes what it can.
struct Try<'a>(&'a TcpStream);

impl Write for Try<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refused(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Session {
    /// Shakes hands with the server at `endpoint`, which is `host:port`.
    pub(crate) async fn shake_hands(config: &Tls, endpoint: &str, stream: &mut TcpStream) -> io::Result<Self> {
        let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let mut tls = ClientConnection::new(Arc::clone(&config.0), name).map_err(refused)?;
        tls.set_buffer_limit(None);
        let mut session = Self { tls, received: BytesMut::new() };
        loop {
            let mut out = Vec::new();
            while session.tls.wants_write() {
                session.tls.write_tls(&mut out)?;
            }
            stream.write_all(&out).await?;
            if !session.tls.is_handshaking() {
                return Ok(session);
            }
            session.received.reserve(RECEIVE_BYTES);
            if session.received.is_empty() && stream.read_buf(&mut session.received).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed in the middle of the TLS handshake"));
            }
            if let Err(error) = session.hear() {
                let mut alert = Vec::new();
                while session.tls.wants_write() {
                    session.tls.write_tls(&mut alert)?;
                }
                // Why we end it; what ended it is what is reported.
                let _ = stream.write_all(&alert).await;
                return Err(error);
            }
        }
    }

    /// Takes a few KiB at the most of what was received.
    fn hear(&mut self) -> io::Result<()> {
        let taken = self.tls.read_tls(&mut &self.received[..])?;
        self.received.advance(taken);
        self.tls.process_new_packets().map(drop).map_err(refused)
    }

    /// Sends bytes, however long that takes.
    pub(crate) async fn send_all(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)?;
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out)?;
        }
        stream.write_all(&out).await
    }

    /// Waits until something has come.
    pub(crate) async fn read(&mut self, stream: &TcpStream, into: &mut BytesMut) -> io::Result<usize> {
        loop {
            match self.receive(stream, into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
                done => return done,
            }
        }
    }

    /// Encrypts bytes, to be written by [`Session::flush`].
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)
    }

    /// Writes what the socket takes of what is encrypted. `WouldBlock` if that is not all.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Try(stream)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => drop(done?),
            }
        }
        Ok(())
    }

    /// Reads what has come, once. `Ok(0)` is the end of the stream; `WouldBlock` says that nothing is there.
    pub(crate) fn receive(&mut self, stream: &TcpStream, into: &mut BytesMut) -> io::Result<usize> {
        // What came with the end of the handshake is here already.
        if self.received.is_empty() {
            self.received.reserve(RECEIVE_BYTES);
            if stream.try_read_buf(&mut self.received)? == 0 {
                return Ok(0);
            }
        }
        let before = into.len();
        while !self.received.is_empty() {
            self.hear()?;
            self.decrypted(into)?;
        }
        // A record that is not whole is nothing yet.
        if into.len() == before { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(into.len() - before) }
    }

    /// Takes what is decrypted.
    fn decrypted(&mut self, into: &mut BytesMut) -> io::Result<()> {
        loop {
            let mut reader = self.tls.reader();
            let some = match reader.fill_buf() {
                Ok(chunk) => {
                    into.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(e) => return Err(e),
            };
            reader.consume(some);
            if some == 0 {
                return Ok(());
            }
        }
    }
}
