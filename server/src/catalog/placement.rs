//! Where new partitions go. Pure: the same arguments give the same answer on every node.

use super::Home;
use std::collections::{BTreeMap, BTreeSet};

/// Places `count` new partitions of one topic on journal homes.
///
/// `load[h]` is how many partitions of any topic home `h` has, `own[h]` how many of this topic. A topic is spread evenly
/// first (its own load is what its clients feel), then the emptier home wins, then the lower number.
///
/// Both slices have one entry per home, at least one.
#[must_use]
pub fn place(count: u32, load: &[usize], own: &[usize]) -> Vec<Home> {
    assert!(!load.is_empty() && load.len() == own.len(), "a node has at least one core, and both counts cover all of them");
    let (mut load, mut own) = (load.to_vec(), own.to_vec());
    let mut homes = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut best = 0;
        for home in 1..load.len() {
            if (own[home], load[home]) < (own[best], load[best]) {
                best = home;
            }
        }
        own[best] += 1;
        load[best] += 1;
        homes.push(Home(best as u16));
    }
    homes
}

/// What a node has to bear already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Where it stands; empty for nowhere in particular.
    pub rack: String,
    /// Replicas.
    pub replicas: usize,
    /// Of those, the ones that should lead.
    pub leaders: usize,
}

/// Chooses nodes for a partition so that it has `replication` of them, those in `kept` included and first: other racks before other nodes, then
/// whoever has least. The first of a new partition should lead, and is one that leads least. Counts what it chooses.
pub fn spread(nodes: &mut BTreeMap<u64, NodeLoad>, kept: &[u64], replication: usize) -> Vec<u64> {
    let mut all = kept.to_vec();
    while all.len() < replication {
        let racks: BTreeSet<&str> = all.iter().filter_map(|n| nodes.get(n)).map(|n| n.rack.as_str()).collect();
        let free = nodes.iter().filter(|(id, _)| !all.contains(id));
        let cost = |(id, load): &(&u64, &NodeLoad)| {
            let leads = if all.is_empty() { load.leaders } else { 0 };
            (racks.contains(load.rack.as_str()), leads, load.replicas, **id)
        };
        let Some(best) = free.min_by_key(cost).map(|(id, _)| *id) else { break };
        if let Some(load) = nodes.get_mut(&best) {
            load.replicas += 1;
            load.leaders += usize::from(all.is_empty());
        }
        all.push(best);
    }
    all
}

/// A node that should have the replica at `at` of a partition instead of the one that has it, if that makes loads more even and puts it
/// into no rack where the partition is already. Counts it.
pub fn better(nodes: &mut BTreeMap<u64, NodeLoad>, all: &[u64], at: usize) -> Option<u64> {
    let from = nodes.get(&all[at])?.clone();
    let others = || all.iter().enumerate().filter(|(n, _)| *n != at).filter_map(|(_, node)| nodes.get(node));
    let shared = |rack: &str| others().filter(|load| load.rack == rack).count();
    let fits = |(id, load): &(&u64, &NodeLoad)| {
        !all.contains(id) && load.replicas + 2 <= from.replicas && shared(&load.rack) <= shared(&from.rack)
    };
    let to = nodes.iter().filter(fits).min_by_key(|(id, load)| (load.replicas, **id)).map(|(id, _)| *id)?;
    for (node, up) in [(all[at], false), (to, true)] {
        if let Some(load) = nodes.get_mut(&node) {
            let step = |n: usize| if up { n + 1 } else { n - 1 };
            load.replicas = step(load.replicas);
            load.leaders = if at == 0 { step(load.leaders) } else { load.leaders };
        }
    }
    Some(to)
}

/// Which of a partition's nodes should lead it instead of the first, if that makes loads more even. Counts it.
pub fn better_leader(nodes: &mut BTreeMap<u64, NodeLoad>, all: &[u64]) -> Option<usize> {
    let leads = |node: &u64| nodes.get(node).map(|load| load.leaders);
    let first = leads(all.first()?)?;
    let best = (1..all.len()).filter(|n| leads(&all[*n]).is_some_and(|n| n + 2 <= first)).min_by_key(|n| leads(&all[*n]))?;
    for (node, up) in [(all[0], false), (all[best], true)] {
        if let Some(load) = nodes.get_mut(&node) {
            load.leaders = if up { load.leaders + 1 } else { load.leaders - 1 };
        }
    }
    Some(best)
}
