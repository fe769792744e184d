//! All groups of one core: what they are asked, what they put into the journal, what they say to other nodes.
//!
//! All groups share the journal of the core, so that one write and one sync serve whatever any of them had to put meanwhile; and all their
//! messages to a node wait in one queue ([`Queue`]), so that they leave in one frame. Nothing here waits but two tasks: one ticks, one
//! keeps promises (`Promise`) when the journal has synced. What others say comes in by `incoming`, what Raft wants is done in `ready`.

pub(crate) mod commits;
mod damage;
mod handover;
mod incoming;
pub(crate) mod lag;
pub(crate) mod leases;
mod peers;
mod reads;
mod ready;
mod receipt;
mod rest;
mod snapshots;
pub use peers::PeerStatus;
use peers::Peers;
pub(crate) use reads::Read;
pub use reads::ReadError;
use snapshots::Snapshots;

use crate::{
    change::Change,
    logger::logger,
    members::{Membership, RaftId},
    pace::{Pace, Turns},
    queue::Queue,
    replica::{Replica, Waiter},
    storage::OpenError,
};
use bytes::BytesMut;
use millpond_batch::Header;
use millpond_log::{GroupConfig, HardState, Log, LogError, Lsn};
use millpond_runtime::{FxHashMap, GroupId, Index, Nanos, NodeId, Offset, Rt, Share, Term};
use raft::{
    Config,
    eraftpb::{Entry, Message, MessageType},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// How replicas behave. All nodes of a cluster should agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// The unit of Raft's time.
    pub tick: Duration,
    /// A leader is heard from so often, in ticks.
    pub heartbeat_ticks: usize,
    /// A leader that is not heard from for so many ticks, or up to twice as many, is taken for dead. More than `heartbeat_ticks`.
    pub election_ticks: usize,
    /// A group in which nothing was done for so many ticks rests: no ticks and no messages until something is done again.
    pub quiet_ticks: usize,
    /// So long after an entry is committed followers hear of it if nothing else was said to them meanwhile.
    pub commit_after: Duration,
    /// Groups with numbers below this one, those of the system, do not wait for that.
    pub prompt_below: u64,
    /// With it, leaders answer reads without asking the others for as long as no other can lead by the clock (see `driver/leases.rs`): clocks of any two nodes must not run
    /// apart by more than so many hundredths. `None`: each read asks a majority. A leader that has died is missed for longer with it. Groups whose
    /// nodes do not all have it do without; a node that had it and has it no more is to stay away for [`RaftConfig::election_ticks`].
    pub lease_drift_percent: Option<u8>,
    /// Decides election timeouts.
    pub seed: u64,
    /// Entries in one message, in bytes; one entry always goes.
    pub message_bytes_max: usize,
    /// Messages with entries that a follower has not answered.
    pub messages_in_flight_max: usize,
    /// Entries of a group that are not committed, in bytes: past it, proposals are refused.
    pub uncommitted_bytes_max: usize,
    /// What waits to be sent to one node, in bytes: past it, messages are dropped, which Raft bears.
    pub queue_bytes_max: usize,
    /// Snapshots that are sent at once, and that are received at once; one piece of each is in memory.
    pub snapshots_max: usize,
    /// One piece of a snapshot, in bytes: whole blocks, at most [`crate::wire::PIECE_BYTES_MAX`].
    pub snapshot_piece_bytes: usize,
    /// Entries that are read again for replicas that lag leave no faster, all together, in bytes per second; and slower while writers wait for longer than
    /// else, as snapshots do.
    pub lag_bytes_per_second: u64,
    /// Snapshots leave no faster, all together, in bytes per second. Pieces become smaller if they would take long by that.
    pub snapshot_bytes_per_second: u64,
    /// A snapshot of which nothing is heard for so many ticks is given up.
    pub snapshot_patience_ticks: usize,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 8,
            quiet_ticks: 8,
            commit_after: Duration::from_millis(20),
            prompt_below: 16,
            lease_drift_percent: None,
            seed: 0,
            message_bytes_max: 1 << 20,
            messages_in_flight_max: 64,
            uncommitted_bytes_max: 32 << 20,
            queue_bytes_max: 32 << 20,
            snapshots_max: 4,
            snapshot_piece_bytes: 512 << 10,
            lag_bytes_per_second: 16 << 20,
            snapshot_bytes_per_second: 64 << 20,
            snapshot_patience_ticks: 100,
        }
    }
}

impl RaftConfig {
    fn raft(&self) -> Config {
        Config {
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            max_size_per_msg: self.message_bytes_max as u64,
            max_inflight_msgs: self.messages_in_flight_max,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: self.uncommitted_bytes_max as u64,
            max_committed_size_per_ready: 8 << 20,
            ..Config::default()
        }
    }
}

/// It is not known what became of an entry: its leader no longer leads, or another has put something else in its place. The same batch of an
/// idempotent producer may be sent again, and takes effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leader changed before the entry was committed: whether it will be is unknown")]
pub struct Lost;

/// A proposal is refused, and has had no effect.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// The group does not live here, or has to be repaired.
    #[error("group {0} is not served here")]
    Unknown(GroupId),
    /// Another replica leads, if any does.
    #[error("another replica leads the group")]
    NotLeader {
        /// Where it lives, as far as it is known.
        leader: Option<NodeId>,
    },
    /// Too much is not committed yet, or leadership is being handed over: to be tried again.
    #[error("the group takes no proposal for the moment")]
    Busy,
    /// The log refuses it.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// An entry on its way.
#[derive(Debug)]
pub struct Proposed {
    /// Of its first record.
    pub offset: Offset,
    /// Whether the log had it already.
    pub duplicate: bool,
    committed: oneshot::Receiver<Result<(), Lost>>,
}

impl Proposed {
    /// Whether it is known what has become of it: [`Proposed::committed`] would not wait.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        !self.committed.is_empty() || self.committed.is_terminated()
    }

    /// What has become of one that is decided.
    pub fn outcome(&mut self) -> Result<(), Lost> {
        self.committed.try_recv().unwrap_or(Err(Lost))
    }

    /// Returns when a quorum has synced it.
    pub async fn committed(mut self) -> Result<Offset, Lost> {
        self.decided().await.map(|()| self.offset)
    }

    /// The same for whoever keeps it; to be awaited to its end once at the most.
    pub async fn decided(&mut self) -> Result<(), Lost> {
        (&mut self.committed).await.unwrap_or(Err(Lost))
    }
}

/// How a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its own id.
    pub me: RaftId,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it may answer for the group: it leads, and has applied an entry of its own term, and with it everything that any leader before it
    /// has acknowledged (Ongaro's thesis, 6.4).
    pub serves: bool,
    /// Whom it follows, if it knows.
    pub leader: Option<RaftId>,
    /// Where that lives, if it knows.
    pub leader_node: Option<NodeId>,
    /// The newest term it has seen.
    pub term: Term,
    /// The last entry applied.
    pub applied: Index,
    /// Whether it rests, since nobody has asked anything of the group for a while.
    pub quiet: bool,
}

/// All replicas of a driver, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Those that take part.
    pub replicas: u64,
    /// Those of them that rest.
    pub resting: u64,
    /// Those of them that know no leader.
    pub leaderless: u64,
    /// Those that take no part any more.
    pub broken: u64,
}

/// Counts since the driver's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads for followers that lag, of segments or of much that is in memory.
    pub lag_reads: u64,
    /// Of those, where the entries were gone.
    pub lag_gone: u64,
    /// Replicas that began anew since their log had no room.
    pub begun_anew: u64,
    /// Entries that were not taken for want of room.
    pub refused: u64,
    /// Changes of members carried out.
    pub changes: u64,
    /// Snapshots that were offered to replicas elsewhere.
    pub snapshots_offered: u64,
    /// Snapshots that took the place of what a replica here had.
    pub snapshots_installed: u64,
    /// Pieces of snapshots that were asked for again, since no answer came.
    pub snapshots_resumed: u64,
    /// Snapshots of which nothing came, here or elsewhere.
    pub snapshots_failed: u64,
    /// Pieces of snapshots that left for replicas elsewhere.
    pub snapshot_pieces: u64,
    /// Their bytes.
    pub snapshot_bytes: u64,
    /// Leaders that replicas here have come to know, or have become: their groups' elections, as they are seen here.
    pub elections: u64,
    /// Messages that replicas here had for others.
    pub messages: u64,
    /// Groups that this node led and that came to rest.
    pub rests: u64,
    /// Replicas that were woken since their leader's node was silent, or had begun another life.
    pub woken: u64,
    /// Reads that a leader answered by its lease, asking nobody.
    pub lease_reads: u64,
}

impl Counters {
    /// Adds those of another driver.
    pub fn add(&mut self, other: &Self) {
        // A field that is added to the struct is to be added here.
        let Self {
            lag_reads,
            lag_gone,
            begun_anew,
            refused,
            changes,
            snapshots_offered,
            snapshots_installed,
            snapshots_resumed,
            snapshots_failed,
            snapshot_pieces,
            snapshot_bytes,
            elections,
            messages,
            rests,
            woken,
            lease_reads,
        } = other;
        self.lag_reads += lag_reads;
        self.lag_gone += lag_gone;
        self.begun_anew += begun_anew;
        self.refused += refused;
        self.changes += changes;
        self.snapshots_offered += snapshots_offered;
        self.snapshots_installed += snapshots_installed;
        self.snapshots_resumed += snapshots_resumed;
        self.snapshots_failed += snapshots_failed;
        self.snapshot_pieces += snapshot_pieces;
        self.snapshot_bytes += snapshot_bytes;
        self.elections += elections;
        self.messages += messages;
        self.rests += rests;
        self.woken += woken;
        self.lease_reads += lease_reads;
    }
}

/// Told of each entry that is committed here, in order. It must not call the driver.
type OnCommitted = Box<dyn Fn(GroupId, &Entry)>;
/// Told of each snapshot that is installed here. It must not call the driver.
type OnInstalled = Box<dyn Fn(GroupId, Index)>;

/// Told where the leader of a group lives and in which term it leads, as far as that is known, whenever that changes here. It must not call the driver.
type OnLeader = Box<dyn Fn(GroupId, Option<(NodeId, Term)>)>;

/// Looked at for every message: where there are thousands, a tree would be in no cache.
type Replicas<R> = FxHashMap<GroupId, Box<Replica<R>>>;

struct Inner<R: Rt> {
    rt: R,
    log: Log<R>,
    config: RaftConfig,
    raft: Config,
    logger: slog::Logger,
    replicas: RefCell<Replicas<R>>,
    /// Replicas that must not take part any more, and why.
    broken: RefCell<BTreeMap<GroupId, String>>,
    /// Of those, replicas that others speak to in the place of the one here; see [`Driver::is_called`].
    called: RefCell<BTreeMap<GroupId, BTreeSet<RaftId>>>,
    /// Groups that are being looked at for damage.
    doubted: RefCell<BTreeSet<GroupId>>,
    queues: RefCell<BTreeMap<NodeId, Rc<Queue>>>,
    peers: RefCell<Peers>,
    /// See [`crate::wire::Frame::life`].
    life: Cell<u64>,
    /// Promises of all groups, by their place in the journal.
    due: RefCell<BTreeSet<(Lsn, GroupId)>>,
    promised: Notify,
    /// Groups that are led here and of which followers may not have heard how far they are committed; see `driver/commits.rs`.
    untold: RefCell<BTreeMap<GroupId, commits::Untold>>,
    committed: Notify,
    stopping: Cell<bool>,
    counters: Cell<Counters>,
    on_committed: RefCell<Option<OnCommitted>>,
    on_leader: RefCell<Option<OnLeader>>,
    on_installed: RefCell<Option<OnInstalled>>,
    snapshots: RefCell<Snapshots<R>>,
    /// Of what goes to replicas that lag.
    pace: RefCell<Pace>,
    lag_turns: RefCell<Turns>,
    /// Held by whoever of them has its turn next.
    lag_order: tokio::sync::Mutex<()>,
}

/// See the module. Cheap to clone.
pub struct Driver<R: Rt>(Rc<Inner<R>>);

impl<R: Rt> Clone for Driver<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Rt> Driver<R> {
    /// A driver without groups over the log of this core; its tasks run until [`Driver::stop`].
    #[must_use]
    pub fn start(rt: R, log: Log<R>, config: RaftConfig) -> Self {
        let inner = Inner {
            raft: config.raft(),
            peers: RefCell::new(Peers::new(config.election_ticks as u64)),
            life: Cell::new(Self::new_life(&rt, config.lease_drift_percent.is_some())),
            logger: logger(),
            rt: rt.clone(),
            log,
            config,
            replicas: RefCell::default(),
            broken: RefCell::default(),
            called: RefCell::default(),
            doubted: RefCell::default(),
            queues: RefCell::default(),
            due: RefCell::default(),
            promised: Notify::new(),
            untold: RefCell::default(),
            committed: Notify::new(),
            stopping: Cell::new(false),
            counters: Cell::default(),
            on_committed: RefCell::default(),
            on_leader: RefCell::default(),
            on_installed: RefCell::default(),
            snapshots: RefCell::default(),
            pace: RefCell::default(),
            lag_turns: RefCell::default(),
            lag_order: tokio::sync::Mutex::default(),
        };
        let this = Self(Rc::new(inner));
        let ticks = this.clone();
        rt.spawn("raft ticks", Share::Serve, async move { ticks.tick().await });
        let keeps = this.clone();
        rt.spawn("raft promises", Share::Serve, async move { keeps.keep_promises().await });
        let tells = this.clone();
        rt.spawn("raft commits", Share::Serve, async move { tells.tell_commits().await });
        this
    }

    /// Ends its tasks, and those of its links. The journal is not touched.
    pub fn stop(&self) {
        self.0.stopping.set(true);
        self.0.promised.notify_waiters();
        self.0.committed.notify_waiters();
        self.0.queues.borrow().values().for_each(|queue| queue.wake());
        for replica in self.0.replicas.borrow_mut().values_mut() {
            replica.lose_waiters();
        }
    }

    /// Whether [`Driver::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.get()
    }

    /// The door that it goes through.
    #[must_use]
    pub fn rt(&self) -> &R {
        &self.0.rt
    }

    /// Has `callback` told of each entry that is committed here, in order. It must not call the driver.
    pub fn on_committed(&self, callback: impl Fn(GroupId, &Entry) + 'static) {
        *self.0.on_committed.borrow_mut() = Some(Box::new(callback));
    }

    /// Has `callback` told where the leader of a group lives and in which term it leads, as far as that is known, whenever that changes here. It must not call
    /// the driver.
    pub fn on_leader(&self, callback: impl Fn(GroupId, Option<(NodeId, Term)>) + 'static) {
        *self.0.on_leader.borrow_mut() = Some(Box::new(callback));
    }

    /// Has `callback` told of each snapshot that a replica here has installed, once it lasts: all up to the entry is committed, and was not told of
    /// one by one. It must not call the driver.
    pub fn on_installed(&self, callback: impl Fn(GroupId, Index) + 'static) {
        *self.0.on_installed.borrow_mut() = Some(Box::new(callback));
    }

    /// Makes a replica of a group that never had one here. `members` are those that the group began with, whether this replica is one of them
    /// or is added later: what changed since, it learns from the log.
    pub fn create(&self, group: GroupId, config: GroupConfig, members: &Membership) -> Result<(), LogError> {
        self.0.log.create_replica(group, config, members.encode())?;
        self.begin(group, None).map_err(|e| LogError::Replica { group, what: e.to_string() })
    }

    /// Begins with a replica that the log has: all that it has must be on stable media, as after a start. One that is damaged takes no part.
    pub fn open(&self, group: GroupId) -> Result<(), OpenError> {
        if let Some(what) = self.0.log.damaged(group) {
            self.retire(group, what);
            return Ok(());
        }
        self.begin(group, Some(self.0.rt.mono()))
    }

    /// Begins with a replica that the log has. `begun` is now if it was there before.
    fn begin(&self, group: GroupId, begun: Option<Nanos>) -> Result<(), OpenError> {
        let inner = &self.0;
        let mut replica = Replica::open(&inner.log, group, &inner.raft, inner.config.seed, &inner.logger)?;
        replica.ask(|raw| raw.raft.skip_bcast_commit(!self.is_prompt(group)));
        replica.begun = begun;
        for node in replica.members.nodes.values() {
            self.queue(*node);
        }
        inner.replicas.borrow_mut().insert(group, Box::new(replica));
        Ok(())
    }

    /// Makes a replica of a group that was alone here, the only one of its group at first: `members` names no other. It leads soon.
    pub async fn adopt(&self, group: GroupId, members: &Membership) -> Result<(), LogError> {
        let lsn = self.0.log.replicate(group, members.encode())?;
        self.0.log.synced(lsn).await?;
        self.open(group).map_err(|e| LogError::Replica { group, what: e.to_string() })?;
        self.campaign(group);
        Ok(())
    }

    /// Has a replica ask for votes now rather than once it misses a leader. Of no effect where others do hear from one, or where it might break the lease of one.
    pub fn campaign(&self, group: GroupId) {
        self.with(group, |replica| {
            if self.keeps_leases() && !replica.is_alone() && (replica.leader().is_some() || self.is_young(replica)) {
                return;
            }
            replica.wake();
            // Refused where it may not lead.
            let _ = replica.ask(|raw| raw.campaign());
        });
    }

    /// Returns when a later start of this replica would find all committed that it has applied by now. Else that may be forgotten until a leader says it again,
    /// which must not be where something was done on the strength of it that cannot be undone.
    pub async fn keep_commit(&self, group: GroupId) -> Result<(), LogError> {
        let put = self.with(group, |replica| {
            if replica.applied > replica.hard.commit {
                let hard = HardState { commit: replica.applied, ..replica.hard };
                replica.last_put = self.0.log.set_hard_state(group, hard)?;
                replica.hard = hard;
            }
            Ok(replica.last_put)
        });
        self.0.log.synced(put.unwrap_or(Err(LogError::UnknownGroup { group }))?).await
    }

    /// Takes no part in a group any more; what the log has of it stays.
    pub fn close(&self, group: GroupId) {
        let mut replicas = self.0.replicas.borrow_mut();
        let gone = self.take_out(&mut replicas, group, false);
        drop(replicas);
        self.0.broken.borrow_mut().remove(&group);
        self.0.called.borrow_mut().remove(&group);
        if let Some(mut replica) = gone {
            replica.lose_waiters();
        }
    }

    /// Takes a replica out; those who count on it are told if it leads, or `led` a moment ago.
    fn take_out(&self, replicas: &mut Replicas<R>, group: GroupId, led: bool) -> Option<Box<Replica<R>>> {
        let gone = replicas.remove(&group)?;
        if led || gone.is_leader() {
            self.begin_life(replicas);
        }
        self.tell_leader(group, None);
        Some(gone)
    }

    /// Groups of which a replica takes part here.
    #[must_use]
    pub fn all(&self) -> Vec<GroupId> {
        self.groups(|_| true)
    }

    /// How a replica stands; `None` if it does not live here or is broken.
    #[must_use]
    pub fn status(&self, group: GroupId) -> Option<Status> {
        let replicas = self.0.replicas.borrow();
        let replica = replicas.get(&group)?;
        Some(Status {
            me: replica.members.me,
            leads: replica.is_leader(),
            serves: replica.is_leader() && self.0.log.term_of(group, replica.applied) == Some(replica.term()),
            leader: replica.leader(),
            leader_node: replica.leader().and_then(|leader| replica.node_of(leader)),
            term: replica.term(),
            applied: replica.applied,
            quiet: replica.quiet,
        })
    }

    /// Counts since its start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.counters.get()
    }

    fn count(&self, count: impl FnOnce(&mut Counters)) {
        let mut counters = self.0.counters.get();
        count(&mut counters);
        self.0.counters.set(counters);
    }

    /// Who the members of a group are, as far as this replica has applied that; `None` if it does not live here or is broken.
    #[must_use]
    pub fn members(&self, group: GroupId) -> Option<Membership> {
        self.0.replicas.borrow().get(&group).map(|replica| replica.members.clone())
    }

    /// Up to where each replica of a group is known to have the log; `None` if this one does not lead.
    #[must_use]
    pub fn matched(&self, group: GroupId) -> Option<BTreeMap<RaftId, Index>> {
        let replicas = self.0.replicas.borrow();
        let replica = replicas.get(&group).filter(|replica| replica.is_leader())?;
        Some(replica.raw.raft.prs().iter().map(|(id, progress)| (*id, Index(progress.matched))).collect())
    }

    /// Up to where one replica of a group is known to have the log; `None` if this one does not lead, or does not know it.
    #[must_use]
    pub fn matched_by(&self, group: GroupId, id: RaftId) -> Option<Index> {
        let replicas = self.0.replicas.borrow();
        let replica = replicas.get(&group).filter(|replica| replica.is_leader())?;
        replica.raw.raft.prs().get(id).map(|progress| Index(progress.matched))
    }

    /// All replicas here, counted: one look at each.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census { broken: self.0.broken.borrow().len() as u64, ..Census::default() };
        for replica in self.0.replicas.borrow().values() {
            census.replicas += 1;
            census.resting += u64::from(replica.quiet);
            census.leaderless += u64::from(replica.leader().is_none());
        }
        census
    }

    /// Why a replica takes no part any more.
    #[must_use]
    pub fn broken(&self, group: GroupId) -> Option<String> {
        self.0.broken.borrow().get(&group).cloned()
    }

    /// Groups of which a replica here takes no part any more.
    #[must_use]
    pub fn all_broken(&self) -> Vec<GroupId> {
        self.0.broken.borrow().keys().copied().collect()
    }

    /// What waits to be sent to a node.
    pub(crate) fn queue(&self, node: NodeId) -> Rc<Queue> {
        let new = || Rc::new(Queue::new(self.0.config.queue_bytes_max));
        Rc::clone(self.0.queues.borrow_mut().entry(node).or_insert_with(new))
    }

    /// Proposes a batch, whose header has been parsed and checked. The batch gets its offset and goes to the journal and to followers.
    pub fn propose(&self, group: GroupId, mut batch: BytesMut, header: &Header) -> Result<Proposed, ProposeError> {
        let log = &self.0.log;
        self.with(group, |replica| {
            leads(replica)?;
            replica.wake();
            let (tell, committed) = oneshot::channel();
            if let Some(offset) = log.produced(group, header, self.0.rt.wall_ms())? {
                // Whatever the log ends with, the first copy of the batch lies before.
                let last = log.replica(group).ok_or(ProposeError::Unknown(group))?;
                replica.waiters.push_back(Waiter { index: last.last_index, term: last.last_term, began: self.0.rt.mono(), tell });
                self.tell_applied(replica);
                return Ok(Proposed { offset, duplicate: true, committed });
            }
            if !log.room() {
                log.admit(batch.len())?;
                return Err(ProposeError::Busy);
            }
            let (_, offset) = log.end_of(group).ok_or(ProposeError::Unknown(group))?;
            millpond_batch::stamp(&mut batch, offset.0, millpond_log::epoch_of(replica.term()));
            let mut proposal = Message { from: replica.members.me, ..Message::default() };
            proposal.set_msg_type(MessageType::MsgPropose);
            proposal.entries.push(Entry { data: batch.freeze(), ..Entry::default() });
            replica.ask(|raw| raw.step(proposal)).map_err(|_| ProposeError::Busy)?;
            let (index, term) = (Index(replica.raw.raft.raft_log.last_index()), replica.term());
            replica.waiters.push_back(Waiter { index, term, began: self.0.rt.mono(), tell });
            Ok(Proposed { offset, duplicate: false, committed })
        })
        .unwrap_or(Err(ProposeError::Unknown(group)))
    }

    /// Changes the members, one change after the other: what is proposed while another is under way is refused.
    pub fn change(&self, group: GroupId, changes: &[Change]) -> Result<(), ProposeError> {
        let change = crate::change::message(changes);
        self.with(group, |replica| {
            leads(replica)?;
            replica.wake();
            if replica.raw.raft.has_pending_conf() {
                return Err(ProposeError::Busy);
            }
            replica.ask(|raw| raw.propose_conf_change(Vec::new(), change)).map_err(|_| ProposeError::Busy)
        })
        .unwrap_or(Err(ProposeError::Unknown(group)))
    }

    /// Asks something of a replica and does whatever Raft wants then.
    fn with<T>(&self, group: GroupId, ask: impl FnOnce(&mut Replica<R>) -> T) -> Option<T> {
        let mut replicas = self.0.replicas.borrow_mut();
        let replica = replicas.get_mut(&group)?;
        let led = replica.is_leader();
        let answer = ask(replica);
        let driven = self.drive(replica);
        for wanted in replica.raw.store().take_wanted() {
            let this = self.clone();
            self.0.rt.spawn("raft reads", Share::Background, async move { this.fetch(group, wanted).await });
        }
        if replica.raw.store().wants_snapshot() {
            self.take_snapshot(group);
        }
        let broken = self.broken(group);
        if (broken.is_some() || driven.is_err())
            && let Some(gone) = self.take_out(&mut replicas, group, led)
        {
            match (broken, driven) {
                (Some(why), _) => {
                    let term = gone.term().0;
                    tracing::error!(group = group.0, term, why, "a replica takes no part any more until it is repaired");
                }
                (None, Err(error)) => self.refused(*gone, group, &error),
                (None, Ok(())) => {}
            }
        }
        Some(answer)
    }

    async fn tick(&self) {
        let mut ticks = 0_usize;
        while !self.is_stopping() {
            self.0.rt.sleep(self.0.config.tick).await;
            ticks += 1;
            if ticks.is_multiple_of(self.0.config.heartbeat_ticks) {
                self.0.queues.borrow().values().for_each(|queue| queue.beat());
            }
            self.miss_peers();
            self.heed_damage();
            self.0.pace.borrow_mut().tick();
            self.look_after_snapshots();
            for group in self.groups(|replica| !replica.quiet) {
                self.with(group, |replica| {
                    self.expire_reads(replica);
                    self.expire_handover(replica);
                    replica.ask(|raw| raw.tick());
                    replica.idle_ticks += 1;
                    self.rest(replica);
                });
                self.0.rt.yield_if_needed().await;
            }
        }
    }

    /// Groups whose replicas here are as asked, in order.
    fn groups(&self, which: impl Fn(&Replica<R>) -> bool) -> Vec<GroupId> {
        let replicas = self.0.replicas.borrow();
        let mut groups: Vec<GroupId> = replicas.iter().filter(|(_, replica)| which(replica)).map(|(group, _)| *group).collect();
        groups.sort_unstable();
        groups
    }

    async fn keep_promises(&self) {
        while !self.is_stopping() {
            let first = self.0.due.borrow().first().map(|(lsn, _)| *lsn);
            let Some(lsn) = first else {
                self.0.promised.notified().await;
                continue;
            };
            if self.0.log.synced(lsn).await.is_err() {
                // The journal has stopped, and the node will.
                return;
            }
            let synced = self.0.log.synced_lsn();
            while let Some((_, group)) = self.due_until(synced) {
                self.with(group, |replica| {
                    while let Some(promise) = replica.promises.pop_front_if(|promise| promise.lsn <= synced) {
                        self.keep(replica, promise);
                    }
                });
                self.0.rt.yield_if_needed().await;
            }
        }
    }

    fn due_until(&self, synced: Lsn) -> Option<(Lsn, GroupId)> {
        let mut due = self.0.due.borrow_mut();
        let first = *due.first().filter(|(lsn, _)| *lsn <= synced)?;
        due.remove(&first);
        Some(first)
    }
}

/// Refuses what only a leader may be asked for.
fn leads<R: Rt>(replica: &Replica<R>) -> Result<(), ProposeError> {
    if replica.is_leader() {
        return Ok(());
    }
    let leader = replica.leader().and_then(|id| replica.node_of(id));
    Err(ProposeError::NotLeader { leader })
}
