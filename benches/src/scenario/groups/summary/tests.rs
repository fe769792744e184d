use super::*;

fn turn(nodes: usize, partitions: usize, bytes_per_s: f64) -> Turn {
    Turn { nodes, partitions, bytes_per_s, batches_per_s: 1.0, ack_p50_ns: 1, ack_p99_ns: 1 }
}

#[test]
fn many_are_held_against_few_by_their_medians() {
    let turns =
        [(1, 10, 100.0), (1, 1000, 60.0), (1, 10, 90.0), (1, 1000, 80.0), (1, 10, 1.0), (1, 1000, 72.0), (3, 10, 50.0), (3, 1000, 20.0)];
    let turns = turns.into_iter().map(|(nodes, partitions, bytes)| turn(nodes, partitions, bytes)).collect();
    let storm = |settled| Storm {
        idle_cpus: 0.02,
        led: 1_000,
        led_again_s: 0.1,
        killed_settled_s: 0.2,
        killed_cpu_s: 0.1,
        serves_s: 0.3,
        back_led_s: 0.4,
        back_settled_s: settled,
        back_cpu_s: 0.5,
    };
    let mut summary = Summary { few: 10, active: 1_000, groups: 3_000, turns, storms: vec![storm(4.9)] };
    assert_eq!(summary.shares(), [(1, 0.8), (3, 0.4)]);
    assert!(summary.storm_is_met() && summary.text().contains("missed"), "{}", summary.text());
    summary.storms.push(storm(5.1));
    assert!(!summary.storm_is_met());
}
