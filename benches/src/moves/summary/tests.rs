use super::*;
use crate::measure::record;

fn row(wanted: Wanted, p99_ms: u64, pause_ms: u64, failed: u64) -> Row {
    let mut measured = Measured { pause: Duration::from_millis(pause_ms), failed, ..Measured::default() };
    record(&mut measured.latency, Duration::from_millis(p99_ms));
    Row::of("a move", wanted, Duration::from_secs(1), 0.5, &measured)
}

#[test]
fn rows_are_held_against_the_quiet_one_and_their_bounds() {
    let mut summary = Summary {
        partitions: 1,
        rate: 1,
        load_bytes: 0,
        rows: Vec::new(),
        sums: Sums::default(),
        replicas_compared: 0,
        bytes_compared: 0,
        differences: 0,
        differ: Vec::new(),
    };
    let rows = [
        (row(Wanted::Nothing, 10, 500, 0), true),
        (row(Wanted::Even, 29, 500, 0), true),
        (row(Wanted::Even, 31, 5, 0), false),
        (row(Wanted::NoPause, 100, 50, 0), true),
        (row(Wanted::NoPause, 5, 51, 0), false),
    ];
    for (row, is_met) in rows {
        summary.add(row);
        assert_eq!(summary.rows.last().map(|row| row.is_met), Some(is_met), "{:?}", summary.rows.last());
    }
    // What misses its bound is said; what fails ends with an error.
    assert!(summary.text().contains("missed") && summary.verdict().is_ok());
    summary.add(row(Wanted::Nothing, 10, 5, 2));
    assert!(!summary.rows[5].is_met && summary.verdict().is_err() && summary.wrong() == 2);
}
