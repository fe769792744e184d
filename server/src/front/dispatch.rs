//! What a frame asks for: produced batches are appended at once, all else waits for its turn in the queue of answers.

use super::{
    Front,
    conn::{Answer, Asked, Conn, LONG_BYTES, OUTCOME_BYTES, Outcomes, Told},
    login::{self, Failed},
    rights,
};
use crate::{node::learning, quota::Direction};
use bytes::{Bytes, BytesMut};
use millpond_runtime::{Nanos, Rt, Shown};
use millpond_wire::{
    VERSION,
    frame::{Flags, Frame, FrameError, HEAD_BYTES, encode},
    messages::{Acks, Code, Done, Failure, Hello, Kind, Login, LoginReply, Produce, Welcome},
};
use prost::encoding::{DecodeContext, decode_key, skip_field};
use std::rc::Rc;

/// The largest message, in bytes, its payload not counted: what it decodes to may be many times as large.
const META_BYTES_MAX: usize = 1024 * 1024;
/// Most parts of a message, nested ones not counted: each takes two bytes at the least, and many times as much once it is decoded.
const PARTS_MAX: usize = 10_000 + 100;
/// A batch that is smaller than this part of the buffer that it came in (a numerator and a denominator) is copied, so that it does
/// not keep all of that: memory is charged for what is kept and not for what keeps it.
pub(super) const KEPT_PART: (usize, usize) = (3, 4);
/// Most batches of one request.
pub(super) const BATCHES_MAX: usize = 1_024;
/// A request of more batches takes memory of its own until it is answered.
pub(super) const BATCHES_FEW: usize = 8;
/// Longest client id, in bytes.
pub(super) const CLIENT_ID_BYTES_MAX: usize = 255;

/// Whether the connection goes on.
pub(super) enum Flow {
    /// It does.
    Go,
    /// It ends with this frame.
    Refuse(Kind, Bytes),
}

fn bad_request(message: impl Into<String>) -> Failure {
    Failure::new(Code::BadRequest, message, "this is a fault of the client: update it")
}

/// The answer to bytes that are no frame of ours: with the number of the request, where that can be told.
pub(super) fn refusal(buf: &BytesMut, error: &FrameError) -> Bytes {
    let code = match error {
        FrameError::TooLarge { .. } => Code::TooLarge,
        _ => Code::BadRequest,
    };
    let failure = Failure::new(code, error.to_string(), "connect with a client of this version of Millpond; the connection is closed");
    let head = buf.get(..HEAD_BYTES);
    let correlation = head.and_then(|h| h.get(8..16)?.try_into().ok()).map_or(0, u64::from_le_bytes);
    let mut frame = BytesMut::from(&encode(Kind::Hello, Flags::FAILURE, correlation, &failure, 0)[..]);
    if let (FrameError::Kind(_), Some(head)) = (error, head) {
        // The kind as it was asked for: whoever asked knows it.
        frame[4..6].copy_from_slice(&head[4..6]);
    }
    frame.freeze()
}

/// How many fields a message has, nested ones not counted, as far as it can be told: what does not parse is told by its decoder.
pub(super) fn parts(mut meta: &[u8]) -> usize {
    let mut parts = 0;
    while !meta.is_empty() {
        let skipped = decode_key(&mut meta).and_then(|(tag, wire)| skip_field(wire, tag, &mut meta, DecodeContext::default()));
        if skipped.is_err() {
            break;
        }
        parts += 1;
    }
    parts
}

/// Takes one frame, which came in a buffer of so many bytes.
pub(super) async fn dispatch<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, frame: Frame, now: Nanos, buffer_bytes: usize) -> Flow {
    if frame.flags != Flags::REQUEST {
        return refuse(&frame, &bad_request("a reply, where only requests are taken"));
    }
    if frame.meta.len() > META_BYTES_MAX {
        let message = format!("a message of {} bytes, at most {META_BYTES_MAX} are taken", frame.meta.len());
        return refuse(&frame, &Failure::new(Code::TooLarge, message, "ask for less at a time"));
    }
    let parts = parts(&frame.meta);
    if parts > PARTS_MAX {
        let message = format!("a message of {parts} parts, at most {PARTS_MAX} are taken");
        return refuse(&frame, &Failure::new(Code::TooLarge, message, "ask for less at a time"));
    }
    match frame.kind {
        Kind::Hello => return hello(front, conn, &frame, now),
        _ if !conn.greeted.get() => return refuse(&frame, &bad_request("the first request of a connection must be a Hello")),
        Kind::Login => return log_in(front, conn, &frame, now).await,
        _ if front.is_stranger(conn) => {
            let message = "the server wants to know its clients, and this one has not shown who it is";
            return refuse(
                &frame,
                &Failure::new(Code::Unauthenticated, message, "log in as a user (--username), or show a node's certificate"),
            );
        }
        kind if kind.is_for_nodes() && !may_be_node(front, conn) => {
            let message = format!("a {kind:?} request is for nodes among themselves, and this connection has not shown that it is one");
            fail(front, conn, &frame, now, &Failure::new(Code::BadRequest, message, NO_NODE));
        }
        // Batches for what it leads it takes all the same.
        kind if front.core.cluster.learning.get() && kind.is_for_clients() && kind != Kind::Produce && conn.from_node.get() == 0 => {
            fail(front, conn, &frame, now, &learning());
        }
        Kind::Produce => produce(front, conn, frame, now, buffer_bytes).await,
        Kind::Ping => {
            let reply = encode(Kind::Ping, Flags::REPLY, frame.correlation, &Done {}, 0);
            conn.push(Answer::Ready { kind: Kind::Ping, began: now, frame: reply });
        }
        kind if !frame.payload.is_empty() => {
            let failure = bad_request(format!("a {kind:?} request with {} bytes behind its message", frame.payload.len()));
            fail(front, conn, &frame, now, &failure);
        }
        kind => {
            let held = if frame.meta.len() > LONG_BYTES {
                conn.wait_room(now, Conn::defers_nothing).await;
                Some(front.long.take(frame.meta.len()).await)
            } else {
                None
            };
            // Copied, so that it does not keep the buffer that it came in.
            let meta = Bytes::copy_from_slice(&frame.meta);
            let asked = Asked::Native { correlation: frame.correlation, kind, meta };
            conn.push(Answer::Deferred { asked, began: now, held });
        }
    }
    Flow::Go
}

fn refuse(frame: &Frame, failure: &Failure) -> Flow {
    Flow::Refuse(frame.kind, encode(frame.kind, Flags::FAILURE, frame.correlation, failure, 0))
}

/// Answers with a failure; the connection goes on.
fn fail<R: Rt>(front: &Front<R>, conn: &Conn<R>, frame: &Frame, now: Nanos, failure: &Failure) {
    front.core.counters.borrow_mut().count_error(failure.code());
    let reply = encode(frame.kind, Flags::FAILURE, frame.correlation, failure, 0);
    conn.push(Answer::Ready { kind: frame.kind, began: now, frame: reply });
}

/// What to do where a node is not taken for one.
const NO_NODE: &str = "give each node --tls-cert and --tls-key with a certificate that the authority of --tls-node-ca has signed";

/// Whether whoever is at the other end may speak as a node: anybody where nobody can tell, else who has shown that it is one.
pub(super) fn may_be_node<R: Rt>(front: &Front<R>, conn: &Conn<R>) -> bool {
    !(front.core.config.tls || front.core.config.authenticate) || conn.shown.get() == Shown::Node
}

fn hello<R: Rt>(front: &Front<R>, conn: &Conn<R>, frame: &Frame, now: Nanos) -> Flow {
    let hello: Hello = match frame.message() {
        Ok(hello) => hello,
        Err(error) => return refuse(frame, &bad_request(error.to_string())),
    };
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        let message = format!("the client speaks versions {} to {}, this server {VERSION}", hello.version_min, hello.version_max);
        return refuse(frame, &Failure::new(Code::UnsupportedVersion, message, "use a client of this server's version"));
    }
    if hello.client_id.len() > CLIENT_ID_BYTES_MAX {
        let message = format!("a client id of {} bytes, at most {CLIENT_ID_BYTES_MAX} are taken", hello.client_id.len());
        return refuse(frame, &Failure::new(Code::InvalidArgument, message, "choose a shorter one"));
    }
    if hello.from_node != 0 && !may_be_node(front, conn) {
        let message = format!("whoever says that it is node {} has not shown a certificate of one", hello.from_node);
        return refuse(frame, &Failure::new(Code::BadRequest, message, NO_NODE));
    }
    tracing::debug!(peer = %conn.peer, client = hello.client_id, software = hello.software, "a client said hello");
    *conn.client_id.borrow_mut() = Rc::from(hello.client_id.as_str());
    conn.greeted.set(true);
    conn.from_node.set(hello.from_node);
    let core = &front.core;
    let welcome = Welcome {
        version: VERSION,
        software: format!("millpond {}", env!("CARGO_PKG_VERSION")),
        cluster_id: core.identity.cluster(),
        node_id: core.identity.node_id,
        core: u32::from(core.id().0),
        frame_bytes_max: front.frame_bytes_max as u32,
    };
    let reply = encode(Kind::Hello, Flags::REPLY, frame.correlation, &welcome, 0);
    conn.push(Answer::Ready { kind: Kind::Hello, began: now, frame: reply });
    Flow::Go
}

/// A client says something of who it is. Whoever is refused has to connect again.
async fn log_in<R: Rt>(front: &Front<R>, conn: &Conn<R>, frame: &Frame, now: Nanos) -> Flow {
    let Login { mechanism, message } = match frame.message() {
        Ok(login) => login,
        Err(error) => return refuse(frame, &bad_request(error.to_string())),
    };
    if front.core.cluster.learning.get() {
        // It may not know its users either.
        return refuse(frame, &learning());
    }
    if !mechanism.is_empty() && (mechanism == login::PLAIN || !login::choose(conn, &mechanism)) {
        let mechanism: String = mechanism.chars().take(64).collect();
        let failure =
            Failure::new(Code::Unauthenticated, format!("{mechanism} is not taken here"), "log in by SCRAM-SHA-512 or SCRAM-SHA-256");
        return refuse(frame, &failure);
    }
    match login::say(front, conn, &message).await {
        Ok(said) => {
            let reply = encode(Kind::Login, Flags::REPLY, frame.correlation, &LoginReply { message: said.into() }, 0);
            conn.push(Answer::Ready { kind: Kind::Login, began: now, frame: reply });
            Flow::Go
        }
        Err(Failed::OutOfTurn) => refuse(frame, &bad_request("a login begins with its mechanism, and has an end")),
        Err(Failed::Refused(refused)) => {
            let advice = "give the name and the password of a user; `millpond user list` names them";
            refuse(frame, &Failure::new(Code::Unauthenticated, format!("authentication failed: {refused}"), advice))
        }
    }
}

async fn produce<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, mut frame: Frame, now: Nanos, buffer_bytes: usize) {
    let message: Produce = match frame.message() {
        Ok(message) => message,
        Err(error) => return fail(front, conn, &frame, now, &bad_request(error.to_string())),
    };
    let said: u64 = message.batches.iter().map(|b| u64::from(b.len)).sum();
    if said != frame.payload.len() as u64 {
        let failure = bad_request(format!("batches of {said} bytes are announced, {} bytes came", frame.payload.len()));
        return fail(front, conn, &frame, now, &failure);
    }
    if message.batches.len() > BATCHES_MAX {
        let message = format!("{} batches in one request, at most {BATCHES_MAX} are taken", message.batches.len());
        return fail(front, conn, &frame, now, &Failure::new(Code::TooLarge, message, "send them in several requests"));
    }
    let Ok(acks) = Acks::try_from(message.acks) else {
        return fail(front, conn, &frame, now, &bad_request(format!("acks {} are unknown", message.acks)));
    };
    if let Err(failure) = rights::check_produce(front, conn, message.batches.iter().map(|batch| &*batch.topic)) {
        return fail(front, conn, &frame, now, &failure);
    }
    let core = &front.core;
    let throttle_ms = front.charge(conn, now, Direction::Produce, said);
    let held = if message.batches.len() > BATCHES_FEW {
        conn.wait_room(now, Conn::defers_nothing).await;
        Some(front.long.take(message.batches.len() * OUTCOME_BYTES).await)
    } else {
        None
    };
    let correlation = frame.correlation;
    let mut payload = std::mem::take(&mut frame.payload);
    drop(frame);
    let mut outcomes = Vec::new();
    let mut one = None;
    for batch in &message.batches {
        let mut bytes = payload.split_to(batch.len as usize);
        if bytes.len() * KEPT_PART.1 < buffer_bytes * KEPT_PART.0 {
            bytes = BytesMut::from(&bytes[..]);
        }
        let outcome = core.produce(&batch.topic, batch.partition, bytes, acks == Acks::All, None).await;
        if message.batches.len() == 1 {
            one = Some(outcome);
        } else {
            outcomes.push(outcome);
        }
    }
    if acks != Acks::None {
        let outcomes = one.map_or(Outcomes::Many(outcomes), Outcomes::One);
        conn.push(Answer::Produced { told: Told::Native { correlation, throttle_ms }, began: now, outcomes, held });
    }
}
