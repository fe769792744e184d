use super::*;
use crate::journal::{
    format::{FrameHead, FrameKind},
    gather::Gather,
};
use crate::lsn::Lsn;
use millpond_runtime::{GroupId, Index, IoBuf, Term};

const FILE: FileHeader = FileHeader { cluster_id: 1, node_id: 1, home: 1, file_seq: 1, nonce: 99, file_len: 1 << 20 };

/// Memory of a test's disk.
struct Memory(Vec<u8>);

impl IoBuf for Memory {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn capacity(&self) -> usize {
        1 << 20
    }
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn put_zeros(&mut self, n: usize) {
        self.0.resize(self.0.len() + n, 0);
    }
    fn filled(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

fn flush(position: u64, seq: u64, prev: u32, payloads: &[&[u8]]) -> (Vec<u8>, u32) {
    let mut gather = Gather::new(Memory(Vec::new()), 1, position, Lsn(0));
    for payload in payloads {
        let head = FrameHead { kind: FrameKind::Entry, variant: 1, group: GroupId(1), index: Index(1), term: Term(1) };
        gather.put(&head, payload, Lsn(1));
    }
    let expected = gather.disk_len();
    let (memory, crc) = gather.finish(FILE.nonce, seq, prev);
    assert_eq!(memory.0.len() as u64, expected);
    (memory.0, crc)
}

#[test]
fn what_gather_makes_is_accepted_at_its_place_and_nowhere_else() {
    let (bytes, crc) = flush(8192, 5, 77, &[b"one", b"two"]);
    let chain = Chain { next_seq: 5, prev_crc: Some(77) };
    let Look::Expected(header, found) = look(&bytes, &FILE, 8192, &chain) else { panic!("not accepted") };
    assert_eq!(found, crc);
    assert_eq!(check_body(&header, &bytes), Ok(()));
    assert!(matches!(look(&bytes, &FILE, 4096, &chain), Look::Nothing(_)), "misdirected");
    assert!(matches!(look(&bytes, &FileHeader { nonce: 98, ..FILE }, 8192, &chain), Look::Nothing(_)), "an earlier life");
    assert!(matches!(look(&bytes, &FILE, 8192, &Chain { next_seq: 4, ..chain }), Look::Later(_)));
    assert!(matches!(look(&bytes, &FILE, 8192, &Chain { next_seq: 6, ..chain }), Look::Stale(_)));
    assert!(matches!(look(&bytes, &FILE, 8192, &Chain { prev_crc: Some(78), ..chain }), Look::Unchained(_)));
}

#[test]
fn every_flipped_bit_of_the_body_is_seen() {
    let (bytes, _) = flush(4096, 1, 0, &[b"payload", b""]);
    let Look::Expected(header, _) = look(&bytes, &FILE, 4096, &Chain { next_seq: 1, prev_crc: None }) else { panic!("not accepted") };
    for bit in 64 * 8..(64 + header.body_len as usize) * 8 {
        let mut rotten = bytes.clone();
        rotten[bit / 8] ^= 1 << (bit % 8);
        assert!(check_body(&header, &rotten).is_err(), "bit {bit}");
    }
    assert!(check_body(&header, &bytes[..80]).is_err(), "the file ends inside the flush");
}

#[test]
fn an_empty_flush_is_a_mark_and_proves_what_came_before() {
    let (mark, _) = flush(12_288, 9, 5, &[]);
    assert_eq!(mark.len(), 4096);
    let torn = vec![7; 8192];
    let rest: Vec<u8> = torn.iter().chain(&mark).copied().collect();
    let chain = Chain { next_seq: 8, prev_crc: Some(1) };
    assert_eq!(find_proof(&rest, &FILE, 4096, &chain).map(|h| h.flush_seq), Some(9));
    let later = Chain { next_seq: 9, prev_crc: Some(1) };
    assert_eq!(find_proof(&rest, &FILE, 4096, &later), None, "a flush does not prove itself");
}

#[test]
fn old_flushes_of_a_torn_past_prove_nothing() {
    let (stale, _) = flush(8192, 3, 5, &[b"cut long ago"]);
    assert_eq!(find_proof(&stale, &FILE, 8192, &Chain { next_seq: 4, prev_crc: Some(1) }), None);
}
