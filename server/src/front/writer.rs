//! The writing half of a connection: answers in the order of the requests, as many in one send as are ready.

use super::{
    Front,
    conn::{Answer, Conn, Outcomes},
    requests::{Reply, carry_out},
};
use bytes::{Bytes, BytesMut};
use millpond_runtime::{ConnWrite, IoError, Nanos, Rt};
use millpond_wire::{
    frame::{Flags, encode_into},
    messages::{Code, Kind, ProduceReply},
};
use std::rc::Rc;
use tokio::sync::OwnedSemaphorePermit;

/// Small answers are gathered up to so many bytes.
const GATHER_BYTES: usize = 64 * 1024;
/// Bytes sent in one call at most: a client that takes this much within the deadline is not stalled.
const CHUNK_BYTES: usize = 256 * 1024;
/// An idle connection keeps no larger buffer than this, in bytes.
const KEPT_BYTES: usize = 4 * 1024;

/// What is about to be sent.
#[derive(Default)]
struct Outbox {
    /// Small answers, one behind the other, after all pieces.
    small: BytesMut,
    pieces: Vec<Bytes>,
    /// Requests that are answered by it.
    answered: Vec<(Kind, Nanos)>,
    /// Memory of the pieces.
    memory: Vec<OwnedSemaphorePermit>,
}

/// Writes until the last answer is sent.
pub(super) async fn run<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, mut socket: <R::Conn as millpond_runtime::Conn>::Write) {
    let writing = async {
        if let Err(error) = write(front, conn, &mut socket).await {
            tracing::debug!(peer = %conn.peer, %error, "a connection broke");
            return;
        }
        conn.sending.set(0);
        if conn.lingering.get() {
            conn.lingered.wait().await;
        }
    };
    futures_lite::future::or(writing, conn.killed.wait()).await;
    conn.sending.set(0);
    socket.shutdown();
    conn.dead.set(true);
    conn.poke.set();
    // What was appended stays appended; nobody is there to be told.
    let unsent = std::mem::take(&mut *conn.answers.borrow_mut());
    drop(unsent);
}

async fn write<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, socket: &mut impl ConnWrite) -> Result<(), IoError> {
    let mut out = Outbox::default();
    loop {
        while out.small.len() < GATHER_BYTES
            && let Some(answer) = next_ready(conn)
        {
            put_ready(front, answer, &mut out);
        }
        if !out.is_empty() {
            send(front, conn, socket, &mut out).await?;
            continue;
        }
        match conn.pop() {
            None if conn.ended.get() => return Ok(()),
            None => conn.work.wait().await,
            Some(Answer::Produced { correlation, began, throttle_ms, mut outcomes }) => {
                for outcome in outcomes.each() {
                    outcome.settle().await;
                }
                put_ready(front, Answer::Produced { correlation, began, throttle_ms, outcomes }, &mut out);
            }
            Some(Answer::Deferred { correlation, began, kind, meta }) => {
                let reply = Box::pin(carry_out(front, conn, kind, meta)).await;
                put_reply(front, (kind, correlation, began), reply, &mut out);
            }
            Some(ready @ Answer::Ready { .. }) => put_ready(front, ready, &mut out),
        }
    }
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
        Answer::Produced { correlation, began, throttle_ms, outcomes } => {
            let results = match outcomes {
                Outcomes::One(one) => vec![one.into_result()],
                Outcomes::Many(many) => many.into_iter().map(|one| one.into_result()).collect(),
            };
            let failures = results.iter().filter_map(|r| r.failure.as_ref());
            failures.for_each(|f| front.core.counters.borrow_mut().count_error(f.code()));
            let reply = ProduceReply { results, throttle_ms };
            encode_into(&mut out.small, Kind::Produce, Flags::REPLY, correlation, &reply, 0);
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
        Reply::Fetched(fetched) => {
            let failures = fetched.reply.partitions.iter().filter_map(|p| p.failure.as_ref());
            failures.for_each(|f| front.core.counters.borrow_mut().count_error(f.code()));
            front.core.counters.borrow_mut().records_out += fetched.records;
            encode_into(&mut out.small, kind, Flags::REPLY, correlation, &fetched.reply, fetched.bytes);
            out.close_small();
            out.pieces.extend(fetched.batches);
            out.memory.extend(fetched.memory);
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
    conn.sending.set(rt.mono().max(1));
    if bytes <= CHUNK_BYTES {
        socket.send(&out.pieces).await?;
    } else {
        for chunk in chunks(std::mem::take(&mut out.pieces)) {
            conn.sending.set(rt.mono().max(1));
            socket.send(&chunk).await?;
            // A peer that reads fast takes all at once, and others have had no turn meanwhile.
            rt.yield_now().await;
        }
    }
    conn.sending.set(0);
    out.pieces.clear();
    out.memory.clear();
    if out.small.capacity() > KEPT_BYTES {
        out.small = BytesMut::new();
    }
    let now = rt.mono();
    let mut counters = front.core.counters.borrow_mut();
    counters.bytes_out += bytes as u64;
    for (kind, began) in out.answered.drain(..) {
        counters.count_request(kind, now.saturating_sub(began));
    }
    Ok(())
}

/// Pieces in groups of at most [`CHUNK_BYTES`]; a larger piece is cut.
fn chunks(pieces: Vec<Bytes>) -> impl Iterator<Item = Vec<Bytes>> {
    let mut pieces = pieces.into_iter();
    let mut rest: Option<Bytes> = None;
    std::iter::from_fn(move || {
        let mut chunk = Vec::new();
        let mut left = CHUNK_BYTES;
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
