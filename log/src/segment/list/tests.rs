use super::*;
use millpond_runtime::{Index, Offset, Term};
use proptest::prelude::*;

const GROUP: GroupId = GroupId(3);

/// Blocks of these lengths, one behind the other from `position` on.
fn blocks(position: u64, lens: &[u32]) -> Vec<BlockIndex> {
    let mut at = position;
    let one = |len: &u32| {
        let block = BlockIndex {
            position: at,
            len: *len,
            raw_len: len / 2,
            term: Term(1),
            first_index: Index(at),
            first_offset: Offset(at),
            next_offset: Offset(at.wrapping_add(u64::from(*len))),
            max_timestamp: -(at as i64),
        };
        at = at.wrapping_add(u64::from(*len));
        block
    };
    lens.iter().map(one).collect()
}

fn read(group: GroupId, end: u64, bytes: &[u8]) -> Result<Vec<BlockIndex>, Damage> {
    let tail = decode_list_tail(group, end, bytes)?;
    let from = bytes.len().checked_sub((end - tail.position) as usize).ok_or_else(|| Damage("longer than the file".into()))?;
    decode_list(group, end, &tail, &bytes[from..])
}

proptest! {
    /// From the last list backwards, each block of each chunk is found once, and each list takes no 4 KiB beyond its own.
    #[test]
    fn lists_lead_back_to_all_blocks(chunks in proptest::collection::vec(proptest::collection::vec(1..9_000_u32, 1..90), 1..40)) {
        let mut file = vec![0; HEADER_BYTES as usize];
        let mut all: Vec<BlockIndex> = Vec::new();
        for lens in &chunks {
            let position = file.len() as u64;
            let own = blocks(position, lens);
            let mut chunk = vec![7; lens.iter().sum::<u32>() as usize];
            let least = (chunk.len() + FRONT_BYTES + LIST_TAIL_BYTES + own.len() * INDEX_ENTRY_BYTES).next_multiple_of(BLOCK_BYTES);
            end_chunk(GROUP, position, &own, &last_blocks(&all), &mut chunk);
            prop_assert_eq!(chunk.len(), least);
            file.extend(chunk);
            all.extend(own);
        }
        let (mut at, mut lists, mut found) = (file.len(), 0, Vec::new());
        while at as u64 > HEADER_BYTES {
            let list = read(GROUP, at as u64, &file[..at]).expect("what we encoded");
            at = list[0].position as usize;
            found.splice(..0, list);
            lists += 1;
        }
        prop_assert_eq!(found, all);
        prop_assert!(lists <= chunks.len());
    }

    #[test]
    fn a_flipped_bit_and_a_wrong_place_are_seen(lens in proptest::collection::vec(1..9_000_u32, 1..200), bit in any::<prop::sample::Index>()) {
        let own = blocks(HEADER_BYTES, &lens);
        let mut bytes = vec![7; lens.iter().sum::<u32>() as usize];
        let data = bytes.len();
        end_chunk(GROUP, HEADER_BYTES, &own, &[], &mut bytes);
        let end = HEADER_BYTES + bytes.len() as u64;
        prop_assert_eq!(list_len(&bytes[data..]), Some(bytes.len() - data));
        prop_assert_eq!(read(GROUP, end, &bytes), Ok(own));
        prop_assert!(read(GROUP, end + 4096, &bytes).is_err());
        prop_assert!(read(GroupId(4), end, &bytes).is_err());
        let bit = bit.index((bytes.len() - data) * 8);
        bytes[data + bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read(GROUP, end, &bytes).is_err());
    }
}

/// Small chunks list those before them: a start takes a read for many of them, not one for each.
#[test]
fn small_chunks_share_their_lists() {
    let mut all: Vec<BlockIndex> = Vec::new();
    let mut position = HEADER_BYTES;
    let mut last = Vec::new();
    for _ in 0..100 {
        let own = blocks(position, &[1000]);
        let mut chunk = vec![7; 1000];
        end_chunk(GROUP, position, &own, &last_blocks(&all), &mut chunk);
        position += chunk.len() as u64;
        all.extend(own);
        last = chunk;
    }
    assert_eq!(last.len(), BLOCK_BYTES);
    let list = read(GROUP, position, &last).expect("what we encoded");
    assert_eq!(list.len(), (BLOCK_BYTES - 1000 - FRONT_BYTES - LIST_TAIL_BYTES) / INDEX_ENTRY_BYTES);
}

/// Checksums may be right and the list wrong all the same: it is told.
#[test]
fn lists_that_lie_are_refused() {
    let refused = |own: &[BlockIndex], position: u64| {
        let mut bytes = vec![7; 200];
        end_chunk(GROUP, position, own, &[], &mut bytes);
        read(GROUP, position + bytes.len() as u64, &bytes).is_err()
    };
    let sound = blocks(8192, &[100, 100]);
    assert!(!refused(&sound, 8192));
    assert!(refused(&[], 8192), "no blocks");
    assert!(refused(&blocks(8200, &[100]), 8192), "no chunk begins there");
    assert!(refused(&blocks(0, &[100]), 8192), "in the head");
    assert!(refused(&blocks(8192, &[100, 101]), 8192), "past the list");
    assert!(refused(&blocks(u64::MAX - 4095, &[u32::MAX]), 8192), "past the end of numbers");
    assert!(refused(&[sound[1], sound[0]], 8192), "out of order");
}
