use super::*;

#[test]
fn a_spread_of_times() {
    let times: Vec<Duration> = (1..=100).rev().map(Duration::from_secs).collect();
    let spread = Spread::of(&times);
    assert_eq!((spread.count, spread.p50_s, spread.p99_s, spread.max_s), (100, 50.0, 99.0, 100.0));
    let spread = Spread::of(&[Duration::from_secs(3)]);
    assert_eq!((spread.p50_s, spread.p99_s, spread.max_s), (3.0, 3.0, 3.0));
    assert_eq!(Spread::of(&[]).count, 0);
}
