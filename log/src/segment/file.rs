//! One segment's file: opening, writing, reading blocks.

use super::{
    chunk::{Chunk, check_entries},
    format::{
        BlockIndex, Codec, Damage, HEADER_BYTES, SegmentHeader, TAIL_BYTES, Tail, check_block, decode_footer, decode_tail, encode_footer,
        unpack,
    },
    lane::Lane,
    list::{LIST_TAIL_BYTES, decode_list, decode_list_tail},
};
use crate::{
    error::{LogError, Result},
    together::join,
    trash::User,
};
use bytes::Bytes;
use millpond_runtime::{File, GroupId, Index, IoBuf, Offset, Open, Rt, limits::BLOCK_BYTES};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Bytes that one disk operation writes at most: acks wait behind it.
const IO_BYTES_MAX: usize = 256 * 1024;
/// Bytes that one read asks for at most.
pub(super) const READ_BYTES_MAX: usize = 512 * 1024;
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
    /// Reads that may be under way.
    lane: Rc<Lane<R>>,
    /// Keeps it whole when its name goes.
    _user: Option<Rc<User>>,
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
        let this = Self { file, lane: Rc::new(Lane::new(rt.clone())), _user: None, path, header };
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
        Ok(Self { file, lane: Rc::new(Lane::new(rt.clone())), _user: None, path, header })
    }

    /// Has its reads take turns with those of other files on this lane.
    pub(super) fn on_lane(mut self, lane: &Rc<Lane<R>>) -> Self {
        self.lane = Rc::clone(lane);
        self
    }

    /// It is used by this one, who was there before it was opened.
    pub(super) fn used_by(mut self, user: Rc<User>) -> Self {
        self._user = Some(user);
        self
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

    /// Writes and syncs one that was made in memory from [`SegmentFile::buf`], by one operation of the disk. What was written before is not covered.
    pub async fn write_packed_synced(&self, position: u64, bytes: <R::File as File>::Buf) -> Result<()> {
        Ok(self.file.write_synced_at(position, bytes).await?)
    }

    /// Memory that this file's disk writes from, for at most so many bytes.
    #[must_use]
    pub fn buf(&self, capacity: usize) -> <R::File as File>::Buf {
        self.file.buf(capacity)
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

    /// `len` bytes from anywhere, in the pieces that the disk gave, the first without what lies before `position`; all reads are
    /// under way at once. An error if the file ends before.
    async fn pieces(&self, position: u64, len: usize) -> Result<Vec<Piece<R>>> {
        let (from, span) = aligned(position, len);
        let one = async |at: usize| {
            let _turn = self.lane.turn().await;
            self.file.read_at(from + at as u64, READ_BYTES_MAX.min(span - at)).await
        };
        let parts = join((0..span).step_by(READ_BYTES_MAX).map(one).collect()).await;
        let (mut skip, mut left) = ((position - from) as usize, len);
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            let part = part?;
            let take = part.len().saturating_sub(skip).min(left);
            left -= take;
            let whole = part.len() == READ_BYTES_MAX || left == 0;
            pieces.push((part, skip..skip + take));
            if !whole {
                let at = position + (len - left) as u64;
                return Err(corrupt(&self.path, at, left as u64, Damage("the file ends here".into())));
            }
            skip = 0;
        }
        Ok(pieces)
    }

    /// The same in one piece.
    pub(crate) async fn read(&self, position: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        for (part, range) in self.pieces(position, len).await? {
            out.extend_from_slice(&part[range]);
        }
        Ok(out)
    }

    /// Reads the head and the index anew, and says whether they are what they were when they were read first.
    pub(super) async fn verify_frame(&self, rt: &R, bound: Bound, index: &[BlockIndex]) -> Result<()> {
        let head = self.file.read_at(0, BLOCK_BYTES).await?;
        let header = SegmentHeader::decode(&head).map_err(|d| corrupt(&self.path, 0, HEADER_BYTES, d))?;
        if header != self.header {
            return Err(corrupt(&self.path, 0, HEADER_BYTES, Damage("the head is another one than it was".into())));
        }
        if self.index(rt, bound).await? != index {
            return Err(corrupt(&self.path, 0, 0, Damage("the index is another one than it was".into())));
        }
        Ok(())
    }

    /// Whether a block is what the index says, without unpacking it.
    pub(super) async fn verify_block(&self, block: &BlockIndex) -> Result<()> {
        let stored = self.read(block.position, block.len as usize).await?;
        let damaged = |d| corrupt(&self.path, block.position, u64::from(block.len), d);
        let (header, _) = check_block(self.header.group, block.position, &stored).map_err(damaged)?;
        if BlockIndex::of(block.position, &header) == *block {
            Ok(())
        } else {
            Err(damaged(Damage("the block is not what the index says".into())))
        }
    }

    /// The raw entries of blocks that lie one behind the other, checked and unpacked. What is stored as it is shares its memory
    /// with its neighbours.
    pub async fn read_blocks(&self, rt: &R, blocks: &[BlockIndex]) -> Result<Vec<Bytes>> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(Vec::new()) };
        let from = first.position;
        let len = (last.end() - from) as usize;
        let mut stored = Vec::with_capacity(len);
        for (part, range) in self.pieces(from, len).await? {
            stored.extend_from_slice(&part[range]);
            drop(part);
            rt.yield_if_needed().await;
        }
        let (stored, group) = (Bytes::from(stored), self.header.group);
        let unpack_one = move |block: &BlockIndex| {
            let at = (block.position - from) as usize;
            unpack_checked(group, block, &stored.slice(at..at + block.len as usize)).map_err(|d| (block.position, block.len, d))
        };
        let packed: usize = blocks.iter().filter(|block| !block.is_raw()).map(|block| block.raw_len as usize).sum();
        let unpacked = if packed < OFFLOAD_BYTES {
            let mut unpacked = Vec::with_capacity(blocks.len());
            for block in blocks {
                unpacked.push(unpack_one(block));
                rt.yield_if_needed().await;
            }
            unpacked.into_iter().collect()
        } else {
            let index = blocks.to_vec();
            rt.offload("unpack blocks", move || index.iter().map(unpack_one).collect::<Result<Vec<_>, _>>()).await?
        };
        unpacked.map_err(|(position, len, d)| corrupt(&self.path, position, u64::from(len), d))
    }
}

/// What one read gave, and which of it is wanted.
type Piece<R> = (<<R as Rt>::File as File>::Read, Range<usize>);

/// The raw entries of the block that the index has at its place: nothing is taken that does not agree in every respect.
pub fn unpack_checked(group: GroupId, block: &BlockIndex, whole: &Bytes) -> Result<Bytes, Damage> {
    let (header, data) = check_block(group, block.position, whole)?;
    if BlockIndex::of(block.position, &header) != *block {
        return Err(Damage("the block is not what the index says".into()));
    }
    let raw = match header.codec {
        Codec::Raw if data.len() == header.raw_len as usize => whole.slice_ref(data),
        _ => Bytes::from(unpack(&header, data)?),
    };
    check_entries(&header, &raw)?;
    Ok(raw)
}
