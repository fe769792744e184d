//! A connection that is in the clear or speaks TLS, and its two halves.
//!
//! Both halves share the session, which never waits. After the handshake the half that receives never sends: what the session has to say by itself (an
//! answer to a new key of the other end) goes out in front of what is sent next.

use super::Tls;
use crate::{Conn, ConnRead, ConnWrite, IoError, Result, Shown};
use bytes::{Buf, Bytes, BytesMut};
use rustls::{
    ClientConnection, Connection, ServerConnection,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    cell::RefCell,
    io::{self, BufRead, Write},
    net::SocketAddr,
    rc::Rc,
};

/// What a TLS connection begins with: a record of a handshake, of version 3.1 to 3.4. As the length of a frame that would be 352 MiB in Kafka's protocol, and 64 KiB in ours, of a Hello.
const HANDSHAKE: [u8; 3] = [0x16, 3, 1];
/// Bytes that are received at a time from a connection that is silent mostly, and at most.
const RECEIVE_BYTES: (usize, usize) = (1024, 64 * 1024);
/// Bytes that are encrypted at a time.
const ENCRYPT_BYTES: usize = 128 * 1024;

/// See the module.
pub enum Stream<C: Conn> {
    /// As it comes from the socket: in the clear, or accepted and still to be opened.
    Raw(C, Option<Tls>),
    /// It is known what it speaks.
    Open(Box<Halves<C>>),
}

/// An open connection.
pub struct Halves<C: Conn> {
    read: StreamRead<C::Read>,
    write: StreamWrite<C::Write>,
    at: (SocketAddr, SocketAddr),
    shown: Shown,
    /// The name of a client, in its certificate.
    name: Option<Rc<str>>,
}

/// The half that receives.
pub enum StreamRead<R> {
    /// In the clear.
    Plain(R),
    /// In the clear, and some of it has come already.
    Ahead(R, BytesMut),
    /// It speaks TLS.
    Tls(Box<TlsRead<R>>),
}

/// The half that sends.
pub enum StreamWrite<W> {
    /// In the clear.
    Plain(W),
    /// It speaks TLS.
    Tls(TlsWrite<W>),
}

/// The half that receives, with TLS.
pub struct TlsRead<R> {
    session: Rc<RefCell<Connection>>,
    raw: R,
    received: BytesMut,
    /// How much to receive at a time.
    target: usize,
}

/// The half that sends, with TLS.
pub struct TlsWrite<W> {
    session: Rc<RefCell<Connection>>,
    raw: W,
}

fn net_error(doing: &str) -> impl Fn(io::Error) -> IoError + '_ {
    move |source| IoError::Net { doing: doing.to_owned(), source }
}

fn refused(error: rustls::Error) -> IoError {
    IoError::Net { doing: "speak TLS".into(), source: io::Error::new(io::ErrorKind::InvalidData, error) }
}

impl<C: Conn> Stream<C> {
    /// Greets a node that was dialled.
    pub(super) async fn dialled(conn: C, tls: Option<&Tls>) -> Result<Self> {
        let Some(client) = tls.and_then(|tls| tls.sides().client.clone()) else { return Ok(Self::Raw(conn, None)) };
        let session = ClientConnection::new(client, ServerName::from(conn.peer().ip())).map_err(refused)?;
        let at = (conn.peer(), conn.local());
        // It was not taken unless it has shown that it is one.
        shake_hands(conn.split(), at, session.into(), BytesMut::new(), |_| (Shown::Node, None)).await
    }
}

/// Says and hears what comes before the first byte. What of the other end has come already is in `received`.
async fn shake_hands<C: Conn>(
    (mut read, mut write): (C::Read, C::Write),
    at: (SocketAddr, SocketAddr),
    mut session: Connection,
    mut received: BytesMut,
    shown: impl FnOnce(Option<&[CertificateDer<'_>]>) -> (Shown, Option<String>),
) -> Result<Stream<C>> {
    loop {
        let out = said(&mut session)?;
        if !out.is_empty() {
            write.send(&[out]).await?;
        }
        if !session.is_handshaking() {
            break;
        }
        if received.is_empty() {
            received.reserve(RECEIVE_BYTES.0 * 4);
            if read.recv(&mut received).await? == 0 {
                return Err(net_error("speak TLS")(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        if let Err(error) = hear(&mut session, &mut received) {
            // The other end is told why; whether it still listens does not matter.
            if let Ok(alert) = said(&mut session) {
                let _ = write.send(&[alert]).await;
            }
            write.shutdown();
            return Err(error);
        }
    }
    session.set_buffer_limit(None);
    let (shown, name) = shown(session.peer_certificates());
    let session = Rc::new(RefCell::new(session));
    let read = StreamRead::Tls(Box::new(TlsRead { session: Rc::clone(&session), raw: read, received, target: RECEIVE_BYTES.0 }));
    Ok(Stream::Open(Box::new(Halves {
        read,
        write: StreamWrite::Tls(TlsWrite { session, raw: write }),
        at,
        shown,
        name: name.map(Into::into),
    })))
}

/// What the session has to send.
fn said(session: &mut Connection) -> Result<Bytes> {
    let mut out = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut out).map_err(net_error("encrypt"))?;
    }
    Ok(out.into())
}

/// Gives the session some of what was received: a few KiB at the most.
fn hear(session: &mut Connection, received: &mut BytesMut) -> Result<()> {
    let taken = session.read_tls(&mut &received[..]).map_err(net_error("decrypt"))?;
    received.advance(taken);
    session.process_new_packets().map(drop).map_err(refused)
}

impl<C: Conn> Conn for Stream<C> {
    type Read = StreamRead<C::Read>;
    type Write = StreamWrite<C::Write>;

    fn peer(&self) -> SocketAddr {
        match self {
            Self::Raw(conn, _) => conn.peer(),
            Self::Open(halves) => halves.at.0,
        }
    }

    fn local(&self) -> SocketAddr {
        match self {
            Self::Raw(conn, _) => conn.local(),
            Self::Open(halves) => halves.at.1,
        }
    }

    fn split(self) -> (Self::Read, Self::Write) {
        match self {
            Self::Raw(conn, _) => {
                let (read, write) = conn.split();
                (StreamRead::Plain(read), StreamWrite::Plain(write))
            }
            Self::Open(halves) => (halves.read, halves.write),
        }
    }

    async fn open(self) -> Result<Self> {
        let Self::Raw(conn, Some(tls)) = self else { return Ok(self) };
        let at = (conn.peer(), conn.local());
        let (mut read, write) = conn.split();
        let mut received = BytesMut::new();
        if tls.is_optional() {
            while received.len() < HANDSHAKE.len() && received[..] == HANDSHAKE[..received.len()] {
                received.reserve(RECEIVE_BYTES.0);
                if read.recv(&mut received).await? == 0 {
                    break;
                }
            }
            if !speaks_tls(&received) {
                let (read, write) = (StreamRead::Ahead(read, received), StreamWrite::Plain(write));
                let halves = Halves { read, write, at, shown: Shown::Plain, name: None };
                return Ok(Self::Open(Box::new(halves)));
            }
        }
        let session = ServerConnection::new(tls.server()).map_err(refused)?;
        shake_hands((read, write), at, session.into(), received, |chain| tls.shown(chain)).await
    }

    fn shown(&self) -> Shown {
        match self {
            Self::Raw(..) => Shown::Plain,
            Self::Open(halves) => halves.shown,
        }
    }

    fn name(&self) -> Option<Rc<str>> {
        match self {
            Self::Raw(..) => None,
            Self::Open(halves) => halves.name.clone(),
        }
    }
}

/// Whether these are the first bytes of a TLS connection.
fn speaks_tls(first: &[u8]) -> bool {
    matches!(first, [0x16, 3, 1..=4, ..])
}

impl<R: ConnRead> ConnRead for StreamRead<R> {
    async fn recv(&mut self, into: &mut BytesMut) -> Result<usize> {
        match self {
            Self::Plain(raw) => raw.recv(into).await,
            Self::Tls(tls) => tls.recv(into).await,
            Self::Ahead(raw, ahead) if ahead.is_empty() => raw.recv(into).await,
            Self::Ahead(_, ahead) => {
                let some = ahead.len().min(into.capacity() - into.len());
                into.extend_from_slice(&ahead.split_to(some));
                Ok(some)
            }
        }
    }
}

impl<R: ConnRead> ConnRead for TlsRead<R> {
    async fn recv(&mut self, into: &mut BytesMut) -> Result<usize> {
        loop {
            if let Some(n) = self.decrypted(into)? {
                return Ok(n);
            }
            if self.received.is_empty() {
                self.received = BytesMut::with_capacity(self.target);
                let n = self.raw.recv(&mut self.received).await?;
                if n == 0 {
                    // Its lengths say whether a stream of frames is whole: an end that was not announced is one all the same.
                    return Ok(0);
                }
                self.target = if n >= self.target { self.target * 4 } else { self.target / 2 }.clamp(RECEIVE_BYTES.0, RECEIVE_BYTES.1);
            }
            hear(&mut self.session.borrow_mut(), &mut self.received)?;
            if self.received.is_empty() {
                self.received = BytesMut::new();
            }
        }
    }
}

impl<R> TlsRead<R> {
    /// Takes what is decrypted, as much as there is room for; nothing if more has to be received first.
    fn decrypted(&mut self, into: &mut BytesMut) -> Result<Option<usize>> {
        let mut session = self.session.borrow_mut();
        let mut reader = session.reader();
        match reader.fill_buf() {
            Ok(chunk) => {
                let some = chunk.len().min(into.capacity() - into.len());
                into.extend_from_slice(&chunk[..some]);
                reader.consume(some);
                Ok(Some(some))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)),
            Err(error) => Err(net_error("decrypt")(error)),
        }
    }
}

impl<W: ConnWrite> ConnWrite for StreamWrite<W> {
    async fn send(&mut self, pieces: &[Bytes]) -> Result<()> {
        match self {
            Self::Plain(raw) => raw.send(pieces).await,
            Self::Tls(tls) => tls.send(pieces).await,
        }
    }

    fn shutdown(&mut self) {
        match self {
            Self::Plain(raw) | Self::Tls(TlsWrite { raw, .. }) => raw.shutdown(),
        }
    }
}

impl<W: ConnWrite> TlsWrite<W> {
    async fn send(&mut self, pieces: &[Bytes]) -> Result<()> {
        let mut encrypted = 0;
        for chunk in pieces.iter().flat_map(|piece| piece.chunks(ENCRYPT_BYTES)) {
            if encrypted + chunk.len() > ENCRYPT_BYTES {
                self.flush().await?;
                encrypted = 0;
            }
            // It takes all of it, since it has no bound of its own.
            self.session.borrow_mut().writer().write_all(chunk).map_err(net_error("encrypt"))?;
            encrypted += chunk.len();
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        let out = said(&mut self.session.borrow_mut())?;
        if out.is_empty() { Ok(()) } else { self.raw.send(&[out]).await }
    }
}
