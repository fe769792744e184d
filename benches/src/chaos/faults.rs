//! What happens to a cluster and when: a plan out of the seed, pure.
//!
//! Mostly one thing at a time, sometimes two, never two to the same node. All of it is over when the plan is.

use rand::{Rng, rngs::SmallRng};
use serde::Serialize;
use std::{fmt, ops::Range};

/// Milliseconds from the beginning of a round.
pub(super) type Ms = u32;

/// Between one fault and the next on the same track.
const GAP: Range<Ms> = 200..2500;
/// From the end of a kill to the next one, while the node recovers.
const RECOVERING: Range<Ms> = 0..400;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// SIGKILL, and a start at the end.
    Kill,
    /// SIGSTOP, and SIGCONT at the end.
    Pause,
    /// Nobody reaches it, and it reaches nobody.
    Cut,
    /// What it sends to some gets lost; what they send arrives.
    OneWay,
    /// It and another node do not reach each other; both reach all else.
    Pair,
    /// What it sends and gets is slow.
    Slow,
    /// Its disk has no room.
    Full,
}

impl Kind {
    /// How long one lasts.
    fn lasts(self) -> Range<Ms> {
        match self {
            Self::Kill => 0..3000,
            Self::Pause => 100..6000,
            Self::Cut | Self::OneWay | Self::Pair => 300..7000,
            Self::Slow => 1000..7000,
            Self::Full => 500..4000,
        }
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Pause => "paused",
            Self::Cut => "cut off",
            Self::OneWay => "cut one way",
            Self::Pair => "cut from another",
            Self::Slow => "slow link",
            Self::Full => "disk full",
        }
    }
}

/// To whom, where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    All,
    Node(usize),
    Nodes,
    Clients,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) node: usize,
    pub(super) towards: Towards,
    pub(super) begin: Ms,
    pub(super) end: Ms,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} {}", self.node + 1, self.kind.name())?;
        match (self.kind, self.towards) {
            (Kind::OneWay, Towards::Clients) => write!(f, " towards clients")?,
            (Kind::OneWay, Towards::Nodes) => write!(f, " towards other nodes")?,
            (Kind::OneWay | Kind::Pair, Towards::Node(node)) => write!(f, ": node {}", node + 1)?,
            _ => {}
        }
        write!(f, " for {} ms", self.end - self.begin)
    }
}

impl Fault {
    /// Whether it has to do with this node.
    fn touches(&self, node: usize) -> bool {
        self.node == node || (self.kind == Kind::Pair && self.towards == Towards::Node(node))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.begin <= other.end && other.begin <= self.end
    }

    fn meets(&self, other: &Self) -> bool {
        let same =
            self.touches(other.node) || matches!((other.kind, other.towards), (Kind::Pair, Towards::Node(node)) if self.touches(node));
        same && self.overlaps(other)
    }
}

/// Faults of these kinds on so many nodes, in the order in which they begin, all over before `length`.
pub(super) fn plan(dice: &mut SmallRng, nodes: usize, kinds: &[Kind], length: Ms) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    // The second track has fewer of them, so that mostly one node at a time is in trouble.
    for share in [1.0, 0.3] {
        let mut at = dice.random_range(GAP);
        loop {
            let mut fault = one(dice, nodes, kinds, at);
            if fault.end >= length {
                break;
            }
            if !dice.random_bool(share) || faults.iter().any(|other| other.meets(&fault)) {
                at = fault.end + dice.random_range(GAP);
                continue;
            }
            faults.push(fault);
            while fault.kind == Kind::Kill && dice.random_bool(0.2) {
                let begin = fault.end + 1 + dice.random_range(RECOVERING);
                fault = Fault { begin, end: begin + dice.random_range(fault.kind.lasts()), ..fault };
                if fault.end >= length || faults.iter().any(|other| other.meets(&fault)) {
                    break;
                }
                faults.push(fault);
            }
            at = fault.end + dice.random_range(GAP);
        }
    }
    faults.sort_by_key(|fault| (fault.begin, fault.node));
    faults
}

fn one(dice: &mut SmallRng, nodes: usize, kinds: &[Kind], begin: Ms) -> Fault {
    let kind = kinds[dice.random_range(0..kinds.len())];
    let node = dice.random_range(0..nodes);
    let end = begin + dice.random_range(kind.lasts());
    let other = Towards::Node((node + dice.random_range(1..nodes)) % nodes);
    let towards = match (kind, dice.random_range(0..10)) {
        (Kind::Pair, _) | (Kind::OneWay, 0..5) => other,
        (Kind::OneWay, 5..8) => Towards::Nodes,
        (Kind::OneWay, _) => Towards::Clients,
        _ => Towards::All,
    };
    Fault { kind, node, towards, begin, end }
}

#[cfg(test)]
mod tests;
