use super::*;
use proptest::prelude::*;

const SEAL: Seal = Seal { nonce: 0x1234_5678_9abc_def0, stamp: 77 };

fn sector(seal: Seal, position: u64, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; SECTOR_BYTES];
    seal.close(position, &mut bytes);
    bytes
}

#[test]
fn every_flipped_bit_is_rot_or_harmless_and_never_a_tear() {
    let good = sector(SEAL, 8192, 7);
    assert_eq!(SEAL.check(8192, &good), State::Good);
    for bit in 0..SECTOR_BYTES * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit / 8 >= CONTENT_BYTES + 4 { State::Good } else { State::Rotten };
        assert_eq!(SEAL.check(8192, &bytes), expected, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn the_checksum_is_crc_32_begun_from_the_start(nonce: u64, stamp: u32, place in 0_u64..1 << 40, content in prop::collection::vec(any::<u8>(), CONTENT_BYTES)) {
        let (seal, position) = (Seal { nonce, stamp }, place * SECTOR_BYTES as u64);
        let mut begun = crc32fast::Hasher::new_with_initial(seal.start(position));
        begun.update(&content);
        prop_assert_eq!(seal.crc(position, &content), begun.finalize());
    }
}

#[test]
fn a_sector_torn_at_any_byte_is_no_rot() {
    let new = sector(SEAL, 8192, 7);
    for old in [vec![0; SECTOR_BYTES], sector(Seal { stamp: 76, ..SEAL }, 8192, 6), sector(Seal { nonce: 1, stamp: 0x0100_004d }, 8192, 6)]
    {
        for at in 0..SECTOR_BYTES {
            let torn: Vec<u8> = new[..at].iter().chain(&old[at..]).copied().collect();
            // Only a part of the stamp may be missing: then the content is whole.
            let expected = if at >= CONTENT_BYTES + 4 { State::Good } else { State::Unwritten };
            assert_eq!(SEAL.check(8192, &torn), expected, "byte {at}");
        }
    }
}

#[test]
fn a_sector_of_another_place_or_life_does_not_pass() {
    let good = sector(SEAL, 8192, 7);
    assert_ne!(SEAL.check(8704, &good), State::Good);
    assert_ne!(Seal { nonce: SEAL.nonce ^ 1, ..SEAL }.check(8192, &good), State::Good);
    assert_eq!(Seal { stamp: 78, ..SEAL }.check(8192, &good), State::Unwritten);
}

#[test]
fn what_is_written_over_a_disarmed_flush_never_looks_like_its_rot() {
    for (seal, newer) in [(SEAL, Seal { stamp: 78, ..SEAL }), (SEAL.head(), Seal { stamp: 78, ..SEAL }.head())] {
        let old = sector(seal, 8192, 7);
        let mut disarmed = old.clone();
        disarm(&SEAL, &mut disarmed);
        let new = sector(newer, 8192, 6);
        for at in 0..=SECTOR_BYTES {
            let torn = [&disarmed[..at], &old[at..]].concat();
            assert_eq!(seal.check(8192, &torn), State::Good, "disarmed up to byte {at}");
            let torn = [&new[..at], &disarmed[at..]].concat();
            let expected = if at == 0 { State::Good } else { State::Unwritten };
            assert_eq!(seal.check(8192, &torn), expected, "written over up to byte {at}");
            assert_ne!(newer.check(8192, &torn), State::Rotten, "written over up to byte {at}");
        }
    }
    let mut other = sector(Seal { stamp: 5, ..SEAL }, 8192, 7);
    let before = other.clone();
    disarm(&SEAL, &mut other);
    assert_eq!(other, before, "sectors of others are left alone");
}

#[test]
fn a_head_is_rotten_if_it_bears_the_stamp_of_what_follows() {
    let seal = |i| if i == 0 { SEAL.head() } else { SEAL };
    let mut block: Vec<u8> = (0..8).flat_map(|i| sector(seal(i), 4096 + i * 512, 3)).collect();
    block[5] ^= 1;
    assert!(head_is_rotten(SEAL.nonce, 4096, &block));
    assert!(!head_is_rotten(SEAL.nonce + 1, 4096, &block), "an earlier life");
    assert!(!head_is_rotten(SEAL.nonce, 8192, &block), "another place");
    let middle: Vec<u8> = (0..8).flat_map(|i| sector(SEAL, 4096 + i * 512, 3)).collect();
    assert!(!head_is_rotten(SEAL.nonce, 4096, &[&[0; 100], &middle[100..]].concat()), "the middle of an older flush");
    block[..SECTOR_BYTES].fill(0);
    assert!(!head_is_rotten(SEAL.nonce, 4096, &block), "the head was not written");
    assert!(!head_is_rotten(SEAL.nonce, 4096, &[0; 4096]), "nothing was");
    assert!(!head_is_rotten(SEAL.nonce, 4096, &[]));
}

proptest! {
    #[test]
    fn content_comes_back(content in proptest::collection::vec(any::<u8>(), 0..3000), from in 0usize..3000, len in 0usize..3000) {
        let mut flush = Vec::new();
        for piece in content.chunks(CONTENT_BYTES) {
            let mut bytes = piece.to_vec();
            bytes.resize(SECTOR_BYTES, 0);
            SEAL.close(flush.len() as u64, &mut bytes);
            flush.extend_from_slice(&bytes);
        }
        prop_assert_eq!(flush.len(), sectors_len(content.len()));
        let (from, end) = (from.min(content.len()), (from + len).min(content.len()));
        let mut out = Vec::new();
        copy_content(&flush, from..end.max(from), &mut out);
        prop_assert_eq!(&out, &content[from..end.max(from)]);
        if let Some(byte) = content.get(from) {
            prop_assert_eq!(flush[place(from)], *byte);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000), start in 0usize..5000, len in 0usize..5000) {
        let _ = head_is_rotten(1, 2, &bytes);
        copy_content(&bytes, start..start + len, &mut Vec::new());
    }
}
