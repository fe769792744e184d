//! What is done to nodes, and when: drawn from the seed before anything runs.

use crate::nodes::CLIENTS;
use millpond_runtime::{CoreId, NodeId, sim::Draw};
use std::time::Duration;

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Crash(NodeId),
    Kill(NodeId),
    /// After so many polls: at any await.
    CrashAtPoll(NodeId, u64),
    KillAtPoll(NodeId, u64),
    Cut(NodeId, NodeId),
    /// From all others and from clients: it is not heard, it hears nothing, or both.
    Isolate {
        node: NodeId,
        deaf: bool,
        mute: bool,
    },
    Clog(NodeId, NodeId, Duration),
    Slow(NodeId, NodeId, u64),
    Reset(NodeId, NodeId),
    Pause(NodeId, CoreId, Duration),
    SlowDisk(NodeId, u64),
    JumpClock(NodeId, i64),
    /// All links and disks are as good as new.
    Mend,
    UpAll,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) cores: u16,
    pub(crate) partitions: u32,
    pub(crate) leases: bool,
    pub(crate) steps: Vec<(Duration, Fault)>,
}

impl Schedule {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed ^ 0x6e6f_6465_735f_5f5f);
        let nodes: Vec<NodeId> = (1..=3 + 2 * (draw.below(4) / 3)).map(NodeId).collect();
        let cores = 1 + draw.below(2) as u16;
        let (partitions, leases) = (1 + draw.below(3) as u32, draw.below(3) == 0);
        let steps = (0..6 + draw.below(16)).map(|_| {
            let wait = Duration::from_millis(50 + if draw.below(2) == 0 { draw.below(500) } else { draw.below(4_000) });
            (wait, fault(&nodes, cores, &mut draw))
        });
        let steps = steps.collect();
        Self { seed, nodes, cores, partitions, leases, steps }
    }
}

fn fault(nodes: &[NodeId], cores: u16, draw: &mut Draw) -> Fault {
    let count = nodes.len() as u64;
    let at = draw.below(count);
    let (node, other) = (nodes[at as usize], nodes[((at + 1 + draw.below(count - 1)) % count) as usize]);
    match draw.below(24) {
        0..=2 => Fault::Crash(node),
        3 | 4 => Fault::Kill(node),
        5 => Fault::CrashAtPoll(node, 1 + draw.below(4_000)),
        6 => Fault::KillAtPoll(node, 1 + draw.below(4_000)),
        7 => Fault::Cut(node, other),
        8 | 9 => {
            let (deaf, mute) = [(true, true), (true, false), (false, true)][draw.below(3) as usize];
            Fault::Isolate { node, deaf, mute }
        }
        // What clients ask may lie on its way for longer than they wait for it, too.
        10 => Fault::Clog(if draw.below(2) == 0 { CLIENTS } else { other }, node, Duration::from_millis(draw.below(12_000))),
        11 => Fault::Slow(node, other, 2 << draw.below(6)),
        12 => Fault::Reset(node, other),
        13 | 14 => Fault::Pause(node, CoreId(draw.below(u64::from(cores)) as u16), Duration::from_millis(draw.below(3_000))),
        15 => Fault::SlowDisk(node, 2 << draw.below(5)),
        16 => Fault::JumpClock(node, draw.below(14_400_001) as i64 - 7_200_000),
        17..=19 => Fault::Mend,
        _ => Fault::UpAll,
    }
}
