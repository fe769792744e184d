//! What the two tasks of a connection share: the queue of answers, and what the sweeper looks at.
//!
//! A queued answer costs memory until it is sent. Three bounds: answers and bytes of a connection, and bytes of all connections of
//! the core ([`Queued`]). Past any of them nothing more is read from the connection. One answer is always let in, so that
//! every connection gets on; that one is small, since a request too long for it takes memory of its own ([`LONG_BYTES`]), and only
//! once no request before it has to wait its turn: whoever holds that memory will soon be carried out.

use super::{kafka, login::Login, signal::Signal};
use crate::{
    kafka::wire::Request,
    node::{budget::Held, config::FETCH_BYTES_MAX, produce::Outcome},
};
use bytes::Bytes;
use millpond_runtime::{Nanos, Rt, Shown};
use millpond_wire::messages::Kind;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
};

/// Answers of one connection that are not sent yet; past it nothing is read from it.
pub(super) const ANSWERS_MAX: usize = 1024;

/// Memory of one connection's answers that are not sent yet, in bytes; past it nothing is read from it.
pub(super) const QUEUED_BYTES_MAX: usize = 128 * 1024;

/// A message of more bytes takes memory of its own while it waits.
pub(super) const LONG_BYTES: usize = 4 * 1024;

/// What an answer costs beside its bytes.
const ANSWER_BYTES: usize = 256;
/// Who has not shown who it is, as Kafka calls it.
pub(super) const ANONYMOUS: &str = "User:ANONYMOUS";
/// What each batch of a request costs until it is answered.
pub(super) const OUTCOME_BYTES: usize = 512;

/// Bytes of one fetch's answer on a new connection. It grows with what the client is seen to take.
pub(super) const FETCH_BYTES_FIRST: usize = 64 * 1024;
/// An answer that is sent within this time is followed by larger ones, in ns.
const QUICK_NS: Nanos = 100_000_000;
/// One that takes longer is followed by smaller ones, in ns.
const SLOW_NS: Nanos = 1_000_000_000;

/// Answers of all connections of a core.
#[derive(Debug)]
pub(super) struct Queued {
    bytes: Cell<usize>,
    max: usize,
}

impl Queued {
    /// At most about `max` bytes in all, but for one answer of each connection.
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Cell::new(0), max }
    }

    /// Bytes that they take.
    pub(super) fn used(&self) -> usize {
        self.bytes.get()
    }
}

/// Which protocol a connection speaks, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Our own.
    Native,
    /// Kafka's.
    Kafka,
}

/// What is asked, to be carried out when its turn comes.
pub(super) enum Asked {
    /// In our own protocol.
    Native {
        /// The request's number.
        correlation: u64,
        /// What is asked.
        kind: Kind,
        /// The message, still to be decoded.
        meta: Bytes,
    },
    /// In Kafka's; its body is still to be decoded.
    Kafka(Box<Request>),
}

/// How batches that were produced are answered.
pub(super) enum Told {
    /// In our own protocol.
    Native {
        /// The request's number.
        correlation: u64,
        /// What the client's quota asks of it.
        throttle_ms: u32,
    },
    /// In Kafka's.
    Kafka(Box<kafka::produce::Told>),
}

/// An answer in the making.
pub(super) enum Answer<R: Rt> {
    /// A whole frame.
    Ready {
        /// What was asked.
        kind: Kind,
        /// When the request was whole.
        began: Nanos,
        /// The frame.
        frame: Bytes,
    },
    /// Batches that were appended, or are on their way.
    Produced {
        /// How they are answered.
        told: Told,
        /// When the request was whole.
        began: Nanos,
        /// One per batch; mostly one.
        outcomes: Outcomes<R>,
        /// Its memory, if there are many.
        held: Option<Held>,
    },
    /// To be carried out when its turn comes.
    Deferred {
        /// What is asked.
        asked: Asked,
        /// When the request was whole.
        began: Nanos,
        /// Its memory, if it is long.
        held: Option<Held>,
    },
}

impl Asked {
    /// Bytes of the message.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Native { meta, .. } => meta.len(),
            Self::Kafka(request) => request.body.len(),
        }
    }
}

impl<R: Rt> Answer<R> {
    /// What it costs in memory.
    fn cost(&self) -> usize {
        let more = match self {
            Self::Ready { frame, .. } => frame.len(),
            Self::Produced { outcomes, held: None, .. } => outcomes.len() * OUTCOME_BYTES,
            Self::Deferred { asked, held: None, .. } => asked.bytes(),
            Self::Produced { .. } | Self::Deferred { .. } => 0,
        };
        ANSWER_BYTES + more
    }
}

/// One per batch of a request.
pub(super) enum Outcomes<R: Rt> {
    /// As mostly.
    One(Outcome<R>),
    /// In the order of the batches.
    Many(Vec<Outcome<R>>),
}

impl<R: Rt> Outcomes<R> {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn each(&mut self) -> &mut [Outcome<R>] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::One(one) => one.is_ready(),
            Self::Many(many) => many.iter().all(Outcome::is_ready),
        }
    }
}

/// See the module. Times are monotonic; 0 stands for "not so".
pub(super) struct Conn<R: Rt> {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    /// What it has shown of itself, once it is open.
    pub(super) shown: Cell<Shown>,
    /// How far it has come with showing who it is.
    pub(super) login: RefCell<Login>,
    /// Who it is: `User:ANONYMOUS` for who has not shown it.
    pub(super) principal: RefCell<Rc<str>>,
    /// When it was accepted.
    pub(super) opened: Nanos,
    /// Its `Hello` has come.
    pub(super) greeted: Cell<bool>,
    /// The node that speaks, 0 for a client; from the `Hello`.
    pub(super) from_node: Cell<u64>,
    /// What a client of Kafka reads, if it says that once; not there while a fetch of it is carried out.
    pub(super) session: RefCell<Option<kafka::sessions::Session>>,
    /// From the `Hello`.
    pub(super) client_id: RefCell<Rc<str>>,
    pub(super) answers: RefCell<VecDeque<Answer<R>>>,
    /// What the answers cost that are queued or being made or sent.
    cost: Cell<usize>,
    /// Deferred requests that are queued or being carried out.
    deferred: Cell<usize>,
    /// The part of it that has left the queue.
    cost_leaving: Cell<usize>,
    queued: Rc<Queued>,
    /// Most bytes of the next fetch's answer.
    fetch_bytes: Cell<usize>,
    /// The reader has waited for room in the queue since.
    pub(super) blocked: Cell<Nanos>,
    /// The receive buffer holds memory that others may wait for.
    pub(super) charged: Cell<bool>,
    /// Wakes the writer: there is an answer, or there will be none any more.
    pub(super) work: Signal,
    /// Wakes the reader: room for an answer, or something to look at.
    pub(super) poke: Signal,
    /// Ends the writer wherever it is.
    pub(super) killed: Signal,
    /// The reader adds no more answers.
    pub(super) ended: Cell<bool>,
    /// The connection is of no more use.
    pub(super) dead: Cell<bool>,
    /// Wakes the writer at the end: the reader has seen the last of what the client sent.
    pub(super) lingered: Signal,
    /// The reader still reads, to throw away: the client should see the last answer before it sees a reset.
    pub(super) lingering: Cell<bool>,
    /// The reader has waited for bytes since.
    pub(super) receiving: Cell<Nanos>,
    /// The buffer has held a part of a frame since, and how long that frame is, in bytes.
    pub(super) partial: Cell<(Nanos, usize)>,
    /// The writer has been at the same piece since.
    pub(super) sending: Cell<Nanos>,
    /// Nothing is read until then: the client is over its quota.
    pub(super) silent_until: Cell<Nanos>,
    /// The receive buffer is large and may be given back if nothing comes.
    pub(super) roomy: Cell<bool>,
    tasks: Cell<u8>,
}

impl<R: Rt> Conn<R> {
    pub(super) fn new(id: u64, peer: SocketAddr, now: Nanos, queued: Rc<Queued>) -> Self {
        Self {
            id,
            peer,
            shown: Cell::new(Shown::Plain),
            login: RefCell::default(),
            opened: now,
            greeted: Cell::new(false),
            from_node: Cell::new(0),
            session: RefCell::default(),
            client_id: RefCell::new(Rc::from("")),
            principal: RefCell::new(Rc::from(ANONYMOUS)),
            answers: RefCell::default(),
            cost: Cell::new(0),
            deferred: Cell::new(0),
            cost_leaving: Cell::new(0),
            queued,
            fetch_bytes: Cell::new(FETCH_BYTES_FIRST),
            blocked: Cell::new(0),
            charged: Cell::new(false),
            work: Signal::default(),
            poke: Signal::default(),
            killed: Signal::default(),
            ended: Cell::new(false),
            dead: Cell::new(false),
            lingered: Signal::default(),
            lingering: Cell::new(false),
            receiving: Cell::new(0),
            partial: Cell::new((0, 0)),
            sending: Cell::new(0),
            silent_until: Cell::new(0),
            roomy: Cell::new(false),
            tasks: Cell::new(2),
        }
    }

    /// Adds an answer. The writer is woken if it may be waiting for one.
    pub(super) fn push(&self, answer: Answer<R>) {
        self.add_cost(answer.cost() as isize);
        if matches!(answer, Answer::Deferred { .. }) {
            self.deferred.set(self.deferred.get() + 1);
        }
        let mut answers = self.answers.borrow_mut();
        answers.push_back(answer);
        if answers.len() == 1 {
            self.work.set();
        }
    }

    fn add_cost(&self, bytes: isize) {
        for account in [&self.cost, &self.queued.bytes] {
            account.set(account.get().checked_add_signed(bytes).expect("what was added is taken off once"));
        }
    }

    /// Whether another answer would be one too many.
    pub(super) fn is_full(&self) -> bool {
        let over = self.queued.bytes.get() > self.queued.max && self.cost.get() > 0;
        over || self.answers.borrow().len() >= ANSWERS_MAX || self.cost.get() > QUEUED_BYTES_MAX
    }

    /// Whether no request waits for its turn or is carried out.
    pub(super) fn defers_nothing(&self) -> bool {
        self.deferred.get() == 0
    }

    /// Waits until `may`, or until the connection is dead; for the reader.
    pub(super) async fn wait_room(&self, now: Nanos, may: impl Fn(&Self) -> bool) {
        while !may(self) && !self.dead.get() {
            self.blocked.set(now.max(1));
            self.poke.wait().await;
        }
        self.blocked.set(0);
    }

    /// Takes the answer at the front. It costs memory until [`Conn::sent`].
    pub(super) fn pop(&self) -> Option<Answer<R>> {
        let answer = self.answers.borrow_mut().pop_front();
        if let Some(answer) = &answer {
            self.cost_leaving.set(self.cost_leaving.get() + answer.cost());
        }
        answer
    }

    /// A deferred request has been carried out.
    pub(super) fn carried_out(&self) {
        self.deferred.set(self.deferred.get() - 1);
        if self.blocked.get() != 0 {
            self.poke.set();
        }
    }

    /// All that has left the queue is sent: has the reader go on if it waited for room.
    pub(super) fn sent(&self) {
        self.add_cost(-(self.cost_leaving.take() as isize));
        if self.blocked.get() != 0 {
            self.poke.set();
        }
    }

    /// Most bytes of a fetch's answer: what the client has been seen to take within a moment, so that one that takes little
    /// does not hold much.
    pub(super) fn fetch_bytes(&self) -> usize {
        self.fetch_bytes.get()
    }

    /// An answer of `bytes` bytes took `took` to be sent.
    pub(super) fn took(&self, bytes: usize, took: Nanos) {
        let allowed = self.fetch_bytes.get();
        if took > SLOW_NS {
            self.fetch_bytes.set((allowed / 4).max(FETCH_BYTES_FIRST));
        } else if took < QUICK_NS && bytes >= allowed / 2 {
            self.fetch_bytes.set((allowed * 4).min(FETCH_BYTES_MAX));
        }
    }

    /// Ends it without another word.
    pub(super) fn kill(&self) {
        self.dead.set(true);
        self.poke.set();
        self.killed.set();
    }

    /// Counts down its tasks. True when none is left.
    pub(super) fn one_task_ended(&self) -> bool {
        self.tasks.set(self.tasks.get() - 1);
        self.tasks.get() == 0
    }

    /// It has shown that it is this user.
    pub(super) fn know(&self, user: &str) {
        self.login.replace(Login::Done);
        self.principal.replace(format!("User:{user}").into());
    }

    /// Whether it has shown who it is: a user, or a node.
    pub(super) fn is_known(&self) -> bool {
        self.shown.get() == Shown::Node || matches!(&*self.login.borrow(), Login::Done)
    }

    /// The client's own name for itself.
    pub(super) fn client(&self) -> Rc<str> {
        Rc::clone(&self.client_id.borrow())
    }

    /// Reads nothing for so many ms.
    pub(super) fn silence(&self, now: Nanos, ms: u32) {
        if ms > 0 {
            self.silent_until.set(self.silent_until.get().max(now + u64::from(ms) * 1_000_000));
        }
    }
}

impl<R: Rt> Drop for Conn<R> {
    fn drop(&mut self) {
        self.add_cost(-(self.cost.get() as isize));
    }
}
