use super::*;

fn held(start: u64, end: u64, batches: &[(u64, u64, u64)]) -> Held {
    let batches = batches.iter().map(|(first, last, hash)| (*first, (*last, *hash))).collect();
    Held { start, end, batches, bytes: 0 }
}

fn differences(a: &Held, b: &Held) -> Vec<String> {
    differ((1, a), (2, b))
}

#[test]
fn replicas_that_hold_the_same_do_not_differ() {
    let a = held(0, 6, &[(0, 3, 7), (4, 5, 8)]);
    assert!(differences(&a, &a).is_empty());
    // A batch begins before the start that is told: one replica may still have it, and another not.
    assert!(differences(&held(2, 6, &[(0, 3, 7), (4, 5, 8)]), &held(2, 6, &[(4, 5, 8)])).is_empty());
}

#[test]
fn other_bytes_other_batches_and_other_ends_are_found() {
    let a = held(0, 6, &[(0, 3, 7), (4, 5, 8)]);
    assert_eq!(differences(&a, &held(0, 6, &[(0, 3, 7), (4, 5, 9)])).len(), 1);
    assert_eq!(differences(&a, &held(0, 6, &[(0, 3, 7)])), ["batch at 4: node 1 has ..=5 0000000000000008, node 2 has none"]);
    assert_eq!(differences(&a, &held(0, 6, &[(0, 3, 7), (4, 4, 1), (5, 5, 2)])).len(), 2);
    assert_eq!(differences(&a, &held(0, 4, &[(0, 3, 7)])), ["node 1 has 0..6, node 2 has 0..4"]);
    assert_eq!(differences(&a, &held(4, 6, &[(4, 5, 8)])), ["node 1 has 0..6, node 2 has 4..6"]);
}
