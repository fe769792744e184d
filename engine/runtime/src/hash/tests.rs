use super::*;

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

#[test]
fn hash_never_changes() {
    let mut hasher = FxHasher::default();
    hasher.write_u64(1);
    assert_eq!(hasher.finish(), MULTIPLIER.rotate_left(26));
    assert_eq!(hash(b"a record"), 0xc454_568f_d504_11e1);
}

#[test]
fn zeros_at_the_end_count() {
    assert_ne!(hash(b"a"), hash(b"a\0"));
    assert_ne!(hash(b""), hash(b"\0"));
}

#[test]
fn sequential_numbers_spread_over_the_low_bits() {
    let mut buckets = [0_u32; 64];
    for n in 0_u64..6400 {
        let mut hasher = FxHasher::default();
        hasher.write_u64(n);
        buckets[(hasher.finish() % 64) as usize] += 1;
    }
    let (least, most) = (buckets.iter().min(), buckets.iter().max());
    assert!(least > Some(&50) && most < Some(&200), "buckets of 100 expected: {buckets:?}");
}

#[test]
fn two_maps_iterate_alike() {
    let build = || (0..1000_u64).map(|n| (n * 7919, n)).collect::<FxHashMap<_, _>>().into_iter().collect::<Vec<_>>();
    assert_eq!(build(), build());
}
