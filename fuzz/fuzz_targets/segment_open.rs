//! Any bytes as a segment file, through the pure functions that opening, reading and inspecting are made of.
//!
//! Checksums are put right first where they lie, since chance does not find them: what is behind them is what is tried.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millpond_log::segment::{
    file::unpack_checked,
    format::{BLOCK_HEADER_BYTES, BlockHeader, BlockIndex, HEADER_BYTES, SegmentHeader, TAIL_BYTES, decode_footer, decode_tail},
    format::{check_block, encode_footer},
    inspect,
    list::{LIST_TAIL_BYTES, decode_list, decode_list_tail},
};
use millpond_runtime::{GroupId, Index, Offset};

/// The bytes with right checksums at the head, at the block behind it, and in the tail of the footer.
fn mended(data: &[u8], group: GroupId) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let head = HEADER_BYTES as usize;
    if bytes.len() >= 48 {
        let crc = crc32fast::hash(&bytes[8..48]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
    let len = bytes.get(head..).and_then(|b| BlockHeader::decode(b).ok().flatten()).map(|h| h.len());
    if let Some(block) = len.and_then(|len| bytes.get_mut(head..head + len)) {
        let mut hash = crc32fast::Hasher::new();
        hash.update(&group.0.to_le_bytes());
        hash.update(&HEADER_BYTES.to_le_bytes());
        hash.update(&block[8..]);
        block[4..8].copy_from_slice(&hash.finalize().to_le_bytes());
    }
    if let Some(tail) = bytes.len().checked_sub(TAIL_BYTES) {
        let footer = u64::from_le_bytes(bytes[tail + 16..tail + 24].try_into().expect("8 bytes")) as usize;
        if footer <= tail {
            let crc = crc32fast::hash(&bytes[footer..tail]);
            bytes[tail + 8..tail + 12].copy_from_slice(&crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[tail + 8..]);
        bytes[tail + 4..tail + 8].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// The bytes with right checksums in a list of blocks that ends them.
fn mended_list(data: &[u8], group: GroupId) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let end = bytes.len() as u64;
    let crc = |covered: &[u8]| {
        let mut hash = crc32fast::Hasher::new();
        hash.update(&group.0.to_le_bytes());
        hash.update(&end.to_le_bytes());
        hash.update(covered);
        hash.finalize().to_le_bytes()
    };
    if let Some(tail) = bytes.len().checked_sub(LIST_TAIL_BYTES) {
        let list = u64::from_le_bytes(bytes[tail + 16..tail + 24].try_into().expect("8 bytes")) as usize;
        if list <= tail {
            let crc = crc(&bytes[list..tail]);
            bytes[tail + 8..tail + 12].copy_from_slice(&crc);
        }
        let crc = crc(&bytes[tail + 8..]);
        bytes[tail + 4..tail + 8].copy_from_slice(&crc);
    }
    bytes
}

fn open(bytes: &[u8], group: GroupId) {
    let head = SegmentHeader::decode(bytes);
    if let Ok(header) = &head {
        assert_eq!(SegmentHeader::decode(&header.encode()).as_ref(), Ok(header));
    }
    let at = (HEADER_BYTES as usize).min(bytes.len());
    if let Ok((header, data)) = check_block(group, HEADER_BYTES, &bytes[at..]) {
        assert_eq!(header.len(), BLOCK_HEADER_BYTES + data.len());
        let index = BlockIndex::of(HEADER_BYTES, &header);
        let _ = unpack_checked(group, &index, &Bytes::copy_from_slice(&bytes[at..at + header.len()]));
    }
    if let Ok(tail) = decode_tail(bytes, bytes.len() as u64) {
        let footer = &bytes[tail.footer as usize..];
        if let Ok(index) = decode_footer(&tail, footer) {
            assert_eq!(index.len(), tail.count as usize);
            assert!(encode_footer(&index, tail.footer, Offset(0), Index(0)).len() == footer.len());
        }
    }
    let end = bytes.len() as u64;
    if let Ok(tail) = decode_list_tail(group, end, bytes)
        && let Ok(blocks) = decode_list(group, end, &tail, &bytes[tail.position as usize..])
    {
        assert!(!blocks.is_empty() && blocks.iter().all(|block| block.end() <= tail.position));
    }
    assert!(!inspect::describe(bytes, true).is_empty());
}

fuzz_target!(|data: &[u8]| {
    let group = SegmentHeader::decode(data).map_or(GroupId(data.get(16).copied().unwrap_or(0).into()), |h| h.group);
    open(data, group);
    open(&mended(data, group), group);
    open(&mended_list(data, group), group);
});
