//! Snapshots that come in.
//!
//! An offer is not passed on to Raft but taken up: one piece is asked for after the other, and asked for again if it does not come, so that a connection that breaks
//! costs no more than one piece. Once all is here and checked, the log installs it and the replica begins anew with that, as after a start. Only then does
//! Raft hear of the offer: it finds that it has the entry, and says so to its leader. So Raft itself never waits for a snapshot to be kept.
//!
//! Never installed: one whose last entry is here already, committed or not, since what follows that in the log may have been promised to a leader.

use super::Driver;
use crate::{
    members::Membership,
    replica::Replica,
    wire::{PIECE_BYTES_MAX, Said, SnapshotAsk, SnapshotEnd, SnapshotPiece, snapshot_number},
};
use bytes::{Bytes, BytesMut};
use millpond_log::{LogError, Lsn, Manifest, Received, snapshot::MANIFEST_BYTES_MAX, snapshot::Ready};
use millpond_runtime::{GroupId, Index, NodeId, Rt, Share, Term, limits::BLOCK_BYTES, rt::timeout};
use raft::eraftpb::{Message, MessageType};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use tokio::sync::Notify;

/// One on its way.
pub(super) struct Incoming {
    number: u64,
    /// Where it comes from.
    node: NodeId,
    /// The offer.
    offer: Message,
    /// What came last.
    piece: RefCell<Option<SnapshotPiece>>,
    arrived: Notify,
    /// It cannot be had any more.
    gone: Cell<bool>,
    /// All is here, and is being checked and installed.
    finishing: Cell<bool>,
    /// What another leader has offered meanwhile, and from which node.
    other: RefCell<Option<(NodeId, Message)>>,
}

impl Incoming {
    /// The other side cannot send it any more.
    pub(super) fn end(&self, node: NodeId, end: &SnapshotEnd) {
        if (self.node, self.number) == (node, end.number) {
            self.gone.set(true);
            self.arrived.notify_one();
        }
    }

    fn index(&self) -> (Index, Term) {
        let of = self.offer.get_snapshot().get_metadata();
        (Index(of.index), Term(of.term))
    }
}

/// Nothing comes of a snapshot.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("its sender says nothing any more, or has it no more")]
    Gone,
    #[error("it is not what was offered: {0}")]
    Senseless(String),
    #[error("the replica takes no part for the moment")]
    Away,
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What became of an attempt to install one.
enum Placed<R: Rt> {
    /// It is there once the journal has synced so far.
    Installed(Lsn),
    /// Not now.
    Later(Received<R>),
    /// It is not needed any more.
    Needless(Received<R>),
    /// It will not be.
    Refused(LogError, Received<R>),
}

impl<R: Rt> Driver<R> {
    /// A leader offers a snapshot.
    pub(super) fn offered(&self, replica: &mut Replica<R>, node: NodeId, offer: Message) {
        if offer.term < replica.raw.raft.term {
            return;
        }
        let group = replica.group;
        let number = snapshot_number(offer.get_snapshot());
        let incoming = Incoming {
            number,
            node,
            offer,
            piece: RefCell::default(),
            arrived: Notify::new(),
            gone: Cell::new(false),
            finishing: Cell::new(false),
            other: RefCell::default(),
        };
        if has(replica, incoming.index()) {
            return tell_raft(replica, incoming.offer);
        }
        let all = &mut *self.0.snapshots.borrow_mut();
        if let Some(under_way) = all.incoming.get(&group) {
            // It goes on for as long as its sender lives, whoever leads.
            if under_way.number != number {
                *under_way.other.borrow_mut() = Some((node, incoming.offer));
            }
            return;
        }
        let incoming = Rc::new(incoming);
        if all.incoming.len() >= self.0.config.snapshots_max {
            return self.say_end(group, &incoming, false, false);
        }
        all.incoming.insert(group, Rc::clone(&incoming));
        let this = self.clone();
        self.0.rt.spawn("raft snapshot receipt", Share::Background, async move {
            let outcome = this.receive_snapshot(group, &incoming).await;
            this.0.snapshots.borrow_mut().incoming.remove(&group);
            if let Err(error) = &outcome {
                let (Index(entry), Term(term)) = incoming.index();
                tracing::info!(group = group.0, term, entry, node = incoming.node.0, %error, "nothing comes of a snapshot");
                this.count(|c| c.snapshots_failed += 1);
            }
            let damaged = matches!(&outcome, Err(Failed::Log(error)) if error.is_damage());
            this.say_end(group, &incoming, outcome.is_ok(), damaged);
            this.answer_other(group, &incoming, outcome.is_ok());
        });
    }

    /// Another leader has made an offer meanwhile. It hears how far the replica has come: what it lacks now may be entries.
    fn answer_other(&self, group: GroupId, incoming: &Incoming, done: bool) {
        let Some((node, offer)) = incoming.other.take() else { return };
        let (from, to, number) = (offer.to, offer.from, snapshot_number(offer.get_snapshot()));
        if done {
            let mut nearer = offer;
            *nearer.mut_snapshot() = incoming.offer.get_snapshot().clone();
            self.with(group, |replica| {
                if nearer.term >= replica.raw.raft.term && has(replica, incoming.index()) {
                    tell_raft(replica, nearer);
                }
            });
        }
        self.say(node, group, Said::End(SnapshotEnd { from, to, number, done, damaged: false }));
    }

    fn say_end(&self, group: GroupId, incoming: &Incoming, done: bool, damaged: bool) {
        let end = SnapshotEnd { from: incoming.offer.to, to: incoming.offer.from, number: incoming.number, done, damaged };
        self.say(incoming.node, group, Said::End(end));
    }

    fn say_ask(&self, group: GroupId, incoming: &Incoming, file: u64, position: u64, bytes: usize) {
        let (from, to, number) = (incoming.offer.to, incoming.offer.from, incoming.number);
        self.say(incoming.node, group, Said::Ask(SnapshotAsk { from, to, number, file, position, bytes: bytes as u32 }));
    }

    /// A piece comes.
    pub(super) fn take_piece(&self, group: GroupId, node: NodeId, piece: SnapshotPiece) {
        let incoming = self.0.snapshots.borrow().incoming.get(&group).cloned();
        if let Some(incoming) = incoming.filter(|incoming| (incoming.node, incoming.number) == (node, piece.number)) {
            *incoming.piece.borrow_mut() = Some(piece);
            incoming.arrived.notify_one();
        }
    }

    /// A tick has passed: senders are told of what takes a while here.
    pub(super) fn keep_incoming(&self) {
        for (group, incoming) in self.0.snapshots.borrow().incoming.iter().filter(|(_, incoming)| incoming.finishing.get()) {
            self.say_ask(*group, incoming, 0, 0, 0);
        }
    }

    async fn receive_snapshot(&self, group: GroupId, incoming: &Incoming) -> Result<(), Failed> {
        let manifest = self.manifest(group, incoming).await?;
        let mut receiving = self.0.log.receive(group, manifest).await?;
        let piece_max = self.0.config.snapshot_piece_bytes.clamp(BLOCK_BYTES, PIECE_BYTES_MAX) / BLOCK_BYTES * BLOCK_BYTES;
        while let Some((file, position, left)) = receiving.wanted() {
            let bytes = usize::try_from(left).map_or(piece_max, |left| left.min(piece_max));
            let written = match self.piece(group, incoming, file as u64 + 1, position, bytes).await {
                Ok(piece) => receiving.write(&piece.data).await.map_err(Failed::Log),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                receiving.abandon().await?;
                return Err(error);
            }
        }
        incoming.finishing.set(true);
        let received = receiving.finish().await?;
        self.put_in_place(group, incoming, received).await
    }

    async fn manifest(&self, group: GroupId, incoming: &Incoming) -> Result<Manifest, Failed> {
        let mut bytes = BytesMut::new();
        loop {
            let piece = self.piece(group, incoming, 0, bytes.len() as u64, PIECE_BYTES_MAX).await?;
            if piece.len > MANIFEST_BYTES_MAX as u64 || piece.data.is_empty() {
                return Err(Failed::Senseless(format!("a manifest of {} bytes, {} of them now", piece.len, piece.data.len())));
            }
            bytes.extend_from_slice(&piece.data);
            if bytes.len() as u64 >= piece.len {
                break;
            }
        }
        let manifest = Manifest::decode(&bytes).map_err(|error| Failed::Senseless(error.to_string()))?;
        if (manifest.index, manifest.term) != incoming.index() {
            return Err(Failed::Senseless(format!("it ends with entry {} of term {}", manifest.index, manifest.term)));
        }
        Membership::decode(&manifest.members.bytes).map_err(|error| Failed::Senseless(error.to_string()))?;
        Ok(manifest)
    }

    /// A piece, or the beginning of it, asked for until it comes or nobody has answered for too long.
    async fn piece(&self, group: GroupId, incoming: &Incoming, file: u64, position: u64, bytes: usize) -> Result<SnapshotPiece, Failed> {
        let rt = &self.0.rt;
        let since = rt.mono();
        let mut tries = 0_u64;
        loop {
            if self.is_stopping() || incoming.gone.get() || u128::from(rt.mono() - since) > self.patience().as_nanos() {
                return Err(Failed::Gone);
            }
            self.count(|c| c.snapshots_resumed += u64::from(tries > 0));
            tries += 1;
            self.say_ask(group, incoming, file, position, bytes);
            if let Ok(piece) = timeout(rt, self.again_after(), answer(incoming, file, position)).await {
                let Some(piece) = piece else { return Err(Failed::Gone) };
                let len = piece.data.len();
                let fits = (1..=bytes).contains(&len) && (file == 0 || len.is_multiple_of(BLOCK_BYTES));
                return if fits { Ok(piece) } else { Err(Failed::Senseless(format!("{len} bytes for {bytes}"))) };
            }
        }
    }

    /// Has the replica begin anew with a snapshot that is here.
    async fn put_in_place(&self, group: GroupId, incoming: &Incoming, mut received: Received<R>) -> Result<(), Failed> {
        let since = self.0.rt.mono();
        loop {
            let ready = received.ready().await;
            received = match self.install(group, incoming, ready) {
                Placed::Installed(lsn) => {
                    self.0.log.synced(lsn).await?;
                    return self.begin_with(group, incoming);
                }
                Placed::Needless(received) => return Ok(received.abandon().await?),
                Placed::Refused(error, received) => {
                    received.abandon().await?;
                    return Err(error.into());
                }
                Placed::Later(received) => received,
            };
            if self.is_stopping() || u128::from(self.0.rt.mono() - since) > self.patience().as_nanos() {
                received.abandon().await?;
                return Err(Failed::Away);
            }
            self.0.rt.sleep(self.0.config.tick).await;
        }
    }

    fn install(&self, group: GroupId, incoming: &Incoming, ready: Ready<R>) -> Placed<R> {
        let mut replicas = self.0.replicas.borrow_mut();
        let Some(replica) = replicas.get(&group) else { return Placed::Later(ready.later()) };
        if has(replica, incoming.index()) || replica.is_leader() {
            return Placed::Needless(ready.later());
        }
        let mut members = match Membership::decode(&ready.manifest().members.bytes) {
            Ok(members) => members,
            Err(error) => return Placed::Refused(LogError::Replica { group, what: error.to_string() }, ready.later()),
        };
        members.me = replica.members.me;
        match self.0.log.install(ready, members.encode()) {
            Ok(lsn) => {
                // What it had promised and not said yet is not said.
                replicas.remove(&group).into_iter().for_each(|mut replica| replica.lose_waiters());
                Placed::Installed(lsn)
            }
            Err(refused) => match *refused {
                (error, received) if error.is_retryable() => {
                    let (Index(entry), Term(term)) = incoming.index();
                    tracing::debug!(group = group.0, term, entry, node = incoming.node.0, %error, "a snapshot waits");
                    Placed::Later(received)
                }
                (error, received) => Placed::Refused(error, received),
            },
        }
    }

    /// The snapshot lasts: the replica takes part again.
    fn begin_with(&self, group: GroupId, incoming: &Incoming) -> Result<(), Failed> {
        if self.is_stopping() {
            return Err(Failed::Away);
        }
        let (Index(entry), Term(term)) = incoming.index();
        if let Err(error) = self.open(group) {
            tracing::error!(group = group.0, term, entry, node = incoming.node.0, %error, "a replica cannot begin with a snapshot");
            self.0.broken.borrow_mut().insert(group, error.to_string());
            return Err(Failed::Senseless(error.to_string()));
        }
        self.count(|c| c.snapshots_installed += 1);
        tracing::info!(group = group.0, term, entry, node = incoming.node.0, "a snapshot is installed");
        if let Some(callback) = &*self.0.on_installed.borrow() {
            callback(group, incoming.index().0);
        }
        self.with(group, |replica| {
            replica.hear(incoming.offer.from, incoming.node);
            tell_raft(replica, incoming.offer.clone());
        });
        Ok(())
    }
}

/// The piece that was asked for; `None` if there is none to be had.
async fn answer(incoming: &Incoming, file: u64, position: u64) -> Option<SnapshotPiece> {
    loop {
        if incoming.gone.get() {
            return None;
        }
        let piece = incoming.piece.borrow_mut().take().filter(|piece| (piece.file, piece.position) == (file, position));
        if piece.is_some() {
            return piece;
        }
        incoming.arrived.notified().await;
    }
}

/// Whether the replica has committed as much, or has that very entry.
fn has<R: Rt>(replica: &Replica<R>, (index, term): (Index, Term)) -> bool {
    let log = &replica.raw.raft.raft_log;
    index.0 <= log.committed || log.match_term(index.0, term.0)
}

/// Raft hears of an offer whose last entry is in the log already: it says so, and keeps nothing.
fn tell_raft<R: Rt>(replica: &mut Replica<R>, mut offer: Message) {
    let mut conf = replica.members.conf.clone();
    if !conf.voters.contains(&replica.members.me) {
        // It is none yet, or none any more, as far as it knows. Raft would say nothing.
        conf.voters.push(replica.members.me);
    }
    let of = offer.mut_snapshot();
    of.data = Bytes::new();
    of.mut_metadata().set_conf_state(conf);
    debug_assert_eq!(offer.get_msg_type(), MessageType::MsgSnapshot);
    // What Raft refuses has no effect.
    let _ = replica.ask(|raw| raw.step(offer));
}
