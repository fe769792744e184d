//! A listener that holds back connections past a number, speaks TLS where it is to, and closes silent connections.

use super::Door;
use axum::{extract::connect_info::Connected, serve::IncomingStream};
use millpond_runtime::{Shown, tls::Tls};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// The first byte of a connection that speaks TLS, and of no request.
const HANDSHAKE: u8 = 0x16;

/// Accepts while fewer than its maximum of connections are open.
pub(super) struct Bounded {
    listener: TcpListener,
    door: Door,
    room: Arc<Semaphore>,
    silence_max: Duration,
    /// Connections on which TLS is agreed on, each for itself: a slow one keeps nobody else waiting.
    opening: JoinSet<Option<(Watched, Peer)>>,
}

/// Who has connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// It has shown who it is, or nobody wants to know.
    pub(super) is_known: bool,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, door: Door, connections_max: usize, silence_max: Duration) -> Self {
        Self { listener, door, room: Arc::new(Semaphore::new(connections_max)), silence_max, opening: JoinSet::new() }
    }
}

/// The next connection, and its place.
async fn next(listener: &mut TcpListener, room: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    // axum's own listener knows which errors to wait out: a peer that is gone, or no file handle left.
    let (stream, from) = axum::serve::Listener::accept(listener).await;
    (stream, from, permit)
}

impl axum::serve::Listener for Bounded {
    type Io = Watched;
    type Addr = Peer;

    async fn accept(&mut self) -> (Watched, Peer) {
        loop {
            tokio::select! {
                Some(opened) = self.opening.join_next() => {
                    if let Ok(Some(opened)) = opened {
                        return opened;
                    }
                }
                (stream, from, permit) = next(&mut self.listener, &self.room) => {
                    let Some(tls) = self.door.tls.clone() else {
                        let peer = Peer { is_known: !self.door.authenticate };
                        return (Watched::new(Box::new(stream), self.silence_max, permit), peer);
                    };
                    let (door, silence_max) = (self.door.clone(), self.silence_max);
                    self.opening.spawn(async move {
                        let opened = timeout(silence_max, open(&door, &tls, stream)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                        match opened {
                            Ok((stream, peer)) => Some((Watched::new(stream, silence_max, permit), peer)),
                            Err(error) => {
                                tracing::debug!(%from, %error, "a connection to HTTP is closed: it does not speak TLS as it should");
                                None
                            }
                        }
                    });
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { is_known: true })
    }
}

/// Agrees on TLS with whoever has connected, and sees who that is.
async fn open(door: &Door, tls: &Tls, stream: TcpStream) -> io::Result<(Box<dyn Io>, Peer)> {
    let mut first = [0];
    if tls.is_optional() && stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        return Ok((Box::new(stream), Peer { is_known: !door.authenticate }));
    }
    let stream = TlsAcceptor::from(tls.server()).accept(stream).await?;
    let (shown, name) = tls.shown(stream.get_ref().1.peer_certificates());
    let is_user = || name.is_some_and(|name| door.principals.user(&name).is_some());
    let is_known = !door.authenticate || shown == Shown::Node || is_user();
    Ok((Box::new(stream), Peer { is_known }))
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        *stream.remote_addr()
    }
}

/// A stream of bytes both ways.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection with its place among the connections, and a clock that every byte sets back.
pub(super) struct Watched {
    stream: Box<dyn Io>,
    silence: Pin<Box<Sleep>>,
    silence_max: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Watched {
    fn new(stream: Box<dyn Io>, silence_max: Duration, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, silence: Box::pin(sleep(silence_max)), silence_max, _permit: permit }
    }

    /// `polled`, or a time-out if it is pending and the connection has been silent for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let done = ready!(self.wait(cx, polled));
        let until = Instant::now() + self.silence_max;
        self.silence.as_mut().reset(until);
        Poll::Ready(done)
    }

    /// The same for what moves no bytes by itself.
    fn wait<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            ready!(self.silence.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(cx, polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.wait(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.wait(cx, polled)
    }
}
