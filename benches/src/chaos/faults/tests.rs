use super::*;
use rand::SeedableRng;
use std::collections::BTreeSet;

const KINDS: [Kind; 7] = [Kind::Kill, Kind::Pause, Kind::Cut, Kind::OneWay, Kind::Pair, Kind::Slow, Kind::Full];

#[test]
fn nothing_happens_twice_to_a_node_at_a_time_and_all_ends() {
    let mut seen = BTreeSet::new();
    let mut two_at_once = 0;
    for seed in 0..200 {
        let faults = plan(&mut SmallRng::seed_from_u64(seed), 3, &KINDS, 30_000);
        assert!(faults.len() >= 2, "seed {seed}: {faults:?}");
        for (n, fault) in faults.iter().enumerate() {
            assert!(fault.begin <= fault.end && fault.end < 30_000, "seed {seed}: {fault:?}");
            assert!(fault.node < 3 && fault.towards != Towards::Node(fault.node), "seed {seed}: {fault:?}");
            seen.insert(fault.kind);
            for other in &faults[..n] {
                assert!(!other.meets(fault), "seed {seed}: {other:?} and {fault:?}");
                two_at_once += u32::from(other.overlaps(fault));
            }
        }
    }
    assert_eq!(seen.len(), KINDS.len());
    assert!(two_at_once > 100, "{two_at_once}");
}

#[test]
fn a_seed_gives_the_same_plan() {
    let plan = || plan(&mut SmallRng::seed_from_u64(7), 3, &KINDS, 30_000);
    assert_eq!(plan(), plan());
}
