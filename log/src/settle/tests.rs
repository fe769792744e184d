use super::*;

fn picked(ready: &[u64], need: &[(u64, u64)], pressure: Option<Pressure>) -> Pick {
    pick(ready.iter().map(|g| GroupId(*g)), need.iter().map(|(f, g)| (*f, GroupId(*g))), pressure, 3)
}

#[test]
fn without_pressure_only_groups_with_enough_are_settled() {
    let pick = picked(&[4, 2], &[(1, 9)], None);
    assert_eq!(pick, Pick { groups: vec![GroupId(4), GroupId(2)], level: 3 });
}

#[test]
fn under_pressure_those_that_hold_back_the_oldest_file_come_first() {
    let pick = picked(&[4], &[(1, 9), (1, 4), (2, 5)], Some(Pressure::Files));
    assert_eq!(pick, Pick { groups: vec![GroupId(9), GroupId(4), GroupId(5)], level: 3 });
    // However many have enough all the time.
    let busy: Vec<u64> = (0..100).collect();
    assert_eq!(picked(&busy, &[(1, 200)], Some(Pressure::Files)).groups[..2], [GroupId(200), GroupId(0)]);
}

#[test]
fn short_of_memory_speed_comes_before_size() {
    assert_eq!(picked(&[], &[(1, 1)], Some(Pressure::Memory)).level, 0);
}

#[test]
fn a_round_is_bounded() {
    let many: Vec<u64> = (0..100).collect();
    let need: Vec<(u64, u64)> = (100..200).map(|g| (1, g)).collect();
    assert_eq!(picked(&many, &need, Some(Pressure::Memory)).groups.len(), ROUND_MAX);
    assert_eq!(picked(&[], &need, Some(Pressure::Memory)).groups.len(), ROUND_MAX);
}
