use super::*;

fn turn(nodes: usize, rate_per_s: Option<f64>, bytes_per_s: f64, ack_p50_ns: u64) -> Turn {
    Turn { nodes, rate_per_s, bytes_per_s, batches_per_s: 0.0, ack_p50_ns, ack_p99_ns: 0 }
}

#[test]
fn the_two_sides_are_held_against_each_other() {
    let closed = [(1, 100.0, 40), (3, 25.0, 100), (1, 90.0, 30), (3, 40.0, 140), (1, 110.0, 50), (3, 35.0, 120)];
    let open = [(1, 15.0, 10), (3, 15.0, 21), (1, 16.0, 11), (3, 16.0, 30), (1, 14.0, 9), (3, 14.0, 20)];
    let closed = closed.map(|(nodes, throughput, ack)| turn(nodes, None, throughput, ack));
    let turns: Vec<Turn> = closed.into_iter().chain(open.map(|(nodes, rate, ack)| turn(nodes, Some(rate), rate, ack))).collect();
    let summary = sum_up(3, 2.0, turns.clone());
    assert_eq!((summary.throughput_ratio, summary.ack_p50_ratio, summary.closed_ack_p50_ratio), (0.35, 2.1, 3.0));
    assert!(summary.throughput_is_met && summary.ack_is_met);
    assert!(!sum_up(3, 1.0, turns).ack_is_met);
}
