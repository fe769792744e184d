//! On which CPU each core runs, and which CPUs are left for the threads beside them. Pure: the machine is an argument.
//!
//! Cores go to distinct physical cores first, evenly over the NUMA nodes, and to second hardware threads only when somebody
//! asks for more cores than there are physical ones. A plan for n cores is the beginning of the plan for n + 1, so that a
//! core that stays keeps its node when others join.

use crate::topology::{Topology, list_text};
use std::collections::BTreeMap;

/// Which cores are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One per physical core, within what the process is granted of CPU time.
    All,
    /// So many.
    Count(usize),
    /// One on each of these CPUs, in this order.
    Cpus(Vec<usize>),
}

impl From<Option<usize>> for Wanted {
    fn from(count: Option<usize>) -> Self {
        count.map_or(Self::All, Self::Count)
    }
}

/// Where a core runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreSpot {
    /// Its CPU; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// The NUMA node that its memory should come from.
    pub node: Option<usize>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// More cores than CPUs.
    #[error("{asked} cores are asked for, but only {} CPUs may be used ({})", allowed.len(), list_text(allowed))]
    TooMany {
        /// How many.
        asked: usize,
        /// The CPUs that may be used.
        allowed: Vec<usize>,
    },
    /// No core at all.
    #[error("no core is asked for, and a node has at least one")]
    NoCore,
    /// A CPU that does not exist or was taken away from this process.
    #[error("CPU {cpu} may not be used; {} may", list_text(allowed))]
    NotAllowed {
        /// The CPU.
        cpu: usize,
        /// The CPUs that may be used.
        allowed: Vec<usize>,
    },
    /// A CPU for two cores.
    #[error("CPU {cpu} is named twice")]
    Twice {
        /// The CPU.
        cpu: usize,
    },
}

impl PlacementError {
    /// What to do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "ask for fewer cores, or for all; a container may be given more CPUs (cpuset)",
            Self::NoCore => "ask for one core or more",
            Self::NotAllowed { .. } => "name CPUs among those, or give the process more (taskset, cpuset of the container)",
            Self::Twice { .. } => "name each CPU once",
        }
    }
}

/// Where all cores of a node run. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Core by core.
    pub spots: Vec<CoreSpot>,
}

impl Placement {
    /// Places the cores that are wanted; with `pin` each on a CPU of its own, else where the scheduler likes.
    pub fn plan(topology: &Topology, wanted: impl Into<Wanted>, pin: bool) -> Result<Self, PlacementError> {
        let order = preference(topology);
        let allowed = || topology.cpus().iter().map(|cpu| cpu.id).collect::<Vec<_>>();
        let chosen = match wanted.into() {
            Wanted::All => order[..topology.physical_cores().min(topology.granted())].to_vec(),
            Wanted::Count(asked) => match order.get(..asked) {
                Some(chosen) => chosen.to_vec(),
                None => return Err(PlacementError::TooMany { asked, allowed: allowed() }),
            },
            Wanted::Cpus(cpus) => {
                for (n, &cpu) in cpus.iter().enumerate() {
                    if !order.contains(&cpu) {
                        return Err(PlacementError::NotAllowed { cpu, allowed: allowed() });
                    }
                    if cpus[..n].contains(&cpu) {
                        return Err(PlacementError::Twice { cpu });
                    }
                }
                cpus
            }
        };
        if chosen.is_empty() {
            return Err(PlacementError::NoCore);
        }
        let spot = |cpu: usize| if pin { CoreSpot { cpu: Some(cpu), node: topology.node_of(cpu) } } else { CoreSpot::default() };
        Ok(Self { spots: chosen.into_iter().map(spot).collect() })
    }

    /// The CPU of each core, as [`crate::CoresConfig`] takes them.
    #[must_use]
    pub fn cpus(&self) -> Vec<Option<usize>> {
        self.spots.iter().map(|spot| spot.cpu).collect()
    }
}

/// The CPUs that no core is pinned to, for `threads` threads beside the cores; `None` leaves the threads to the scheduler:
/// where they would crowd on fewer CPUs than they are, they would hold up what waits for them.
pub(crate) fn beside(topology: &Topology, cores: &[Option<usize>], threads: usize) -> Option<Vec<usize>> {
    if cores.iter().all(Option::is_none) {
        return None;
    }
    let left: Vec<usize> = topology.cpus().iter().map(|cpu| cpu.id).filter(|id| !cores.contains(&Some(*id))).collect();
    (left.len() >= threads.max(1)).then_some(left)
}

/// All CPUs, the better ones first: by turns of the nodes, first threads of all physical cores before any second one.
fn preference(topology: &Topology) -> Vec<usize> {
    let mut met: BTreeMap<usize, usize> = BTreeMap::new();
    let mut turns: BTreeMap<(usize, Option<usize>), usize> = BTreeMap::new();
    let mut ranked = Vec::with_capacity(topology.cpus().len());
    for cpu in topology.cpus() {
        let thread = met.entry(cpu.core).or_default();
        let turn = turns.entry((*thread, cpu.node)).or_default();
        ranked.push((*thread, *turn, cpu.node, cpu.id));
        *thread += 1;
        *turn += 1;
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(.., id)| id).collect()
}

#[cfg(test)]
mod tests;
