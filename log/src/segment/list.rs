//! The list at the end of each chunk: which blocks lie in it, and in whole chunks before it as far as there is room, so that
//! a start finds the blocks of a growing segment from its end backwards and reads none of them.
//!
//! ```text
//!   0      4         8
//!   | MPBL | len u32 | n × index entry, as in the footer | zeros |
//!   tail, the last 24 bytes of the chunk: | MPLT | tail crc | list crc | n u32 | position of the list u64 |
//! ```
//!
//! The list follows the chunk's last block at once; `len` are its bytes, tail and all. Both checksums begin with the group and the
//! position of the chunk's end (neither is written); the list's covers it up to the tail, the tail's its bytes from 8 on.
//! The first block listed begins a chunk, so the list before ends where that block begins.

use super::format::{BlockIndex, Damage, HEADER_BYTES, INDEX_ENTRY_BYTES};
use bytes::BufMut;
use millpond_runtime::{GroupId, IoBuf, codec::Reader, limits::BLOCK_BYTES};

/// Bytes before the entries.
const FRONT_BYTES: usize = 8;
/// Bytes of the tail of a list.
pub const LIST_TAIL_BYTES: usize = 24;
/// Blocks before a chunk that its list may name: no more have room in what is left of 4 KiB.
pub const BEFORE_MAX: usize = BLOCK_BYTES / INDEX_ENTRY_BYTES;

const FRONT_MAGIC: [u8; 4] = *b"MPBL";
const TAIL_MAGIC: [u8; 4] = *b"MPLT";

/// The tail of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListTail {
    /// Entries, at least one.
    pub count: u32,
    /// Checksum of the list up to the tail.
    pub list_crc: u32,
    /// Where the list begins.
    pub position: u64,
}

fn crc(group: GroupId, end: u64, covered: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&group.0.to_le_bytes());
    hash.update(&end.to_le_bytes());
    hash.update(covered);
    hash.finalize()
}

/// The last of `before`, in whole chunks and at most `room`. What it begins with may be cut out of a chunk.
fn whole_chunks(before: &[BlockIndex], room: usize) -> &[BlockIndex] {
    let begins_chunk = |at: usize| match at.checked_sub(1) {
        None => before[at].position == HEADER_BYTES,
        // Between two chunks there is a list.
        Some(last) => before[last].end() < before[at].position,
    };
    let from = (before.len().saturating_sub(room)..before.len()).find(|at| begins_chunk(*at));
    &before[from.unwrap_or(before.len())..]
}

/// Of the blocks so far, those that the list of the next chunk may name, and the one before them.
#[must_use]
pub fn last_blocks(index: &[BlockIndex]) -> Vec<BlockIndex> {
    index[index.len().saturating_sub(BEFORE_MAX + 1)..].to_vec()
}

/// Ends the chunk `out`, which begins at `position` and holds `blocks`, with their list and zeros up to whole 4 KiB. Those of
/// `before`, the blocks in front of the chunk, are listed as well as far as they need no 4 KiB more.
pub fn end_chunk(group: GroupId, position: u64, blocks: &[BlockIndex], before: &[BlockIndex], out: &mut impl IoBuf) {
    let front = out.len();
    let used = listed(front, blocks.len());
    let whole = used.next_multiple_of(BLOCK_BYTES);
    let before = whole_chunks(before, (whole - used) / INDEX_ENTRY_BYTES);
    let end = position + whole as u64;
    let mut list = Vec::with_capacity(whole - front);
    list.put_slice(&FRONT_MAGIC);
    list.put_u32_le((whole - front) as u32);
    before.iter().chain(blocks).for_each(|block| block.encode(&mut list));
    list.resize(whole - front - LIST_TAIL_BYTES, 0);
    let list_crc = crc(group, end, &list);
    let tail = list.len();
    list.put_slice(&TAIL_MAGIC);
    list.put_u32_le(0);
    list.put_u32_le(list_crc);
    list.put_u32_le((before.len() + blocks.len()) as u32);
    list.put_u64_le(position + front as u64);
    let tail_crc = crc(group, end, &list[tail + 8..]);
    list[tail + 4..tail + 8].copy_from_slice(&tail_crc.to_le_bytes());
    out.put(&list);
}

/// Bytes of a chunk whose blocks take `blocks_bytes`, up to the end of its list without zeros.
pub(super) fn listed(blocks_bytes: usize, blocks: usize) -> usize {
    blocks_bytes + FRONT_BYTES + blocks * INDEX_ENTRY_BYTES + LIST_TAIL_BYTES
}

/// Reads the tail of the list of a chunk that ends at byte `end` of the file; `last` ends there.
pub fn decode_list_tail(group: GroupId, end: u64, last: &[u8]) -> Result<ListTail, Damage> {
    let Some(from) = last.len().checked_sub(LIST_TAIL_BYTES) else { return Err(Damage("too short for a list of blocks".into())) };
    let mut r = Reader::new(&last[from..]);
    if r.take(4)? != TAIL_MAGIC {
        return Err(Damage("no list of blocks ends here".into()));
    }
    let (expected, found) = (r.u32()?, crc(group, end, &last[from + 8..]));
    if expected != found {
        return Err(Damage(format!("checksum of the tail of a list of blocks {found:#010x}, expected {expected:#010x}")));
    }
    let (list_crc, count) = (r.u32()?, r.u32()?);
    let tail = ListTail { count, list_crc, position: r.u64()? };
    let used = (FRONT_BYTES + LIST_TAIL_BYTES) as u64 + u64::from(count) * INDEX_ENTRY_BYTES as u64;
    let room = end.checked_sub(tail.position).is_some_and(|room| used <= room && room < used + BLOCK_BYTES as u64);
    if count == 0 || tail.position < HEADER_BYTES || !room {
        return Err(Damage(format!("a list of {count} blocks at byte {} does not end a chunk at byte {end}", tail.position)));
    }
    Ok(tail)
}

/// Reads a whole list, from its front to its tail: blocks in order, of which the first begins a chunk.
pub fn decode_list(group: GroupId, end: u64, tail: &ListTail, list: &[u8]) -> Result<Vec<BlockIndex>, Damage> {
    let Some(covered) = list.len().checked_sub(LIST_TAIL_BYTES).map(|len| &list[..len]) else {
        return Err(Damage("too short for a list of blocks".into()));
    };
    let found = crc(group, end, covered);
    if tail.list_crc != found {
        return Err(Damage(format!("checksum of a list of blocks {found:#010x}, expected {:#010x}", tail.list_crc)));
    }
    let mut r = Reader::new(covered);
    if r.take(4)? != FRONT_MAGIC || r.u32()? as usize != list.len() {
        return Err(Damage("a list of blocks without its front".into()));
    }
    let mut blocks: Vec<BlockIndex> = Vec::with_capacity(covered.len() / INDEX_ENTRY_BYTES);
    for _ in 0..tail.count {
        let block = BlockIndex::decode(&mut r)?;
        let after = blocks.last().map_or(HEADER_BYTES, BlockIndex::end);
        if block.position < after || block.position.checked_add(u64::from(block.len)).is_none_or(|end| end > tail.position) {
            return Err(Damage(format!("a list names a block of {} bytes at byte {}, which cannot be", block.len, block.position)));
        }
        blocks.push(block);
    }
    match blocks.first() {
        Some(first) if first.position.is_multiple_of(BLOCK_BYTES as u64) => Ok(blocks),
        _ => Err(Damage("the first block that a list names begins no chunk".into())),
    }
}

/// Bytes of the list that begins here; `None` if none does.
pub(super) fn list_len(bytes: &[u8]) -> Option<usize> {
    let mut r = Reader::new(bytes);
    (r.take(4).ok()? == FRONT_MAGIC).then(|| r.u32().ok())?.map(|len| len as usize)
}

#[cfg(test)]
mod tests;
