//! What a core counts of its replicas and of the other nodes, for whoever watches the node.
//!
//! Groups are looked at a few at a time, and only every few seconds: with thousands of them that rest, a look at each takes about a
//! microsecond, and nothing else of them takes any time.

use super::core::Core;
use crate::metrics::{ClusterSnapshot, LedSnapshot, PEERS_MAX, PeerSnapshot, TOPICS_MAX};
use millpond_raft::{Census, Counters, Driver};
use millpond_runtime::{CoreId, NodeId, Rt};

/// Partitions that are looked at before others have their turn.
const AT_ONCE: usize = 64;

impl<R: Rt> Core<R> {
    /// What can be told only by a look at each replica here.
    pub async fn census(&self) -> ClusterSnapshot {
        let mut all = ClusterSnapshot { census: self.count_replicas(), ..ClusterSnapshot::default() };
        if self.id() == CoreId(0) {
            all.known = self.catalog.borrow().partitions() as u64;
        }
        let names: Vec<String> = self.routes.borrow().keys().cloned().collect();
        for name in names {
            let mut sum = LedSnapshot { topic: name, ..LedSnapshot::default() };
            let mut from = 0;
            while self.look_at_some(&mut sum, from) {
                from += AT_ONCE;
                self.rt.yield_if_needed().await;
            }
            all.led += sum.led;
            all.under_replicated += sum.under_replicated;
            if sum.led > 0 && all.topics.len() < TOPICS_MAX {
                all.topics.push(sum);
            }
        }
        all
    }

    /// Adds some partitions of a topic, from this one on. Whether there were any.
    fn look_at_some(&self, sum: &mut LedSnapshot, from: usize) -> bool {
        let Some(route) = self.route(&sum.topic) else { return false };
        let catalog = self.catalog.borrow();
        let Some((topic, places)) = catalog.topic(&sum.topic).zip(route.places.get(from..)).filter(|(_, places)| !places.is_empty()) else {
            return false;
        };
        let some = places.iter().zip(topic.partitions.iter().skip(from)).take(AT_ONCE);
        for (_, partition) in some.filter(|(place, _)| place.here.as_ref().is_some_and(|here| here.serves().is_ok())) {
            sum.led += 1;
            if let Some(copies) = self.copies(partition) {
                sum.under_replicated += u64::from(copies.lacking);
                sum.lag_entries_max = sum.lag_entries_max.max(copies.lag_entries);
            }
        }
        true
    }

    fn count_replicas(&self) -> Census {
        let mut all = Census::default();
        for some in self.drivers.values().map(Driver::census) {
            all.replicas += some.replicas;
            all.resting += some.resting;
            all.leaderless += some.leaderless;
            all.broken += some.broken;
        }
        all
    }

    /// What its replicas have done since the start.
    #[must_use]
    pub fn replica_counters(&self) -> Counters {
        let mut all = Counters::default();
        self.drivers.values().for_each(|driver| all.add(&driver.counters()));
        all
    }

    /// The other nodes, as this core sees them. Homes that not all nodes have see none.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerSnapshot> {
        let homes = self.catalog.borrow().homes(self.homes());
        let drivers: Vec<&Driver<R>> = self.drivers.iter().filter(|(home, _)| home.0 < homes).map(|(_, driver)| driver).collect();
        if drivers.is_empty() {
            return Vec::new();
        }
        let look = |node: NodeId| {
            let questions = self.connections_to(node) as u64;
            let mut sum = PeerSnapshot { node: node.0, heard: true, connections: questions, ..PeerSnapshot::default() };
            for is in drivers.iter().map(|driver| driver.peer(node)) {
                sum.heard &= is.heard;
                sum.connections += u64::from(is.connected);
                sum.waiting_messages += is.waiting_messages;
                sum.waiting_bytes += is.waiting_bytes;
            }
            sum
        };
        self.cluster.others().into_iter().take(PEERS_MAX).map(look).collect()
    }
}
