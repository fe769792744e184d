//! The reading half of a connection: bytes to frames, frames to [`dispatch`].

use super::{
    Front, LEN_BYTES,
    conn::{Answer, Conn, Speaks},
    dispatch::{Flow, dispatch, may_be_node, refusal},
    intake::Intake,
    kafka,
};
use crate::catalog::{Age, Home};
use bytes::BytesMut;
use millpond_raft::{LinkError, wire::Greeting};
use millpond_runtime::{ConnRead, Rt};
use millpond_wire::{
    frame::{Decoder, HEAD_BYTES},
    messages::Kind,
};
use std::{rc::Rc, time::Duration};

/// After the last answer, what the client still sends is read and thrown away for at most this time: a socket that is closed with
/// unread bytes is reset, and the reset can overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes thrown away at a time.
const LINGER_BYTES: usize = 16 * 1024;

/// How reading ended.
enum End {
    /// The client sends no more.
    Over,
    /// The connection broke, or was killed.
    Broken,
    /// We read no more, and say why.
    Refused(Box<Answer0>),
    /// We read no more; what was answered is still sent.
    Ended,
    /// The node stops.
    Stopping,
    /// It is another node, which sends replicas' messages: these bytes are its first.
    Peer(BytesMut),
}

/// The last answer: its kind and its frame.
type Answer0 = (Kind, bytes::Bytes);

/// Reads until the client or the node ends it.
pub(super) async fn run<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, mut socket: <R::Conn as millpond_runtime::Conn>::Read) {
    let end = read(front, conn, &mut socket).await;
    conn.partial.set((0, 0));
    conn.receiving.set(0);
    match end {
        End::Over => {}
        End::Peer(buf) => hear_peer(front, conn, &mut socket, buf).await,
        End::Broken => conn.kill(),
        End::Ended => {
            front.core.counters.borrow_mut().connections_refused += 1;
            conn.lingering.set(true);
        }
        End::Stopping => conn.lingering.set(true),
        End::Refused(last) => {
            front.core.counters.borrow_mut().connections_refused += 1;
            conn.lingering.set(true);
            conn.push(Answer::Ready { kind: last.0, began: front.core.rt.mono(), frame: last.1 });
        }
    }
    conn.ended.set(true);
    conn.work.set();
    if conn.lingering.get() {
        linger(front, conn, &mut socket).await;
        conn.lingering.set(false);
        conn.lingered.set();
    }
}

async fn read<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, socket: &mut impl ConnRead) -> End {
    let core = &front.core;
    let mut intake = Intake::new();
    loop {
        if let Err(end) = take_frames(front, conn, &mut intake).await {
            return end;
        }
        if core.stopping.get() {
            return End::Stopping;
        }
        let now = core.rt.mono();
        let silent_until = conn.silent_until.get();
        if silent_until > now {
            core.rt.sleep(Duration::from_nanos(silent_until - now)).await;
        }
        conn.charged.set(intake.is_charged());
        make_room(front, conn, &mut intake).await;
        if conn.dead.get() {
            return End::Broken;
        }
        conn.roomy.set(intake.is_roomy());
        conn.charged.set(intake.is_charged());
        if let (began @ 1.., len) = conn.partial.get() {
            // In which we did not read.
            conn.partial.set((began + (core.rt.mono() - now), len));
        }
        conn.receiving.set(core.rt.mono().max(1));
        let spare = intake.buf.capacity() - intake.buf.len();
        let received = async { Some(socket.recv(&mut intake.buf).await) };
        let poked = async {
            conn.poke.wait().await;
            None
        };
        let received = futures_lite::future::or(received, poked).await;
        conn.receiving.set(0);
        match received {
            _ if conn.dead.get() => return End::Broken,
            Some(Ok(0)) => return End::Over,
            Some(Ok(n)) => {
                core.counters.borrow_mut().bytes_in += n as u64;
                intake.learn(n, spare);
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %conn.peer, %error, "a connection broke");
                return End::Broken;
            }
            None => intake.shrink(),
        }
    }
}

/// Makes room for the next read, which may wait for others to give back memory: until then, or until the connection is dead.
async fn make_room<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, intake: &mut Intake) {
    loop {
        let made = async {
            intake.make_room(front).await;
            true
        };
        let poked = async {
            conn.poke.wait().await;
            false
        };
        if futures_lite::future::or(made, poked).await || conn.dead.get() {
            return;
        }
    }
}

/// Dispatches all frames that are whole.
async fn take_frames<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, intake: &mut Intake) -> Result<(), End> {
    let now = front.core.rt.mono();
    let mut took = false;
    loop {
        let decoder = Decoder { frame_bytes_max: front.frame_bytes_max_of(conn) };
        if !conn.greeted.get() && intake.buf.starts_with(&millpond_raft::wire::MAGIC) {
            if may_be_node(front, conn) {
                return Err(End::Peer(intake.buf.split()));
            }
            tracing::warn!(peer = %conn.peer, "a connection is closed: it speaks as a node and has not shown a certificate of one");
            return Err(End::Ended);
        }
        if intake.speaks.is_none() {
            intake.speaks = speaks(&intake.buf);
        }
        let len = intake.partial();
        // A frame that is still arriving is not given to the decoder, which would reserve memory for it uncharged.
        let arriving = len > intake.buf.len() && len <= LEN_BYTES + decoder.frame_bytes_max;
        if arriving || intake.buf.len() < HEAD_BYTES.min(len) {
            let (began, _) = conn.partial.get();
            let is_new = took || began == 0;
            let began = if is_new { now.max(1) } else { began };
            if is_new {
                intake.began = began;
            }
            conn.partial.set(if intake.buf.is_empty() { (0, 0) } else { (began, len) });
            return Ok(());
        }
        if intake.speaks == Some(Speaks::Kafka) {
            match kafka::take(front, conn, intake, now).await {
                Ok(true) => took = true,
                Ok(false) => {
                    conn.partial.set((0, 0));
                    return Ok(());
                }
                Err(error) => {
                    tracing::info!(peer = %conn.peer, client = &*conn.client(), %error, "a connection is closed: it does not speak Kafka's protocol as it should");
                    return Err(End::Ended);
                }
            }
            conn.wait_room(now, |conn| !conn.is_full()).await;
            if conn.dead.get() {
                return Err(End::Broken);
            }
            continue;
        }
        match decoder.decode(&mut intake.buf) {
            Ok(None) => {
                conn.partial.set((0, 0));
                return Ok(());
            }
            Ok(Some(frame)) => {
                took = true;
                if let Flow::Refuse(kind, last) = dispatch(front, conn, frame, now, intake.size()).await {
                    return Err(End::Refused(Box::new((kind, last))));
                }
            }
            Err(error) => {
                tracing::info!(peer = %conn.peer, client = &*conn.client(), %error, "a connection is closed: it does not speak our protocol");
                return Err(End::Refused(Box::new((Kind::Unknown, refusal(&intake.buf, &error)))));
            }
        }
        conn.wait_room(now, |conn| !conn.is_full()).await;
        if conn.dead.get() {
            return Err(End::Broken);
        }
    }
}

/// Which protocol the first bytes of a connection are of. What comes first in ours is a Hello, whose kind is 1, little-endian; in Kafka's it is a request of less than 16 MiB, big-endian,
/// whose API has a number below 256, big-endian, where ours has the kind. All else is answered in our own.
fn speaks(buf: &BytesMut) -> Option<Speaks> {
    let [len @ .., high, low] = *buf.first_chunk::<{ LEN_BYTES + 2 }>()?;
    let len = u32::from_be_bytes(len);
    let is_kafka = (kafka::REQUEST_BYTES_MIN..1 << 24).contains(&len) && high == 0 && kafka::is_known(low);
    Some(if is_kafka { Speaks::Kafka } else { Speaks::Native })
}

/// Hears what replicas on another node say, for as long as it says something.
async fn hear_peer<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, socket: &mut impl ConnRead, buf: BytesMut) {
    let core = &front.core;
    conn.greeted.set(true);
    conn.partial.set((0, 0));
    let driver = |greeting: &Greeting| {
        let age = Age { count: greeting.age, start: greeting.start };
        let home = Home(u16::try_from(greeting.home).ok()?);
        core.is_of_age(greeting.from, age).then(|| core.drivers.get(&home).cloned()).flatten()
    };
    let me = millpond_runtime::NodeId(core.identity.node_id);
    let welcome = async |frame| {
        conn.push(Answer::Ready { kind: Kind::Hello, began: core.rt.mono(), frame });
        Ok(())
    };
    let heard = async { millpond_raft::accept(socket, welcome, buf, (core.identity.cluster_id, me), driver).await };
    let ended = async {
        while !core.stopping.get() && !conn.dead.get() {
            conn.poke.wait().await;
        }
        Ok(())
    };
    match futures_lite::future::or(heard, ended).await {
        Ok(()) => conn.kill(),
        Err(error) => {
            tracing::debug!(peer = %conn.peer, %error, "a connection of another node ended");
            // It is to hear why, if that was said.
            if matches!(error, LinkError::Wire(_)) { conn.lingering.set(true) } else { conn.kill() }
        }
    }
}

/// See [`LINGER`].
async fn linger<R: Rt>(front: &Front<R>, conn: &Conn<R>, socket: &mut impl ConnRead) {
    let rt = &front.core.rt;
    let mut thrown = BytesMut::with_capacity(LINGER_BYTES);
    let throw = async {
        while !conn.dead.get() {
            thrown.clear();
            thrown.reserve(LINGER_BYTES);
            match socket.recv(&mut thrown).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        }
    };
    // Running out of time is how it mostly ends.
    let _ = millpond_runtime::rt::timeout(rt, LINGER, throw).await;
}
