//! CPUs and memory: nothing here keeps a node from running, some of it makes it faster.

use super::{Check, Root};
use crate::{
    placement::{Placement, Wanted},
    topology::{Topology, list_text},
};
use std::{collections::BTreeMap, fs};

pub(super) fn checks(root: &Root, topology: &Topology) -> Vec<Check> {
    vec![cpus(topology), numa(topology), governor(root), huge_pages(root)]
}

pub(super) fn cpus(topology: &Topology) -> Check {
    const NAME: &str = "CPUs";
    let ids: Vec<usize> = topology.cpus().iter().map(|cpu| cpu.id).collect();
    let chosen = Placement::plan(topology, Wanted::All, true).map(|plan| plan.cpus()).unwrap_or_default();
    let mut chosen: Vec<usize> = chosen.into_iter().flatten().collect();
    chosen.sort_unstable();
    let found = format!(
        "{} may be used ({}), {} physical cores; --cores all runs {} on {}",
        ids.len(),
        list_text(&ids),
        topology.physical_cores(),
        chosen.len(),
        list_text(&chosen)
    );
    if topology.granted() < topology.physical_cores() {
        let advice =
            format!("the container is granted the time of {} CPUs: give it whole CPUs (a cpuset) instead of a quota", topology.granted());
        Check::hint(NAME, found, advice)
    } else if ids.len() == 1 {
        Check::hint(NAME, found, "with a second CPU, compression and HTTP would not take turns with requests")
    } else {
        Check::ok(NAME, found)
    }
}

pub(super) fn numa(topology: &Topology) -> Check {
    const NAME: &str = "NUMA";
    let mut nodes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for cpu in topology.cpus() {
        nodes.entry(cpu.node.unwrap_or(0)).or_default().push(cpu.id);
    }
    if nodes.len() == 1 {
        return Check::ok(NAME, "one node");
    }
    let parts: Vec<String> = nodes.iter().map(|(node, cpus)| format!("node {node}: CPUs {}", list_text(cpus))).collect();
    Check::ok(NAME, format!("{} nodes, cores and their memory are spread over them ({})", nodes.len(), parts.join("; ")))
}

pub(super) fn governor(root: &Root) -> Check {
    const NAME: &str = "CPU governor";
    let mut governors: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(root.path("/sys/devices/system/cpu")).into_iter().flatten().flatten() {
        if let Ok(text) = fs::read_to_string(entry.path().join("cpufreq/scaling_governor")) {
            *governors.entry(text.trim().to_owned()).or_default() += 1;
        }
    }
    let found = governors.iter().map(|(name, cpus)| format!("{name} on {cpus}")).collect::<Vec<_>>().join(", ");
    if governors.is_empty() {
        Check::ok(NAME, "not visible: the host decides")
    } else if governors.keys().all(|name| name == "performance") {
        Check::ok(NAME, found)
    } else {
        Check::hint(NAME, found, "`cpupower frequency-set -g performance` keeps clocks up between requests: better latency, more power")
    }
}

pub(super) fn huge_pages(root: &Root) -> Check {
    const NAME: &str = "huge pages";
    let Some(text) = root.read("/sys/kernel/mm/transparent_hugepage/enabled") else {
        return Check::ok(NAME, "not visible");
    };
    let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        Some("always") => Check::hint(
            NAME,
            "transparent, always",
            "`madvise` in /sys/kernel/mm/transparent_hugepage/enabled keeps memory use and latency steadier",
        ),
        Some(chosen) => Check::ok(NAME, format!("transparent, {chosen}")),
        None => Check::ok(NAME, text),
    }
}
