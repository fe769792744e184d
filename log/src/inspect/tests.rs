use super::*;
use crate::journal::format::{FrameHead, flush_disk_len};
use millpond_runtime::{GroupId, Index, Term};
use proptest::prelude::*;

const FILE: FileHeader = FileHeader { cluster_id: 1, node_id: 2, home: 3, file_seq: 4, nonce: 5, file_len: 1 << 16 };

/// A journal file with three flushes: a note, a mark, a note.
fn journal() -> Vec<u8> {
    let mut bytes = vec![0; FILE.file_len as usize];
    bytes[..64].copy_from_slice(&FILE.encode());
    let (mut position, mut prev_crc) = (FIRST_FLUSH as usize, 0);
    for (seq, payload) in [(7, Some([1u8; 8])), (8, None), (9, Some([2u8; 8]))] {
        let mut body = Vec::new();
        if let Some(payload) = payload {
            let head = FrameHead { kind: FrameKind::Trim, variant: 0, group: GroupId(6), index: Index(0), term: Term(0) };
            body.extend_from_slice(&head.encode(8));
            body.extend_from_slice(&payload);
        }
        let header = FlushHeader {
            frames: u32::from(payload.is_some()),
            nonce: FILE.nonce,
            flush_seq: seq,
            position: position as u64,
            body_len: body.len() as u32,
            body_crc: crc32fast::hash(&body),
            prev_crc,
        };
        let head = header.encode();
        bytes[position..position + 64].copy_from_slice(&head);
        bytes[position + 64..position + 64 + body.len()].copy_from_slice(&body);
        prev_crc = u32::from_le_bytes([head[60], head[61], head[62], head[63]]);
        position += flush_disk_len(body.len()) as usize;
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
    assert!(told.contains("DAMAGED at byte 8192: flush 9 at byte 12288 proves"), "{told}");
    let mut bytes = journal();
    bytes[4096 + 64 + 40] ^= 1;
    let told = describe(&bytes, false);
    assert!(told.contains("DAMAGED at byte 4096: crc of the flush body"), "{told}");
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
