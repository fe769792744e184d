//! Any bytes as what a producer sends: the head, the checksum, several batches one behind the other.
//!
//! What `check` takes can be stamped and is taken again; what it refuses is refused with words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millpond_batch::{HEADER_BYTES, Header, check, split, stamp, stamp_append_time};

/// Kafka's layout: where the checksum lies, and from where it covers.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

fuzz_target!(|data: &[u8]| {
    let _ = Header::parse(data);
    let mut walked = 0;
    for batch in split(data) {
        match batch {
            Ok((header, bytes)) => {
                assert_eq!(header.batch_len, bytes.len());
                walked += bytes.len();
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(walked <= data.len());
    if data.len() < HEADER_BYTES {
        return;
    }
    // A right checksum is beyond what chance finds: give it one.
    let mut bytes = data.to_vec();
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    let Ok(header) = check(&bytes) else { return };
    assert!(header.next_offset() <= i64::MAX as u64 && u64::from(header.count) <= header.record_span());
    stamp(&mut bytes, 42, 7);
    stamp_append_time(&mut bytes, 1_000);
    let stamped = check(&bytes).expect("stamping keeps a batch sound");
    assert_eq!((stamped.base_offset, stamped.leader_epoch, stamped.max_timestamp), (42, 7, 1_000));
    assert_eq!((stamped.count, stamped.producer_id, stamped.base_sequence), (header.count, header.producer_id, header.base_sequence));
});
