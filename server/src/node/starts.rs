//! Replicas of a group begin where its leader does: deleting the oldest records is no entry of the log, so the leader tells the others.
//!
//! Each replica trims by itself what its retention asks for; what is deleted on request the leader deletes, has the others delete that it hears from, and answers once a
//! majority has. Those that were away are told when they are back, and a leader that begins earlier than another replica follows that: what was deleted once is not
//! read again under another leader.

use super::{Core, not_owner, partition::Partition};
use crate::catalog::Home;
use millpond_runtime::{FxHashMap, GroupId, NodeId, Offset, Rt, Share, rt::timeout};
use millpond_wire::messages::{Code, Failure, Kind, Starts};
use std::{collections::BTreeMap, rc::Rc, time::Duration};

/// A node that does not answer within this time is told again later.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What a leader knows of where the replicas elsewhere begin, by group and node: the term in which it was told, and the offset.
pub(super) type Known = FxHashMap<(GroupId, NodeId), (u64, Offset)>;

impl<R: Rt> Core<R> {
    /// Tells other nodes where groups that this core leads begin, if they may not know: of those that are looked at in this turn.
    pub(super) fn tell_starts(self: &Rc<Self>, groups: &[GroupId]) {
        let mut by_node: BTreeMap<NodeId, Vec<(GroupId, u64, Offset)>> = BTreeMap::new();
        for group in groups {
            let Some((driver, wanted)) = self.wanted(*group) else { continue };
            let (Some(partition), Some(status)) = (self.partition(*group), driver.status(*group).filter(|s| s.serves)) else { continue };
            let Ok(state) = partition.state() else { continue };
            for replica in wanted.now.iter().filter(|r| r.node != self.identity.node_id && driver.hears(NodeId(r.node))) {
                let node = NodeId(replica.node);
                let told = self.cluster.starts.borrow().get(&(*group, node)).copied();
                if told != Some((status.term.0, state.start_offset)) {
                    by_node.entry(node).or_default().push((*group, status.term.0, state.start_offset));
                }
            }
        }
        for (node, starts) in by_node {
            let core = Rc::clone(self);
            self.rt.spawn("tell starts", Share::Background, async move {
                // Whoever does not answer is told again.
                let _ = core.tell_node_starts(node, &starts).await;
            });
        }
    }

    async fn tell_node_starts(self: &Rc<Self>, node: NodeId, starts: &[(GroupId, u64, Offset)]) -> Result<Vec<Offset>, Failure> {
        let request = Starts {
            groups: starts.iter().map(|(group, ..)| group.0).collect(),
            offsets: starts.iter().map(|(.., start)| start.0).collect(),
        };
        let late = |e: millpond_runtime::rt::Deadline| Failure::new(Code::Unavailable, e.to_string(), "retry").retry_after(100);
        let there: Starts = timeout(&self.rt, ANSWER_MAX, self.ask_node(node, Kind::Starts, &request)).await.map_err(late)??;
        let mut offsets = Vec::with_capacity(starts.len());
        for ((group, term, start), there) in starts.iter().zip(&there.offsets) {
            let there = Offset(*there);
            offsets.push(there);
            if there > *start {
                // It has deleted more. What lies before that is not to be read under any leader.
                if let Some(partition) = self.partition(*group) {
                    trim(&partition, there).await?;
                }
            } else {
                self.cluster.starts.borrow_mut().insert((*group, node), (*term, there));
            }
        }
        Ok(offsets)
    }

    /// Has the replicas of a group that this core leads begin no earlier than its own, and returns when a majority does.
    pub(super) async fn align(self: &Rc<Self>, group: GroupId) -> Result<(), Failure> {
        let Some((driver, wanted)) = self.wanted(group) else { return Ok(()) };
        let partition = self.partition(group).ok_or_else(|| not_owner(None))?;
        let (term, start) = (partition.serves()?, partition.state()?.start_offset);
        let mut begin_there = 1;
        for replica in wanted.now.iter().filter(|r| r.node != self.identity.node_id && driver.hears(NodeId(r.node))) {
            let told = self.tell_node_starts(NodeId(replica.node), &[(group, term.0, start)]).await;
            begin_there += usize::from(told.is_ok_and(|starts| starts.first().is_some_and(|there| *there >= start)));
        }
        if begin_there * 2 > wanted.now.len() {
            return Ok(());
        }
        let message = format!("the records are deleted on {begin_there} of {} replicas", wanted.now.len());
        Err(Failure::new(Code::MaybeDone, message, "delete them again once the others are back").retry_after(200))
    }

    /// The leader of groups says where they begin: what is here of them begins no earlier. Where each begins here then.
    pub async fn hear_starts(self: &Rc<Self>, from: NodeId, starts: Starts) -> Result<Starts, Failure> {
        let mut reply = Starts { groups: starts.groups.clone(), offsets: Vec::with_capacity(starts.groups.len()) };
        for (group, offset) in starts.groups.iter().zip(&starts.offsets) {
            let (group, offset) = (GroupId(*group), Offset(*offset));
            let home = self.catalog.borrow().partition_of(group).map(|(topic, n)| topic.partitions[n as usize].home);
            let here = self.at(self.owner(home.unwrap_or(Home(0))), move |core| async move {
                let partition = core.partition(group).ok_or_else(|| not_owner(None))?;
                let leader = core.drivers.values().find_map(|driver| driver.status(group)).and_then(|status| status.leader_node);
                if leader.is_some_and(|leader| leader != from) {
                    return Err(not_owner(leader));
                }
                trim(&partition, offset).await?;
                Ok(partition.state()?.start_offset)
            });
            reply.offsets.push(here.await??.0);
        }
        Ok(reply)
    }
}

/// Has a log begin at an offset, as far as it is committed here.
async fn trim<R: Rt>(partition: &Partition<R>, start: Offset) -> Result<(), Failure> {
    let state = partition.state()?;
    let start = start.min(state.high_watermark);
    if start > state.start_offset {
        let lsn = partition.log.trim(partition.group, start).map_err(|e| super::failure_of(&e))?;
        partition.log.synced(lsn).await.map_err(|e| super::failure_of(&e))?;
    }
    Ok(())
}
