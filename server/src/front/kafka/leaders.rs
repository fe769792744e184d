//! Whom a client should ask that has asked the wrong node (KIP-951).

use super::{
    super::Front,
    codes,
    metadata::{broker_id, brokers},
};
use crate::kafka::wire::{CurrentLeader, NodeEndpoint};
use millpond_log::epoch_of;
use millpond_runtime::Rt;
use std::collections::BTreeSet;

/// The leaders that one answer names.
pub(super) struct Leaders<'a, R: Rt> {
    front: &'a Front<R>,
    named: BTreeSet<i32>,
}

impl<'a, R: Rt> Leaders<'a, R> {
    pub(super) fn new(front: &'a Front<R>) -> Self {
        Self { front, named: BTreeSet::new() }
    }

    /// Who leads a partition and in which epoch, if the code says that the client does not know it, and if that is known here for certain.
    pub(super) fn name(&mut self, error_code: i16, topic: &str, partition: i32) -> CurrentLeader {
        if !codes::is_of_a_leader(error_code) {
            return CurrentLeader::UNKNOWN;
        }
        let catalog = self.front.core.catalog.borrow();
        let found = usize::try_from(partition).ok().and_then(|n| catalog.topic(topic)?.partitions.get(n));
        match found.map(|partition| self.front.core.answers_in_term(partition)) {
            Some((node, Some(term))) => {
                let now = CurrentLeader { leader_id: broker_id(node.0), leader_epoch: epoch_of(term) };
                self.named.insert(now.leader_id);
                now
            }
            _ => CurrentLeader::UNKNOWN,
        }
    }

    /// Where those live that were named.
    pub(super) fn endpoints(self) -> Vec<NodeEndpoint> {
        if self.named.is_empty() {
            return Vec::new();
        }
        let named = brokers(self.front).into_iter().filter(|broker| self.named.contains(&broker.node_id));
        named.map(|broker| NodeEndpoint { node_id: broker.node_id, host: broker.host, port: broker.port, rack: broker.rack }).collect()
    }
}
