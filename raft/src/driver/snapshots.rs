//! Snapshots that leave: for followers that lack what the log has not got any more.
//!
//! Raft asks for one ([`crate::storage`]); it is taken beside Raft, and Raft asks again. What it sends then is an offer; whoever gets that asks for the
//! pieces (see `receipt`), which leave no faster than is configured. Raft sends that follower nothing else until it is told how that ended: it is told in
//! any case, at the latest when nothing was heard of it for a while. A snapshot stays good whoever leads, so pieces are given as long as somebody asks.

use super::{Driver, receipt::Incoming};
use crate::{
    members::{Membership, RaftId},
    pace::Turns,
    storage::Offer,
    wire::{Envelope, Said, SnapshotAsk, SnapshotEnd, SnapshotPiece, snapshot_number},
};
use bytes::Bytes;
use millpond_log::{LogError, Snapshot};
use millpond_runtime::{GroupId, Nanos, NodeId, Rt, Share, limits::BLOCK_BYTES};
use raft::{ProgressState, SnapshotStatus, eraftpb::MessageType};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// Pieces that are on their way at once.
const SERVED_MAX: usize = 32;

/// All of them, of both kinds.
pub(super) struct Snapshots<R: Rt> {
    /// Groups of which one is being taken.
    taking: BTreeSet<GroupId>,
    held: BTreeMap<GroupId, Held<R>>,
    /// Who was offered which, and Raft waits for its end.
    offers: BTreeMap<(GroupId, RaftId), Offered>,
    /// Whose piece is being read.
    serving: BTreeSet<(GroupId, RaftId)>,
    /// Whose piece may leave when.
    turns: Turns,
    /// What is being received.
    pub(super) incoming: BTreeMap<GroupId, Rc<Incoming>>,
}

impl<R: Rt> Default for Snapshots<R> {
    fn default() -> Self {
        Self {
            taking: BTreeSet::new(),
            held: BTreeMap::new(),
            offers: BTreeMap::new(),
            serving: BTreeSet::new(),
            turns: Turns::default(),
            incoming: BTreeMap::new(),
        }
    }
}

/// One that was taken.
struct Held<R: Rt> {
    number: u64,
    snapshot: Rc<Snapshot<R>>,
    used: Nanos,
    /// Somebody has it: unless others are still at it, nobody waits for it.
    done: bool,
}

/// One that a replica was offered.
struct Offered {
    number: u64,
    node: NodeId,
    /// Whether it has asked for something.
    begun: bool,
    heard: Nanos,
}

impl<R: Rt> Driver<R> {
    /// Nothing is heard of a snapshot for so long: it is given up.
    pub(super) fn patience(&self) -> Duration {
        self.0.config.tick * self.0.config.snapshot_patience_ticks as u32
    }

    /// A piece that has not come after this time is asked for again.
    pub(super) fn again_after(&self) -> Duration {
        self.0.config.tick * (4 * self.0.config.heartbeat_ticks) as u32
    }

    pub(super) fn say(&self, node: NodeId, group: GroupId, said: Said) {
        self.queue(node).push(Envelope { group, said });
    }

    /// Takes a snapshot, unless enough are under way; Raft asks again.
    pub(super) fn take_snapshot(&self, group: GroupId) {
        {
            let mut all = self.0.snapshots.borrow_mut();
            let others = all.held.keys().chain(&all.taking).filter(|other| **other != group).count();
            if others >= self.0.config.snapshots_max || !all.taking.insert(group) {
                return;
            }
        }
        let this = self.clone();
        self.0.rt.spawn("raft snapshot", Share::Background, async move {
            let taken = this.0.log.take_snapshot(group).await;
            this.0.snapshots.borrow_mut().taking.remove(&group);
            match taken {
                Ok(Some(snapshot)) => this.hold(group, snapshot),
                Ok(None) => {}
                Err(LogError::Stopped { .. }) => {}
                Err(error) => {
                    tracing::warn!(group = group.0, %error, "a snapshot for a follower cannot be taken");
                    this.doubt(group, &error);
                }
            }
        });
    }

    fn hold(&self, group: GroupId, snapshot: Snapshot<R>) {
        let m = &snapshot.manifest;
        let members = match Membership::decode(&m.members.bytes) {
            Ok(members) => members,
            Err(error) => {
                return tracing::error!(group = group.0, term = m.term.0, entry = m.index.0, %error, "the members of a snapshot cannot be read");
            }
        };
        let number = self.0.rt.rand();
        let offer = Offer { number, index: m.index, term: m.term, conf: members.conf };
        let held = Held { number, snapshot: Rc::new(snapshot), used: self.0.rt.mono(), done: false };
        self.0.snapshots.borrow_mut().held.insert(group, held);
        self.with(group, |replica| replica.raw.store().offer(Some(offer)));
    }

    /// A message leaves: if it offers a snapshot, Raft waits for the end of that.
    pub(super) fn note_offer(&self, node: NodeId, envelope: &Envelope) {
        let Said::Raft(message) = &envelope.said else { return };
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let offered = Offered { number: snapshot_number(message.get_snapshot()), node, begun: false, heard: self.0.rt.mono() };
            self.0.snapshots.borrow_mut().offers.insert((envelope.group, message.to), offered);
            self.count(|c| c.snapshots_offered += 1);
            let entry = message.get_snapshot().get_metadata().index;
            tracing::info!(
                group = envelope.group.0,
                term = message.term,
                entry,
                node = node.0,
                replica = message.to,
                "a snapshot is offered"
            );
        }
    }

    /// Messages to a node did not arrive: offers that nobody there has taken up may be among them.
    pub(super) fn miss_offers(&self, node: NodeId) {
        let missed: Vec<_> = {
            let all = self.0.snapshots.borrow();
            all.offers.iter().filter(|(_, offered)| offered.node == node && !offered.begun).map(|(at, _)| *at).collect()
        };
        for (group, to) in missed {
            self.report(group, to, SnapshotStatus::Failure);
        }
    }

    /// Raft is told how a snapshot ended.
    fn report(&self, group: GroupId, to: RaftId, status: SnapshotStatus) {
        {
            let all = &mut *self.0.snapshots.borrow_mut();
            all.offers.remove(&(group, to));
            if let Some(held) = all.held.get_mut(&group).filter(|_| status == SnapshotStatus::Finish) {
                held.done = true;
            }
        }
        self.count(|c| c.snapshots_failed += u64::from(status == SnapshotStatus::Failure));
        self.with(group, |replica| replica.ask(|raw| raw.report_snapshot(to, status)));
    }

    /// Somebody asks for a piece.
    pub(super) fn serve(&self, group: GroupId, node: NodeId, ask: SnapshotAsk) {
        let SnapshotAsk { from, to, number, file, position, bytes } = ask;
        let now = self.0.rt.mono();
        let all = &mut *self.0.snapshots.borrow_mut();
        let Some(held) = all.held.get_mut(&group).filter(|held| held.number == number) else {
            return self.say(node, group, Said::End(SnapshotEnd { from: to, to: from, number, done: false, damaged: false }));
        };
        (held.used, held.done) = (now, false);
        if let Some(offered) = all.offers.get_mut(&(group, from)).filter(|offered| offered.number == number) {
            (offered.begun, offered.heard) = (true, now);
        }
        if bytes == 0 || all.serving.len() >= SERVED_MAX || !all.serving.insert((group, from)) {
            return;
        }
        let bytes = (bytes as usize).min(self.piece_max(all.serving.len()));
        let (this, snapshot) = (self.clone(), Rc::clone(&held.snapshot));
        self.0.rt.spawn("raft snapshot piece", Share::Background, async move {
            let piece = read(&snapshot, file, position, bytes).await;
            if let Ok((_, data)) = &piece {
                this.wait_turn(data.len()).await;
            }
            this.0.snapshots.borrow_mut().serving.remove(&(group, from));
            match piece {
                Ok((len, data)) => {
                    this.count(|c| (c.snapshot_pieces, c.snapshot_bytes) = (c.snapshot_pieces + 1, c.snapshot_bytes + data.len() as u64));
                    let piece = SnapshotPiece { from: to, to: from, number, file, position, len, data };
                    this.say(node, group, Said::Piece(piece));
                }
                Err(error) => {
                    tracing::error!(group = group.0, node = node.0, replica = from, %error, "a snapshot cannot be read");
                    this.doubt(group, &error);
                    this.say(node, group, Said::End(SnapshotEnd { from: to, to: from, number, done: false, damaged: false }));
                }
            }
        });
    }

    /// The largest piece, in bytes: whole blocks, one at least. If so many are on their way at once, each is there before it is asked for again.
    fn piece_max(&self, serving: usize) -> usize {
        let bytes = u128::from(self.snapshot_rate()) * self.again_after().as_nanos() / 2_000_000_000;
        let share = usize::try_from(bytes).unwrap_or(usize::MAX) / serving.max(1);
        (share / BLOCK_BYTES * BLOCK_BYTES).max(BLOCK_BYTES)
    }

    /// How fast snapshots may leave now, in bytes per second.
    fn snapshot_rate(&self) -> u64 {
        self.0.pace.borrow_mut().of(self.0.config.snapshot_bytes_per_second)
    }

    /// Waits until so many bytes may leave.
    async fn wait_turn(&self, bytes: usize) {
        let wait = self.0.snapshots.borrow_mut().turns.wait(self.0.rt.mono(), bytes, self.snapshot_rate());
        if wait > 0 {
            self.0.rt.sleep(Duration::from_nanos(wait)).await;
        }
    }

    /// The other side has come to an end with a snapshot.
    pub(super) fn end_snapshot(&self, group: GroupId, node: NodeId, end: SnapshotEnd) {
        let (offered, incoming) = {
            let all = self.0.snapshots.borrow();
            let offered = all.offers.get(&(group, end.from)).is_some_and(|offered| offered.number == end.number);
            (offered, all.incoming.get(&group).cloned())
        };
        if offered {
            self.report(group, end.from, if end.done { SnapshotStatus::Finish } else { SnapshotStatus::Failure });
        }
        if end.damaged && offered {
            self.look_for_damage(group);
        }
        if let Some(incoming) = incoming {
            incoming.end(node, &end);
        }
    }

    /// A tick has passed: what nobody wants goes, and what nobody speaks of has failed.
    pub(super) fn look_after_snapshots(&self) {
        self.keep_incoming();
        let (now, patience) = (self.0.rt.mono(), self.patience().as_nanos() as Nanos);
        let offers: Vec<_> = self.0.snapshots.borrow().offers.iter().map(|(at, offered)| (*at, offered.heard)).collect();
        for ((group, to), heard) in offers {
            let waits = self.0.replicas.borrow().get(&group).is_some_and(|replica| {
                replica.is_leader() && replica.raw.raft.prs().get(to).is_some_and(|progress| progress.state == ProgressState::Snapshot)
            });
            if !waits {
                self.0.snapshots.borrow_mut().offers.remove(&(group, to));
            } else if now.saturating_sub(heard) > patience {
                self.report(group, to, SnapshotStatus::Failure);
            }
        }
        let idle = 2 * self.again_after().as_nanos() as Nanos;
        let unused: Vec<GroupId> = {
            let all = self.0.snapshots.borrow();
            let is_used = |group: &GroupId, held: &Held<R>| {
                (!held.done && now.saturating_sub(held.used) <= idle) || all.offers.keys().chain(&all.serving).any(|(of, _)| of == group)
            };
            all.held.iter().filter(|(group, held)| !is_used(group, held)).map(|(group, _)| *group).collect()
        };
        for group in unused {
            self.0.snapshots.borrow_mut().held.remove(&group);
            if let Some(replica) = self.0.replicas.borrow().get(&group) {
                replica.raw.store().offer(None);
            }
        }
    }
}

/// A piece, and the length of the whole file.
async fn read<R: Rt>(snapshot: &Snapshot<R>, file: u64, position: u64, len: usize) -> Result<(u64, Bytes), LogError> {
    let manifest = snapshot.manifest_bytes();
    if file == 0 {
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(manifest.len());
        return Ok((manifest.len() as u64, manifest.slice(from..manifest.len().min(from.saturating_add(len)))));
    }
    let at = usize::try_from(file - 1).unwrap_or(usize::MAX);
    let whole = snapshot.manifest.files.get(at).map_or(0, |file| file.bytes);
    if position >= whole {
        return Ok((position, Bytes::new()));
    }
    Ok((whole, snapshot.read(at, position, len).await?.into()))
}
