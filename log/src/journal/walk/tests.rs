use super::*;
use crate::journal::{
    format::{FrameHead, FrameKind},
    gather::Gather,
    sector::{Seal, disarm},
};
use crate::lsn::Lsn;
use millpond_runtime::{GroupId, Index, Term};

const FILE: FileHeader = FileHeader { cluster_id: 1, node_id: 1, home: 1, file_seq: 1, nonce: 99, file_len: 1 << 20 };

fn flush(position: u64, seq: u64, prev: u32, payloads: &[&[u8]]) -> (Vec<u8>, u32) {
    let seal = Seal { nonce: FILE.nonce, stamp: seq as u32 + 1000 };
    let mut gather = Gather::new(Vec::with_capacity(1 << 20), seal, 1, position, Lsn(0));
    for payload in payloads {
        let head = FrameHead { kind: FrameKind::Entry, variant: 1, group: GroupId(1), index: Index(1), term: Term(1) };
        gather.put(&head, payload, Lsn(1));
    }
    let expected = gather.disk_len();
    let (memory, crc) = gather.finish(seq, prev);
    assert_eq!(memory.len() as u64, expected);
    (memory, crc)
}

#[test]
fn what_gather_makes_is_accepted_at_its_place_and_nowhere_else() {
    let (bytes, crc) = flush(8192, 5, 77, &[b"one", b"two"]);
    let chain = Chain { next_seq: 5, prev_crc: Some(77) };
    let Look::Expected(header, found) = look(&bytes, &FILE, 8192, &chain) else { panic!("not accepted") };
    assert_eq!(found, crc);
    let mut body = Vec::new();
    assert_eq!(read_body(&header, &bytes, &mut body), Ok(()));
    let payloads: Vec<_> = Frames::new(&body).map(|f| f.expect("what we encoded").payload).collect();
    assert_eq!(payloads, [&b"one"[..], &b"two"[..]]);
    assert!(matches!(look(&bytes, &FILE, 4096, &chain), Look::Nothing(_)), "misdirected");
    assert!(matches!(look(&bytes, &FileHeader { nonce: 98, ..FILE }, 8192, &chain), Look::Nothing(_)), "an earlier life");
    assert!(matches!(look(&bytes, &FILE, 8192, &Chain { next_seq: 4, ..chain }), Look::Later(_)));
    assert!(matches!(look(&bytes, &FILE, 8192, &Chain { next_seq: 6, ..chain }), Look::Stale(_)));
    assert!(matches!(look(&bytes, &FILE, 8192, &Chain { prev_crc: Some(78), ..chain }), Look::Unchained(_)));
}

/// What a look at the flush and then at its body says.
fn verdict(bytes: &[u8], position: u64, chain: &Chain) -> Result<Vec<u8>, String> {
    match look(bytes, &FILE, position, chain) {
        Look::Expected(header, _) => {
            let mut body = Vec::new();
            read_body(&header, bytes, &mut body).map(|()| body).map_err(|fault| format!("{fault:?}"))
        }
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn every_flipped_bit_is_rot_or_harmless() {
    let large = [5; 5000];
    for payloads in [&[&b"payload"[..], b""][..], &[&large[..]], &[]] {
        let (good, _) = flush(4096, 1, 0, payloads);
        let chain = Chain { next_seq: 1, prev_crc: None };
        let body = verdict(&good, 4096, &chain).expect("good");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match verdict(&bytes, 4096, &chain) {
                // Only the stamp at the end of a sector is not covered.
                Ok(read) => assert!(read == body && bit / 8 % 512 >= 508, "bit {bit}"),
                Err(what) => assert!(what.starts_with("Rotten"), "bit {bit}: {what}"),
            }
        }
    }
}

#[test]
fn whatever_sectors_are_missing_it_is_a_tear() {
    let (new, _) = flush(4096, 7, 0, &[&[5; 9000]]);
    let (old, _) = flush(4096, 6, 0, &[&[6; 9000]]);
    let chain = Chain { next_seq: 7, prev_crc: None };
    // An older flush in this very place was torn, cut, and its stamps taken away.
    let mut old = old;
    disarm(&Seal { nonce: FILE.nonce, stamp: 1006 }, &mut old);
    let (middle, _) = flush(0, 6, 0, &[&[6; 15_000]]);
    for before in [old, middle[4096..4096 + new.len()].to_vec(), vec![0; new.len()]] {
        let mut dice = 1_u64;
        for _ in 0..2000 {
            let mut bytes = before.clone();
            for at in (0..new.len()).step_by(512) {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let whole = [0, 512, 512, (dice >> 40) as usize % 513][(dice >> 60) as usize % 4];
                bytes[at..at + whole].copy_from_slice(&new[at..at + whole]);
            }
            match verdict(&bytes, 4096, &chain) {
                Ok(body) => assert!(body.len() > 9000 && bytes.chunks(512).zip(new.chunks(512)).all(|(a, b)| a[..508] == b[..508])),
                Err(what) => assert!(["Torn", "Stale", "Nothing"].iter().any(|w| what.starts_with(w)), "{what}"),
            }
        }
    }
}

#[test]
fn a_file_that_ends_inside_a_flush_cuts_it() {
    let (bytes, _) = flush(4096, 1, 0, &[&[5; 9000]]);
    let Look::Expected(header, _) = look(&bytes, &FILE, 4096, &Chain { next_seq: 1, prev_crc: None }) else { panic!("not accepted") };
    assert_eq!(read_body(&header, &bytes[..5000], &mut Vec::new()), Err(Fault::Torn { position: 4096 + 4608 }));
}

#[test]
fn an_empty_flush_is_a_mark_and_proves_what_came_before() {
    let (mark, _) = flush(12_288, 9, 5, &[]);
    assert_eq!(mark.len(), 4096);
    let torn = vec![7; 8192];
    let rest: Vec<u8> = torn.iter().chain(&mark).copied().collect();
    let chain = Chain { next_seq: 8, prev_crc: Some(1) };
    assert!(matches!(find_proof(&rest, &FILE, 4096, &chain), Some(Proof::Later(header)) if header.flush_seq == 9));
    let later = Chain { next_seq: 9, prev_crc: Some(1) };
    assert_eq!(find_proof(&rest, &FILE, 4096, &later), None, "a flush does not prove itself");
}

#[test]
fn old_flushes_of_a_torn_past_prove_nothing() {
    let (stale, _) = flush(8192, 3, 5, &[b"cut long ago"]);
    assert_eq!(find_proof(&stale, &FILE, 8192, &Chain { next_seq: 4, prev_crc: Some(1) }), None);
}
