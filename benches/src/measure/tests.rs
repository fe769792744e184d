use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn throughput_counts_ends_and_latency_counts_intended_beginnings() {
    let from = Instant::now() + 10 * MS;
    let mut recorder = Recorder::new(from, 250 * MS);
    // Began in the warm-up, ended inside: throughput only.
    recorder.ended(from + MS, 5 * MS, 10, 1000);
    recorder.took(from - 4 * MS, 5 * MS);
    // Was to begin inside, ended long after: latency only.
    recorder.ended(from + 400 * MS, 200 * MS, 10, 1000);
    recorder.took(from + 200 * MS, 200 * MS);
    // In the last, shorter slot.
    recorder.ended(from + 249 * MS, MS, 1, 7);
    recorder.took(from + 248 * MS, MS);
    assert_eq!(recorder.totals(), Totals { requests: 2, records: 11, bytes: 1007 });
    assert_eq!(recorder.latency().len(), 2);
    let series = recorder.series();
    assert_eq!(series.iter().map(|slot| slot.requests).collect::<Vec<_>>(), [1, 0, 1]);
    assert!((series[2].len_s - 0.05).abs() < 1e-9);
    assert!((4_900_000..5_100_000).contains(&series[0].p50_ns), "{}", series[0].p50_ns);
}

#[test]
fn merging_is_counting_together() {
    let from = Instant::now();
    let (mut a, mut b) = (Recorder::new(from, 300 * MS), Recorder::new(from, 300 * MS));
    a.ended(from, MS, 1, 1);
    a.took(from, MS);
    b.ended(from + 150 * MS, 3 * MS, 2, 2);
    b.took(from, 3 * MS);
    a.merge(&b);
    assert_eq!(a.totals(), Totals { requests: 2, records: 3, bytes: 3 });
    let latency = Latency::of(a.latency());
    assert_eq!(latency.count, 2);
    assert!(latency.p50_ns < 1_100_000 && latency.max_ns >= 3_000_000);
    assert!(latency.curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
    assert_eq!(a.series()[1].records, 2);
}

#[test]
fn a_window_that_ends_in_silence_shows_it() {
    let from = Instant::now();
    let mut recorder = Recorder::new(from, 1000 * MS);
    recorder.ended(from, MS, 1, 1);
    assert_eq!(recorder.series().iter().map(|slot| slot.requests).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn slots_grow_with_a_run_that_has_no_planned_end() {
    let from = Instant::now();
    let (mut long, mut short) = (Recorder::open_ended(from), Recorder::open_ended(from));
    for n in 0..1000 {
        long.ended(from + 100 * n * MS, MS, 1, 1);
    }
    for n in 0..100 {
        short.ended(from + 100 * n * MS, MS, 1, 1);
    }
    short.merge(&long);
    let series = short.series();
    assert!(series.len() <= SLOTS_MAX as usize);
    assert_eq!(series.iter().map(|slot| slot.requests).sum::<u64>(), 1100);
    assert_eq!(series[0].requests, 32, "16 of each in 1.6 s");
    assert!((series[1].at_s - 1.6).abs() < 1e-9);
}

#[test]
fn a_stall_beyond_the_scale_still_counts() {
    let from = Instant::now();
    let mut recorder = Recorder::new(from, 300 * MS);
    recorder.took(from, Duration::from_secs(100_000));
    assert_eq!(recorder.latency().len(), 1);
    assert!(recorder.latency().max() >= LATENCY_NS_MAX);
}

#[test]
fn the_median_is_in_the_middle() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0]), 2.5);
    assert_eq!(median(&[]), 0.0);
}
