use super::*;
use crate::segment::SegmentName;
use millpond_batch::{Builder, Compression, Header, Producer};
use proptest::prelude::*;

fn file(base: u64, generation: u32, blocks: u64) -> SnapshotFile {
    SnapshotFile { name: SegmentName { base_offset: Offset(base), generation }, bytes: 4096 * blocks }
}

fn some() -> Manifest {
    let mut terms = Terms::default();
    terms.push(Index(3), Term(2));
    terms.push(Index(40), Term(7));
    let mut builder = Builder::new(Compression::None, 64);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(1, None, Some(b"v"), &headers);
    let batch = builder.build(Some(Producer { id: 4, epoch: 1, base_sequence: 9 })).expect("no codec");
    let mut producers = Producers::default();
    producers.record(&Header::parse(&batch).expect("just built"), None, Offset(12), 55);
    Manifest {
        index: Index(50),
        term: Term(7),
        start_offset: Offset(10),
        next_offset: Offset(30),
        max_timestamp: Some(77),
        members: Members { index: Index(44), bytes: Bytes::from_static(b"1 2 3") },
        terms,
        producers,
        files: vec![file(8, 1, 3), file(15, 0, 9), file(22, 0, 2)],
    }
}

fn refused(change: impl FnOnce(&mut Manifest)) -> bool {
    let mut manifest = some();
    change(&mut manifest);
    Manifest::decode(&manifest.encode()).is_err()
}

#[test]
fn a_manifest_comes_back() {
    let manifest = some();
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes), Ok(manifest.clone()));
    for cut in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..cut]).is_err(), "{cut} bytes");
    }
    let mark = manifest.settled().segment.expect("it has segments");
    assert_eq!((mark.base_offset, mark.position, manifest.bytes()), (Offset(22), 8192, 14 * 4096));
    assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err(), "a byte more");
    let trimmed = Manifest { start_offset: Offset(30), files: Vec::new(), ..manifest };
    assert_eq!(Manifest::decode(&trimmed.encode()), Ok(trimmed));
}

#[test]
fn what_no_snapshot_is_gets_refused() {
    assert!(refused(|m| m.index = Index(0)) && refused(|m| m.next_offset = Offset(u64::MAX)) && refused(|m| m.start_offset = Offset(31)));
    assert!(refused(|m| m.members.index = Index(51)), "members of an entry that is not in it");
    assert!(refused(|m| m.term = Term(6)) && refused(|m| m.index = Index(39)), "terms of other entries");
    assert!(refused(|m| m.files.clear()) && refused(|m| m.files[0].name.base_offset = Offset(11)), "what it retains is not in it");
    assert!(refused(|m| m.files.swap(1, 2)) && refused(|m| m.files[2].name.base_offset = Offset(31)), "out of order");
    assert!(refused(|m| m.files[1].bytes = 4097) && refused(|m| m.files[1].bytes = 0) && refused(|m| m.files[1].bytes = 1 << 63));
}

proptest! {
    #[test]
    fn changed_bytes_are_refused_or_mean_something(at in 0..400_usize, bit in 0..8_u32) {
        let mut bytes = some().encode().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Manifest::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn junk_is_survived(junk in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::decode(&junk);
    }
}
