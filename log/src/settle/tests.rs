use super::*;

const NONE: Pressure = Pressure { memory: false, files: false };
const MEMORY: Pressure = Pressure { memory: true, files: false };
const FILES: Pressure = Pressure { memory: false, files: true };
const BOTH: Pressure = Pressure { memory: true, files: true };

/// Groups from 300 on are the largest.
fn picked(ready: &[u64], need: &[(u64, u64)], pressure: Pressure) -> Pick {
    let largest = |n: usize| (300..400).take(n).map(GroupId).collect();
    pick(ready.iter().map(|g| GroupId(*g)), need.iter().map(|(f, g)| (*f, GroupId(*g))), largest, pressure, 3)
}

#[test]
fn without_pressure_only_groups_with_enough_are_settled() {
    let pick = picked(&[4, 2], &[(1, 9)], NONE);
    assert_eq!(pick, Pick { groups: vec![GroupId(4), GroupId(2)], level: 3 });
}

#[test]
fn under_pressure_those_that_hold_back_the_oldest_file_come_first() {
    let pick = picked(&[4], &[(1, 9), (1, 4), (2, 5)], FILES);
    assert_eq!(pick, Pick { groups: vec![GroupId(9), GroupId(4), GroupId(5)], level: 3 });
    // However many have enough all the time.
    let busy: Vec<u64> = (0..100).collect();
    assert_eq!(picked(&busy, &[(1, 200)], FILES).groups[..2], [GroupId(200), GroupId(0)]);
}

#[test]
fn short_of_memory_speed_comes_before_size() {
    assert_eq!(picked(&[], &[(1, 1)], MEMORY).level, 0);
    let most = picked(&[4], &[(1, 1)], MEMORY).groups;
    assert!(most.len() == ROUND_MAX && most[0] == GroupId(300) && !most.contains(&GroupId(1)), "the largest, not the oldest: {most:?}");
    // Where the journal is full, too, whoever holds it back is not forgotten.
    let need: Vec<(u64, u64)> = (100..200).map(|g| (1, g)).collect();
    let both = picked(&[], &need, BOTH).groups;
    assert_eq!(both.iter().filter(|group| group.0 < 300).count(), ROUND_MAX / 2);
}

#[test]
fn a_round_is_bounded() {
    let many: Vec<u64> = (0..100).collect();
    let need: Vec<(u64, u64)> = (100..200).map(|g| (1, g)).collect();
    assert_eq!(picked(&many, &need, BOTH).groups.len(), ROUND_MAX);
    assert_eq!(picked(&[], &need, BOTH).groups.len(), ROUND_MAX);
}
