use super::*;

fn turn(nodes: usize, share: Option<f64>, cpus_busy: f64, bytes_per_s: f64, ack_p50_ns: u64) -> Turn {
    Turn { nodes, share, cpus_busy, bytes_per_s, batches_per_s: 0.0, ack_p50_ns, ack_p99_ns: 0 }
}

/// Three turns: at full speed, and at each rate acks of 9 to 11 ns by a node alone and `acks` by three, while the CPUs are as busy as `busy` says.
fn turns(acks: [u64; 4], busy: [f64; 4]) -> Vec<Turn> {
    let closed = [(1, 100.0, 40), (3, 25.0, 100), (1, 90.0, 30), (3, 40.0, 140), (1, 110.0, 50), (3, 35.0, 120)];
    let mut turns: Vec<Turn> = closed.map(|(nodes, throughput, ack)| turn(nodes, None, 1.0, throughput, ack)).into();
    for ((share, ack), busy) in RATE_SHARES.into_iter().zip(acks).zip(busy) {
        for (alone, more) in [(10, 0), (11, 9), (9, 1)] {
            turns.push(turn(1, Some(share), 0.1, 15.0, alone));
            turns.push(turn(3, Some(share), busy, 15.0, ack + more - 1));
        }
    }
    turns
}

#[test]
fn the_two_sides_are_held_against_each_other() {
    let summary = sum_up(3, 2.0, turns([15, 18, 21, 50], [0.2, 0.3, 0.5, 0.6]));
    assert_eq!((summary.throughput_ratio, summary.closed_ack_p50_ratio), (0.35, 3.0));
    assert_eq!(summary.acks.iter().map(|ack| ack.p50_ratio).collect::<Vec<_>>(), [1.5, 1.8, 2.1, 5.0]);
    assert!(summary.acks.iter().all(|ack| ack.ratio_max == 2.2), "{:?}", summary.acks);
    assert_eq!(summary.acks.iter().map(|ack| ack.counts).collect::<Vec<_>>(), [true, true, true, false]);
    assert!(summary.throughput_is_met && summary.ack_is_met);
}

#[test]
fn an_ack_is_missed_where_it_counts_or_counts_nowhere() {
    let is_met = |busy| sum_up(3, 2.0, turns([15, 18, 25, 50], busy)).ack_is_met;
    assert!(!is_met([0.2, 0.3, 0.5, 0.6]), "at a quarter");
    assert!(is_met([0.2, 0.3, 0.6, 0.9]));
    assert!(!is_met([0.6, 0.7, 0.8, 0.9]), "nowhere");
}
