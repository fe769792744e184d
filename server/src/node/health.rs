//! How the cluster is: what a node says of its own replicas, and what that comes to over all nodes.

use super::Core;
use crate::{
    boot::join::to_wire,
    catalog::{META, Partition},
};
use millpond_runtime::{GroupId, NodeId, Rt, rt::timeout};
use millpond_wire::messages::{DescribeClusterReply, Failure, Kind, NodeHealth, NodeReport, NodeReportReply, TopicPartitions};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// A node that has not answered after this time is taken for down.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Partitions that are named, of each kind.
const NAMED_MAX: usize = 1_000;
/// A replica that lacks more entries than this is behind.
pub(super) const BEHIND: u64 = 1_000;

/// How the wanted replicas of a partition are, as its leader sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// One is missing, silent or far behind.
    pub(super) lacking: bool,
    /// Entries that the slowest lacks.
    pub(super) lag_entries: u64,
}

impl<R: Rt> Core<R> {
    /// What this node leads, and how the replicas of that are.
    pub async fn report_node(self: &Rc<Self>) -> Result<NodeReportReply, Failure> {
        let mut all = NodeReportReply::default();
        for core in self.core_ids() {
            let here = self.at(core, |core| async move { core.report_core() }).await?;
            all.leads.extend(here.leads);
            all.behind.extend(here.behind);
            all.broken.extend(here.broken);
            all.leads_with_others += here.leads_with_others;
        }
        Ok(all)
    }

    fn report_core(&self) -> NodeReportReply {
        let mut report = NodeReportReply { leads_with_others: self.leads_with_others(), ..NodeReportReply::default() };
        let here: Vec<GroupId> = self.partitions.borrow().keys().copied().collect();
        for group in here {
            let Some(partition) = self.partition(group) else { continue };
            if partition.serves().is_ok() {
                report.leads.push(group.0);
                let catalog = self.catalog.borrow();
                let found = catalog.partition_of(group).and_then(|(topic, n)| topic.partitions.get(n as usize));
                if found.and_then(|partition| self.copies(partition)).is_some_and(|copies| copies.lacking) {
                    report.behind.push(group.0);
                }
            }
        }
        report.broken = self.drivers.values().flat_map(millpond_raft::Driver::all_broken).map(|group| group.0).collect();
        report
    }

    /// How the wanted replicas of a partition are that this core leads; nothing where it has no replicas.
    pub(super) fn copies(&self, partition: &Partition) -> Option<Copies> {
        let (driver, wanted) = (self.drivers.get(&partition.home)?, &partition.replicas.as_ref()?.wanted);
        let matched = |id| driver.matched_by(partition.group, id).map(|index| index.0);
        let Some(last) = driver.status(partition.group).and_then(|status| matched(status.me)) else {
            return Some(Copies { lacking: true, lag_entries: 0 });
        };
        let mut copies = Copies::default();
        for replica in wanted {
            let lag = last.saturating_sub(matched(replica.id).unwrap_or(0));
            let there = replica.node == self.identity.node_id || driver.hears(NodeId(replica.node));
            copies.lacking |= !there || matched(replica.id).is_none() || lag > BEHIND;
            copies.lag_entries = copies.lag_entries.max(lag);
        }
        Some(copies)
    }

    /// How the cluster is, as far as its nodes say.
    pub async fn describe_cluster(self: &Rc<Self>) -> Result<DescribeClusterReply, Failure> {
        let me = self.identity.node_id;
        let nodes: Vec<_> = self.catalog.borrow().nodes().map(|(id, node)| (id, to_wire(id, node))).collect();
        let mut reports: BTreeMap<u64, NodeReportReply> = BTreeMap::new();
        for (id, _) in &nodes {
            let report = if *id == me {
                Some(self.report_node().await?)
            } else {
                timeout(&self.rt, ANSWER_MAX, self.ask_node(NodeId(*id), Kind::NodeReport, &NodeReport {})).await.ok().and_then(Result::ok)
            };
            if let Some(report) = report {
                reports.insert(*id, report);
            }
        }
        let catalog = self.catalog.borrow();
        let health = |(id, node): &(u64, _)| NodeHealth {
            node: Some(Clone::clone(node)),
            up: reports.contains_key(id),
            replicas: catalog
                .topics()
                .filter(|t| t.name != META)
                .flat_map(|t| &t.partitions)
                .filter(|p| p.lives_on(*id) != crate::catalog::Lives::Elsewhere)
                .count() as u64,
            leads: reports.get(id).map_or(0, |report| report.leads.len() as u64),
            leads_with_others: reports.get(id).map_or(0, |report| report.leads_with_others),
        };
        let led: BTreeSet<u64> = reports.values().flat_map(|report| &report.leads).copied().collect();
        let behind: BTreeSet<u64> = reports.values().flat_map(|report| &report.behind).copied().collect();
        let broken: BTreeSet<u64> = reports.values().flat_map(|report| &report.broken).copied().collect();
        let named = |which: &dyn Fn(&Partition) -> bool| {
            let mut left = NAMED_MAX;
            let mut all = Vec::new();
            for topic in catalog.topics() {
                let some = topic.partitions.iter().enumerate().filter(|(_, p)| which(p)).map(|(n, _)| n as u32);
                let partitions: Vec<u32> = some.take(left).collect();
                left -= partitions.len();
                if !partitions.is_empty() {
                    all.push(TopicPartitions { topic: topic.name.clone(), partitions });
                }
            }
            all
        };
        let down = |p: &Partition| p.nodes().iter().any(|node| !reports.contains_key(node));
        Ok(DescribeClusterReply {
            cluster_id: self.identity.cluster(),
            meta_leader: self.leader_of(crate::catalog::META_GROUP).map_or(me, |node| node.0),
            nodes: nodes.iter().map(health).collect(),
            partitions: catalog.topics().filter(|t| t.name != META).map(|t| t.partitions.len() as u64).sum(),
            leaderless: named(&|p| !led.contains(&p.group.0)),
            under_replicated: named(&|p| {
                behind.contains(&p.group.0)
                    || broken.contains(&p.group.0)
                    || down(p)
                    || p.replicas.as_ref().is_some_and(|r| !r.is_settled())
            }),
        })
    }
}
