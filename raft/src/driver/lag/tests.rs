use super::*;

const S: Nanos = LOOKED_AT;

#[test]
fn a_follower_gains_if_less_is_written_than_it_is_sent() {
    let mut progress = Progress::default();
    assert!(progress.gains(0, (Index(1), 100), 100, 5_000), "who knows");
    assert!(progress.gains(S / 2, (Index(101), 100), 100, 9_000), "one piece says little");
    assert!(progress.gains(2 * S, (Index(201), 100), 100, 5_149), "149 of the 200 that it was sent");
    assert!(!progress.gains(4 * S, (Index(301), 100), 100, 5_224), "75 of 100");
}

#[test]
fn who_is_not_held_back_is_so_until_less_is_written_than_it_was_sent_before() {
    let mut progress = Progress::default();
    assert!(progress.gains(0, (Index(1), 100), 100, 5_000));
    assert!(!progress.gains(S, (Index(101), 1_000), 1_000, 5_100));
    assert!(!progress.gains(S + 1, (Index(1_101), 1_000), 1_000, 5_100), "for a second at the least");
    assert!(!progress.gains(2 * S + 1, (Index(2_101), 1_000), 1_000, 5_200), "it gains, since it is not held back");
    assert!(!progress.gains(4 * S + 1, (Index(3_101), 1_000), 1_000, 5_350), "75 in a second, of the 100 that it had");
    assert!(progress.gains(6 * S + 1, (Index(4_101), 100), 100, 5_498));
}

#[test]
fn followers_are_told_apart_and_not_remembered_for_ever() {
    let mut progress = Progress::default();
    assert!(progress.gains(0, (Index(1), 10), 10, 1_000) && progress.gains(0, (Index(500), 10), 10, 1_000));
    assert!(!progress.gains(S, (Index(11), 10), 10, 1_100));
    assert!(!progress.gains(S, (Index(510), 10), 10, 1_100));
    for at in 0..FOLLOWERS_MAX as u64 {
        assert!(progress.gains(S, (Index(2_000 + 100 * at), 10), 10, 9_000));
    }
    assert!(progress.gains(S, (Index(21), 10), 10, 9_000), "forgotten");
    assert_eq!(progress.0.len(), FOLLOWERS_MAX);
}

#[test]
fn long_entries_count_for_more_than_short_ones() {
    let mut progress = Progress::default();
    let written = |seconds: u64| 300 * 50 * seconds;
    assert!(progress.gains(0, (Index(1), 4), 256 << 10, written(0)));
    for s in 1..5 {
        assert!(progress.gains(s * S, (Index(1 + 4 * s), 4), 256 << 10, written(s)), "four entries a second, where 50 are written");
    }
}
