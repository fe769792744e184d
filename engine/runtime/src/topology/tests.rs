use super::*;
use std::iter;

/// A machine that hwloc makes up, of which all CPUs may be used.
#[cfg(feature = "numa")]
pub(crate) fn synthetic(description: &str) -> Topology {
    let built = hwlocality::Topology::builder().from_synthetic(description).expect("a description that hwloc knows").build();
    let found = of_hwloc(&built.expect("a topology"));
    let all: Vec<usize> = found.iter().map(|cpu| cpu.id).collect();
    Topology::new(found, &all, all.len())
}

/// The same of which only `allowed` may be used, for `granted` CPUs' worth of time.
pub(crate) fn within(topology: &Topology, allowed: &[usize], granted: usize) -> Topology {
    Topology::new(topology.cpus.clone(), allowed, granted)
}

/// A machine in a few words: (CPU, core, node).
pub(crate) fn machine(cpus: &[(usize, usize, usize)]) -> Topology {
    let found: Vec<Cpu> = cpus.iter().map(|&(id, core, node)| Cpu { id, core, node: Some(node) }).collect();
    let all: Vec<usize> = found.iter().map(|cpu| cpu.id).collect();
    Topology::new(found, &all, all.len())
}

#[cfg(feature = "numa")]
#[test]
fn hwloc_tells_cores_and_nodes_apart() {
    let two = synthetic("NUMANode:2 Core:4 PU:2");
    assert_eq!((two.cpus().len(), two.physical_cores(), two.nodes()), (16, 8, vec![0, 1]));
    assert_eq!((two.node_of(7), two.node_of(8), two.node_of(16)), (Some(0), Some(1), None));
    assert_eq!(two.cpus()[0].core, two.cpus()[1].core);
    assert_ne!(two.cpus()[1].core, two.cpus()[2].core);
    let eight = synthetic("Package:2 NUMANode:4 L3Cache:1 Core:8 PU:1");
    assert_eq!((eight.cpus().len(), eight.physical_cores(), eight.nodes()), (64, 64, (0..8).collect()));
}

#[test]
fn this_machine_has_the_cpus_that_we_may_run_on() {
    let topology = Topology::read();
    let ids: Vec<usize> = topology.cpus().iter().map(|cpu| cpu.id).collect();
    assert_eq!(ids, sys::allowed_cpus().expect("the allowed CPUs"));
    assert!((1..=ids.len()).contains(&topology.physical_cores()));
    assert!((1..=ids.len()).contains(&topology.granted()));
}

#[test]
fn sys_and_hwloc_agree_on_this_machine() {
    let allowed = sys::allowed_cpus().expect("the allowed CPUs");
    let by_sys = Topology::new(from_sys(Path::new("/sys"), &allowed), &allowed, 1);
    let read = Topology::read();
    assert_eq!(by_sys.physical_cores(), read.physical_cores());
    if Path::new("/sys/devices/system/node").exists() {
        assert_eq!(by_sys.nodes(), read.nodes());
    }
}

#[test]
fn a_sys_of_two_nodes_is_read() {
    let root = tempfile::tempdir().expect("a scratch directory");
    let put = |path: String, text: &str| {
        let path = root.path().join("devices/system").join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    };
    put("node/node0/cpulist".into(), "0-1,4-5\n");
    put("node/node1/cpulist".into(), "2-3,6-7\n");
    put("node/has_cpu".into(), "0-1\n");
    for id in 0..8 {
        put(format!("cpu/cpu{id}/topology/thread_siblings_list"), &format!("{},{}\n", id % 4, id % 4 + 4));
    }
    let topology = Topology::new(from_sys(root.path(), &[1, 2, 5, 6]), &[1, 2, 5, 6], 4);
    let cpu = |id, core, node| Cpu { id, core, node: Some(node) };
    assert_eq!(topology.cpus(), [cpu(1, 1, 0), cpu(2, 2, 1), cpu(5, 1, 0), cpu(6, 2, 1)]);
}

#[test]
fn a_silent_sys_leaves_each_cpu_a_core() {
    let topology = Topology::new(from_sys(Path::new("/nowhere"), &[3, 5]), &[3, 5], 2);
    assert_eq!((topology.cpus().len(), topology.physical_cores(), topology.nodes()), (2, 2, vec![]));
    let nothing = Topology::new(Vec::new(), &[], 0);
    assert_eq!((nothing.cpus().len(), nothing.granted()), (1, 1));
    // A CPU that was plugged in after the machine was read shares no core with another.
    let late = Topology::new(vec![Cpu { id: 0, core: 0, node: None }, Cpu { id: 1, core: 0, node: None }], &[0, 1, 2], 3);
    assert_eq!(late.physical_cores(), 2);
}

#[test]
fn lists_are_read_and_written_as_the_kernel_does() {
    for (text, numbers) in [("", vec![]), ("0", vec![0]), ("0-3,8", vec![0, 1, 2, 3, 8]), ("1,3,5-6", vec![1, 3, 5, 6])] {
        assert_eq!(parse_list(&format!("{text}\n")).as_ref(), Some(&numbers), "{text}");
        assert_eq!(list_text(&numbers), text);
    }
    for bad in ["x", "1-", "-1", "1-2-3", "0-99999999999"] {
        assert_eq!(parse_list(bad), None, "{bad}");
    }
    assert_eq!(parse_list("3-1"), Some(iter::empty().collect()), "an empty range has no numbers");
}
