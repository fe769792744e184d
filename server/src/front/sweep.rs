//! Deadlines of connections, looked at once a second for all of a core: no timer per connection or request.
//!
//! While somebody waits for memory, it is looked for more often, and those who hold some and do nothing with it have less time: half a
//! frame must go on, an answer must be taken, and a large buffer with nothing in it is given back, within [`PRESSED_WITHIN`]. Nothing that was acknowledged is lost by that, and
//! a client tries again.

use super::{Front, conn::Conn};
use millpond_runtime::{Nanos, Rt, Share, rt::to_next};
use std::{rc::Rc, time::Duration};

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// The first frame must come within this time.
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A frame that has begun goes on within this time.
pub(super) const FRAME_WITHIN: Duration = Duration::from_secs(30);
/// A frame that has begun ends within [`FRAME_WITHIN`] and one second for so many of its bytes.
const FRAME_BYTES_PER_SECOND: u64 = 64 * 1024;
/// A client that is sent to takes some of it within this time.
pub(super) const SEND_WITHIN: Duration = Duration::from_secs(30);
/// The same while others wait for the memory that the connection holds.
const PRESSED_WITHIN: Duration = Duration::from_secs(1);
/// The same for a frame in all, beside a second for so many of its bytes.
const PRESSED_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// A connection that holds memory for frames, and reads no more since its own requests wait, goes on within this time if others
/// wait for that memory.
const PRESSED_BLOCKED_WITHIN: Duration = Duration::from_secs(2);
/// How often is looked then.
const PRESSED_EVERY: Duration = Duration::from_millis(250);
/// A connection that is silent for this time gives back its buffer.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Looks after the connections of a core, for as long as it lives.
pub(super) fn start<R: Rt>(front: &Rc<Front<R>>) {
    let here = Rc::downgrade(front);
    let rt = front.core.rt.clone();
    front.core.rt.spawn("sweep", Share::Serve, async move {
        loop {
            let Some(front) = here.upgrade() else { return };
            let pressed = Pressed::of(&front);
            sweep(&front, rt.mono(), pressed);
            drop(front);
            rt.sleep(to_next(&rt, if pressed.is_any() { PRESSED_EVERY } else { EVERY })).await;
        }
    });
}

/// What somebody waits for.
#[derive(Clone, Copy)]
struct Pressed {
    /// Memory for frames that arrive.
    arriving: bool,
    /// Memory for requests and their answers.
    leaving: bool,
}

impl Pressed {
    fn of<R: Rt>(front: &Front<R>) -> Self {
        let core = &front.core;
        Self {
            arriving: front.arriving.is_pressed(),
            leaving: core.leaving.is_pressed() || core.requests.is_pressed() || front.long.is_pressed(),
        }
    }

    fn is_any(self) -> bool {
        self.arriving || self.leaving
    }
}

fn sweep<R: Rt>(front: &Front<R>, now: Nanos, pressed: Pressed) {
    let conns = front.conns.borrow();
    let idle_after = if pressed.arriving { PRESSED_WITHIN } else { IDLE_AFTER };
    for conn in conns.values() {
        if let Some(why) = overdue(conn, now, front.is_stranger(conn)).or_else(|| in_the_way(conn, now, pressed)) {
            tracing::info!(peer = %conn.peer, client = &*conn.client(), why, "a connection is closed");
            front.core.counters.borrow_mut().connections_refused += 1;
            conn.kill();
        } else if conn.roomy.get() && since(conn.receiving.get(), now) > idle_after {
            conn.poke.set();
        }
    }
}

/// How long something has been so; nothing if it is not.
fn since(from: Nanos, now: Nanos) -> Duration {
    if from == 0 { Duration::ZERO } else { Duration::from_nanos(now.saturating_sub(from)) }
}

/// Why a connection must be closed.
fn overdue<R: Rt>(conn: &Conn<R>, now: Nanos, is_stranger: bool) -> Option<&'static str> {
    let (began, len) = conn.partial.get();
    let receiving = since(conn.receiving.get(), now);
    if since(conn.opened, now) > HELLO_WITHIN {
        if !conn.greeted.get() {
            return Some("it did not say hello");
        }
        if is_stranger {
            return Some("it did not show who it is");
        }
    }
    // Time in which we did not read, for want of room, is not the client's.
    if began != 0 && receiving > FRAME_WITHIN {
        return Some("half a frame came, and then nothing");
    }
    let whole_within = FRAME_WITHIN + Duration::from_secs(len as u64 / FRAME_BYTES_PER_SECOND);
    if receiving > Duration::ZERO && since(began, now) > whole_within {
        return Some("a frame came too slowly");
    }
    if since(conn.sending.get(), now) > SEND_WITHIN {
        return Some("it does not take its answers");
    }
    None
}

/// Why a connection must be closed for others to be served.
fn in_the_way<R: Rt>(conn: &Conn<R>, now: Nanos, pressed: Pressed) -> Option<&'static str> {
    if pressed.arriving && conn.charged.get() {
        let (began, len) = conn.partial.get();
        let receiving = since(conn.receiving.get(), now);
        if began != 0 && receiving > PRESSED_WITHIN {
            return Some("half a frame came and then nothing, and memory for frames is short");
        }
        let whole_within = PRESSED_WITHIN + Duration::from_secs(len as u64 / PRESSED_BYTES_PER_SECOND);
        if receiving > Duration::ZERO && since(began, now) > whole_within {
            return Some("a frame came too slowly, and memory for frames is short");
        }
        if since(conn.blocked.get(), now) > PRESSED_BLOCKED_WITHIN {
            return Some("its requests wait for long, and memory for frames is short");
        }
    }
    if pressed.leaving && since(conn.sending.get(), now) > PRESSED_WITHIN {
        return Some("it does not take its answers, and memory for answers is short");
    }
    None
}
