//! Connections as a node sees them: the model of `net`, with futures.

use super::{
    net::{Io, Net, Side, Syn, latency},
    rt::SimRt,
};
use crate::{Conn, ConnRead, ConnWrite, IoError, Listener, Result, Rt};
use bytes::{Bytes, BytesMut};
use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    rc::Rc,
    task::Poll,
    time::Duration,
};

/// Unanswered requests to connect before giving up: 1 + 2 + … + 64 s (Linux: `tcp_syn_retries`).
const SYN_TRIES: u32 = 7;

/// A connection of a simulated node.
pub struct SimConn(Rc<Socket>);

/// The half that receives.
pub struct SimConnRead(Rc<Socket>);

/// The half that sends.
pub struct SimConnWrite(Rc<Socket>);

/// A listening socket of a simulated node.
pub struct SimListener {
    rt: SimRt,
    id: u64,
    at: SocketAddr,
}

struct Socket {
    rt: SimRt,
    conn: u64,
    side: Side,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(mut net) = self.rt.net() {
            net.close(&self.rt.world, self.conn, self.side);
        }
    }
}

impl SimRt {
    /// The network, unless this life is over.
    fn net(&self) -> Option<std::cell::RefMut<'_, Net>> {
        self.world.alive(self.node, self.life).then(|| self.world.net.borrow_mut())
    }
}

fn net_error(doing: String) -> impl FnOnce(io::ErrorKind) -> IoError {
    move |kind| IoError::Net { doing, source: kind.into() }
}

pub(super) async fn dial(rt: &SimRt, to: SocketAddr) -> Result<SimConn> {
    let failed = net_error(format!("connect to {to}"));
    let target = Net::node_at(rt.node, to.ip()).unwrap_or(rt.node);
    for attempt in 0..SYN_TRIES {
        let delay = latency(rt.node, target, &mut rt.world.dice.borrow_mut());
        rt.later(delay, || ()).await;
        let Some(answer) = rt.net().map(|mut net| net.syn(&rt.world, (rt.node, rt.life), to)) else {
            return pending().await;
        };
        match answer {
            Syn::Connected(conn) => {
                let local = rt.net().and_then(|net| net.local(conn, 0)).expect("a connection made just now");
                let socket = Rc::new(Socket { rt: rt.clone(), conn, side: 0, local, peer: to });
                rt.later(delay, || ()).await;
                return Ok(SimConn(socket));
            }
            Syn::Refused => {
                rt.later(delay, || ()).await;
                return Err(failed(io::ErrorKind::ConnectionRefused));
            }
            Syn::Lost => {
                rt.world.dice.borrow_mut().count("dial_unanswered");
                rt.sleep(Duration::from_secs(1 << attempt)).await;
            }
        }
    }
    Err(failed(io::ErrorKind::TimedOut))
}

pub(super) async fn listen(rt: &SimRt, at: SocketAddr) -> Result<SimListener> {
    let id = rt.world.id();
    let Some(bound) = rt.net().map(|mut net| net.listen(id, (rt.node, rt.core, rt.life), at)) else {
        return pending().await;
    };
    let at = bound.map_err(|source| IoError::Net { doing: format!("listen on {at}"), source })?;
    Ok(SimListener { rt: rt.clone(), id, at })
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if let Some(mut net) = self.rt.net() {
            net.unlisten(&self.rt.world, self.id);
        }
    }
}

impl Listener for SimListener {
    type Conn = SimConn;

    fn local(&self) -> SocketAddr {
        self.at
    }

    async fn accept(&self) -> Result<SimConn> {
        poll_fn(|cx| {
            let Some(accepted) = self.rt.net().and_then(|mut net| net.accept(self.id, cx.waker())) else {
                return Poll::Pending;
            };
            let (conn, local, peer) = accepted;
            Poll::Ready(Ok(SimConn(Rc::new(Socket { rt: self.rt.clone(), conn, side: 1, local, peer }))))
        })
        .await
    }
}

impl Conn for SimConn {
    type Read = SimConnRead;
    type Write = SimConnWrite;

    fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    fn local(&self) -> SocketAddr {
        self.0.local
    }

    fn split(self) -> (SimConnRead, SimConnWrite) {
        (SimConnRead(self.0.clone()), SimConnWrite(self.0))
    }
}

impl ConnRead for SimConnRead {
    async fn recv(&mut self, into: &mut BytesMut) -> Result<usize> {
        assert!(into.capacity() > into.len(), "recv needs spare capacity: without any, 0 would mean the end");
        let Socket { rt, conn, side, peer, .. } = &*self.0;
        poll_fn(|cx| match rt.net().map(|mut net| net.recv(&rt.world, *conn, *side, into, cx.waker())) {
            Some(Io::Done(n)) => Poll::Ready(Ok(n)),
            Some(Io::Broken(kind)) => Poll::Ready(Err(net_error(format!("receive from {peer}"))(kind))),
            Some(Io::Wait) | None => Poll::Pending,
        })
        .await
    }
}

impl ConnWrite for SimConnWrite {
    async fn send(&mut self, pieces: &[Bytes]) -> Result<()> {
        let Socket { rt, conn, side, peer, .. } = &*self.0;
        for piece in pieces {
            let mut left = piece.clone();
            while !left.is_empty() {
                poll_fn(|cx| match rt.net().map(|mut net| net.send(&rt.world, *conn, *side, &mut left, cx.waker())) {
                    Some(Io::Done(_)) => Poll::Ready(Ok(())),
                    Some(Io::Broken(kind)) => Poll::Ready(Err(net_error(format!("send to {peer}"))(kind))),
                    Some(Io::Wait) | None => Poll::Pending,
                })
                .await?;
            }
        }
        Ok(())
    }

    fn shutdown(&mut self) {
        let socket = &self.0;
        if let Some(mut net) = socket.rt.net() {
            net.shutdown(&socket.rt.world, socket.conn, socket.side);
        }
    }
}
