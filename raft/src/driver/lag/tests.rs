use super::*;

const S: Nanos = LOOKED_AT;

#[test]
fn a_follower_gains_if_less_is_written_than_it_is_sent() {
    let mut progress = Progress::default();
    assert!(progress.gains(0, Index(1), 100, Index(5_000)), "who knows");
    assert!(progress.gains(S / 2, Index(101), 100, Index(9_000)), "one piece says little");
    assert!(progress.gains(2 * S, Index(201), 100, Index(5_149)), "149 of the 200 that it was sent");
    assert!(!progress.gains(4 * S, Index(301), 100, Index(5_224)), "75 of 100");
}

#[test]
fn who_is_not_held_back_is_so_until_less_is_written_than_it_was_sent_before() {
    let mut progress = Progress::default();
    assert!(progress.gains(0, Index(1), 100, Index(5_000)));
    assert!(!progress.gains(S, Index(101), 1_000, Index(5_100)));
    assert!(!progress.gains(S + 1, Index(1_101), 1_000, Index(5_100)), "for a second at the least");
    assert!(!progress.gains(2 * S + 1, Index(2_101), 1_000, Index(5_200)), "it gains, since it is not held back");
    assert!(!progress.gains(4 * S + 1, Index(3_101), 1_000, Index(5_350)), "75 in a second, of the 100 that it had");
    assert!(progress.gains(6 * S + 1, Index(4_101), 100, Index(5_498)));
}

#[test]
fn followers_are_told_apart_and_not_remembered_for_ever() {
    let mut progress = Progress::default();
    assert!(progress.gains(0, Index(1), 10, Index(1_000)) && progress.gains(0, Index(500), 10, Index(1_000)));
    assert!(!progress.gains(S, Index(11), 10, Index(1_100)));
    assert!(!progress.gains(S, Index(510), 10, Index(1_100)));
    for at in 0..FOLLOWERS_MAX as u64 {
        assert!(progress.gains(S, Index(2_000 + 100 * at), 10, Index(9_000)));
    }
    assert!(progress.gains(S, Index(21), 10, Index(9_000)), "forgotten");
    assert_eq!(progress.0.len(), FOLLOWERS_MAX);
}
