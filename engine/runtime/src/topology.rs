//! Which CPUs this process may use, which of them share a physical core, and which memory is near to them.
//!
//! Read once at start by whoever plans cores ([`crate::placement`]). hwloc is
//! asked first (feature `numa`); where it is not built in or fails, /sys is read, and where that is silent too, each CPU
//! of the affinity mask is taken for a core of its own. CPUs that a cgroup, a container or `taskset` took away are not in here.
#![expect(clippy::disallowed_methods, reason = "it looks at the machine, and no core runs it")]

use crate::sys;
use std::{collections::BTreeSet, fmt::Write, fs, path::Path, thread};

/// A hardware thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The system's number, as in `taskset`.
    pub id: usize,
    /// Its physical core. CPUs of one core have the same number; the number means nothing else.
    pub core: usize,
    /// The NUMA node of its memory, by the system's number, where that is known.
    pub node: Option<usize>,
}

/// The CPUs of this process, ascending by number, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    cpus: Vec<Cpu>,
    /// How many CPUs' worth of time the process is granted, which a container may set below the number of CPUs.
    granted: usize,
}

impl Topology {
    /// Reads this machine. Cannot fail: at the worst there is one CPU of which nothing is known.
    #[must_use]
    pub fn read() -> Self {
        let allowed = sys::allowed_cpus().unwrap_or_default();
        let granted = thread::available_parallelism().map_or(1, usize::from);
        let found = from_hwloc().unwrap_or_else(|| from_sys(Path::new("/sys"), &allowed));
        Self::new(found, &allowed, granted)
    }

    /// Of `found`, the `allowed` CPUs. An allowed CPU that was not found is a core of its own.
    fn new(found: Vec<Cpu>, allowed: &[usize], granted: usize) -> Self {
        let known = |id: usize| found.iter().find(|cpu| cpu.id == id).copied();
        // Beyond any number of a core that was found.
        let alone = found.iter().map(|cpu| cpu.core + 1).max().unwrap_or(0);
        let mut cpus: Vec<Cpu> = allowed.iter().map(|&id| known(id).unwrap_or(Cpu { id, core: alone + id, node: None })).collect();
        if cpus.is_empty() {
            cpus = if found.is_empty() { vec![Cpu { id: 0, core: 0, node: None }] } else { found };
        }
        cpus.sort_by_key(|cpu| cpu.id);
        Self { cpus, granted: granted.max(1) }
    }

    /// The CPUs, ascending by number.
    #[must_use]
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// How many CPUs' worth of time the process is granted.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.granted
    }

    /// How many physical cores there are.
    #[must_use]
    pub fn physical_cores(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.core).collect::<BTreeSet<_>>().len()
    }

    /// The NUMA nodes near to the CPUs, ascending.
    #[must_use]
    pub fn nodes(&self) -> Vec<usize> {
        self.cpus.iter().filter_map(|cpu| cpu.node).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The NUMA node near to a CPU.
    #[must_use]
    pub fn node_of(&self, cpu: usize) -> Option<usize> {
        self.cpus.iter().find(|c| c.id == cpu)?.node
    }
}

#[cfg(feature = "numa")]
fn from_hwloc() -> Option<Vec<Cpu>> {
    match hwlocality::Topology::new() {
        Ok(read) => Some(of_hwloc(&read)).filter(|cpus| !cpus.is_empty()),
        Err(why) => {
            tracing::warn!(%why, "hwloc cannot read this machine; reading /sys instead");
            None
        }
    }
}

#[cfg(not(feature = "numa"))]
fn from_hwloc() -> Option<Vec<Cpu>> {
    None
}

#[cfg(feature = "numa")]
fn of_hwloc(read: &hwlocality::Topology) -> Vec<Cpu> {
    use hwlocality::object::{TopologyObject, types::ObjectType};
    let cpu = |pu: &TopologyObject| {
        // Where hwloc sees no cores, each of its processing units is one.
        let core = pu.first_ancestor_with_type(ObjectType::Core).unwrap_or(pu).logical_index();
        let node = pu.nodeset().and_then(|nodes| nodes.first_set()).map(usize::from);
        Some(Cpu { id: pu.os_index()?, core, node })
    };
    read.objects_with_type(ObjectType::PU).filter_map(cpu).collect()
}

/// What the kernel tells below `root` (normally /sys) of the CPUs `ids`.
fn from_sys(root: &Path, ids: &[usize]) -> Vec<Cpu> {
    let list = |path: &Path| fs::read_to_string(path).ok().and_then(|text| parse_list(&text));
    let mut nodes = Vec::new();
    for entry in fs::read_dir(root.join("devices/system/node")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(node) = name.to_str().and_then(|name| name.strip_prefix("node")?.parse::<usize>().ok()) {
            nodes.push((node, list(&entry.path().join("cpulist")).unwrap_or_default()));
        }
    }
    nodes.sort();
    let cpu = |&id: &usize| {
        let siblings = list(&root.join(format!("devices/system/cpu/cpu{id}/topology/thread_siblings_list")));
        // A core goes by the first of its CPUs.
        let core = siblings.and_then(|list| list.first().copied()).unwrap_or(id);
        let node = nodes.iter().find(|(_, cpus)| cpus.contains(&id)).map(|(node, _)| *node);
        Cpu { id, core, node }
    };
    ids.iter().map(cpu).collect()
}

/// Most numbers that a list of CPUs or nodes is believed to have.
const LIST_MAX: usize = 1 << 16;

/// The numbers of a list as the kernel writes it, `0-3,8`, ascending.
pub(crate) fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last >= LIST_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers.into_iter().collect())
}

/// Ascending numbers as the kernel writes them, `0-3,8`.
pub(crate) fn list_text(numbers: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = numbers;
    while let Some(&first) = rest.first() {
        let run = rest.iter().enumerate().take_while(|(n, number)| **number == first + n).count();
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = if run == 1 { write!(text, "{comma}{first}") } else { write!(text, "{comma}{first}-{}", first + run - 1) };
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
