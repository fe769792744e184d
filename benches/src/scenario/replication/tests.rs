use super::*;

fn turn(nodes: usize, bytes_per_s: f64, ack_p50_ns: u64) -> Turn {
    Turn { nodes, bytes_per_s, batches_per_s: 0.0, ack_p50_ns, ack_p99_ns: 0 }
}

#[test]
fn the_two_sides_are_held_against_each_other() {
    let turns = vec![turn(1, 100.0, 10), turn(3, 25.0, 21), turn(1, 90.0, 11), turn(3, 40.0, 30), turn(1, 110.0, 9), turn(3, 35.0, 20)];
    let summary = sum_up(3, 2.0, turns.clone());
    assert_eq!((summary.throughput_ratio, summary.ack_p50_ratio), (0.35, 2.1));
    assert!(summary.throughput_is_met && summary.ack_is_met);
    assert!(!sum_up(3, 1.0, turns).ack_is_met);
}
