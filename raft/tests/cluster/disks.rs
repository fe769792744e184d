//! Disks that lose, change or forget what they were given, one node's at a time, when all others are whole.
//!
//! An operator exchanges such a disk, and the node comes back with replicas of new ids: it has forgotten what its replicas have promised. Before that:
//! a log that finds the damage says so and does not start; one that does not, has all that it had promised, and gives nobody other bytes than were
//! committed. A node whose disk is older than its last start does not come back on it at all.

use crate::{
    book::Home,
    cluster::Cluster,
    node::open_log,
    schedule::{Fault, GROUPS, Rot},
};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_log::{HardState, Log, ReadLimits};
use millpond_runtime::{
    GroupId, Index, NodeId, Offset,
    sim::{DiskFault, DiskImage, SimRt},
};
use std::{collections::BTreeMap, path::PathBuf, rc::Rc, time::Duration};

/// What a replica must still know after a start.
type Promises = BTreeMap<GroupId, (HardState, Index)>;

/// How a log over a damaged disk opens.
#[derive(Debug)]
enum Exam {
    Refused,
    /// It has forgotten what it had promised.
    Forgot(String),
    /// It opens, and some of it cannot be read.
    Unreadable,
    Whole,
}

impl Cluster {
    pub(crate) fn lose_disk(&self, fault: &Fault) {
        // One at a time.
        if !self.repair(100) {
            return;
        }
        match fault {
            Fault::Exchange(node) if self.gather(*node, 100) => self.replace(*node),
            Fault::Rot(node, rot) if self.gather(*node, 100) => self.rot(*node, rot),
            Fault::Misdirect { node, segments, blocks, run } if self.gather(*node, 100) => self.misdirect(*node, *segments, *blocks, *run),
            Fault::Rollback { node, wiped, run } if self.gather(*node, 100) => self.roll_back(*node, *wiped, *run),
            _ => {}
        }
        self.book.quiet.set(false);
    }

    /// Exchanges the disk that is damaged, if one is.
    pub(crate) fn repair(&self, tries: usize) -> bool {
        let Some(node) = self.damaged.get() else { return true };
        let gathered = self.gather(node, tries);
        if gathered {
            self.replace(node);
        }
        self.book.quiet.set(false);
        gathered
    }

    /// As [`Cluster::repair`], but a disk whose damage nobody can find stays.
    pub(crate) fn examine_and_repair(&self, tries: usize) {
        let Some(node) = self.damaged.get() else { return };
        assert!(self.gather(node, tries), "the others are not whole without node {node}, whose disk is damaged:\n{}", self.describe());
        self.crash(node);
        if self.held.get() != Some(node) && matches!(self.examine(node, &Promises::new()), Exam::Whole) {
            self.damaged.set(None);
            self.book.mark("damage that nobody ever met");
            self.up(node);
        } else {
            self.replace(node);
        }
        self.book.quiet.set(false);
    }

    /// Waits until all voters but this node have all that there is.
    fn gather(&self, but: NodeId, tries: usize) -> bool {
        self.book.quiet.set(true);
        self.mend();
        (0..tries).any(|_| {
            self.up_all();
            self.run_for(Duration::from_millis(100));
            self.is_whole_without(but)
        })
    }

    fn is_whole_without(&self, but: NodeId) -> bool {
        (1..=GROUPS).map(GroupId).all(|group| {
            let leader = self.nodes.iter().find_map(|node| {
                let (log, driver) = self.book.home(*node, group)?;
                driver.status(group).filter(|status| status.leads).map(|status| (log, driver, status))
            });
            let Some((log, driver, status)) = leader else { return false };
            let Some(members) = driver.members(group).filter(|all| all.conf.voters_outgoing.is_empty()) else { return false };
            let last = log.replica(group).map(|replica| replica.last_index);
            last == Some(status.applied)
                && members.conf.voters.iter().all(|id| {
                    let Some(node) = members.nodes.get(id) else { return false };
                    let is_known = self.book.replica(group, *node) == *id;
                    let has_all = |(log, driver): Home| {
                        log.replica(group).map(|replica| replica.last_index) == last
                            && driver.status(group).is_some_and(|s| Some(s.applied) == last && s.term == status.term)
                    };
                    *node == but || is_known && self.book.home(*node, group).is_some_and(has_all)
                })
        })
    }

    /// A node comes back with an empty disk, as another replica of all its groups.
    fn replace(&self, node: NodeId) {
        self.book.mark("disks exchanged");
        self.crash(node);
        self.sim.node(node).disk().restore(&DiskImage::empty());
        *self.book.disks.borrow_mut().entry(node).or_default() += 1;
        self.book.starts.borrow_mut().retain(|(of, _), _| *of != node);
        self.book.refused.borrow_mut().remove(&node);
        if self.damaged.get() == Some(node) {
            self.damaged.set(None);
        }
        self.held.set(None);
        if self.sim.halted(node).is_some() {
            // It was said why; now it is another machine.
            self.sim.restart(node);
            self.crash(node);
        }
        self.up(node);
    }

    fn rot(&self, node: NodeId, rot: &Rot) {
        self.disarm(node);
        let promises = self.promises(node);
        self.crash(node);
        if self.spoil(node, rot) {
            self.damaged.set(Some(node));
            match self.examine(node, &promises) {
                Exam::Forgot(what) => panic!("node {node} starts on a damaged log, and has forgotten: {what}"),
                Exam::Refused => {
                    self.book.mark("starts refused over a damaged log");
                    self.replace(node);
                }
                Exam::Unreadable => self.book.mark("damage that a read found"),
                Exam::Whole => self.book.mark("damage that harmed nothing at the start"),
            }
        }
        self.up(node);
    }

    /// Changes a bit, or makes a sector unreadable, where something was written.
    fn spoil(&self, node: NodeId, rot: &Rot) -> bool {
        let disk = self.sim.node(node).disk();
        let of_kind = |(path, len): &(PathBuf, u64)| *len > 0 && (path.extension().is_some_and(|e| e == "seg")) == rot.segments;
        let files: Vec<(PathBuf, u64)> = disk.files().into_iter().filter(of_kind).collect();
        if files.is_empty() {
            return false;
        }
        let (path, len) = &files[(rot.file % files.len() as u64) as usize];
        let somewhere = (0..50).map(|n| rot.at.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n)) % len);
        let is_written = |at: &u64| disk.read_stable(path, at / 512 * 512, 512).is_ok_and(|sector| sector.iter().any(|byte| *byte != 0));
        let Some(at) = somewhere.into_iter().find(is_written) else { return false };
        let done = if rot.unreadable { disk.spoil(path, at) } else { disk.flip(path, at, rot.mask) };
        self.book.mark(match (rot.segments, rot.unreadable) {
            (true, true) => "sectors of segments that cannot be read",
            (true, false) => "bits changed in segments",
            (false, true) => "sectors of journals that cannot be read",
            (false, false) => "bits changed in journals",
        });
        done.is_ok()
    }

    /// What the replicas of a node have put on stable media. Nobody asks anything of them now.
    fn promises(&self, node: NodeId) -> Promises {
        let mut promises = Promises::new();
        for group in (1..=GROUPS).map(GroupId).filter(|_| self.sim.node(node).is_up()) {
            let Some((log, driver)) = self.book.home(node, group) else { continue };
            let Some(before) = log.replica(group) else { continue };
            let kept = self.sim.block_on(node, move |_| async move { driver.keep_commit(group).await });
            if matches!(kept, Ok(Ok(()))) {
                promises.insert(group, (before.hard, before.last_index));
            }
        }
        promises
    }

    /// Opens the logs of a node that is down, without anybody who would speak for them, looks at all of it, and cuts the power again.
    fn examine(&self, node: NodeId, promises: &Promises) -> Exam {
        let mut worst = Exam::Whole;
        self.sim.restart(node);
        for home in 0..self.book.settings.homes {
            let book = Rc::clone(&self.book);
            let Ok(Ok(log)) = self.sim.block_on(node, move |rt| async move { open_log(&rt, &book, home).await }) else {
                worst = Exam::Refused;
                break;
            };
            for group in self.book.groups_of(home) {
                if let Some(what) = promises.get(&group).and_then(|promised| forgot(&log, group, promised)) {
                    worst = Exam::Forgot(what);
                }
                let whole = self.has_no_other_bytes(node, &log, group) && self.is_verified(node, &log, group);
                if !whole && matches!(worst, Exam::Whole) {
                    worst = Exam::Unreadable;
                }
            }
        }
        if self.sim.halted(node).is_some() {
            worst = Exam::Refused;
        }
        if !self.sim.node(node).is_up() {
            self.sim.restart(node);
        }
        self.sim.crash(node);
        worst
    }

    /// Whether what no reader gets any more is good, too.
    fn is_verified(&self, node: NodeId, log: &Log<SimRt>, group: GroupId) -> bool {
        let log = log.clone();
        !self.sim.node(node).is_up() || matches!(self.sim.block_on(node, |_| async move { log.verify(group).await }), Ok(Ok(())))
    }

    /// Whether all of a group can be read. What can be read is what was committed.
    fn has_no_other_bytes(&self, node: NodeId, log: &Log<SimRt>, group: GroupId) -> bool {
        let Some(state) = log.state(group).filter(|_| self.sim.node(node).is_up()) else { return true };
        let (mut from, end, log) = (state.start_offset, state.high_watermark, log.clone());
        let read = async move {
            let (mut all, mut whole) = (Vec::new(), true);
            while from < end {
                match log.read(group, from, ReadLimits { bytes_max: 64 << 10, end }).await {
                    Ok(out) if out.next > from => {
                        all.extend(out.batches);
                        from = out.next;
                    }
                    // The next record may be in another block.
                    _ => (from, whole) = (Offset(from.0 + 1), false),
                }
            }
            (all, whole)
        };
        let Ok((batches, whole)) = self.sim.block_on(node, |_| read) else { return false };
        let committed = self.committed(group);
        for batch in batches {
            let offset = Header::parse(&batch).unwrap().base_offset;
            assert!(committed.get(&offset) == Some(&batch), "a damaged disk gave other bytes at offset {offset} of group {group}");
        }
        whole
    }

    /// Batches of a group that were committed anywhere, by their offsets.
    fn committed(&self, group: GroupId) -> BTreeMap<u64, Bytes> {
        let committed = self.book.committed.borrow();
        let of_group = committed.iter().filter(|((of, _), _)| *of == group);
        of_group.filter_map(|(_, (_, data))| Some((Header::parse(data).ok()?.base_offset, data.clone()))).collect()
    }

    /// One write lands where it does not belong, and nobody notices at first.
    fn misdirect(&self, node: NodeId, segments: bool, blocks: i64, run: Duration) {
        self.disarm(node);
        let disk = self.sim.node(node).disk();
        let before = self.sim.coverage().get("misdirected_write").copied();
        disk.inject(if segments { ".seg" } else { ".jnl" }, DiskFault::Misdirected { blocks });
        self.damaged.set(Some(node));
        self.book.quiet.set(false);
        self.held.set(Some(node));
        self.run_for(run);
        disk.calm();
        if self.sim.coverage().get("misdirected_write").copied() == before {
            self.damaged.set(None);
            self.held.set(None);
            return;
        }
        // Whoever exchanges it waits for the others: what they have not, may be gone.
        assert!(self.gather(node, 600), "the others are not whole without node {node}, whose writes went astray:\n{}", self.describe());
        self.crash(node);
        self.book.mark(match self.examine(node, &Promises::new()) {
            Exam::Refused => "misdirected writes that a start found",
            Exam::Unreadable => "misdirected writes that a read found",
            Exam::Whole | Exam::Forgot(_) => "misdirected writes that nothing found",
        });
        self.replace(node);
    }

    /// A node is given its disk as it was before, or an empty one, as if nothing were wrong with it.
    fn roll_back(&self, node: NodeId, wiped: bool, run: Duration) {
        self.disarm(node);
        self.crash(node);
        let starts = self.book.starts.borrow().clone();
        let image = if wiped { DiskImage::empty() } else { self.sim.node(node).disk().snapshot() };
        self.up(node);
        self.book.quiet.set(false);
        self.run_for(run);
        let is_older =
            self.book.starts.borrow().iter().any(|(key, n)| key.0 == node && (wiped || starts.get(key).is_none_or(|then| then < n)));
        if !is_older || !self.gather(node, 100) {
            return;
        }
        self.crash(node);
        self.sim.node(node).disk().restore(&image);
        self.up(node);
        let refused = (0..600).any(|_| {
            self.run_for(Duration::from_millis(100));
            self.book.refused.borrow().contains_key(&node)
        });
        assert!(refused, "node {node} came back on an old disk");
        self.book.mark(if wiped { "empty disks refused" } else { "old disks refused" });
        self.replace(node);
    }
}

/// What a log does not know any more, though it was on stable media.
fn forgot(log: &Log<SimRt>, group: GroupId, (hard, last): &(HardState, Index)) -> Option<String> {
    let Some(now) = log.replica(group) else { return Some(format!("all of group {group}")) };
    let votes = (now.hard.term, now.hard.vote) != (hard.term, hard.vote) && now.hard.term <= hard.term;
    (votes || now.last_index < *last).then(|| format!("of group {group}: {hard:?} and entry {last}, it has {now:?}"))
}
