//! Any bytes as the records of a batch, in all five codecs: decompressing within limits, parsing, filtering.
//!
//! The first byte picks the codec, the second the number of records; the rest lies behind a sound head as the codec's data. The
//! seeds lead past the decompressors to the parser of records.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use millpond_batch::{Builder, Compression, DecompressLimits, HEADER_BYTES, Record, builder::NO_HEADERS, check, filter, records};

const LIMITS: DecompressLimits = DecompressLimits { bytes_max: 1 << 20, ratio_from: 64 << 10, ratio_max: 100 };

/// A batch of `count` records whose bytes behind the head are `body`, said to be of `codec`.
fn batch(codec: u8, count: u8, body: &[u8]) -> Bytes {
    let mut head = Builder::new(Compression::None, 128);
    head.append(1_000, None, None, NO_HEADERS);
    let mut bytes: BytesMut = head.build(None).expect("no codec, no error");
    bytes.truncate(HEADER_BYTES);
    bytes.extend_from_slice(body);
    let len = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&len.to_be_bytes());
    bytes[22] = codec;
    bytes[23..27].copy_from_slice(&i32::from(count.max(1) - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&i32::from(count).to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn read(batch: &Bytes) -> Option<Vec<Record>> {
    records(batch, LIMITS).ok()?.collect::<Result<_, _>>().ok()
}

fuzz_target!(|data: &[u8]| {
    let [codec, count, body @ ..] = data else { return };
    let batch = batch(codec % 5, *count, body);
    check(&batch).expect("made to be sound");
    let Some(all) = read(&batch) else { return };
    assert_eq!(all.len(), usize::from(*count));
    // Headers were checked with their record; a header takes two bytes at the least, and nothing more than the limit came out.
    let headers: usize = all.iter().map(|r| r.headers().count()).sum();
    assert!(headers * 2 <= LIMITS.bytes_max);
    // Keeping every other record keeps just those, as they were.
    let keep = |r: &Record| r.offset % 2 == 0;
    let kept: Vec<Record> = all.iter().filter(|r| keep(r)).cloned().collect();
    match filter::retain(&batch, LIMITS, Some(77), keep).expect("it was read before") {
        None => assert_eq!(kept.len(), all.len()),
        Some(filtered) => {
            let filtered = filtered.freeze();
            let header = check(&filtered).expect("what we build is sound");
            assert_eq!(header.delete_horizon().is_some(), kept.iter().any(Record::is_tombstone));
            let limits = DecompressLimits::bytes(LIMITS.bytes_max * 2);
            let again: Vec<Record> = records(&filtered, limits).expect("sound").map(|r| r.expect("sound")).collect();
            assert_eq!(again, kept);
        }
    }
});
