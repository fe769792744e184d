//! Connections between nodes. Each node dials each other one and only sends on what it has dialled, so that messages stay in order for as
//! long as a connection lasts. All that the other side says there is its welcome.

use crate::{
    driver::Driver,
    queue::Queue,
    wire::{GREETING_BYTES, Greeting, Versions, WELCOME_BYTES, Welcome, WireError, encode, frame_len, nothing_in_common},
};
use bytes::{Bytes, BytesMut};
use millpond_runtime::{Conn, ConnRead, ConnWrite, IoError, NodeId, Rt, Share, rt::timeout};
use std::{net::SocketAddr, rc::Rc, time::Duration};

/// A connection that is not there after this time is given up.
const DIAL_MAX: Duration = Duration::from_secs(2);
/// A frame that is not sent after this time breaks the connection.
const SEND_MAX: Duration = Duration::from_secs(5);
/// How long to wait before dialling again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A shorter frame is copied out of the memory that it was received into, which its entries would keep.
const OWN_BYTES_MIN: usize = READ_BYTES_MIN / 4 * 3;
/// A connection that has lasted so long is dialled again at once: one that is refused over and over is not.
const STOOD: Duration = Duration::from_millis(500);
/// The least that is read at a time.
const READ_BYTES_MIN: usize = 64 * 1024;

/// Why a connection of a peer ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It broke.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It does not speak as a peer does.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Sends what the driver has for a node, dialling it whenever that is needed, until the driver stops or `dial` does not know any more where the node is, and what
/// to greet it with.
pub fn link<R: Rt>(driver: &Driver<R>, to: NodeId, dial: impl Fn() -> Option<(SocketAddr, Greeting)> + 'static) {
    let link = Link { driver: driver.clone(), queue: driver.queue(to), to, dial: Box::new(dial) };
    driver.rt().spawn("raft link", Share::Serve, async move { link.run().await });
}

struct Link<R: Rt> {
    driver: Driver<R>,
    queue: Rc<Queue>,
    to: NodeId,
    dial: Box<dyn Fn() -> Option<(SocketAddr, Greeting)>>,
}

impl<R: Rt> Link<R> {
    async fn run(&self) {
        let rt = self.driver.rt();
        while let Some((at, greeting)) = (self.dial)().filter(|_| !self.driver.is_stopping()) {
            let began = rt.mono();
            let ended = self.connected(at, greeting).await;
            if self.queue.is_connected() {
                self.queue.set_connected(false);
                tracing::info!(node = self.to.0, home = greeting.home, %at, "the connection to a node ended");
            }
            if let Err(error) = ended {
                tracing::debug!(node = self.to.0, home = greeting.home, %at, %error, "a node cannot be reached");
                self.queue.clear();
                if matches!(&error, LinkError::Io(IoError::Net { source, .. }) if source.kind() == std::io::ErrorKind::ConnectionRefused) {
                    self.driver.nobody_there(self.to);
                }
                self.driver.unreachable(self.to);
                if rt.mono() - began >= STOOD.as_nanos() as u64 {
                    // Whether its node still is there is to be known at once.
                    self.queue.beat();
                } else {
                    rt.sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    /// Dials once there is something to say, and sends until it breaks or the driver stops.
    async fn connected(&self, at: SocketAddr, greeting: Greeting) -> Result<(), LinkError> {
        let rt = self.driver.rt();
        let ended = |doing: &str| IoError::Net { doing: doing.to_owned(), source: std::io::ErrorKind::UnexpectedEof.into() };
        let late = |doing: &str| IoError::Net { doing: doing.to_owned(), source: std::io::ErrorKind::TimedOut.into() };
        let Some(mut envelopes) = self.queue.take().await else { return Ok(()) };
        let conn = timeout(rt, DIAL_MAX, rt.dial(at)).await.map_err(|_| late("connect to a peer"))??;
        let (mut read, mut write) = conn.split();
        write.send(&[greeting.encode(Versions::OURS)]).await?;
        let mut nothing = BytesMut::with_capacity(WELCOME_BYTES);
        if !timeout(rt, DIAL_MAX, fill(&mut read, &mut nothing, WELCOME_BYTES)).await.map_err(|_| late("be welcomed by a peer"))?? {
            return Err(ended("a peer has not welcomed this node").into());
        }
        let version = Welcome::decode(&nothing.split_to(WELCOME_BYTES))?.agreed(Versions::OURS)?;
        tracing::debug!(node = self.to.0, home = greeting.home, %at, version, "connected to a node");
        self.queue.set_connected(true);
        while !self.driver.is_stopping() {
            let frame = encode(self.driver.life(), &envelopes);
            timeout(rt, SEND_MAX, write.send(&frame)).await.map_err(|_| late("send to a peer"))??;
            envelopes = loop {
                let next = async { Ok(self.queue.take().await) };
                // The other side says nothing on this connection: whatever comes is its end, which a send would notice only the second time.
                let ended = async { Err(read.recv(&mut nothing).await.err().unwrap_or_else(|| ended("a peer has ended the connection"))) };
                match futures_lite::future::or(next, ended).await? {
                    Some(envelopes) => break envelopes,
                    None if self.driver.is_stopping() => return Ok(()),
                    None => {}
                }
            };
        }
        Ok(())
    }
}

/// Reads what a peer sends on a connection that it has dialled, of which `buf` has come already, until it ends or makes no sense. `driver_of`
/// knows the drivers of this node by the home that is asked for, and whether whoever greets is welcome; `answer` sends it the one thing that is said to it.
pub async fn accept<R: Rt>(
    read: &mut impl ConnRead,
    answer: impl AsyncFnOnce(Bytes) -> Result<(), IoError>,
    mut buf: BytesMut,
    (cluster, me): (u64, NodeId),
    driver_of: impl Fn(&Greeting) -> Option<Driver<R>>,
) -> Result<(), LinkError> {
    if !fill(read, &mut buf, GREETING_BYTES).await? {
        return Ok(());
    }
    let (greeting, versions) = Greeting::decode(&buf.split_to(GREETING_BYTES))?;
    let Some(driver) = driver_of(&greeting).filter(|_| (greeting.cluster, greeting.to) == (cluster, me)) else {
        let Greeting { cluster, from, to, home, .. } = greeting;
        return Err(WireError::Stranger(format!("node {from} of cluster {cluster:x} looks for home {home} of node {to}")).into());
    };
    let welcome = Welcome::new(versions, Versions::OURS);
    answer(welcome.encode()).await?;
    if welcome.version.is_none() {
        return Err(nothing_in_common(versions, Versions::OURS).into());
    }
    while !driver.is_stopping() {
        if !fill(read, &mut buf, 4).await? {
            return Ok(());
        }
        let len = frame_len(&buf)?.unwrap_or(GREETING_BYTES);
        if !fill(read, &mut buf, len).await? {
            return Ok(());
        }
        let frame = buf.split_to(len);
        let frame = if len < OWN_BYTES_MIN { Bytes::copy_from_slice(&frame) } else { frame.freeze() };
        driver.receive(greeting.from, &frame)?;
        driver.rt().yield_if_needed().await;
    }
    Ok(())
}

/// Reads until there are `len` bytes; false if the stream ends before.
async fn fill(read: &mut impl ConnRead, buf: &mut BytesMut, len: usize) -> Result<bool, IoError> {
    while buf.len() < len {
        // What a frame claims is given as it arrives.
        buf.reserve(READ_BYTES_MIN.max((len - buf.len()).min(buf.len())));
        if read.recv(buf).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
