//! What is done to a cluster, and when: all of it is drawn from the seed before anything runs, so that steps can be left out.

use crate::settings::Settings;
use millpond_runtime::{CoreId, GroupId, NodeId, sim::Draw};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(crate) const GROUPS: u64 = 2;

/// Something that happens to a cluster.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Crash(NodeId),
    Kill(NodeId),
    /// The power goes after so many polls: at any await.
    CrashAtPoll(NodeId, u64),
    KillAtPoll(NodeId, u64),
    /// The power of a node goes and comes again, then that of the next one.
    PowerAgain(Vec<(NodeId, Duration)>),
    CutOneWay(NodeId, NodeId),
    CutBoth(NodeId, NodeId),
    /// From all others: it is not heard, it hears nothing, or both.
    Isolate {
        node: NodeId,
        deaf: bool,
        mute: bool,
    },
    Clog(NodeId, NodeId, Duration),
    SlowLink(NodeId, NodeId, u64),
    Reset(NodeId, NodeId),
    /// All links and all disks are as good as new.
    Mend,
    Pause(NodeId, CoreId, Duration),
    SlowDisk(NodeId, u64),
    /// The next write or sync fails, and the process ends.
    DiskError {
        node: NodeId,
        sync: bool,
    },
    JumpClock(NodeId, i64),
    /// Nobody sends or reads, or everybody again.
    Quiet(bool),
    Want(GroupId, BTreeSet<NodeId>),
    Transfer(GroupId, NodeId),
    /// Whoever is down starts.
    UpAll,
    Exchange(NodeId),
    Rot(NodeId, Rot),
    Misdirect {
        node: NodeId,
        segments: bool,
        blocks: i64,
        run: Duration,
    },
    /// The disk as it was this long ago, or an empty one, takes the place of the disk.
    Rollback {
        node: NodeId,
        wiped: bool,
        run: Duration,
    },
}

/// Where a disk rots: each number is taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rot {
    pub(crate) segments: bool,
    pub(crate) file: u64,
    pub(crate) at: u64,
    pub(crate) mask: u8,
    /// The sector cannot be read, rather than that a bit is another.
    pub(crate) unreadable: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) wait: Duration,
    pub(crate) what: Fault,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) settings: Settings,
    /// The nodes that groups begin with.
    pub(crate) first: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// Each with the number that it was drawn as.
    pub(crate) steps: Vec<(usize, Step)>,
}

impl Schedule {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed ^ 0x7363_6865_6475_6c65);
        let nodes: Vec<NodeId> = (1..=3 + draw.below(3)).map(NodeId).collect();
        let settings = Settings::draw(&mut draw);
        let first = (1..=GROUPS).map(|group| (GroupId(group), some(&nodes, &mut draw))).collect();
        let count = 10 + draw.below(30) as usize;
        let mut quiet = false;
        let steps = (0..count).map(|number| {
            // Half of them before anybody could have found out about the last one and elected another leader.
            let wait = Duration::from_millis(20 + if draw.one_in(2) { draw.below(400) } else { draw.below(1_500) });
            (number, Step { wait, what: fault(&nodes, settings.homes, &mut quiet, &mut draw) })
        });
        let steps = steps.collect();
        Self { seed, nodes, settings, first, steps }
    }

    /// The same with these steps alone.
    pub(crate) fn with(&self, kept: &[usize]) -> Self {
        let steps = self.steps.iter().filter(|(number, _)| kept.contains(number)).cloned().collect();
        Self { steps, ..self.clone() }
    }
}

/// Three of the nodes, or all.
fn some(nodes: &[NodeId], draw: &mut Draw) -> BTreeSet<NodeId> {
    let count = if draw.one_in(4) { nodes.len() } else { 3 };
    let mut some = BTreeSet::new();
    while some.len() < count {
        some.insert(draw.any(nodes));
    }
    some
}

fn fault(nodes: &[NodeId], homes: u16, quiet: &mut bool, draw: &mut Draw) -> Fault {
    let (node, other) = (draw.any(nodes), draw.any(nodes));
    // Of two there are always two.
    let other = if node == other { nodes[(node.0 as usize) % nodes.len()] } else { other };
    let group = GroupId(1 + draw.below(GROUPS));
    match draw.below(34) {
        0..=2 => Fault::Crash(node),
        3 => Fault::Kill(node),
        4 => Fault::CrashAtPoll(node, 1 + draw.below(3_000)),
        5 => Fault::KillAtPoll(node, 1 + draw.below(3_000)),
        6 | 7 => Fault::CutOneWay(node, other),
        8 => Fault::CutBoth(node, other),
        9 | 10 => [(true, true), (true, false), (false, true)].map(|(deaf, mute)| Fault::Isolate { node, deaf, mute })
            [draw.below(3) as usize]
            .clone(),
        11 | 12 => Fault::Mend,
        13 => Fault::Pause(node, CoreId(draw.below(u64::from(homes)) as u16), Duration::from_millis(draw.below(3_000))),
        14 => Fault::Reset(node, other),
        15 | 16 => Fault::Want(group, some(nodes, draw)),
        // While they elect.
        17 => Fault::PowerAgain((0..3 + draw.below(6)).map(|_| (draw.any(nodes), Duration::from_millis(draw.below(700)))).collect()),
        18 => Fault::Exchange(node),
        19..=21 => {
            *quiet = !*quiet;
            Fault::Quiet(*quiet)
        }
        22 => Fault::SlowLink(node, other, 2 << draw.below(7)),
        23 => Fault::Clog(node, other, Duration::from_millis(draw.below(5_000))),
        24 => Fault::SlowDisk(node, 2 << draw.below(6)),
        25 => Fault::DiskError { node, sync: draw.one_in(2) },
        26 => Fault::JumpClock(node, draw.below(14_400_001) as i64 - 7_200_000),
        27 => Fault::Transfer(group, node),
        28 => disk(node, draw),
        29 => Fault::Rollback { node, wiped: draw.one_in(4), run: Duration::from_millis(100 + draw.below(1_500)) },
        _ => Fault::UpAll,
    }
}

/// A disk that does not keep what it was given.
fn disk(node: NodeId, draw: &mut Draw) -> Fault {
    let segments = draw.one_in(2);
    if draw.one_in(4) {
        let blocks = [-4, -3, -2, -1, 1, 2, 3, 4][draw.below(8) as usize];
        return Fault::Misdirect { node, segments, blocks, run: Duration::from_millis(100 + draw.below(1_500)) };
    }
    let mask = 1 << draw.below(8);
    Fault::Rot(node, Rot { segments, file: draw.bits(), at: draw.bits(), mask, unreadable: draw.one_in(4) })
}
