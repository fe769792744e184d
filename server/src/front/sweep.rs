//! Deadlines of connections, looked at once a second for all of a core: no timer per connection or request.

use super::{Front, conn::Conn};
use millpond_runtime::{Nanos, Rt, Share};
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
/// A connection that is silent for this time gives back its buffer.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Looks after the connections of a core, for as long as it lives.
pub(super) fn start<R: Rt>(front: &Rc<Front<R>>) {
    let here = Rc::downgrade(front);
    let rt = front.core.rt.clone();
    front.core.rt.spawn("sweep", Share::Serve, async move {
        loop {
            rt.sleep(EVERY).await;
            let Some(front) = here.upgrade() else { return };
            sweep(&front, rt.mono());
        }
    });
}

fn sweep<R: Rt>(front: &Front<R>, now: Nanos) {
    let conns = front.conns.borrow();
    for conn in conns.values() {
        if let Some(why) = overdue(conn, now) {
            tracing::info!(peer = %conn.peer, client = &*conn.client(), why, "a connection is closed");
            front.core.counters.borrow_mut().connections_refused += 1;
            conn.kill();
        } else if conn.roomy.get() && since(conn.receiving.get(), now) > IDLE_AFTER {
            conn.poke.set();
        }
    }
}

/// How long something has been so; nothing if it is not.
fn since(from: Nanos, now: Nanos) -> Duration {
    if from == 0 { Duration::ZERO } else { Duration::from_nanos(now.saturating_sub(from)) }
}

/// Why a connection must be closed.
fn overdue<R: Rt>(conn: &Conn<R>, now: Nanos) -> Option<&'static str> {
    let (began, len) = conn.partial.get();
    let receiving = since(conn.receiving.get(), now);
    if !conn.greeted.get() && since(conn.opened, now) > HELLO_WITHIN {
        return Some("it did not say hello");
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
