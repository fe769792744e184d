//! Sockets on glommio's ring.
//!
//! Both halves of a connection share one stream; glommio keeps the waiting of the two directions apart, so a pending
//! `recv` and a pending `send` do not disturb each other. Nothing is buffered here: bytes go from the kernel into the
//! caller's buffer and from the caller's pieces into the kernel.

use super::{net_error, raw};
use crate::{Conn, ConnRead, ConnWrite, IoError, Listener, Result, rt::advance};
use bytes::{Bytes, BytesMut};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

/// Pieces smaller than this are gathered by copying; larger ones go to the kernel where they lie.
const PIECES_PER_CALL_MAX: usize = 512;

type Shared = Rc<RefCell<TcpStream>>;

/// A connection.
pub struct GloConn {
    stream: Shared,
    peer: SocketAddr,
    local: SocketAddr,
}

impl GloConn {
    pub(super) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true).map_err(|e| net_error("set TCP_NODELAY", e))?;
        let peer = stream.peer_addr().map_err(|e| net_error("ask for the peer's address", e))?;
        let local = stream.local_addr().map_err(|e| net_error("ask for the local address", e))?;
        Ok(Self { stream: Rc::new(RefCell::new(stream)), peer, local })
    }
}

impl Conn for GloConn {
    type Read = GloRead;
    type Write = GloWrite;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn split(self) -> (GloRead, GloWrite) {
        (GloRead { stream: Rc::clone(&self.stream) }, GloWrite { stream: self.stream })
    }
}

/// The half that receives.
pub struct GloRead {
    stream: Shared,
}

impl ConnRead for GloRead {
    async fn recv(&mut self, into: &mut BytesMut) -> Result<usize> {
        poll_fn(|cx| {
            let mut stream = self.stream.borrow_mut();
            raw::fill(into, |spare| match Pin::new(&mut *stream).poll_read(cx, spare) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(read) => Poll::Ready(read),
            })
        })
        .await
        .map_err(|source| IoError::Net { doing: "receive".into(), source })
    }
}

/// The half that sends.
pub struct GloWrite {
    stream: Shared,
}

impl ConnWrite for GloWrite {
    async fn send(&mut self, pieces: &[Bytes]) -> Result<()> {
        let failed = |source| IoError::Net { doing: "send".into(), source };
        let (mut piece, mut within) = (0, 0);
        while piece < pieces.len() {
            if pieces[piece].len() == within {
                (piece, within) = (piece + 1, 0);
                continue;
            }
            let until = pieces.len().min(piece + PIECES_PER_CALL_MAX);
            let fd = self.stream.borrow().as_raw_fd();
            let sent = match raw::send_gathered(fd, &pieces[piece..until], within) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // The socket's buffer is full: one plain write waits for room and makes some progress.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, &pieces[piece][within..])).await.map_err(failed)?
                }
                Err(e) => return Err(failed(e)),
            };
            (piece, within) = advance(pieces, piece, within, sent);
        }
        Ok(())
    }

    fn shutdown(&mut self) {
        // An error means that the peer was faster.
        let _ = raw::shutdown(self.stream.borrow().as_raw_fd(), Shutdown::Both);
    }
}

/// A listening socket of one core; the kernel spreads connections over the cores that listen on the same address.
pub struct GloListener {
    pub(super) listener: TcpListener,
    pub(super) local: SocketAddr,
}

impl Listener for GloListener {
    type Conn = GloConn;

    fn local(&self) -> SocketAddr {
        self.local
    }

    async fn accept(&self) -> Result<GloConn> {
        GloConn::new(self.listener.accept().await.map_err(|e| net_error("accept", e))?)
    }
}
