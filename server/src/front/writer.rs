//! The writing half of a connection: answers in the order of the requests, as many in one send as are ready.
//!
//! A connection that ends is told so wherever its writer waits, but for requests that change something: those are carried out to
//! their end, so that they never run without anybody who counts their memory.
//!
//! What a replay is sent is sent in the background's share of the core: the task that writes hands over to another one there, and that one
//! back again when something else is to be answered.

use super::{
    Front,
    conn::{Answer, Asked, Conn, Outcomes, Told},
    kafka,
    requests::{Reply, carry_out, weigh},
};
use crate::node::budget::Held;
use bytes::{Bytes, BytesMut};
use millpond_runtime::{ConnWrite, IoError, Nanos, Rt, Share};
use millpond_wire::{
    frame::{Flags, encode_as_is, encode_into},
    messages::{Code, Kind, ProduceReply},
};
use std::{future::Future, rc::Rc, time::Duration};

/// Small answers are gathered up to so many bytes.
const GATHER_BYTES: usize = 64 * 1024;
/// Bytes sent in one call at most: a client that takes this much within the deadline is not stalled. Less is sent at a time to one
/// that takes little.
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNK_BYTES_MIN: usize = 16 * 1024;
/// After a fetch that could not wait for want of memory the next request waits so long.
const REST: Duration = Duration::from_millis(250);
/// An idle connection keeps no larger buffer than this, in bytes.
const KEPT_BYTES: usize = 1024;

/// Nor a longer list of what was answered.
const ANSWERED_KEPT: usize = 16;

/// What is about to be sent.
#[derive(Default)]
struct Outbox {
    /// Small answers, one behind the other, after all pieces.
    small: BytesMut,
    pieces: Vec<Bytes>,
    /// Requests that are answered by it.
    answered: Vec<(Kind, Nanos)>,
    /// An answer that came early for want of memory is among it.
    hurried: bool,
    /// The answer of a replay is among it.
    replay: bool,
    /// Memory of the pieces.
    memory: Vec<Held>,
}

/// Where writing stands, between two tasks that do it.
pub(super) struct Writer<W> {
    socket: W,
    out: Outbox,
    share: Share,
}

impl<W> Writer<W> {
    /// Nothing has been written, and the first task serves.
    pub(super) fn new(socket: W) -> Self {
        Self { socket, out: Outbox::default(), share: Share::Serve }
    }

    /// The share in which it goes on.
    pub(super) fn share(&self) -> Share {
        self.share
    }
}

/// Writes until the last answer is sent, or until it must go on in another share: then it returns what to go on with.
pub(super) async fn run<R: Rt, W: ConnWrite>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, mut writer: Writer<W>) -> Option<Writer<W>> {
    match write(front, conn, &mut writer).await {
        Ok(Done::HandOver) => return Some(writer),
        Ok(Done::AllSent) => {
            conn.sending.set(0);
            if conn.lingering.get() {
                // It is of no more use if it was killed.
                let _ = unless_killed(conn, conn.lingered.wait()).await;
            }
        }
        Err(Ended::Killed) => {}
        Err(Ended::Broken(error)) => tracing::debug!(peer = %conn.peer, %error, "a connection broke"),
    }
    conn.sending.set(0);
    writer.socket.shutdown();
    conn.dead.set(true);
    conn.poke.set();
    // What was appended stays appended; nobody is there to be told.
    let unsent = std::mem::take(&mut *conn.answers.borrow_mut());
    drop(unsent);
    None
}

/// Why this task writes no more, though nothing is wrong.
enum Done {
    /// There is nothing left, and nothing will come.
    AllSent,
    /// What is next belongs to another share.
    HandOver,
}

/// Why nothing more is written.
enum Ended {
    /// The sweeper, the reader or the end of the node.
    Killed,
    /// The network.
    Broken(IoError),
}

/// What comes of `work`, unless the connection is killed before.
async fn unless_killed<R: Rt, T>(conn: &Conn<R>, work: impl Future<Output = T>) -> Result<T, Ended> {
    let killed = async {
        conn.killed.wait().await;
        Err(Ended::Killed)
    };
    if conn.dead.get() { Err(Ended::Killed) } else { futures_lite::future::or(async { Ok(work.await) }, killed).await }
}

async fn write<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, writer: &mut Writer<impl ConnWrite>) -> Result<Done, Ended> {
    let Writer { socket, out, share } = writer;
    loop {
        while out.small.len() < GATHER_BYTES
            && let Some(answer) = next_ready(conn)
        {
            put_ready(front, answer, out);
        }
        if !out.is_empty() {
            let wanted = if out.replay { Share::Background } else { Share::Serve };
            if std::mem::replace(share, wanted) != wanted {
                return Ok(Done::HandOver);
            }
            let rest = std::mem::take(&mut out.hurried);
            out.replay = false;
            unless_killed(conn, send(front, conn, socket, out)).await?.map_err(Ended::Broken)?;
            if rest && !front.core.stopping.get() {
                unless_killed(conn, front.core.rt.sleep(REST)).await?;
            }
            continue;
        }
        match conn.pop() {
            None if conn.ended.get() => return Ok(Done::AllSent),
            None => unless_killed(conn, conn.work.wait()).await?,
            Some(Answer::Produced { told, began, mut outcomes, held }) => {
                for outcome in outcomes.each() {
                    unless_killed(conn, outcome.settle()).await?;
                }
                put_ready(front, Answer::Produced { told, began, outcomes, held }, out);
            }
            Some(Answer::Deferred { asked, began, held }) => answer(front, conn, (asked, held), began, out).await?,
            Some(ready @ Answer::Ready { .. }) => put_ready(front, ready, out),
        }
    }
}

/// Carries out what is asked, and puts its answer to what is sent next.
async fn answer<R: Rt>(
    front: &Rc<Front<R>>,
    conn: &Rc<Conn<R>>,
    (asked, held): (Asked, Option<Held>),
    began: Nanos,
    out: &mut Outbox,
) -> Result<(), Ended> {
    match asked {
        Asked::Native { correlation, kind, meta } => {
            let weight = weigh(front, kind, &meta);
            let mut working = unless_killed(conn, front.core.requests.take(weight)).await?;
            let work = Box::pin(carry_out(front, conn, kind, (meta, held), &mut working));
            // A fetch waits for long and changes nothing.
            let reply = if kind == Kind::Fetch { unless_killed(conn, work).await? } else { work.await };
            conn.carried_out();
            put_reply(front, (kind, correlation, began), reply, out);
            out.memory.push(front.core.requests.answered(working, out.small.len()));
        }
        Asked::Kafka(request) => {
            let (kind, weight, waits) = (kafka::kind(&request), kafka::weigh(front, conn, &request), kafka::waits(&request));
            let mut working = unless_killed(conn, front.core.requests.take(weight)).await?;
            let work = Box::pin(kafka::carry_out(front, conn, *request, &mut working));
            let reply = if waits { unless_killed(conn, work).await? } else { work.await };
            drop(held);
            conn.carried_out();
            out.answered.push((kind, began));
            let Some(reply) = reply else { return Err(Ended::Killed) };
            let bytes = reply.pieces.iter().map(Bytes::len).sum::<usize>();
            out.close_small();
            out.pieces.extend(reply.pieces);
            out.memory.extend(reply.memory);
            out.hurried |= reply.hurried;
            out.memory.push(front.core.requests.answered(working, bytes.saturating_sub(reply.record_bytes)));
        }
    }
    Ok(())
}

/// The answer at the front, if nothing has to be waited for.
fn next_ready<R: Rt>(conn: &Conn<R>) -> Option<Answer<R>> {
    let ready = match conn.answers.borrow().front()? {
        Answer::Ready { .. } => true,
        Answer::Produced { outcomes, .. } => outcomes.is_ready(),
        Answer::Deferred { .. } => false,
    };
    if ready { conn.pop() } else { None }
}

fn put_ready<R: Rt>(front: &Front<R>, answer: Answer<R>, out: &mut Outbox) {
    match answer {
        Answer::Ready { kind, began, frame } => {
            out.small.extend_from_slice(&frame);
            out.answered.push((kind, began));
        }
        Answer::Produced { told, began, outcomes, held } => {
            let results = match outcomes {
                Outcomes::One(one) => vec![one.into_result()],
                Outcomes::Many(many) => many.into_iter().map(|one| one.into_result()).collect(),
            };
            let failures = results.iter().filter_map(|r| r.failure.as_ref());
            failures.for_each(|f| front.core.counters.borrow_mut().count_error(f.code()));
            match told {
                Told::Native { correlation, throttle_ms } => {
                    let reply = ProduceReply { results, throttle_ms };
                    encode_into(&mut out.small, Kind::Produce, Flags::REPLY, correlation, &reply, 0);
                }
                Told::Kafka(told) => told.answer(front, &results).iter().for_each(|piece| out.small.extend_from_slice(piece)),
            }
            out.memory.extend(held);
            out.answered.push((Kind::Produce, began));
        }
        Answer::Deferred { .. } => unreachable!("a deferred request is carried out before it is answered"),
    }
}

fn put_reply<R: Rt>(front: &Front<R>, (kind, correlation, began): (Kind, u64, Nanos), reply: Reply, out: &mut Outbox) {
    out.answered.push((kind, began));
    match reply {
        Reply::Message(encode) => encode(&mut out.small, correlation),
        Reply::Failure(failure) => {
            front.core.counters.borrow_mut().count_error(failure.code());
            if failure.code() == Code::Internal {
                tracing::error!(?kind, failure.message, "a request failed by our own fault");
            }
            encode_into(&mut out.small, kind, Flags::FAILURE, correlation, &failure, 0);
        }
        Reply::Passed(frame) => {
            encode_as_is(&mut out.small, kind, frame.flags, correlation, &frame.meta);
        }
        Reply::Fetched(fetched) => {
            let failures = fetched.reply.partitions.iter().filter_map(|p| p.failure.as_ref());
            failures.for_each(|f| front.core.counters.borrow_mut().count_error(f.code()));
            front.core.counters.borrow_mut().records_out += fetched.records;
            encode_into(&mut out.small, kind, Flags::REPLY, correlation, &fetched.reply, fetched.bytes);
            out.close_small();
            out.pieces.extend(fetched.batches);
            out.memory.extend(fetched.memory);
            out.hurried = fetched.hurried;
            out.replay = fetched.replay;
        }
    }
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.small.is_empty() && self.pieces.is_empty()
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }
}

async fn send<R: Rt>(front: &Front<R>, conn: &Conn<R>, socket: &mut impl ConnWrite, out: &mut Outbox) -> Result<(), IoError> {
    out.close_small();
    let rt = &front.core.rt;
    let bytes: usize = out.pieces.iter().map(Bytes::len).sum();
    let began = rt.mono().max(1);
    conn.sending.set(began);
    let chunk = (conn.fetch_bytes() / 4).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES);
    if bytes <= chunk {
        socket.send(&out.pieces).await?;
    } else {
        for chunk in chunks(std::mem::take(&mut out.pieces), chunk) {
            conn.sending.set(rt.mono().max(1));
            socket.send(&chunk).await?;
            // A peer that reads fast takes all at once, and others have had no turn meanwhile.
            rt.yield_now().await;
        }
    }
    let now = rt.mono();
    conn.sending.set(0);
    conn.took(bytes, now.saturating_sub(began));
    out.pieces.clear();
    out.memory.clear();
    conn.sent();
    if out.small.capacity() > KEPT_BYTES {
        out.small = BytesMut::new();
    }
    let mut counters = front.core.counters.borrow_mut();
    counters.bytes_out += bytes as u64;
    for (kind, began) in out.answered.drain(..) {
        counters.count_request(kind, now.saturating_sub(began));
    }
    if out.answered.capacity() > ANSWERED_KEPT {
        out.answered = Vec::new();
    }
    Ok(())
}

/// Pieces in groups of at most `most` bytes; a larger piece is cut.
fn chunks(pieces: Vec<Bytes>, most: usize) -> impl Iterator<Item = Vec<Bytes>> {
    let mut pieces = pieces.into_iter();
    let mut rest: Option<Bytes> = None;
    std::iter::from_fn(move || {
        let mut chunk = Vec::new();
        let mut left = most;
        while left > 0
            && let Some(mut piece) = rest.take().or_else(|| pieces.next())
        {
            if piece.len() > left {
                rest = Some(piece.split_off(left));
            }
            left -= piece.len();
            chunk.push(piece);
        }
        (!chunk.is_empty()).then_some(chunk)
    })
}
