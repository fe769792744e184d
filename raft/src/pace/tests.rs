use super::*;

const MS: Nanos = 1_000_000;
const RATE: u64 = 64 << 20;

/// So many ticks in which something is sent and writers wait for so long. The rate then.
fn ticks(pace: &mut Pace, ticks: usize, wait: Nanos) -> u64 {
    for _ in 0..ticks {
        (0..10).for_each(|_| pace.waited(wait));
        pace.of(RATE);
        pace.tick();
    }
    pace.of(RATE)
}

#[test]
fn it_gives_way_while_writers_wait_for_longer_and_comes_back() {
    let mut pace = Pace::default();
    assert_eq!(pace.of(RATE), RATE / 8, "it begins low");
    assert_eq!(ticks(&mut pace, 100, 2 * MS), RATE);
    assert_eq!(ticks(&mut pace, 20, 4 * MS), RATE, "a little more is nothing");
    assert_eq!(ticks(&mut pace, 2, 20 * MS), RATE / 4);
    assert_eq!(ticks(&mut pace, 50, 20 * MS), FLOOR, "never to nothing");
    assert_eq!(ticks(&mut pace, 64, 2 * MS), RATE);
}

#[test]
fn it_gives_way_if_some_are_late_though_most_are_not() {
    let mut pace = Pace::default();
    let mut hundred = |late: usize| {
        (0..100).for_each(|n| pace.waited(if n < late { 6 * MS } else { MS }));
        pace.tick();
        pace.of(RATE)
    };
    (0..100).for_each(|_| _ = hundred(0));
    assert_eq!([hundred(5), hundred(5)], [RATE; 2], "one in twenty");
    assert_eq!([hundred(6), hundred(6)], [RATE / 2, RATE / 4]);
}

#[test]
fn without_writers_it_rises_and_a_slow_rate_stays_what_it_is() {
    let mut pace = Pace::default();
    ticks(&mut pace, 10, MS);
    assert_eq!((ticks(&mut pace, 10, 100 * MS), pace.of(64 << 10)), (FLOOR, 64 << 10));
    for _ in 0..WHOLE {
        pace.of(RATE);
        pace.tick();
    }
    assert_eq!(pace.of(RATE), RATE);
}

#[test]
fn after_a_pause_it_begins_low_again() {
    let mut pace = Pace::default();
    assert_eq!(ticks(&mut pace, 100, MS), RATE);
    (0..PAUSE_TICKS).for_each(|_| pace.tick());
    assert_eq!(pace.of(RATE), RATE, "a short one is none");
    (0..=PAUSE_TICKS).for_each(|_| pace.tick());
    assert_eq!(pace.of(RATE), RATE / 8);
}

#[test]
fn a_cluster_that_has_become_slower_is_what_is_usual_after_a_while() {
    let mut pace = Pace::default();
    ticks(&mut pace, 400, MS);
    assert_eq!(ticks(&mut pace, (WHILE_TICKS as usize) * (WHILES + 1), 10 * MS), RATE);
}

#[test]
fn turns_keep_the_rate() {
    let mut turns = Turns::default();
    let waits: Vec<Nanos> = (0..3).map(|_| turns.wait(5 * MS, 1 << 20, 1 << 30)).collect();
    assert_eq!(waits, [0, 976_563, 1_953_125]);
    assert_eq!(turns.wait(500 * MS, 1, 1 << 30), 0, "what was not used is gone");
    turns.take(1 << 20);
    assert_eq!(turns.left(500 * MS, 1 << 20), 1_000_000_954, "and the byte before");
    assert_eq!(turns.left(1_000 * MS, 1 << 20), 500_000_954);
    assert_eq!(turns.left(1_000 * MS, 1 << 30), 488_283, "the rest leaves at the rate of its time");
}
