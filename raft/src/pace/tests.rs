use super::*;

const MS: Nanos = 1_000_000;
const RATE: u64 = 64 << 20;

fn ticks(pace: &mut Pace, ticks: usize, wait: Nanos) {
    for _ in 0..ticks {
        pace.waited(10, 10 * wait);
        pace.tick();
    }
}

#[test]
fn it_gives_way_while_writers_wait_for_longer_and_comes_back() {
    let mut pace = Pace::default();
    assert_eq!(pace.of(RATE), RATE);
    ticks(&mut pace, 100, 2 * MS);
    assert_eq!(pace.of(RATE), RATE, "as always");
    ticks(&mut pace, 20, 4 * MS);
    assert_eq!(pace.of(RATE), RATE, "a little more is nothing");
    ticks(&mut pace, 2, 20 * MS);
    assert_eq!(pace.of(RATE), RATE / 4);
    ticks(&mut pace, 50, 20 * MS);
    assert_eq!(pace.of(RATE), FLOOR, "never to nothing");
    ticks(&mut pace, 64, 2 * MS);
    assert_eq!(pace.of(RATE), RATE);
}

#[test]
fn without_writers_it_rises_and_a_slow_rate_stays_what_it_is() {
    let mut pace = Pace::default();
    ticks(&mut pace, 10, MS);
    ticks(&mut pace, 10, 100 * MS);
    assert_eq!((pace.of(RATE), pace.of(64 << 10)), (FLOOR, 64 << 10));
    (0..WHOLE).for_each(|_| pace.tick());
    assert_eq!(pace.of(RATE), RATE);
}

#[test]
fn a_cluster_that_has_become_slower_is_what_is_usual_after_a_while() {
    let mut pace = Pace::default();
    ticks(&mut pace, 400, MS);
    ticks(&mut pace, (WHILE_TICKS as usize) * (WHILES + 1), 10 * MS);
    assert_eq!(pace.of(RATE), RATE);
}

#[test]
fn turns_keep_the_rate() {
    let mut turns = Turns::default();
    let waits: Vec<Nanos> = (0..3).map(|_| turns.wait(5 * MS, 1 << 20, 1 << 30)).collect();
    assert_eq!(waits, [0, 976_562, 1_953_124]);
    assert_eq!(turns.wait(500 * MS, 1, 1 << 30), 0, "what was not used is gone");
}
