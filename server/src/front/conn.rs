//! What the two tasks of a connection share: the queue of answers, and what the sweeper looks at.

use super::signal::Signal;
use crate::node::produce::Outcome;
use bytes::Bytes;
use millpond_runtime::{Nanos, Rt};
use millpond_wire::messages::Kind;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
};

/// Answers of one connection that are not sent yet; past it nothing is read from it.
pub(super) const ANSWERS_MAX: usize = 1024;

/// Bytes of requests of one connection that wait for their turn; past it nothing is read from it.
pub(super) const DEFERRED_BYTES_MAX: usize = 64 * 1024;

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
        /// The request's number.
        correlation: u64,
        /// When the request was whole.
        began: Nanos,
        /// What the client's quota asks of it.
        throttle_ms: u32,
        /// One per batch; mostly one.
        outcomes: Outcomes<R>,
    },
    /// To be carried out when its turn comes.
    Deferred {
        /// The request's number.
        correlation: u64,
        /// When the request was whole.
        began: Nanos,
        /// What is asked.
        kind: Kind,
        /// The message, still to be decoded.
        meta: Bytes,
    },
}

/// One per batch of a request.
pub(super) enum Outcomes<R: Rt> {
    /// As mostly.
    One(Outcome<R>),
    /// In the order of the batches.
    Many(Vec<Outcome<R>>),
}

impl<R: Rt> Outcomes<R> {
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
    /// When it was accepted.
    pub(super) opened: Nanos,
    /// Its `Hello` has come.
    pub(super) greeted: Cell<bool>,
    /// From the `Hello`.
    pub(super) client_id: RefCell<Rc<str>>,
    pub(super) answers: RefCell<VecDeque<Answer<R>>>,
    /// Bytes of deferred requests among them.
    pub(super) deferred_bytes: Cell<usize>,
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
    pub(super) fn new(id: u64, peer: SocketAddr, now: Nanos) -> Self {
        Self {
            id,
            peer,
            opened: now,
            greeted: Cell::new(false),
            client_id: RefCell::new(Rc::from("")),
            answers: RefCell::default(),
            deferred_bytes: Cell::new(0),
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
        if let Answer::Deferred { meta, .. } = &answer {
            self.deferred_bytes.set(self.deferred_bytes.get() + meta.len());
        }
        let mut answers = self.answers.borrow_mut();
        answers.push_back(answer);
        if answers.len() == 1 {
            self.work.set();
        }
    }

    /// Whether another answer would be one too many.
    pub(super) fn is_full(&self) -> bool {
        self.answers.borrow().len() >= ANSWERS_MAX || self.deferred_bytes.get() > DEFERRED_BYTES_MAX
    }

    /// Takes the answer at the front, and has the reader go on if it waited for room.
    pub(super) fn pop(&self) -> Option<Answer<R>> {
        let was_full = self.is_full();
        let answer = self.answers.borrow_mut().pop_front();
        if let Some(Answer::Deferred { meta, .. }) = &answer {
            self.deferred_bytes.set(self.deferred_bytes.get() - meta.len());
        }
        if was_full && !self.is_full() {
            self.poke.set();
        }
        answer
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
