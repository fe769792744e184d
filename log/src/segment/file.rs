//! One segment's file: opening, writing, reading blocks.

use super::{
    chunk::{Chunk, check_entries},
    format::{
        BlockIndex, Damage, HEADER_BYTES, SegmentHeader, TAIL_BYTES, Tail, check_block, decode_footer, decode_tail, encode_footer, unpack,
    },
    list::{LIST_TAIL_BYTES, decode_list, decode_list_tail},
};
use crate::error::{LogError, Result};
use bytes::Bytes;
use millpond_runtime::{File, GroupId, Index, IoBuf, Offset, Open, Rt, limits::BLOCK_BYTES};
use std::path::{Path, PathBuf};

/// Bytes that one disk operation moves at most.
const IO_BYTES_MAX: usize = 1024 * 1024;
/// From so many bytes on, unpacking is work for the pool; the way there and back costs more than fewer take.
const OFFLOAD_BYTES: usize = 32 * 1024;

/// How far a file counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// To its end, where a footer must be.
    Sealed,
    /// To this byte, as the journal says.
    Position(u64),
}

/// An open segment.
pub struct SegmentFile<R: Rt> {
    file: R::File,
    /// Its path.
    pub path: PathBuf,
    /// Its head.
    pub header: SegmentHeader,
}

/// A damaged range of a file, as an error.
pub(crate) fn corrupt(path: &Path, position: u64, len: u64, damage: Damage) -> LogError {
    LogError::Corrupt { file: path.to_path_buf(), position, len, what: damage.0 }
}

fn aligned(position: u64, len: usize) -> (u64, usize) {
    let block = BLOCK_BYTES as u64;
    let from = position / block * block;
    let to = (position + len as u64).next_multiple_of(block);
    (from, (to - from) as usize)
}

impl<R: Rt> SegmentFile<R> {
    /// Makes a segment with nothing but its head. Not synced.
    pub async fn create(rt: &R, path: PathBuf, header: SegmentHeader) -> Result<Self> {
        let file = rt.open(&path, Open::Create).await?;
        let this = Self { file, path, header };
        this.write(0, &header.encode()).await?;
        Ok(this)
    }

    /// Opens a segment and checks its head.
    pub async fn open(rt: &R, path: PathBuf, how: Open, group: GroupId) -> Result<Self> {
        let file = rt.open(&path, how).await?;
        let head = file.read_at(0, BLOCK_BYTES).await?;
        let header = SegmentHeader::decode(&head).map_err(|d| corrupt(&path, 0, HEADER_BYTES, d))?;
        if header.group != group {
            return Err(corrupt(&path, 0, HEADER_BYTES, Damage(format!("a segment of group {}, expected {group}", header.group))));
        }
        Ok(Self { file, path, header })
    }

    async fn write(&self, position: u64, bytes: &[u8]) -> Result<()> {
        for (n, part) in bytes.chunks(IO_BYTES_MAX).enumerate() {
            let mut buf = self.file.buf(part.len());
            buf.put(part);
            self.file.write_at(position + (n * IO_BYTES_MAX) as u64, buf).await?;
        }
        Ok(())
    }

    /// Writes a chunk that was made for `position`. Not synced.
    pub async fn write_chunk(&self, position: u64, chunk: &Chunk) -> Result<()> {
        self.write(position, &chunk.bytes).await
    }

    /// Makes what was written last.
    pub async fn sync(&self) -> Result<()> {
        Ok(self.file.sync().await?)
    }

    /// Ends the file with a footer and syncs it. Whatever lay behind `position` goes. The file's length, in bytes.
    pub async fn seal(&self, position: u64, index: &[BlockIndex], next_offset: Offset, last_index: Index) -> Result<u64> {
        let footer = encode_footer(index, position, next_offset, last_index);
        let end = position + footer.len() as u64;
        self.write(position, &footer).await?;
        if self.file.len().await? > end {
            self.file.truncate(end).await?;
        }
        self.sync().await?;
        Ok(end)
    }

    /// The tail of a sealed segment's footer, and the file's length in bytes.
    pub async fn tail(&self) -> Result<(Tail, u64)> {
        let len = self.file.len().await?;
        let from = len.saturating_sub(BLOCK_BYTES as u64);
        if len < HEADER_BYTES + BLOCK_BYTES as u64 || !len.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(corrupt(&self.path, from, len - from, Damage(format!("{len} bytes are no sealed segment"))));
        }
        let last = self.file.read_at(from, BLOCK_BYTES).await?;
        let tail = decode_tail(&last, len).map_err(|d| corrupt(&self.path, len - TAIL_BYTES as u64, TAIL_BYTES as u64, d))?;
        Ok((tail, len))
    }

    /// The index: from the footer, or from the chunks' lists up to the bound.
    pub async fn index(&self, rt: &R, bound: Bound) -> Result<Vec<BlockIndex>> {
        match bound {
            Bound::Sealed => {
                let (tail, len) = self.tail().await?;
                let footer = self.read(tail.footer, (len - tail.footer) as usize).await?;
                decode_footer(&tail, &footer).map_err(|d| corrupt(&self.path, tail.footer, len - tail.footer, d))
            }
            Bound::Position(end) => self.listed(rt, end).await,
        }
    }

    /// All blocks up to `end`, where a chunk ends: from list to list, backwards.
    async fn listed(&self, rt: &R, end: u64) -> Result<Vec<BlockIndex>> {
        let group = self.header.group;
        let mut lists: Vec<Vec<BlockIndex>> = Vec::new();
        let mut at = end;
        while at > HEADER_BYTES {
            let from = at.saturating_sub(BLOCK_BYTES as u64).max(HEADER_BYTES);
            let last = self.read(from, (at - from) as usize).await?;
            let tail_at = at - LIST_TAIL_BYTES as u64;
            let tail = decode_list_tail(group, at, &last).map_err(|d| corrupt(&self.path, tail_at, LIST_TAIL_BYTES as u64, d))?;
            let longer = if tail.position < from { self.read(tail.position, (at - tail.position) as usize).await? } else { Vec::new() };
            let list = if longer.is_empty() { &last[(tail.position - from) as usize..] } else { &longer };
            let damaged = |d| corrupt(&self.path, tail.position, at - tail.position, d);
            let mut blocks = decode_list(group, at, &tail, list).map_err(damaged)?;
            if let (Some(last), Some(next)) = (blocks.last(), lists.last().and_then(|later| later.first()))
                && last.next_offset != next.first_offset
            {
                let what = format!("a block from offset {} follows one up to {}", next.first_offset, last.next_offset);
                return Err(damaged(Damage(what)));
            }
            // Its first block begins a chunk: there the list before ends.
            at = blocks.first().map_or(HEADER_BYTES, |first| first.position);
            blocks.shrink_to_fit();
            lists.push(blocks);
            rt.yield_if_needed().await;
        }
        Ok(lists.into_iter().rev().flatten().collect())
    }

    /// `len` bytes from anywhere; an error if the file ends before.
    async fn read(&self, position: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let at = position + out.len() as u64;
            let (from, span) = aligned(at, (len - out.len()).min(IO_BYTES_MAX));
            let read = self.file.read_at(from, span).await?;
            let skip = (at - from) as usize;
            let got = read.get(skip..).unwrap_or_default();
            if got.is_empty() {
                return Err(corrupt(&self.path, at, (len - out.len()) as u64, Damage("the file ends here".into())));
            }
            let take = got.len().min(len - out.len());
            out.extend_from_slice(&got[..take]);
        }
        Ok(out)
    }

    /// The raw entries of blocks that lie one behind the other, checked and unpacked.
    pub async fn read_blocks(&self, rt: &R, blocks: &[BlockIndex]) -> Result<Vec<Bytes>> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(Vec::new()) };
        let from = first.position;
        let stored = self.read(from, (last.position + u64::from(last.len) - from) as usize).await?;
        let (group, index) = (self.header.group, blocks.to_vec());
        let unpack_all = move || {
            let unpack_one = |block: &BlockIndex| {
                let at = (block.position - from) as usize;
                unpack_checked(group, block, &stored[at..at + block.len as usize]).map_err(|d| (block.position, block.len, d))
            };
            index.iter().map(unpack_one).collect::<Result<Vec<_>, _>>()
        };
        let raw: usize = blocks.iter().map(|block| block.raw_len as usize).sum();
        let unpacked = if raw < OFFLOAD_BYTES { unpack_all() } else { rt.offload("unpack blocks", unpack_all).await? };
        unpacked.map_err(|(position, len, d)| corrupt(&self.path, position, u64::from(len), d))
    }
}

/// The raw entries of the block that the index has at its place: nothing is taken that does not agree in every respect.
pub fn unpack_checked(group: GroupId, block: &BlockIndex, whole: &[u8]) -> Result<Bytes, Damage> {
    let (header, data) = check_block(group, block.position, whole)?;
    if BlockIndex::of(block.position, &header) != *block {
        return Err(Damage("the block is not what the index says".into()));
    }
    let raw = Bytes::from(unpack(&header, data)?);
    check_entries(&header, &raw)?;
    Ok(raw)
}
