//! Asking a node by the native protocol, over a connection that is kept or one for this alone.

use bytes::{Bytes, BytesMut};
use millpond::node::remote::{greet, hello, next};
use millpond_runtime::{Conn, ConnWrite, Rt, rt::timeout, sim::SimRt};
use millpond_wire::{
    frame::{Flags, encode},
    messages::{Code, Failure, Kind},
};
use prost::Message;
use std::{net::SocketAddr, time::Duration};

/// A node that cannot be reached in this time is left alone.
const REACH_MAX: Duration = Duration::from_secs(1);
/// An answer that takes longer is not waited for.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing was sent.
    Unsent,
    /// It was sent, and nobody knows what came of it.
    Unknown,
    Refused(Failure),
}

impl Trouble {
    /// Who answers instead, where whoever refuses says that.
    pub(crate) fn elsewhere(&self) -> Option<SocketAddr> {
        let Self::Refused(failure) = self else { return None };
        let named = failure.code() == Code::NotOwner && failure.port != 0;
        named.then(|| SocketAddr::new(failure.host.parse().unwrap(), failure.port as u16))
    }
}

type Read = <<SimRt as Rt>::Conn as Conn>::Read;
type Write = <<SimRt as Rt>::Conn as Conn>::Write;

/// A connection to a node, greeted, with nothing under way.
pub(crate) struct Open {
    read: Read,
    write: Write,
    buf: BytesMut,
}

impl Open {
    pub(crate) async fn dial(rt: &SimRt, at: SocketAddr) -> Result<Self, Trouble> {
        let reached = timeout(rt, REACH_MAX, async {
            let (mut read, mut write) = rt.dial(at).await.ok()?.split();
            let mut buf = BytesMut::new();
            greet(&mut read, &mut write, &mut buf, &hello()).await.ok()?;
            Some(Self { read, write, buf })
        });
        reached.await.ok().flatten().ok_or(Trouble::Unsent)
    }

    /// Asks once; the answer, and the bytes that follow it. A connection whose answer does not come is of no use any more: what was asked may still arrive.
    pub(crate) async fn ask<M: Message + Default>(
        &mut self,
        rt: &SimRt,
        kind: Kind,
        request: &impl Message,
        payload: &[u8],
    ) -> Result<(M, BytesMut), Trouble> {
        let answered = timeout(rt, ANSWER_MAX, async {
            let pieces = [encode(kind, Flags::REQUEST, 1, request, payload.len()), Bytes::copy_from_slice(payload)];
            let pieces = if payload.is_empty() { &pieces[..1] } else { &pieces[..] };
            self.write.send(pieces).await.ok()?;
            next(&mut self.read, &mut self.buf).await.ok()
        });
        let Ok(Some(frame)) = answered.await else { return Err(Trouble::Unknown) };
        if frame.flags.is_failure() {
            return Err(Trouble::Refused(frame.message().unwrap()));
        }
        let message = frame.message().unwrap();
        Ok((message, frame.payload))
    }
}

/// Asks over a connection for this alone.
pub(crate) async fn ask<M: Message + Default>(
    rt: &SimRt,
    at: SocketAddr,
    kind: Kind,
    request: &impl Message,
    payload: &[u8],
) -> Result<(M, BytesMut), Trouble> {
    Open::dial(rt, at).await?.ask(rt, kind, request, payload).await
}
