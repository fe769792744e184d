use super::*;
use crate::{
    journal::{format::FrameHead, gather::Gather, sector::Seal},
    lsn::Lsn,
};
use millpond_runtime::{GroupId, Index, Term};
use proptest::prelude::*;

const FILE: FileHeader = FileHeader { cluster_id: 1, node_id: 2, home: 3, file_seq: 4, nonce: 5, file_len: 1 << 16 };

/// A journal file with three flushes: a note, a mark, a note.
fn journal() -> Vec<u8> {
    let mut bytes = vec![0; FILE.file_len as usize];
    bytes[..64].copy_from_slice(&FILE.encode());
    let (mut position, mut prev_crc) = (FIRST_FLUSH as usize, 0);
    for (seq, payload) in [(7, Some([1u8; 8])), (8, None), (9, Some([2u8; 8]))] {
        let seal = Seal { nonce: FILE.nonce, stamp: seq as u32 };
        let mut gather = Gather::new(Vec::with_capacity(1 << 20), seal, FILE.file_seq, position as u64, Lsn(0));
        if let Some(payload) = payload {
            let head = FrameHead { kind: FrameKind::Trim, variant: 0, group: GroupId(6), index: Index(0), term: Term(0) };
            gather.put(&head, &payload, Lsn(0));
        }
        let (flush, crc) = gather.finish(seq, prev_crc);
        bytes[position..position + flush.len()].copy_from_slice(&flush);
        prev_crc = crc;
        position += flush.len();
    }
    bytes
}

#[test]
fn a_journal_file_is_told_flush_by_flush() {
    let told = describe(&journal(), true);
    let expected = "\
journal file 4 of home 3, node 2, cluster 1: 65536 bytes, life 0000000000000005
byte       4096  flush        7  1 frames, 44 bytes
byte       4160    Trim group 6 to offset 72340172838076673
byte       8192  flush        8  mark of the flush before
byte      12288  flush        9  1 frames, 44 bytes
byte      12352    Trim group 6 to offset 144680345676153346
ends at byte 16384; behind it are zeros, old bytes of an earlier life, or a flush that was never synced
";
    assert_eq!(told, expected);
}

#[test]
fn damage_is_told_with_its_place_and_does_not_hide_what_follows() {
    let mut bytes = journal();
    bytes[8200] ^= 1;
    let told = describe(&bytes, false);
    assert!(told.contains("DAMAGED at byte 8192: the header of a flush was written, and is not what was written"), "{told}");
    assert!(told.contains("DAMAGED at byte 8192: flush 9 at byte 12288 proves"), "{told}");
    let mut bytes = journal();
    bytes[4096 + 64 + 40] ^= 1;
    let told = describe(&bytes, false);
    assert!(told.contains("DAMAGED at byte 4096: a sector was written, and is not"), "{told}");
    assert!(told.contains("flush        9"), "{told}");
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..9000), journal in any::<bool>()) {
        if journal && bytes.len() > 64 {
            bytes[..64].copy_from_slice(&FILE.encode());
        }
        prop_assert!(!describe(&bytes, true).is_empty());
    }
}
