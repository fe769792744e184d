//! The bytes of a segment. All integers little-endian; `crc` is CRC-32 (IEEE).
//!
//! The header, at byte 0, zeros up to 4 KiB:
//!
//! ```text
//!   0      4     8     12           16      24           32            40
//!   | MPS1 | crc | 2   | generation | group | base index | base offset | created ms |
//! ```
//!
//! A block:
//!
//! ```text
//!   0      4     8       9   12        16           20      24     32            40           48             56            64              72
//!   | MPBK | crc | codec | 0 | raw len | stored len | count | term | first index | last index | first offset | next offset | max timestamp | data ...
//! ```
//!
//! The crc covers the block's header behind it, the data, and two numbers that are not written: the group and the byte at
//! which the block lies, so that a block in the wrong place is a bad block. `count` entries are in it, of the indexes
//! `first..=last` (all of them, except where compaction dropped some), and it answers for the offsets `first..next`.
//!
//! Behind the last block of each chunk is a [list](super::list) of the chunk's blocks.
//!
//! An entry within a block's raw data:
//!
//! ```text
//!   | len u32 | kind u8 | payload |
//! ```
//!
//! The footer begins at a whole 4 KiB and is padded so that its tail ends the file:
//!
//! ```text
//!   | n × ( position u64 | len u32 | raw len u32 | term u64 | first index u64 | first offset u64 | next offset u64 | max timestamp i64 ) | zeros |
//!   tail, the last 48 bytes: | MPFT | tail crc | footer crc | n u32 | footer position u64 | next offset u64 | last index u64 | max timestamp i64 |
//! ```
//!
//! The footer's crc covers it from its first byte up to the tail. The tail has one of its own, over all behind it, since
//! a start reads no more than the tails: segments are deleted on the strength of what they say.

use bytes::{Buf, BufMut};
use millpond_runtime::{
    GroupId, Index, Offset, Term,
    codec::{Reader, Short},
    limits::BLOCK_BYTES,
};
use std::fmt;

/// Bytes before the first chunk.
pub const HEADER_BYTES: u64 = BLOCK_BYTES as u64;
/// Bytes of a block before its data.
pub const BLOCK_HEADER_BYTES: usize = 72;
/// Bytes of an entry before its payload.
pub const ENTRY_HEADER_BYTES: usize = 5;
/// Bytes of the tail of a footer.
pub const TAIL_BYTES: usize = 48;
/// Bytes of an index entry in a footer.
pub const INDEX_ENTRY_BYTES: usize = 56;
/// No block claims more raw bytes: the largest batch and a full block beside it.
pub const RAW_BYTES_MAX: usize = 32 * 1024 * 1024;

const VERSION: u32 = 2;
pub(crate) const HEADER_MAGIC: [u8; 4] = *b"MPS1";
const BLOCK_MAGIC: [u8; 4] = *b"MPBK";
const TAIL_MAGIC: [u8; 4] = *b"MPFT";
const HEADER_USED: usize = 48;

/// What does not fit the format: the reader adds file and byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub String);

impl From<Short> for Damage {
    fn from(short: Short) -> Self {
        Self(short.to_string())
    }
}

fn damage<T>(what: impl Into<String>) -> Result<T, Damage> {
    Err(Damage(what.into()))
}

/// A segment's name: `<base offset, 20 digits>.<generation, 8 hex digits>.seg`. Of two that cover the same offsets the higher
/// generation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The first offset that it answers for.
    pub base_offset: Offset,
    /// 0 as written, more after compaction.
    pub generation: u32,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}.{:08x}.seg", self.base_offset.0, self.generation)
    }
}

impl SegmentName {
    /// Reads a file name; `None` if it is not a segment's.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (base, generation) = name.strip_suffix(".seg")?.split_once('.')?;
        let parsed = Self { base_offset: Offset(base.parse().ok()?), generation: u32::from_str_radix(generation, 16).ok()? };
        (parsed.to_string() == name).then_some(parsed)
    }
}

/// The head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The group.
    pub group: GroupId,
    /// Generation, as in the name.
    pub generation: u32,
    /// Index of its first entry.
    pub base_index: Index,
    /// Base offset, as in the name.
    pub base_offset: Offset,
    /// When it was begun, in milliseconds since 1970.
    pub created_ms: i64,
}

impl SegmentHeader {
    /// The first [`HEADER_BYTES`] of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.put_slice(&HEADER_MAGIC);
        out.put_u32_le(0);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.generation);
        out.put_u64_le(self.group.0);
        out.put_u64_le(self.base_index.0);
        out.put_u64_le(self.base_offset.0);
        out.put_i64_le(self.created_ms);
        let crc = crc32fast::hash(&out[8..HEADER_USED]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.resize(BLOCK_BYTES, 0);
        out
    }

    /// Reads what [`SegmentHeader::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let mut r = Reader::new(bytes);
        if r.take(4)? != HEADER_MAGIC {
            return damage("not a segment: the magic MPS1 is missing");
        }
        let (expected, found) = (r.u32()?, crc32fast::hash(Reader::new(bytes.get(8..).unwrap_or_default()).take(HEADER_USED - 8)?));
        if expected != found {
            return damage(format!("header checksum {found:#010x}, expected {expected:#010x}"));
        }
        let version = r.u32()?;
        if version != VERSION {
            return damage(format!("segment version {version}, this build reads {VERSION}"));
        }
        let generation = r.u32()?;
        Ok(Self { generation, group: GroupId(r.u64()?), base_index: Index(r.u64()?), base_offset: Offset(r.u64()?), created_ms: r.i64()? })
    }
}

/// How a block's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// zstd.
    Zstd = 1,
}

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// How the data lies.
    pub codec: Codec,
    /// Bytes of the entries.
    pub raw_len: u32,
    /// Bytes of the data as it lies.
    pub stored_len: u32,
    /// Entries.
    pub count: u32,
    /// Their term.
    pub term: Term,
    /// Index of the first.
    pub first_index: Index,
    /// Index up to which it answers.
    pub last_index: Index,
    /// Offset from which it answers.
    pub first_offset: Offset,
    /// Offset up to which it answers, exclusive.
    pub next_offset: Offset,
    /// Largest timestamp, `i64::MIN` without records.
    pub max_timestamp: i64,
}

/// The checksum of a block that lies at `position` of a segment of `group`; `covered` is the block from byte 8 on.
fn block_crc(group: GroupId, position: u64, covered: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&group.0.to_le_bytes());
    hash.update(&position.to_le_bytes());
    hash.update(covered);
    hash.finalize()
}

impl BlockHeader {
    /// Writes the head of the block that lies at `position` of the file; `block` is all of it, with the data in place behind
    /// [`BLOCK_HEADER_BYTES`].
    pub fn put(&self, group: GroupId, position: u64, block: &mut [u8]) {
        let mut out = &mut block[..BLOCK_HEADER_BYTES];
        out.put_slice(&BLOCK_MAGIC);
        out.put_u32_le(0);
        out.put_u8(self.codec as u8);
        out.put_bytes(0, 3);
        for n in [self.raw_len, self.stored_len, self.count] {
            out.put_u32_le(n);
        }
        for n in [self.term.0, self.first_index.0, self.last_index.0, self.first_offset.0, self.next_offset.0] {
            out.put_u64_le(n);
        }
        out.put_i64_le(self.max_timestamp);
        let crc = block_crc(group, position, &block[8..]);
        block[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the head of a block, without its checksum. `Ok(None)`: no block begins here, but padding.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, Damage> {
        let mut r = Reader::new(bytes);
        let magic = r.take(4)?;
        if magic == [0; 4] {
            return Ok(None);
        }
        if magic != BLOCK_MAGIC {
            return damage(format!("no block begins here: magic {magic:02x?}"));
        }
        r.u32()?;
        let codec = match r.u8()? {
            0 => Codec::Raw,
            1 => Codec::Zstd,
            other => return damage(format!("block codec {other}")),
        };
        r.take(3)?;
        let header = Self {
            codec,
            raw_len: r.u32()?,
            stored_len: r.u32()?,
            count: r.u32()?,
            term: Term(r.u64()?),
            first_index: Index(r.u64()?),
            last_index: Index(r.u64()?),
            first_offset: Offset(r.u64()?),
            next_offset: Offset(r.u64()?),
            max_timestamp: r.i64()?,
        };
        if header.raw_len as usize > RAW_BYTES_MAX || header.stored_len as usize > RAW_BYTES_MAX {
            return damage(format!("a block of {} bytes, {} raw, is larger than any that is written", header.stored_len, header.raw_len));
        }
        if header.first_index > header.last_index || header.first_offset > header.next_offset {
            return damage("a block whose first index or offset lies behind its last".to_string());
        }
        Ok(Some(header))
    }

    /// Bytes of the whole block.
    #[must_use]
    pub fn len(&self) -> usize {
        BLOCK_HEADER_BYTES + self.stored_len as usize
    }

    /// A block is never empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Checks the block that `bytes` begins with, which lies at `position`, and gives its head and its data as it lies.
pub fn check_block(group: GroupId, position: u64, bytes: &[u8]) -> Result<(BlockHeader, &[u8]), Damage> {
    let Some(header) = BlockHeader::decode(bytes)? else { return damage("a block was expected, there are zeros") };
    let Some(block) = bytes.get(..header.len()) else {
        return damage(format!("a block of {} bytes ends after {}", header.len(), bytes.len()));
    };
    let mut stored = &block[4..8];
    let (expected, found) = (stored.get_u32_le(), block_crc(group, position, &block[8..]));
    if expected != found {
        return damage(format!("block checksum {found:#010x}, expected {expected:#010x}"));
    }
    Ok((header, &block[BLOCK_HEADER_BYTES..]))
}

/// The raw entries of a checked block.
pub fn unpack(header: &BlockHeader, data: &[u8]) -> Result<Vec<u8>, Damage> {
    let raw = match header.codec {
        Codec::Raw => data.to_vec(),
        Codec::Zstd => zstd::bulk::decompress(data, header.raw_len as usize).map_err(|e| Damage(format!("block data: {e}")))?,
    };
    if raw.len() != header.raw_len as usize {
        return damage(format!("a block of {} raw bytes, its head says {}", raw.len(), header.raw_len));
    }
    Ok(raw)
}

/// Where a block lies and what it answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockIndex {
    /// Its first byte.
    pub position: u64,
    /// Its bytes, with its head.
    pub len: u32,
    /// Bytes of its entries.
    pub raw_len: u32,
    /// Their term.
    pub term: Term,
    /// Index of its first entry.
    pub first_index: Index,
    /// Offset from which it answers.
    pub first_offset: Offset,
    /// Offset up to which it answers, exclusive.
    pub next_offset: Offset,
    /// Its largest timestamp, `i64::MIN` without records.
    pub max_timestamp: i64,
}

impl BlockIndex {
    /// The index entry of a block.
    #[must_use]
    pub fn of(position: u64, header: &BlockHeader) -> Self {
        Self {
            position,
            len: header.len() as u32,
            raw_len: header.raw_len,
            term: header.term,
            first_index: header.first_index,
            first_offset: header.first_offset,
            next_offset: header.next_offset,
            max_timestamp: header.max_timestamp,
        }
    }

    /// The byte behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.len)
    }

    /// Whether its data lie as they are: packed ones are always shorter.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.len as usize == BLOCK_HEADER_BYTES + self.raw_len as usize
    }

    /// Appends its [`INDEX_ENTRY_BYTES`].
    pub(super) fn encode(&self, mut out: impl BufMut) {
        out.put_u64_le(self.position);
        out.put_u32_le(self.len);
        out.put_u32_le(self.raw_len);
        for n in [self.term.0, self.first_index.0, self.first_offset.0, self.next_offset.0] {
            out.put_u64_le(n);
        }
        out.put_i64_le(self.max_timestamp);
    }

    /// Reads what [`BlockIndex::encode`] has written.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, Short> {
        Ok(Self {
            position: r.u64()?,
            len: r.u32()?,
            raw_len: r.u32()?,
            term: Term(r.u64()?),
            first_index: Index(r.u64()?),
            first_offset: Offset(r.u64()?),
            next_offset: Offset(r.u64()?),
            max_timestamp: r.i64()?,
        })
    }
}

/// The tail of a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Index entries.
    pub count: u32,
    /// Checksum of the footer up to the tail.
    pub footer_crc: u32,
    /// Where the footer begins.
    pub footer: u64,
    /// The offset after the last one that the segment answers for.
    pub next_offset: Offset,
    /// The last index that it answers for.
    pub last_index: Index,
    /// Its largest timestamp, `i64::MIN` without records.
    pub max_timestamp: i64,
}

/// The footer for `index`, to be written at `position` (whole 4 KiB): whole 4 KiB too.
#[must_use]
pub fn encode_footer(index: &[BlockIndex], position: u64, next_offset: Offset, last_index: Index) -> Vec<u8> {
    let mut out = Vec::with_capacity(index.len() * INDEX_ENTRY_BYTES + BLOCK_BYTES);
    index.iter().for_each(|block| block.encode(&mut out));
    let whole = (out.len() + TAIL_BYTES).next_multiple_of(BLOCK_BYTES);
    out.resize(whole - TAIL_BYTES, 0);
    let tail = out.len();
    let footer_crc = crc32fast::hash(&out);
    out.put_slice(&TAIL_MAGIC);
    out.put_u32_le(0);
    out.put_u32_le(footer_crc);
    out.put_u32_le(index.len() as u32);
    out.put_u64_le(position);
    out.put_u64_le(next_offset.0);
    out.put_u64_le(last_index.0);
    out.put_i64_le(index.iter().map(|b| b.max_timestamp).max().unwrap_or(i64::MIN));
    let crc = crc32fast::hash(&out[tail + 8..]);
    out[tail + 4..tail + 8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the tail that ends a file of `file_len` bytes; `last` is its last 4 KiB.
pub fn decode_tail(last: &[u8], file_len: u64) -> Result<Tail, Damage> {
    let Some(from) = last.len().checked_sub(TAIL_BYTES) else { return damage("too short for a footer") };
    let mut r = Reader::new(&last[from..]);
    if r.take(4)? != TAIL_MAGIC {
        return damage("the file does not end with a footer");
    }
    let (expected, found) = (r.u32()?, crc32fast::hash(&last[from + 8..]));
    if expected != found {
        return damage(format!("checksum of the footer's tail {found:#010x}, expected {expected:#010x}"));
    }
    let (footer_crc, count) = (r.u32()?, r.u32()?);
    let tail =
        Tail { count, footer_crc, footer: r.u64()?, next_offset: Offset(r.u64()?), last_index: Index(r.u64()?), max_timestamp: r.i64()? };
    let len = (count as usize * INDEX_ENTRY_BYTES + TAIL_BYTES).next_multiple_of(BLOCK_BYTES) as u64;
    if tail.footer < HEADER_BYTES || tail.footer.checked_add(len) != Some(file_len) {
        return damage(format!("a footer of {count} blocks at byte {} does not end a file of {file_len} bytes", tail.footer));
    }
    Ok(tail)
}

/// Reads a whole footer.
pub fn decode_footer(tail: &Tail, footer: &[u8]) -> Result<Vec<BlockIndex>, Damage> {
    let Some(entries) = footer.len().checked_sub(TAIL_BYTES).map(|len| &footer[..len]) else { return damage("too short for a footer") };
    let found = crc32fast::hash(entries);
    if tail.footer_crc != found {
        return damage(format!("footer checksum {found:#010x}, expected {:#010x}", tail.footer_crc));
    }
    let mut r = Reader::new(entries);
    let mut index = Vec::with_capacity(entries.len() / INDEX_ENTRY_BYTES);
    for _ in 0..tail.count {
        index.push(BlockIndex::decode(&mut r)?);
    }
    Ok(index)
}

#[cfg(test)]
mod tests;
