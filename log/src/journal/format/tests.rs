use super::*;
use proptest::prelude::*;

fn file_header() -> impl Strategy<Value = FileHeader> {
    (any::<u64>(), any::<u64>(), any::<u16>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(cluster_id, node_id, home, file_seq, nonce, file_len)| FileHeader { cluster_id, node_id, home, file_seq, nonce, file_len },
    )
}

fn flush_header() -> impl Strategy<Value = FlushHeader> {
    (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(frames, nonce, flush_seq, position, body_len, stamp, prev_crc)| FlushHeader {
            frames,
            nonce,
            flush_seq,
            position,
            body_len,
            stamp,
            prev_crc,
        },
    )
}

fn kind() -> impl Strategy<Value = FrameKind> {
    (1u8..=13).prop_filter_map("a kind", |k| FrameKind::decode(k).ok())
}

fn frame() -> impl Strategy<Value = (FrameHead, Vec<u8>)> {
    let head = (kind(), any::<u8>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(kind, variant, group, index, term)| FrameHead {
        kind,
        variant,
        group: GroupId(group),
        index: Index(index),
        term: Term(term),
    });
    (head, proptest::collection::vec(any::<u8>(), 0..200))
}

fn settled() -> impl Strategy<Value = Settled> {
    let mark = proptest::option::of((any::<u64>(), any::<u32>(), any::<u64>()));
    (any::<u64>(), any::<u64>(), any::<u64>(), mark).prop_map(|(index, term, next, mark)| Settled {
        index: Index(index),
        term: Term(term),
        next_offset: Offset(next),
        segment: mark.map(|(base, generation, position)| SegmentMark { base_offset: Offset(base), generation, position }),
    })
}

fn body(frames: &[(FrameHead, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, payload) in frames {
        body.extend_from_slice(&head.encode(payload.len()));
        body.extend_from_slice(payload);
    }
    body
}

proptest! {
    #[test]
    fn file_header_comes_back(header in file_header()) {
        prop_assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn flush_header_comes_back(header in flush_header()) {
        let (read, crc) = FlushHeader::decode(&header.encode()).expect("what we encoded");
        prop_assert_eq!(read, header);
        prop_assert_eq!(&crc.to_le_bytes()[..], &header.encode()[60..]);
    }

    #[test]
    fn a_flipped_bit_is_seen_in_either_header(file in file_header(), flush in flush_header(), bit in 0usize..512) {
        let mut bytes = file.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(FileHeader::decode(&bytes).is_err());
        let mut bytes = flush.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(FlushHeader::decode(&bytes).is_err());
    }

    #[test]
    fn frames_come_back(frames in proptest::collection::vec(frame(), 0..12)) {
        let body = body(&frames);
        let read: Vec<_> = Frames::new(&body).map(|f| f.expect("what we encoded")).map(|f| (f.head, f.payload.to_vec())).collect();
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn a_flipped_bit_in_a_head_ends_the_frames(frames in proptest::collection::vec(frame(), 1..6), bit in 0usize..288) {
        let mut bytes = body(&frames);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read: Vec<_> = Frames::new(&bytes).collect();
        prop_assert_eq!(read.len(), 1);
        prop_assert!(read[0].is_err());
    }

    #[test]
    fn settled_comes_back(settled in settled()) {
        let mut bytes = Vec::new();
        settled.encode(&mut bytes);
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(Settled::decode(&mut r), Ok(settled));
        prop_assert_eq!(r.left(), 0);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = FileHeader::decode(&bytes);
        let _ = FlushHeader::decode(&bytes);
        let _ = Settled::decode(&mut Reader::new(&bytes));
        prop_assert!(Frames::new(&bytes).count() <= bytes.len());
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let header = FileHeader { cluster_id: 1, node_id: 2, home: 3, file_seq: 4, nonce: 5, file_len: 6 };
    let mut bytes = header.encode();
    bytes[4..8].copy_from_slice(&7u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(FileHeader::decode(&bytes), Err(FormatError::Version { found: 7 }));
}

#[test]
fn a_flush_belongs_to_its_place_and_life_alone() {
    let file = FileHeader { cluster_id: 1, node_id: 2, home: 3, file_seq: 4, nonce: 5, file_len: 65536 };
    let flush = FlushHeader { frames: 1, nonce: 5, flush_seq: 9, position: 8192, body_len: 100, stamp: 0, prev_crc: 0 };
    assert!(flush.belongs(&file, 8192));
    assert!(!flush.belongs(&file, 4096), "misdirected");
    assert!(!flush.belongs(&FileHeader { nonce: 6, ..file }, 8192), "an earlier life of the file");
    let long = FlushHeader { body_len: 60000, ..flush };
    assert!(!long.belongs(&file, 8192), "past the end of the file");
}
