use super::*;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

mod golden;

type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;
type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Headers);

const CODECS: [Compression; 5] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn build(codec: Compression, rows: &[Row], producer: Option<Producer>) -> BytesMut {
    let mut builder = Builder::new(codec, 1024);
    for (timestamp, key, value, headers) in rows {
        let before = builder.len();
        builder.append(*timestamp, key.as_deref(), value.as_deref(), headers);
        let most = Builder::record_len_max(key.as_deref(), value.as_deref(), headers);
        assert!(builder.len() - before <= most, "a record took more than its bound");
    }
    builder.build(producer).expect("codecs do not fail")
}

fn rows_of(batch: &Bytes) -> Vec<(u64, Row)> {
    let all = records(batch, DecompressLimits::default()).expect("a batch");
    all.map(|r| {
        let r = r.expect("a record");
        let headers = r.headers().map(|h| (h.key.to_vec(), h.value.map(|v| v.to_vec()))).collect();
        (r.offset, (r.timestamp, r.key.map(|k| k.to_vec()), r.value.map(|v| v.to_vec()), headers))
    })
    .collect()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), proptest::collection::vec(Just(7_u8), 0..2000)]
}

fn row() -> impl Strategy<Value = Row> {
    let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..3);
    (0..4_000_000_000_000_i64, proptest::option::of(bytes()), proptest::option::of(bytes()), headers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(rows in proptest::collection::vec(row(), 1..20), codec in 0..5_usize, base in 0..u64::from(u32::MAX)) {
        let mut batch = build(CODECS[codec], &rows, Some(Producer { id: 9, epoch: 3, base_sequence: 77 }));
        stamp(&mut batch, base, 5);
        let header = check(&batch).expect("a sound batch");
        prop_assert_eq!((header.base_offset, header.leader_epoch, header.count), (base, 5, rows.len() as u32));
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 3, 77));
        prop_assert_eq!(header.max_timestamp, rows.iter().map(|r| r.0).max().expect("rows"));
        prop_assert_eq!(header.compression().expect("a codec"), CODECS[codec]);
        let out = rows_of(&batch.freeze());
        let expected: Vec<_> = rows.into_iter().enumerate().map(|(n, row)| (base + n as u64, row)).collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn a_flipped_bit_is_found_or_outside_the_crc(rows in proptest::collection::vec(row(), 1..5), codec in 0..5_usize, at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut batch = build(CODECS[codec], &rows, None);
        let at = at.index(batch.len());
        batch[at] ^= 1_u8 << bit;
        // Base offset and leader epoch are the leader's to stamp.
        let stamped = at < 8 || (12..16).contains(&at);
        prop_assert!(stamped || check(&batch).is_err(), "byte {} bit {}", at, bit);
    }

    #[test]
    fn no_bytes_panic(mut junk in proptest::collection::vec(any::<u8>(), 0..300), whole in any::<bool>(), codec in 0..7_u16) {
        if whole && junk.len() > HEADER_BYTES {
            junk[16] = 2;
            let len = junk.len() as i32 - 12;
            junk[8..12].copy_from_slice(&len.to_be_bytes());
            junk[0] = 0;
            junk[21..23].copy_from_slice(&codec.to_be_bytes());
            junk[23..27].copy_from_slice(&200_i32.to_be_bytes());
            junk[57..61].copy_from_slice(&100_i32.to_be_bytes());
        }
        let limits = DecompressLimits::bytes(1 << 20);
        let junk = Bytes::from(junk);
        let _ = check(&junk);
        if let Ok(all) = records(&junk, limits) {
            all.for_each(|r| drop(r.map(|r| r.headers().count())));
        }
        split(&junk).for_each(drop);
        let _ = filter::retain(&junk, limits, Some(7), |r| r.offset % 2 == 0);
    }

    #[test]
    fn filtering_keeps_places(rows in proptest::collection::vec(row(), 1..20), codec in 0..5_usize, mask in any::<u32>()) {
        let mut batch = build(CODECS[codec], &rows, Some(Producer { id: 1, epoch: 0, base_sequence: 10 }));
        stamp(&mut batch, 1000, 0);
        let (batch, before) = { let b = batch.freeze(); let r = rows_of(&b); (b, r) };
        let keep = |offset: u64| mask >> ((offset - 1000) % 32) & 1 == 1;
        let expected: Vec<_> = before.iter().filter(|(o, _)| keep(*o)).cloned().collect();
        match filter::retain(&batch, DecompressLimits::default(), None, |r| keep(r.offset)).expect("a batch") {
            None => prop_assert_eq!(expected.len(), before.len()),
            Some(out) => {
                let header = check(&out).expect("a sound batch");
                let old = check(&batch).expect("a sound batch");
                prop_assert_eq!((header.next_offset(), header.base_offset, header.producer_id, header.base_sequence), (old.next_offset(), 1000, 1, 10));
                prop_assert_eq!(rows_of(&out.freeze()), expected);
            }
        }
    }
}

/// Built by hand after the protocol guide: one record, key "k", value "v", timestamp 1,000, offset 0.
#[test]
fn bytes_are_kafkas() {
    let mut builder = Builder::new(Compression::None, 0);
    builder.append(1000, Some(b"k"), Some(b"v"), builder::NO_HEADERS);
    let batch = builder.build(None).expect("a batch");
    let record = [16, 0, 0, 0, 2, b'k', 2, b'v', 0];
    assert_eq!(batch[HEADER_BYTES..], record);
    let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 58, 255, 255, 255, 255, 2];
    let mut covered = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 232, 0, 0, 0, 0, 0, 0, 3, 232];
    covered.extend([255; 14]);
    covered.extend([0, 0, 0, 1]);
    covered.extend(record);
    expected.extend(crc32c::crc32c(&covered).to_be_bytes());
    expected.extend(covered);
    assert_eq!(batch[..], expected);
}

#[test]
fn a_small_record_is_small() {
    let mut builder = Builder::new(Compression::None, 0);
    builder.append(1_700_000_000_000, None, Some(&[b'x'; 128]), builder::NO_HEADERS);
    let batch = builder.build(Some(Producer { id: 1 << 40, epoch: 0, base_sequence: 1 << 30 })).expect("a batch");
    assert!(batch.len() <= 61 + 128 + 9, "{} bytes", batch.len());
}

#[test]
fn append_time_holds_for_all_records() {
    let rows: Vec<Row> = (0..3).map(|n| (n, None, Some(vec![1]), Vec::new())).collect();
    let mut batch = build(Compression::Zstd, &rows, None);
    stamp_append_time(&mut batch, 42_000);
    let header = check(&batch).expect("a sound batch");
    assert_eq!(header.timestamp_type(), TimestampType::LogAppend);
    assert!(rows_of(&batch.freeze()).iter().all(|(_, row)| row.0 == 42_000));
}

#[test]
fn bombs_are_stopped() {
    let rows: Vec<Row> = vec![(0, None, Some(vec![0; 32 * 1024 * 1024]), Vec::new())];
    for codec in CODECS {
        let batch = build(codec, &rows, None).freeze();
        let limits = DecompressLimits::bytes(1024 * 1024);
        let outcome = records(&batch, limits).map(|_| ());
        match codec {
            Compression::None => outcome.expect("nothing grows"),
            _ => assert_eq!(outcome, Err(BatchError::TooLarge { limit: 1024 * 1024 }), "{codec}"),
        }
    }
}

/// Honest data of one line repeated passes at any ratio up to `ratio_from`; past it the ratio counts, and before all else
/// the absolute limit.
#[test]
fn the_ratio_counts_only_for_large_batches() {
    let limits = DecompressLimits { bytes_max: 8 << 20, ratio_from: 1 << 20, ratio_max: 100 };
    let of = |len: usize, codec| build(codec, &[(0, None, Some(b"the same line\n".repeat(len / 14)), Vec::new())], None).freeze();
    for codec in [Compression::Gzip, Compression::Zstd] {
        let (small, large) = (of(1_000_000, codec), of(4 << 20, codec));
        assert!(small.len() * 100 < 1_000_000, "{codec} packs it better than 100 to 1");
        assert_eq!(records(&small, limits).expect("honest").count(), 1);
        let ceiling = limits.ceiling(large.len() - HEADER_BYTES);
        assert!(ceiling < 4 << 20);
        assert_eq!(records(&large, limits).map(|_| ()), Err(BatchError::TooLarge { limit: ceiling }), "{codec}");
        assert_eq!(records(&large, DecompressLimits::default()).expect("below 16 MiB any ratio is fine").count(), 1);
    }
    assert_eq!((limits.ceiling(1), limits.ceiling(50_000), limits.ceiling(usize::MAX)), (1 << 20, 5_000_000, 8 << 20));
}

/// Bare snappy, without xerial's framing, is what some clients send.
#[test]
fn bare_snappy_is_read() {
    let plain = build(Compression::None, &[(5, Some(b"k".to_vec()), Some(vec![9; 500]), Vec::new())], None);
    let packed = snap::raw::Encoder::new().compress_vec(&plain[HEADER_BYTES..]).expect("packs");
    let mut header = Header::parse(&plain).expect("a batch");
    header.attributes |= Compression::Snappy as u16;
    header.batch_len = HEADER_BYTES + packed.len();
    let mut batch = BytesMut::from(&plain[..HEADER_BYTES]);
    header.write(&mut batch);
    batch.extend_from_slice(&packed);
    assert_eq!(rows_of(&batch.freeze()), rows_of(&plain.freeze()));
}

/// A tombstone's time to go is written once, and does not change what records say (KIP-534).
#[test]
fn a_delete_horizon_changes_no_record() {
    for codec in CODECS {
        let rows: Vec<Row> = vec![(500, Some(vec![1]), None, Vec::new()), (700, Some(vec![2]), Some(vec![3]), Vec::new())];
        let batch = build(codec, &rows, None).freeze();
        let limits = DecompressLimits::default();
        let stamped = filter::retain(&batch, limits, Some(90_000), |_| true).expect("a batch").expect("rebuilt").freeze();
        let header = check(&stamped).expect("a sound batch");
        assert_eq!((header.delete_horizon(), header.max_timestamp), (Some(90_000), 700));
        assert_eq!(rows_of(&stamped), rows_of(&batch));
        assert_eq!(filter::retain(&stamped, limits, None, |_| true).expect("a batch"), None);
        // Without a tombstone among what is kept there is nothing to wait for.
        let kept = filter::retain(&batch, limits, Some(90_000), |r| !r.is_tombstone()).expect("a batch").expect("rebuilt");
        assert_eq!(check(&kept).expect("a sound batch").delete_horizon(), None);
    }
}

#[test]
fn batches_are_cut_apart() {
    let one = build(Compression::None, &[(1, None, Some(vec![1]), Vec::new())], None);
    let two = build(Compression::Lz4, &[(2, None, Some(vec![2]), Vec::new())], None);
    let both = [&one[..], &two[..]].concat();
    let cut: Vec<_> = split(&both).map(|b| b.expect("a batch").1).collect();
    assert_eq!(cut, [&one[..], &two[..]]);
    let mut walk = split(&both[..both.len() - 1]);
    assert!(walk.next().is_some_and(|b| b.is_ok()));
    assert!(matches!(walk.next(), Some(Err(BatchError::Length { .. }))));
    assert!(walk.next().is_none());
}

#[test]
fn a_batch_of_a_new_epoch_is_the_batch_that_would_have_been_built_in_it() {
    let rows = vec![(5, Some(b"k".to_vec()), Some(b"v".to_vec()), Vec::new()); 3];
    let (old, new) = (Producer { id: 7, epoch: 0, base_sequence: 40 }, Producer { id: 7, epoch: 1, base_sequence: 0 });
    for codec in CODECS {
        let mut batch = build(codec, &rows, Some(old));
        stamp_producer(&mut batch, new);
        assert_eq!(batch, build(codec, &rows, Some(new)));
        check(&batch).expect("a sound batch");
    }
}
