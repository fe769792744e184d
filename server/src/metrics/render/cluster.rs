//! The part about replicas and other nodes.

use super::{Column, Cores, Line, core, counter, family, gauge, with};
use crate::metrics::{LedSnapshot, PeerSnapshot};
use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};
use std::fmt;

/// A metric's name, its help, and where its value is in what there is several of.
type Part<T> = (&'static str, &'static str, fn(&T) -> u64);

impl Cores {
    pub(super) fn replicas(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let list: [Column; 8] = [
            ("learning", "1 while the node does not know what its cluster knows", |c| u64::from(c.cluster.learning)),
            ("catalog_partitions", "Partitions of all topics, wherever they live; told by core 0 alone", |c| c.cluster.known),
            ("partitions_led", "Partitions that the core answers for", |c| c.cluster.led),
            ("partitions_under_replicated", "Of those, partitions of which a replica is missing, silent or far behind", |c| {
                c.cluster.under_replicated
            }),
            ("replicas", "Replicas that take part here", |c| c.cluster.census.replicas),
            ("replicas_resting", "Replicas that rest, nothing having been asked of them for a while", |c| c.cluster.census.resting),
            ("replicas_leaderless", "Replicas that know no leader of their partition", |c| c.cluster.census.leaderless),
            ("replicas_broken", "Replicas that take no part any more until they are repaired", |c| c.cluster.census.broken),
        ];
        for (name, help, of) in list {
            self.per_core(e, name, help, MetricType::Gauge, of, gauge)?;
        }
        let list: [Column; 16] = [
            ("elections", "Leaders that replicas here have come to know or have become", |c| c.cluster.counters.elections),
            ("member_changes", "Changes of members that replicas here have carried out", |c| c.cluster.counters.changes),
            ("replica_messages", "Messages that replicas here had for others", |c| c.cluster.counters.messages),
            ("replica_rests", "Partitions led here that came to rest", |c| c.cluster.counters.rests),
            ("replica_wakings", "Replicas woken since their leader's node was silent or had started again", |c| c.cluster.counters.woken),
            ("lease_reads", "Reads that leaders here have answered by their lease, asking nobody", |c| c.cluster.counters.lease_reads),
            ("replica_restarts", "Replicas that began anew since their log had no room", |c| c.cluster.counters.begun_anew),
            ("replica_entries_refused", "Entries of leaders that were not taken for want of room", |c| c.cluster.counters.refused),
            ("replica_catch_up_reads", "Reads of segments for replicas that are behind", |c| c.cluster.counters.lag_reads),
            ("replica_catch_up_gone", "Of those, reads of what was there no longer", |c| c.cluster.counters.lag_gone),
            ("snapshots_offered", "Snapshots offered to replicas elsewhere", |c| c.cluster.counters.snapshots_offered),
            ("snapshots_installed", "Snapshots that took the place of what a replica here had", |c| c.cluster.counters.snapshots_installed),
            ("snapshots_failed", "Snapshots of which nothing came, here or elsewhere", |c| c.cluster.counters.snapshots_failed),
            ("snapshot_pieces", "Pieces of snapshots sent", |c| c.cluster.counters.snapshot_pieces),
            ("snapshot_sent_bytes", "Bytes of snapshots sent", |c| c.cluster.counters.snapshot_bytes),
            ("snapshot_pieces_repeated", "Pieces of snapshots asked for again, since no answer came", |c| {
                c.cluster.counters.snapshots_resumed
            }),
        ];
        list.iter().try_for_each(|(name, help, of)| self.per_core(e, name, help, MetricType::Counter, *of, counter))
    }

    pub(super) fn peers(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let list: [Part<PeerSnapshot>; 4] = [
            ("peer_heard", "1 while another node is heard from", |p| u64::from(p.heard)),
            ("peer_connections", "Connections to another node", |p| p.connections),
            ("peer_queue_messages", "Messages of replicas that wait to be sent to another node", |p| p.waiting_messages),
            ("peer_queue_bytes", "Bytes of those", |p| p.waiting_bytes),
        ];
        list.iter().try_for_each(|(name, help, of)| family(e, name, help, MetricType::Gauge, self.each_peer(*of), gauge))
    }

    pub(super) fn led(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let list: [Part<LedSnapshot>; 3] = [
            ("topic_partitions_led", "Partitions of a topic that a core answers for", |t| t.led),
            ("topic_partitions_under_replicated", "Of those, partitions of which a replica is missing, silent or far behind", |t| {
                t.under_replicated
            }),
            ("topic_replica_lag_entries", "Entries that the slowest of their replicas lacks", |t| t.lag_entries_max),
        ];
        list.iter().try_for_each(|(name, help, of)| family(e, name, help, MetricType::Gauge, self.each_led(*of), gauge))
    }

    fn each_peer(&self, of: fn(&PeerSnapshot) -> u64) -> impl Iterator<Item = Line<u64>> {
        self.cores.iter().flat_map(move |c| c.cluster.peers.iter().map(move |p| (with(core(c), "peer", p.node.to_string()), of(p))))
    }

    fn each_led(&self, of: fn(&LedSnapshot) -> u64) -> impl Iterator<Item = Line<u64>> {
        self.cores.iter().flat_map(move |c| c.cluster.topics.iter().map(move |t| (with(core(c), "topic", t.topic.clone()), of(t))))
    }
}
