use super::*;
use crate::{Builder, Compression, builder::NO_HEADERS, records};
use proptest::prelude::*;

const CODECS: [Compression; 5] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn batch(codec: Compression, records: &[(i64, Vec<u8>)]) -> Bytes {
    let mut builder = Builder::new(codec, 1_000);
    for (time, value) in records {
        builder.append(*time, Some(b"key"), Some(value), NO_HEADERS);
    }
    builder.build(None).expect("there is memory").freeze()
}

proptest! {
    /// It finds what reading all records finds.
    #[test]
    fn it_agrees_with_reading_all(
        codec in 0..5_usize,
        all in prop::collection::vec((-1_000_i64..1_000, prop::collection::vec(any::<u8>(), 0..2_000)), 1..40),
        ms in -1_000_i64..1_100,
        from in 0_u64..40,
    ) {
        let batch = batch(CODECS[codec], &all);
        let limits = DecompressLimits::default();
        let found = find(&batch, limits, |offset, time| time >= ms && offset >= from);
        let expected = records(&batch, limits).expect("a good batch").map(Result::unwrap_or_else_panic).find(|r| r.timestamp >= ms && r.offset >= from);
        prop_assert_eq!(found.expect("a good batch"), expected.map(|r| (r.offset, r.timestamp)));
    }

    /// Whatever the bytes are, it answers.
    #[test]
    fn foreign_bytes_are_no_trouble(codec in 0..5_usize, at in 61..400_usize, flip in 1..=255_u8) {
        let good = batch(CODECS[codec], &(0..20).map(|n| (n, vec![n as u8; 50])).collect::<Vec<_>>());
        let mut bytes = good.to_vec();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= flip;
        // Found or refused: both are answers.
        let _ = find(&Bytes::from(bytes), DecompressLimits::default(), |_, _| false);
    }
}

trait Good<T> {
    fn unwrap_or_else_panic(self) -> T;
}

impl<T> Good<T> for Result<T, BatchError> {
    fn unwrap_or_else_panic(self) -> T {
        self.expect("a good record")
    }
}

#[test]
fn what_comes_behind_the_limit_is_not_read() {
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd, Compression::Snappy] {
        let bomb = batch(codec, &[(1, vec![0; 1 << 20]), (2, Vec::new())]);
        let limits = DecompressLimits::bytes(100_000);
        let first = find(&bomb, limits, |_, time| time >= 1);
        assert!(first == Ok(Some((0, 1))) || codec == Compression::Snappy, "{codec}: {first:?}");
        assert!(find(&bomb, limits, |_, time| time >= 2).is_err(), "{codec}");
        assert_eq!(find(&bomb, DecompressLimits::default(), |_, time| time >= 2), Ok(Some((1, 2))), "{codec}");
    }
}
