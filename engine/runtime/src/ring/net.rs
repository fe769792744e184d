//! Sockets on the core's ring.
//!
//! The kernel tells when a socket has something to receive (one watch for its whole life); what is there is then received straight into
//! the caller's buffer. Sending tries at once, and waits only for a socket that is full. Nothing is buffered here.

use super::{
    driver::{Driver, Readiness},
    executor::{Local, handle},
};
use crate::{Conn, ConnRead, ConnWrite, IoError, Listener, Result, rt::advance};
use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd,
    rc::Rc,
};

/// Pieces handed to the kernel in one call.
const PIECES_PER_CALL_MAX: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

pub(super) fn net_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> IoError {
    move |source| IoError::Net { doing: doing.into(), source }
}

/// Asks the kernel about a socket until it goes.
struct Watch {
    driver: Rc<RefCell<Driver>>,
    readiness: Rc<Readiness>,
    key: usize,
}

impl Watch {
    fn new(local: &Local, socket: &Socket) -> Self {
        let readiness = Rc::<Readiness>::default();
        let key = local.driver.borrow_mut().watch(socket.as_raw_fd(), Rc::clone(&readiness));
        Self { driver: Rc::clone(&local.driver), readiness, key }
    }

    /// Tries `what` until it does not have to wait.
    async fn when_ready<T>(&self, mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            poll_fn(|cx| self.readiness.poll(cx)).await;
            match what() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readiness.emptied(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.driver.borrow_mut().unwatch(self.key);
    }
}

/// What both halves of a connection share. The socket may outlive it, while the kernel still waits for it to take bytes.
struct Stream {
    watch: Watch,
    socket: Rc<Socket>,
    local: Rc<Local>,
}

/// A connection.
pub struct RingConn {
    stream: Rc<Stream>,
    peer: SocketAddr,
    here: SocketAddr,
}

fn address(of: io::Result<SockAddr>) -> io::Result<SocketAddr> {
    of?.as_socket().ok_or_else(|| io::Error::other("an address that is not of the internet"))
}

impl RingConn {
    fn new(local: &Rc<Local>, socket: Rc<Socket>, peer: SocketAddr) -> io::Result<Self> {
        socket.set_tcp_nodelay(true)?;
        let here = address(socket.local_addr())?;
        let stream = Rc::new(Stream { watch: Watch::new(local, &socket), socket, local: Rc::clone(local) });
        Ok(Self { stream, peer, here })
    }

    pub(super) async fn dial(local: &Rc<Local>, to: SocketAddr) -> Result<Self> {
        let connect = async {
            let socket = Rc::new(open(to)?);
            match socket.connect(&to.into()) {
                Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {
                    local.writable(handle(&socket)).await.0?;
                    if let Some(error) = socket.take_error()? {
                        return Err(error);
                    }
                }
                done => done?,
            }
            Self::new(local, socket, to)
        };
        connect.await.map_err(net_error(format!("connect to {to}")))
    }
}

/// A socket that does not block.
fn open(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Conn for RingConn {
    type Read = RingRead;
    type Write = RingWrite;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.here
    }

    fn split(self) -> (RingRead, RingWrite) {
        (RingRead(Rc::clone(&self.stream)), RingWrite(self.stream))
    }
}

/// The half that receives.
pub struct RingRead(Rc<Stream>);

impl ConnRead for RingRead {
    async fn recv(&mut self, into: &mut BytesMut) -> Result<usize> {
        let Stream { watch, socket, .. } = &*self.0;
        let received = watch.when_ready(|| super::raw::fill(into, |spare| socket.recv(spare))).await.map_err(net_error("receive"))?;
        // A stream that gave less than there was room for has been emptied, which saves finding that out by another call.
        if !into.spare_capacity_mut().is_empty() {
            watch.readiness.emptied();
        }
        Ok(received)
    }
}

/// The half that sends.
pub struct RingWrite(Rc<Stream>);

impl ConnWrite for RingWrite {
    async fn send(&mut self, pieces: &[Bytes]) -> Result<()> {
        let Stream { socket, local, .. } = &*self.0;
        let (mut piece, mut within) = (0, 0);
        while piece < pieces.len() {
            if pieces[piece].len() == within {
                (piece, within) = (piece + 1, 0);
                continue;
            }
            let until = pieces.len().min(piece + PIECES_PER_CALL_MAX);
            let mut slices = [IoSlice::new(&[]); PIECES_PER_CALL_MAX];
            for (slice, bytes) in slices.iter_mut().zip(&pieces[piece..until]) {
                *slice = IoSlice::new(bytes);
            }
            slices[0] = IoSlice::new(&pieces[piece][within..]);
            match socket.send_vectored_with_flags(&slices[..until - piece], libc::MSG_NOSIGNAL) {
                Ok(sent) => (piece, within) = advance(pieces, piece, within, sent),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    local.writable(handle(socket)).await.0.map_err(net_error("send"))?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(net_error("send")(e)),
            }
        }
        Ok(())
    }

    fn shutdown(&mut self) {
        // An error means that the peer was faster.
        let _ = self.0.socket.shutdown(Shutdown::Both);
    }
}

/// A listening socket of one core; the kernel spreads connections over the cores that listen on the same address.
pub struct RingListener {
    watch: Watch,
    socket: Socket,
    at: SocketAddr,
    local: Rc<Local>,
}

impl RingListener {
    pub(super) fn listen(local: &Rc<Local>, at: SocketAddr, shared: bool) -> Result<Self> {
        let listen = || {
            let socket = open(at)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(shared)?;
            socket.bind(&at.into())?;
            socket.listen(BACKLOG)?;
            let at = address(socket.local_addr())?;
            Ok(Self { watch: Watch::new(local, &socket), socket, at, local: Rc::clone(local) })
        };
        listen().map_err(net_error(format!("listen on {at}")))
    }
}

impl Listener for RingListener {
    type Conn = RingConn;

    fn local(&self) -> SocketAddr {
        self.at
    }

    async fn accept(&self) -> Result<RingConn> {
        let accept = async {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let (socket, peer) = self.watch.when_ready(|| self.socket.accept4(flags)).await?;
            RingConn::new(&self.local, Rc::new(socket), address(Ok(peer))?)
        };
        accept.await.map_err(net_error("accept"))
    }
}
