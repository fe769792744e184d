//! What must hold in the end: all is well again, all replicas are equal, all that was acknowledged is there, groups come to rest.

use crate::{book::Home, cluster::Cluster, load::value_of, schedule::GROUPS};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_log::{ReadLimits, ReplicaState};
use millpond_raft::Status;
use millpond_runtime::{GroupId, NodeId, Offset, sim::FaultPlan};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// So long all snapshots may take in the end, in tenths of a second.
const SNAPSHOTS_MAX: usize = 6_000;

fn groups() -> impl Iterator<Item = GroupId> {
    (1..=GROUPS).map(GroupId)
}

impl Cluster {
    /// All is well again: until all replicas have all, and something new.
    pub(crate) fn heal(&self) {
        self.sim.set_faults(FaultPlan::none());
        self.mend();
        for node in &self.nodes {
            self.disarm(*node);
            self.up(*node);
        }
        self.examine_and_repair(600);
        let before = self.book.acked.borrow().len();
        let (mut idle, mut pieces) = (0, 0);
        for _ in 0..SNAPSHOTS_MAX {
            self.up_all();
            self.run_for(Duration::from_millis(100));
            self.book.quiet.set(self.book.acked.borrow().len() >= before + 20);
            if self.book.quiet.get() && self.is_equal() {
                return self.rest();
            }
            // At 64 KiB a second snapshots of some megabytes take their time.
            let sent = self.book.homes.borrow().values().map(|(_, driver)| driver.counters().snapshot_pieces).sum();
            idle = if sent == pieces { idle + 1 } else { 0 };
            pieces = sent;
            if idle > 600 {
                break;
            }
        }
        panic!("the cluster takes no writes or is not equal a minute after everything was healed:\n{}", self.describe());
    }

    /// How all replicas stand, for whoever looks for what went wrong.
    pub(crate) fn describe(&self) -> String {
        let homes = self.book.homes.borrow();
        let one = |node: NodeId, group: GroupId, (log, driver): &Home| {
            format!(
                "node {node}, group {group}: {:?}, {:?}, members {:?}, matched {:?}, room {}, {:?}, {:?}, {:?}",
                driver.status(group),
                driver.broken(group),
                driver.members(group).map(|m| m.conf),
                driver.matched(group),
                log.room(),
                log.replica(group).map(|r| (r.last_index, r.committed)),
                log.state(group).map(|s| (s.start_offset, s.high_watermark)),
                driver.counters()
            )
        };
        let all = homes.iter().flat_map(|((node, number), home)| self.book.groups_of(*number).map(move |group| one(*node, group, home)));
        all.collect::<Vec<String>>().join("\n")
    }

    /// How the replicas stand that groups are to have.
    fn stands(&self) -> Vec<(GroupId, NodeId, Status)> {
        let wanted = self.book.wanted.borrow();
        let of = |group: GroupId| {
            let members = &wanted[&group];
            members.iter().filter_map(move |node| Some((group, *node, self.book.home(*node, group)?.1.status(group)?)))
        };
        groups().flat_map(of).collect()
    }

    /// Nobody asks anything any more: all groups come to rest, and say nothing.
    fn rest(&self) {
        let rests = || self.stands().iter().all(|(_, _, status)| status.quiet);
        if !(0..300).any(|_| {
            self.run_for(Duration::from_millis(100));
            rests()
        }) {
            panic!("groups do not come to rest: {:?}\n{}", self.stands(), self.describe());
        }
        // Those that are no members any more may still ask for votes.
        if self.nodes.len() == 3 {
            let said = || self.book.homes.borrow().values().map(|(_, driver)| driver.counters().messages).sum::<u64>();
            // What was on its way for long may still come, and wakes who hears it.
            let is_silent = (0..5).any(|_| {
                let before = said();
                self.run_for(Duration::from_secs(5));
                said() == before
            });
            assert!(is_silent && rests(), "groups that rest have something to say: {:?}", self.stands());
        }
    }

    /// Whether all replicas have applied all that their leaders have.
    fn is_equal(&self) -> bool {
        groups().all(|group| {
            let members = self.book.wanted.borrow()[&group].clone();
            let is_voter = |node: &NodeId, (_, driver): &Home| {
                let voters = driver.members(group).map_or(Vec::new(), |all| all.conf.voters);
                voters.contains(&self.book.replica(group, *node)) && voters.len() == members.len()
            };
            let of = |node: &NodeId| self.book.home(*node, group).filter(|home| is_voter(node, home));
            let stands: Vec<_> = members.iter().filter_map(of).map(|(log, driver)| (log.replica(group), driver.status(group))).collect();
            if stands.len() != members.len() {
                return false;
            }
            let leads = stands.iter().any(|(_, status)| status.as_ref().is_some_and(|s| s.leads));
            let last = stands[0].0.as_ref().map(|replica| replica.last_index);
            let have = |(log, status): &(Option<ReplicaState>, Option<Status>)| {
                log.as_ref().map(|replica| replica.last_index) == last && status.as_ref().map(|s| s.applied) == last
            };
            leads && stands.iter().all(have)
        })
    }

    /// What a node has of a group, as readers see it, and where that begins.
    fn read(&self, node: NodeId, group: GroupId) -> (Offset, Vec<Bytes>) {
        let (log, _) = self.book.home(node, group).unwrap();
        let read = async move {
            let (start, end) = log.state(group).map(|state| (state.start_offset, state.high_watermark)).unwrap();
            let (mut from, mut all) = (start, Vec::new());
            while from < end {
                let out = log.read(group, from, ReadLimits { bytes_max: 8 << 20, end }).await.unwrap();
                all.extend(out.batches);
                from = out.next;
            }
            (start, all)
        };
        self.sim.block_on(node, |_| read).unwrap()
    }

    pub(crate) fn check(&self) {
        for group in groups() {
            let acked: Vec<(Offset, u64)> =
                self.book.acked.borrow().iter().filter(|(g, ..)| *g == group).map(|(_, offset, value)| (*offset, *value)).collect();
            let members = self.book.wanted.borrow()[&group].clone();
            let all: Vec<(Offset, Vec<Bytes>)> = members.iter().map(|node| self.read(*node, group)).collect();
            // Each has trimmed as it liked: what is behind that is the same.
            let begin = all.iter().map(|(start, _)| *start).max().unwrap();
            let common = |(_, batches): &(Offset, Vec<Bytes>)| -> Vec<Bytes> {
                batches.iter().filter(|b| Header::parse(b).unwrap().base_offset >= begin.0).cloned().collect()
            };
            assert!(all.windows(2).all(|pair| common(&pair[0]) == common(&pair[1])), "replicas of group {group} differ");
            for (start, batches) in &all {
                let found: BTreeMap<u64, u64> = batches.iter().map(|b| (value_of(b), Header::parse(b).unwrap().base_offset)).collect();
                assert_eq!(found.len(), batches.len(), "something is there twice");
                for ((_, offset), value) in self.book.seen.borrow().iter().filter(|((g, at), _)| *g == group && at >= start) {
                    assert_eq!(found.get(value), Some(&offset.0), "value {value} was read at offset {offset} of group {group}");
                }
                for (offset, value) in acked.iter().filter(|(offset, _)| offset >= start) {
                    assert_eq!(found.get(value), Some(&offset.0), "value {value} was acknowledged at offset {offset} of group {group}");
                }
            }
        }
        let terms: BTreeSet<(GroupId, u64)> = self.book.committed.borrow().iter().map(|((group, _), (term, _))| (*group, *term)).collect();
        self.book.add("terms that committed something", terms.len() as u64);
    }
}
