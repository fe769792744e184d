//! The front: connections of the native protocol and of Kafka's, on the same ports, their frames and their limits.
//!
//! A connection is two tasks and a queue between them:
//!
//! ```text
//!   socket -> reader: frames -> appends at once -> queue of answers, in order -> writer: waits, executes, sends many at once -> socket
//! ```
//!
//! The reader parses all frames of a read and appends what is produced, without a task per request. The writer waits for what the
//! front of the queue waits for (a sync, another core), carries out what has to wait its turn (fetches and everything that is no
//! produce), and sends all answers that are ready with one gathered send.
//!
//! Bounds: connections per core; answers per connection and per core ([`conn`]); memory for arriving frames ([`intake`]), batches that
//! hop, requests that are carried out and answers ([`crate::node::config`]); time for the first frame, for half a frame, and for a
//! client that does not read, less of it while others wait for the memory that it holds ([`sweep`]).
//!
//! In reading order: [`signal`] waking one task · [`conn`] what the two tasks share · [`lane`] and [`intake`] the receive buffer ·
//! [`reader`] · [`dispatch`] what a frame asks for · [`requests`] carrying it out · [`login`] who a client is · [`rights`] what it may do · [`kafka`] both for Kafka's protocol · [`writer`] ·
//! [`sweep`] deadlines.

mod conn;
mod dispatch;
mod intake;
mod kafka;
mod lane;
mod login;
mod reader;
mod requests;
mod rights;
mod signal;
mod sweep;
mod writer;

use crate::{
    node::{Core, budget::Pool},
    quota::Direction,
};
use conn::{Conn, Queued};
use lane::Lane;
use millpond_runtime::{Conn as _, ConnWrite as _, IoError, Listener, Nanos, Rt, Share};
use millpond_wire::{
    frame::{Flags, encode},
    messages::{Code, Failure, Kind},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use writer::Writer;

/// After a failed accept (no file handle left, say) the next one is tried this much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How often a stopping front looks whether all is answered.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// The longest frame of a client that has not shown who it is, where it must, in bytes.
const STRANGER_FRAME_BYTES_MAX: usize = 64 * 1024;

/// The field of a frame that says how long the rest is.
const LEN_BYTES: usize = 4;

/// The front of one core.
pub struct Front<R: Rt> {
    core: Rc<Core<R>>,
    conns: RefCell<BTreeMap<u64, Rc<Conn<R>>>>,
    next_conn: Cell<u64>,
    /// Where all cores listen together, and each for itself, for metadata.
    port: u16,
    ports: Arc<[u16]>,
    /// Most connections.
    connections_max: usize,
    /// The longest frame that is taken, in bytes, its length not counted.
    frame_bytes_max: usize,
    /// Memory for frames that are arriving.
    arriving: Pool,
    /// Memory for frames past that, so that some frame always gets through.
    lane: Rc<Lane>,
    /// Memory for long messages that wait for their turn.
    long: Pool,
    /// What clients of Kafka read in sessions.
    sessions: Pool,
    /// Answers that are not sent.
    queued: Rc<Queued>,
}

/// The two sockets of a core, bound and not yet served.
pub struct Bound<R: Rt> {
    all: R::Listener,
    own: R::Listener,
}

impl<R: Rt> Bound<R> {
    /// Binds a core's sockets: the one it shares with all cores, and its own, which is what keeps two servers apart: both could share the first one, and clients would come
    /// to either of them.
    pub async fn bind(rt: &R, all: SocketAddr, own: SocketAddr) -> Result<Self, IoError> {
        Ok(Self { all: rt.listen(all).await?, own: rt.listen_alone(own).await? })
    }

    /// The shared port and the own one.
    pub fn ports(&self) -> (u16, u16) {
        (self.all.local().port(), self.own.local().port())
    }
}

impl<R: Rt> Front<R> {
    /// Serves on the sockets of a core. `ports` are the cores' own.
    pub fn serve(core: &Rc<Core<R>>, bound: Bound<R>, ports: Arc<[u16]>) -> Rc<Self> {
        let plan = &core.plan;
        let front = Rc::new(Self {
            core: Rc::clone(core),
            conns: RefCell::default(),
            next_conn: Cell::new(0),
            port: bound.ports().0,
            ports,
            connections_max: core.config.connections_max.min(plan.connections / core.config.connection_bytes()),
            frame_bytes_max: plan.frame_bytes_max(),
            arriving: Pool::new(plan.arriving - plan.frame_bytes_max()),
            lane: Rc::new(Lane::new(plan.frame_bytes_max() + LEN_BYTES)),
            long: Pool::new(plan.queued / 2),
            sessions: Pool::new(plan.sessions),
            queued: Rc::new(Queued::new(plan.queued / 2)),
        });
        for listener in [bound.all, bound.own] {
            let here = Rc::clone(&front);
            core.rt.spawn("accept", Share::Serve, async move { here.accept(listener).await });
        }
        sweep::start(&front);
        front
    }

    async fn accept(self: Rc<Self>, listener: R::Listener) {
        while !self.core.stopping.get() {
            let stopping = async {
                self.core.shared.reached(|stage| *stage == crate::node::Stage::Stopping).await;
                None
            };
            let accepted = futures_lite::future::or(stopping, async { Some(listener.accept().await) }).await;
            match accepted {
                None => return,
                Some(Ok(conn)) => self.take(conn),
                Some(Err(error)) => {
                    tracing::warn!(core = self.core.id().0, %error, "a connection could not be accepted");
                    self.core.rt.sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn take(self: &Rc<Self>, socket: R::Conn) {
        let peer = socket.peer();
        if self.conns.borrow().len() >= self.connections_max {
            self.core.counters.borrow_mut().connections_refused += 1;
            let message = format!("this core has its {} connections", self.connections_max);
            let failure = Failure::new(Code::Overloaded, message, "close some, connect to another core, or give the server more --memory")
                .retry_after(1_000);
            let (read, mut write) = socket.split();
            self.core.rt.spawn("refuse", Share::Serve, async move {
                // It is small and the socket is new: this does not wait.
                let _ = write.send(&[encode(Kind::Hello, Flags::FAILURE, 0, &failure, 0)]).await;
                write.shutdown();
                drop(read);
            });
            return;
        }
        let id = self.next_conn.replace(self.next_conn.get() + 1);
        let conn = Rc::new(Conn::new(id, peer, self.core.rt.mono(), Rc::clone(&self.queued)));
        self.conns.borrow_mut().insert(id, Rc::clone(&conn));
        {
            let mut counters = self.core.counters.borrow_mut();
            counters.connections += 1;
            counters.connections_accepted += 1;
        }
        let (front, shared) = (Rc::clone(self), Rc::clone(&conn));
        // Boxed, since a task is moved a few times on its way, and each place keeps room for all of it.
        let reading = Box::pin(async move {
            match front.open(&shared, socket).await {
                Some(socket) => {
                    let (read, write) = socket.split();
                    front.write(Rc::clone(&shared), Writer::new(write));
                    reader::run(&front, &shared, read).await;
                }
                // There is nobody to write to.
                None => front.left(&shared),
            }
            front.left(&shared);
        });
        self.core.rt.spawn("read", Share::Serve, reading);
    }

    /// Agrees with the client on what comes before its first byte. Nothing if that fails, takes too long, or the node stops.
    async fn open(&self, conn: &Conn<R>, socket: R::Conn) -> Option<R::Conn> {
        let opened = async { Some(socket.open().await) };
        let ended = async {
            while !self.core.stopping.get() && !conn.dead.get() {
                conn.poke.wait().await;
            }
            None
        };
        match futures_lite::future::or(opened, ended).await? {
            Ok(socket) => {
                conn.shown.set(socket.shown());
                let Some(name) = socket.name() else { return Some(socket) };
                if let Some(user) = self.core.config.security.principals.user(&name) {
                    conn.know(&user);
                    return Some(socket);
                }
                self.core.counters.borrow_mut().logins_refused += 1;
                tracing::info!(peer = %conn.peer, name = &*name, "a connection is closed: no rule makes a user of the name in its certificate");
                None
            }
            Err(error) => {
                self.core.counters.borrow_mut().connections_refused += 1;
                tracing::info!(peer = %conn.peer, %error, "a connection is closed: it does not speak TLS as it should");
                None
            }
        }
    }

    /// Starts the task that goes on with writing, in the share where it belongs.
    fn write(self: &Rc<Self>, conn: Rc<Conn<R>>, writer: Writer<<R::Conn as millpond_runtime::Conn>::Write>) {
        let (front, share) = (Rc::clone(self), writer.share());
        let writing = Box::pin(async move {
            match writer::run(&front, &conn, writer).await {
                Some(writer) => front.write(conn, writer),
                None => front.left(&conn),
            }
        });
        self.core.rt.spawn("write", share, writing);
    }

    /// Whether a client has still to show who it is before it is answered.
    fn is_stranger(&self, conn: &Conn<R>) -> bool {
        self.core.config.authenticate && !conn.is_known()
    }

    /// The longest frame that is taken from this client, in bytes, its length not counted.
    fn frame_bytes_max_of(&self, conn: &Conn<R>) -> usize {
        if self.is_stranger(conn) { STRANGER_FRAME_BYTES_MAX.min(self.frame_bytes_max) } else { self.frame_bytes_max }
    }

    /// Counts bytes against the quota of whoever is connected: for how many ms nothing is read from it, which it is told.
    fn charge(&self, conn: &Conn<R>, now: Nanos, direction: Direction, bytes: u64) -> u32 {
        let principal = conn.principal.borrow();
        let whose = (principal.strip_prefix("User:").unwrap_or(&principal), &**conn.client_id.borrow());
        let throttle_ms = self.core.quotas.borrow_mut().charge(now, whose, direction, bytes);
        conn.silence(now, throttle_ms);
        self.core.counters.borrow_mut().throttled_ms += u64::from(throttle_ms);
        throttle_ms
    }

    /// One of a connection's two tasks has ended.
    fn left(&self, conn: &Conn<R>) {
        if conn.one_task_ended() {
            self.conns.borrow_mut().remove(&conn.id);
            self.core.counters.borrow_mut().connections -= 1;
        }
    }

    /// What connections and their requests hold of the core's memory, in bytes; nothing once they are gone.
    #[must_use]
    pub fn held(&self) -> u64 {
        let here = self.arriving.used() + self.long.used() + self.lane.used() + self.queued.used() + self.sessions.used();
        here as u64 + self.core.request_bytes()
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.borrow().len()
    }

    /// Lets requests that were taken be answered, for at most `wait`. True if all were.
    pub async fn drain(&self, wait: Duration) -> bool {
        self.conns.borrow().values().for_each(|conn| conn.poke.set());
        let until = self.core.rt.mono() + wait.as_nanos() as u64;
        while !self.conns.borrow().is_empty() {
            if self.core.rt.mono() >= until {
                self.conns.borrow().values().for_each(|conn| conn.kill());
                return false;
            }
            self.core.rt.sleep(DRAIN_LOOK).await;
        }
        true
    }
}
