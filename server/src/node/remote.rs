//! Asking another node, in the native protocol: what a client asks of a node that cannot answer, and what nodes ask of each other.
//!
//! A core has a few connections to each other node, made when they are first needed. Answers come in the order of the requests, so whoever waits
//! long has others wait behind it: that is why there are a few. A connection that breaks fails all that wait on it, and the next request makes a new one.

use super::core::Core;
use bytes::{Bytes, BytesMut};
use millpond_runtime::{Conn as _, NodeId, Rt, Share, limits::FRAME_BYTES_MAX, rt::timeout};
use millpond_wire::{
    VERSION,
    frame::{Decoder, Flags, Frame, encode, encode_as_is},
    messages::{Code, Failure, Hello, Kind, Welcome},
};
use prost::Message;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// Connections of a core to one node.
const CONNECTIONS: usize = 4;
/// Requests that wait on one connection.
const WAITING_MAX: usize = 4_096;
/// A connection that is not there after this time is given up.
const DIAL_MAX: Duration = Duration::from_secs(2);
/// A request that is not answered after this time is given up, and its connection with it.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

type Answer = Result<Frame, Failure>;

/// One connection to another node.
#[derive(Default)]
pub struct Remote {
    /// In the order of their requests.
    waiting: RefCell<VecDeque<oneshot::Sender<Answer>>>,
    out: RefCell<BytesMut>,
    wake: Notify,
    dead: Cell<bool>,
    next: Cell<u64>,
}

impl Remote {
    fn fail(&self, failure: &Failure) {
        self.dead.set(true);
        for waiting in self.waiting.borrow_mut().drain(..) {
            // Whoever asked may have gone.
            let _ = waiting.send(Err(failure.clone()));
        }
    }
}

fn unreachable(node: NodeId, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Unavailable, format!("node {node} cannot be asked: {why}"), "retry").retry_after(100)
}

impl<R: Rt> Core<R> {
    /// Asks another node, which does not pass it on. What was sent and not answered may have been done there.
    pub async fn ask_node<M: Message + Default>(self: &Rc<Self>, node: NodeId, kind: Kind, request: &impl Message) -> Result<M, Failure> {
        let frame = self.pass_on(node, kind, &request.encode_to_vec()).await?;
        let senseless = |e: millpond_wire::frame::FrameError| Failure::new(Code::Internal, e.to_string(), "report this as a bug");
        if frame.flags.is_failure() {
            return Err(frame.message::<Failure>().map_err(senseless)?);
        }
        frame.message().map_err(senseless)
    }

    /// What came of a request here, or at the node that it names instead: whoever cannot follow the name itself asks by this.
    pub async fn or_there<M: Message + Default>(
        self: &Rc<Self>,
        kind: Kind,
        request: &impl Message,
        here: Result<M, Failure>,
    ) -> Result<M, Failure> {
        match here {
            Err(refused) if refused.code() == Code::NotOwner && ![0, self.identity.node_id].contains(&refused.node_id) => {
                self.ask_node(NodeId(refused.node_id), kind, request).await
            }
            here => here,
        }
    }

    /// Passes a request on to another node, and returns what that answers, be it a failure.
    pub async fn pass_on(self: &Rc<Self>, node: NodeId, kind: Kind, meta: &[u8]) -> Answer {
        let remote = self.remote_to(node)?;
        let (tell, told) = oneshot::channel();
        if remote.waiting.borrow().len() >= WAITING_MAX {
            return Err(unreachable(node, "too many requests wait for it"));
        }
        remote.waiting.borrow_mut().push_back(tell);
        let number = remote.next.replace(remote.next.get() + 1);
        encode_as_is(&mut remote.out.borrow_mut(), kind, Flags::REQUEST, number, meta);
        remote.wake.notify_one();
        match timeout(&self.rt, ANSWER_MAX, told).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(unreachable(node, "the connection is gone"))),
            Err(late) => {
                remote.fail(&maybe(node, late));
                remote.wake.notify_one();
                Err(maybe(node, late))
            }
        }
    }

    /// Connections to a node for asking it, that are there or being made.
    pub(super) fn connections_to(&self, node: NodeId) -> usize {
        self.cluster.remotes.borrow().get(&node).map_or(0, |all| all.iter().filter(|remote| !remote.dead.get()).count())
    }

    fn remote_to(self: &Rc<Self>, node: NodeId) -> Result<Rc<Remote>, Failure> {
        let at = self.cluster.find(node, 0).ok_or_else(|| unreachable(node, "nobody knows where it is"))?;
        let mut remotes = self.cluster.remotes.borrow_mut();
        let all = remotes.entry(node).or_default();
        all.retain(|remote| !remote.dead.get());
        if all.len() < CONNECTIONS && all.iter().all(|remote| !remote.waiting.borrow().is_empty()) {
            let remote = Rc::new(Remote::default());
            all.push(Rc::clone(&remote));
            self.connect(node, at, &remote);
            return Ok(remote);
        }
        let best = all.iter().min_by_key(|remote| remote.waiting.borrow().len());
        best.cloned().ok_or_else(|| unreachable(node, "there is no connection"))
    }

    fn connect(self: &Rc<Self>, node: NodeId, at: SocketAddr, remote: &Rc<Remote>) {
        let (core, remote) = (Rc::clone(self), Rc::clone(remote));
        self.rt.spawn("ask a node", Share::Serve, async move {
            let hello = Hello { from_node: core.identity.node_id, ..hello() };
            let greeted = async |conn: R::Conn| {
                let (mut read, mut write) = conn.split();
                let mut buf = BytesMut::new();
                let welcome = greet(&mut read, &mut write, &mut buf, &hello).await?;
                if (welcome.cluster_id != core.identity.cluster()) || welcome.node_id != node.0 {
                    return Err(format!("node {} of cluster {} answers at {at}", welcome.node_id, welcome.cluster_id));
                }
                Ok((read, write, buf))
            };
            let dialled = timeout(&core.rt, DIAL_MAX, async {
                let conn = core.rt.dial(at).await.map_err(|e| e.to_string())?;
                greeted(conn).await
            });
            match dialled.await.map_err(|late| late.to_string()).and_then(|done| done) {
                // Nothing was sent.
                Err(why) => remote.fail(&unreachable(node, why)),
                Ok((read, write, buf)) => {
                    let why = futures_lite::future::or(send(&remote, write), receive(&remote, read, buf)).await;
                    remote.fail(&maybe(node, why));
                }
            }
        });
    }
}

/// The failure of what has been sent and was not answered.
fn maybe(node: NodeId, why: impl std::fmt::Display) -> Failure {
    let message = format!("node {node} was asked and has not answered: {why}");
    Failure::new(Code::MaybeDone, message, "look whether it took effect, and retry").retry_after(100)
}

/// A greeting of this version.
pub fn hello() -> Hello {
    Hello {
        version_min: VERSION,
        version_max: VERSION,
        client_id: "millpond-node".into(),
        software: concat!("millpond ", env!("CARGO_PKG_VERSION")).into(),
        from_node: 0,
    }
}

/// Says hello on a new connection.
pub async fn greet(
    read: &mut impl millpond_runtime::ConnRead,
    write: &mut impl millpond_runtime::ConnWrite,
    buf: &mut BytesMut,
    hello: &Hello,
) -> Result<Welcome, String> {
    write.send(&[encode(Kind::Hello, Flags::REQUEST, 0, hello, 0)]).await.map_err(|e| e.to_string())?;
    let frame = next(read, buf).await?;
    if frame.flags.is_failure() {
        return Err(frame.message::<Failure>().map_or_else(|e| e.to_string(), |failure| failure.message));
    }
    frame.message().map_err(|e| e.to_string())
}

/// The next whole frame.
pub async fn next(read: &mut impl millpond_runtime::ConnRead, buf: &mut BytesMut) -> Result<Frame, String> {
    let decoder = Decoder { frame_bytes_max: FRAME_BYTES_MAX };
    loop {
        if let Some(frame) = decoder.decode(buf).map_err(|e| e.to_string())? {
            return Ok(frame);
        }
        buf.reserve(READ_BYTES);
        if read.recv(buf).await.map_err(|e| e.to_string())? == 0 {
            return Err("the connection ended".into());
        }
    }
}

async fn send(remote: &Remote, mut write: impl millpond_runtime::ConnWrite) -> String {
    loop {
        if remote.dead.get() {
            return "it was given up".into();
        }
        let out: Bytes = remote.out.borrow_mut().split().freeze();
        if out.is_empty() {
            remote.wake.notified().await;
        } else if let Err(error) = write.send(&[out]).await {
            return error.to_string();
        }
    }
}

async fn receive(remote: &Remote, mut read: impl millpond_runtime::ConnRead, mut buf: BytesMut) -> String {
    loop {
        match next(&mut read, &mut buf).await {
            Err(why) => return why,
            Ok(frame) => {
                let waiting = remote.waiting.borrow_mut().pop_front();
                let Some(waiting) = waiting else { return "an answer that nobody asked for".into() };
                // Whoever asked may have gone.
                let _ = waiting.send(Ok(frame));
            }
        }
    }
}
