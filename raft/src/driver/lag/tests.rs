use super::*;

#[test]
fn a_follower_gains_if_less_is_written_than_it_is_sent() {
    let mut progress = Progress::default();
    assert!(progress.gains(Index(1), 100, Index(5_000)), "who knows");
    assert!(progress.gains(Index(101), 100, Index(5_074)), "three quarters of 100 are 75");
    assert!(!progress.gains(Index(201), 100, Index(5_149)));
    assert!(progress.gains(Index(301), 10, Index(5_149)), "nothing was written");
    assert!(!progress.gains(Index(311), 100, Index(5_157)), "of the ten that it was sent");
}

#[test]
fn followers_are_told_apart_and_not_remembered_for_ever() {
    let mut progress = Progress::default();
    assert!(progress.gains(Index(1), 10, Index(1_000)) && progress.gains(Index(500), 10, Index(1_000)));
    assert!(!progress.gains(Index(11), 10, Index(1_100)));
    assert!(!progress.gains(Index(510), 10, Index(1_100)));
    for at in 0..FOLLOWERS_MAX as u64 {
        assert!(progress.gains(Index(2_000 + 100 * at), 10, Index(9_000)));
    }
    assert!(progress.gains(Index(21), 10, Index(9_000)), "forgotten");
    assert_eq!(progress.0.len(), FOLLOWERS_MAX);
}
