//! Appending a batch, wherever its partition lives.
//!
//! At home it is appended at once. A partition of another core costs one hop: the batch travels as an owned message, is
//! appended there in the order of arrival, and the answer comes back after the sync. Without room in the log the producer waits, and
//! with it everything behind it on its connection: that is the back-pressure. Only if room does not come within
//! [`ROOM_WAIT`], or the disk is full, is it refused.
//!
//! A refusal that rests on what is known of the batch's producer is final, and a leader that does not know yet of the next one knows too little for that: whoever asks for
//! all acks is refused once a majority has confirmed that this node leads. Batches that follow are refused likewise, or appended by a leader that
//! was told of all before them: whatever comes of it, they are in order.

use super::{
    budget::Held,
    core::Core,
    failure_of, learning,
    mesh::{Call, Lost},
    not_owner,
    partition::{Partition, Pending, check_produced},
    unknown_partition,
};
use bytes::BytesMut;
use millpond_batch::Header;
use millpond_log::{Log, LogError};
use millpond_runtime::{GroupId, NodeId, Rt, Share, Term, rt::timeout};
use millpond_wire::messages::{Code, Failure, ProduceResult};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};
use tokio::sync::oneshot;

/// How long a producer waits for room in the log.
pub const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How often one that waits looks whether the disk is what is full.
const ROOM_LOOK: Duration = Duration::from_millis(500);
/// What a batch that hops takes beside its bytes, in bytes.
const HOP_BYTES: usize = 512;

/// What comes of a batch where it is appended.
type Appended = Result<Pending, Failure>;

/// What became of a batch so far.
pub enum Outcome<R: Rt> {
    /// It is decided.
    Done(Result<ProduceResult, Failure>),
    /// Appended here; to be answered after the sync.
    Here(Log<R>, Pending),
    /// On its way to the owner, which answers when it may be told.
    There(oneshot::Receiver<Appended>),
}

impl<R: Rt> Outcome<R> {
    /// Whether nothing has to be waited for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Done(_) => true,
            Self::Here(log, pending) => pending.is_ready(log),
            Self::There(_) => false,
        }
    }

    /// Waits until the producer may be told. Afterwards it is [`Outcome::Done`]. Dropped while it waits, it has changed nothing.
    pub async fn settle(&mut self) {
        let settled = match self {
            Self::Done(_) => return,
            Self::Here(log, pending) => pending.settle(log).await.map(|()| pending.result()),
            Self::There(answer) => answer.await.unwrap_or_else(|_| Err(Lost.into())).map(|pending| pending.result()),
        };
        *self = Self::Done(settled);
    }

    /// The answer of one that is ready.
    #[must_use]
    pub fn into_result(self) -> ProduceResult {
        let result = match self {
            Self::Done(result) => result,
            Self::Here(_, pending) => pending.outcome(),
            Self::There(_) => Err(Lost.into()),
        };
        result.unwrap_or_else(|failure| ProduceResult { base_offset: 0, duplicate: false, append_time_ms: -1, failure: Some(failure) })
    }
}

/// What is known of a batch that was checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    header: Header,
    /// If it is of a transaction that its coordinator knows: the last one of its producer that had ended in the partition before that was asked.
    ended: Option<i32>,
}

/// A batch that has come over the mesh.
pub struct Hop {
    pub(super) group: GroupId,
    batch: BytesMut,
    checked: Checked,
    /// Whether the answer waits for the sync.
    synced: bool,
    answer: oneshot::Sender<Appended>,
    /// The sender's memory, given back when the batch is in the tail.
    _charge: Held,
}

/// Batches that have come over the mesh and wait for room, in order.
#[derive(Default)]
pub(super) struct Landing {
    queue: RefCell<VecDeque<Hop>>,
    draining: Cell<bool>,
}

/// Waits until a log has room, or until waiting is of no use.
async fn admit<R: Rt>(rt: &R, log: &Log<R>) {
    let until = rt.mono() + ROOM_WAIT.as_nanos() as u64;
    while !log.room() && rt.mono() < until && !log.stats().disk_full {
        // Running out of time is fine: it looks again.
        let _ = timeout(rt, ROOM_LOOK, log.wait_room()).await;
    }
}

impl<R: Rt> Core<R> {
    /// Appends one batch of a client. The future is ready at once unless there is no room. Once it is ready, batches of the
    /// same caller to the same partition are appended in the order of their calls.
    /// `ended` is for batches of transactions, see [`Partition::check_transaction`].
    pub async fn produce(self: &Rc<Self>, topic: &str, partition: u32, batch: BytesMut, synced: bool, ended: Option<i32>) -> Outcome<R> {
        if self.cluster.learning.get() && !self.leads(topic, partition) {
            return Outcome::Done(Err(learning()));
        }
        let Some(route) = self.route(topic) else { return Outcome::Done(Err(unknown_partition(topic, partition))) };
        let Some(place) = route.places.get(partition as usize) else {
            return Outcome::Done(Err(unknown_partition(topic, partition)));
        };
        if route.internal {
            let failure = Failure::new(Code::InvalidArgument, format!("{topic} is kept by the system itself"), "write to another topic");
            return Outcome::Done(Err(failure));
        }
        let checked = match check_produced(&batch) {
            Ok(header) => Checked { header, ended },
            Err(failure) => return Outcome::Done(Err(failure)),
        };
        if !place.lives {
            return Outcome::Done(Err(self.told_where(not_owner(self.leads_elsewhere(place.group)), place.group)));
        }
        let Some(here) = &place.here else { return self.hop(place.group, place.core, batch, checked, synced).await };
        if !here.log.room() {
            Box::pin(admit(&self.rt, &here.log)).await;
        }
        if self.holds(here) {
            return self.hold_here(here, batch, checked, synced).await;
        }
        match self.append(here, batch, checked) {
            Err(failure) => match here.doubts(&failure).filter(|_| synced) {
                None => Outcome::Done(Err(failure)),
                Some(term) => {
                    let (answer, answered) = oneshot::channel();
                    self.refuse(Rc::clone(here), failure, term, answer);
                    Outcome::There(answered)
                }
            },
            Ok(pending) if !synced => Outcome::Done(Ok(pending.result())),
            Ok(pending) => Outcome::Here(here.log.clone(), pending),
        }
    }

    /// Whether this node leads a partition: no leader that a majority follows is behind with what its cluster knows of that.
    fn leads(&self, topic: &str, partition: u32) -> bool {
        let Some(route) = self.route(topic) else { return false };
        let Some(place) = route.places.get(partition as usize) else { return false };
        match &place.here {
            Some(here) => here.is_replica() && here.serves().is_ok(),
            None => place.lives && self.leader_of(place.group) == Some(NodeId(self.identity.node_id)),
        }
    }

    fn append(&self, partition: &Partition<R>, batch: BytesMut, Checked { header, ended }: Checked) -> Result<Pending, Failure> {
        let may = if header.is_transactional() { partition.check_transaction(&header, ended) } else { Ok(()) };
        let appended = may.and_then(|()| partition.append(batch, header, self.rt.wall_ms()));
        let pending = appended.map_err(|failure| self.told_where(failure, partition.group))?;
        if !pending.duplicate {
            let mut counters = self.counters.borrow_mut();
            counters.batches_in += 1;
            counters.records_in += u64::from(header.count);
        }
        Ok(pending)
    }

    /// Refuses a batch, once it is certain that no other leader knows better.
    fn refuse(self: &Rc<Self>, partition: Rc<Partition<R>>, failure: Failure, term: Term, answer: oneshot::Sender<Appended>) {
        let core = Rc::clone(self);
        self.rt.spawn("confirm a refusal", Share::Serve, async move {
            let certain = partition.confirm_in(term).await.err().unwrap_or(failure);
            // Whoever asked may have gone.
            let _ = answer.send(Err(core.told_where(certain, partition.group)));
        });
    }

    async fn hop(&self, group: GroupId, core: millpond_runtime::CoreId, batch: BytesMut, checked: Checked, synced: bool) -> Outcome<R> {
        let (hop, answered) = self.prepare_hop(group, batch, checked, synced).await;
        match self.mesh[usize::from(core.0)].send(Call::Append(hop)).await {
            Ok(()) => Outcome::There(answered),
            Err(_) => Outcome::Done(Err(Lost.into())),
        }
    }

    /// A batch that can be carried about, and where the answer comes.
    pub(super) async fn prepare_hop(
        &self,
        group: GroupId,
        batch: BytesMut,
        checked: Checked,
        synced: bool,
    ) -> (Hop, oneshot::Receiver<Appended>) {
        let (answer, answered) = oneshot::channel();
        let charge = self.hopping.take(batch.len() + HOP_BYTES).await;
        (Hop { group, batch, checked, synced, answer, _charge: charge }, answered)
    }

    /// Takes a batch that came over the mesh: appended before this returns if there is room, in order of arrival in any case.
    pub(super) fn landed(self: &Rc<Self>, hop: Hop) {
        let room = self.partition(hop.group).is_none_or(|p| p.log.room());
        if !self.landing.draining.get() && room {
            return self.append_hop(hop);
        }
        self.landing.queue.borrow_mut().push_back(hop);
        if !self.landing.draining.replace(true) {
            let core = Rc::clone(self);
            self.rt.spawn("landing", Share::Serve, async move { core.drain_landing().await });
        }
    }

    async fn drain_landing(self: &Rc<Self>) {
        loop {
            let next = self.landing.queue.borrow_mut().pop_front();
            let Some(hop) = next else { break };
            if let Some(partition) = self.partition(hop.group) {
                admit(&self.rt, &partition.log).await;
            }
            self.append_hop(hop);
        }
        self.landing.draining.set(false);
    }

    fn append_hop(self: &Rc<Self>, hop: Hop) {
        match self.partition(hop.group) {
            Some(partition) if self.holds(&partition) => self.hold(partition, hop),
            partition => self.append_now(partition, hop),
        }
    }

    /// Appends what was carried about, or refuses it.
    pub(super) fn append_now(self: &Rc<Self>, partition: Option<Rc<Partition<R>>>, hop: Hop) {
        let Some(partition) = partition else {
            let _ = hop.answer.send(Err(failure_of(&LogError::UnknownGroup { group: hop.group })));
            return;
        };
        match self.append(&partition, hop.batch, hop.checked) {
            Ok(mut pending) if hop.synced => {
                let log = partition.log.clone();
                self.rt.spawn("ack over mesh", Share::Serve, async move {
                    let synced = pending.settle(&log).await.map(|()| pending);
                    // Whoever asked may have gone.
                    let _ = hop.answer.send(synced);
                });
            }
            Err(failure)
                if hop.synced
                    && let Some(term) = partition.doubts(&failure) =>
            {
                self.refuse(partition, failure, term, hop.answer)
            }
            appended => {
                let _ = hop.answer.send(appended);
            }
        }
    }
}

#[cfg(test)]
mod tests;
