use super::*;
use crate::topology::tests::machine;
use proptest::prelude::*;

fn cpus(topology: &Topology, wanted: Wanted) -> Vec<usize> {
    Placement::plan(topology, wanted, true).expect("a plan").cpus().into_iter().map(|cpu| cpu.expect("pinned")).collect()
}

#[cfg(feature = "numa")]
mod synthetic {
    use super::*;
    use crate::topology::tests::{synthetic, within};

    #[test]
    fn two_nodes_take_turns_and_second_threads_come_last() {
        let two = synthetic("NUMANode:2 Core:4 PU:2");
        assert_eq!(cpus(&two, Wanted::All), [0, 8, 2, 10, 4, 12, 6, 14]);
        assert_eq!(cpus(&two, Wanted::Count(3)), [0, 8, 2]);
        assert_eq!(cpus(&two, Wanted::Count(10)), [0, 8, 2, 10, 4, 12, 6, 14, 1, 9]);
        let plan = Placement::plan(&two, Some(4), true).expect("a plan");
        assert_eq!(plan.spots.iter().map(|spot| spot.node).collect::<Vec<_>>(), [Some(0), Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn eight_nodes_get_the_same_number_each() {
        let eight = synthetic("NUMANode:8 Core:8 PU:1");
        let plan = Placement::plan(&eight, Some(16), true).expect("a plan");
        for node in 0..8 {
            assert_eq!(plan.spots.iter().filter(|spot| spot.node == Some(node)).count(), 2, "node {node}");
        }
        assert_eq!(cpus(&eight, Wanted::All).len(), 64);
        assert_eq!(cpus(&eight, Wanted::Count(9))[..], [0, 8, 16, 24, 32, 40, 48, 56, 1]);
    }

    #[test]
    fn a_container_with_two_cpus_gets_two_cores_of_a_big_machine() {
        let big = synthetic("NUMANode:2 Core:16 PU:2");
        assert_eq!(cpus(&within(&big, &[5, 40], 2), Wanted::All), [5, 40]);
        assert_eq!(cpus(&within(&big, &[6, 7], 2), Wanted::All), [6], "two threads of one physical core");
        assert_eq!(cpus(&within(&big, &[6, 7], 2), Wanted::Count(2)), [6, 7]);
        let all: Vec<usize> = (0..64).collect();
        assert_eq!(cpus(&within(&big, &all, 3), Wanted::All), [0, 32, 2], "a quota of three CPUs' time");
        assert_eq!(cpus(&within(&big, &all, 3), Wanted::Count(4)).len(), 4, "who names a number gets it");
    }
}

#[test]
fn a_node_with_fewer_cpus_is_used_up_and_the_others_go_on() {
    let uneven = machine(&[(0, 0, 0), (1, 1, 1), (2, 2, 1), (3, 3, 1)]);
    assert_eq!(cpus(&uneven, Wanted::All), [0, 1, 2, 3]);
}

#[test]
fn what_cannot_be_is_refused_with_the_facts() {
    let two = machine(&[(2, 0, 0), (3, 1, 0)]);
    let refused = |wanted: Wanted| Placement::plan(&two, wanted, true).expect_err("refused").to_string();
    assert_eq!(refused(Wanted::Count(3)), "3 cores are asked for, but only 2 CPUs may be used (2-3)");
    assert_eq!(refused(Wanted::Count(usize::MAX)), format!("{} cores are asked for, but only 2 CPUs may be used (2-3)", usize::MAX));
    assert_eq!(refused(Wanted::Count(0)), "no core is asked for, and a node has at least one");
    assert_eq!(refused(Wanted::Cpus(vec![])), "no core is asked for, and a node has at least one");
    assert_eq!(refused(Wanted::Cpus(vec![2, 4])), "CPU 4 may not be used; 2-3 may");
    assert_eq!(refused(Wanted::Cpus(vec![3, 3])), "CPU 3 is named twice");
    assert!(Placement::plan(&two, Some(3), false).is_err(), "unpinned cores need CPUs too");
}

#[test]
fn named_cpus_keep_their_order_and_unpinned_ones_are_nowhere() {
    let two = machine(&[(0, 0, 0), (1, 0, 0)]);
    assert_eq!(cpus(&two, Wanted::Cpus(vec![1, 0])), [1, 0]);
    let plan = Placement::plan(&two, Some(2), false).expect("a plan");
    assert_eq!(plan.spots, [CoreSpot::default(); 2]);
    assert_eq!(plan.cpus(), [None, None]);
}

#[test]
fn threads_beside_the_cores_stay_off_them_where_there_is_room() {
    let four = machine(&[(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 1, 0)]);
    assert_eq!(beside(&four, &[Some(0), Some(2)], 2), Some(vec![1, 3]));
    assert_eq!(beside(&four, &[Some(0), Some(2)], 3), None, "three threads on two CPUs would crowd");
    assert_eq!(beside(&four, &[Some(0), Some(1), Some(2), Some(3)], 1), None);
    assert_eq!(beside(&four, &[None, None], 1), None);
}

proptest! {
    /// Whatever the machine: distinct allowed CPUs, physical cores first, nodes even as far as they reach, and a longer
    /// plan begins with every shorter one.
    #[test]
    fn plans_hold_on_any_machine(shape in prop::collection::vec((0..6_usize, 1..4_usize), 1..24)) {
        let mut all = Vec::new();
        for (core, (node, threads)) in shape.iter().enumerate() {
            for _ in 0..*threads {
                all.push((all.len(), core, *node));
            }
        }
        let topology = machine(&all);
        let whole = cpus(&topology, Wanted::Count(all.len()));
        let mut sorted = whole.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..all.len()).collect::<Vec<_>>());
        for n in 1..=all.len() {
            prop_assert_eq!(&cpus(&topology, Wanted::Count(n))[..], &whole[..n]);
        }
        let firsts: Vec<_> = whole[..shape.len()].iter().map(|cpu| all[*cpu]).collect();
        let mut cores: Vec<_> = firsts.iter().map(|cpu| cpu.1).collect();
        cores.sort_unstable();
        prop_assert_eq!(cores, (0..shape.len()).collect::<Vec<_>>(), "a core is used twice before another is used once");
        let has = |node, of: &[(usize, usize, usize)]| of.iter().filter(|cpu| cpu.2 == node).count();
        for n in 1..=firsts.len() {
            let most = (0..6).map(|node| has(node, &firsts[..n])).max().unwrap_or(0);
            for node in 0..6 {
                let (used, there) = (has(node, &firsts[..n]), has(node, &firsts));
                prop_assert!(used + 1 >= most || used == there, "node {} has {} of {} where another has {}", node, used, there, most);
            }
        }
    }
}
