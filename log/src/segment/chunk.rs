//! From entries to blocks. Pure, and heavy where it compresses: that is done on the pool.

use super::{
    format::{BLOCK_HEADER_BYTES, BlockHeader, BlockIndex, Codec, Damage, ENTRY_HEADER_BYTES},
    list::{end_chunk, listed},
};
use crate::entry::{Entry, EntryKind};
use bytes::Bytes;
use millpond_batch::{Compression, Header};
use millpond_runtime::{
    GroupId, Index, IoBuf, Offset,
    codec::{Reader, Short},
    limits::BLOCK_BYTES,
};
use zstd::bulk::Compressor;

/// A block is closed once it holds this many raw bytes.
pub const BLOCK_RAW_BYTES: usize = 128 * 1024;

/// Where a chunk goes and how it is packed.
#[derive(Clone, Copy, Debug)]
pub struct ChunkOptions {
    /// The group.
    pub group: GroupId,
    /// Where in the file the chunk begins; whole 4 KiB.
    pub position: u64,
    /// zstd level; 0 stores blocks raw.
    pub level: i32,
}

/// Blocks, one behind the other, ready to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk<B = Vec<u8>> {
    /// Whole 4 KiB.
    pub bytes: B,
    /// The blocks in it.
    pub index: Vec<BlockIndex>,
}

/// A block that takes entries, at the end of the chunk, and what it answers for.
struct Open {
    /// Where in the chunk it begins: its head first, which is written last.
    at: usize,
    header: BlockHeader,
    /// Bytes whose batch its client has compressed already.
    packed: usize,
}

/// Packs `entries` (in order, at least one) into a chunk. The blocks answer for all offsets from the first entry's
/// on up to `next_offset`, without a hole between them. `before` are the last blocks in front of the chunk, for its
/// [list](super::list): [`BEFORE_MAX`](super::list::BEFORE_MAX) and one more are enough.
#[must_use]
pub fn encode_chunk(entries: &[Entry], next_offset: Offset, options: ChunkOptions, before: &[BlockIndex]) -> Chunk {
    let most = chunk_bytes_max(entries);
    // A quarter of what compresses is likely to be left.
    let likely = if options.level > 0 { (most / 4 + BLOCK_RAW_BYTES).min(most) } else { most };
    let mut packer = Packer::new(options, Vec::with_capacity(likely));
    for entry in entries {
        packer.push(entry);
    }
    packer.finish(next_offset, before)
}

/// Bytes of the longest chunk that these entries can become.
#[must_use]
pub fn chunk_bytes_max(entries: &[Entry]) -> usize {
    let raw: usize = entries.iter().map(|entry| ENTRY_HEADER_BYTES + entry.payload.len()).sum();
    // A block ends because it is full, or because the term does, or with the chunk.
    let terms = entries.windows(2).filter(|pair| pair[0].term != pair[1].term).count();
    let blocks = raw / BLOCK_RAW_BYTES + terms + 1;
    listed(raw + blocks * BLOCK_HEADER_BYTES, blocks).next_multiple_of(BLOCK_BYTES)
}

/// Makes a chunk entry by entry: their bytes go where they will lie, and only what compresses is moved once more.
pub struct Packer<B> {
    options: ChunkOptions,
    chunk: Chunk<B>,
    open: Option<Open>,
    /// After the last entry.
    next_index: Index,
    /// Made for the first block that is compressed, for all of them.
    zstd: Option<Compressor<'static>>,
    /// What the last one was compressed to.
    zipped: Vec<u8>,
}

impl<B: IoBuf> Packer<B> {
    /// Nothing yet. The chunk is made in `bytes`, where [`chunk_bytes_max`] of what will come have room.
    #[must_use]
    pub fn new(options: ChunkOptions, bytes: B) -> Self {
        let chunk = Chunk { bytes, index: Vec::new() };
        Self { options, chunk, open: None, next_index: Index(0), zstd: None, zipped: Vec::new() }
    }

    /// Takes the next entry; whether that has ended a block.
    pub fn push(&mut self, entry: &Entry) -> bool {
        let bytes = &mut self.chunk.bytes;
        let full = self.open.take_if(|o| o.raw_len(bytes) >= BLOCK_RAW_BYTES || o.header.term != entry.term);
        let ended = full.is_some();
        if let Some(full) = full {
            self.close(full, entry.index, entry.base_offset);
        }
        let bytes = &mut self.chunk.bytes;
        self.open.get_or_insert_with(|| Open::at(bytes, entry)).push(entry, bytes);
        self.next_index = entry.index.next();
        ended
    }

    /// Ends the chunk, as [`encode_chunk`] does.
    #[must_use]
    pub fn finish(mut self, next_offset: Offset, before: &[BlockIndex]) -> Chunk<B> {
        if let Some(last) = self.open.take() {
            self.close(last, self.next_index, next_offset);
        }
        end_chunk(self.options.group, self.options.position, &self.chunk.index, before, &mut self.chunk.bytes);
        self.chunk
    }

    /// Ends a block: it answers up to where the next one begins.
    fn close(&mut self, open: Open, next_index: Index, next_offset: Offset) {
        let raw_len = open.raw_len(&self.chunk.bytes);
        let Open { at, mut header, packed } = open;
        header.raw_len = raw_len as u32;
        header.next_offset = next_offset;
        header.last_index = header.last_index.max(Index(next_index.0 - 1));
        // What clients have compressed does not compress again; and packing must save a twentieth to be worth the reading.
        let worth = self.options.level > 0 && packed * 2 < raw_len;
        if worth && self.zip(at + BLOCK_HEADER_BYTES) && self.zipped.len() + self.zipped.len() / 20 < raw_len {
            header.codec = Codec::Zstd;
            self.chunk.bytes.truncate(at + BLOCK_HEADER_BYTES);
            self.chunk.bytes.put(&self.zipped);
        }
        let block = &mut self.chunk.bytes.filled()[at..];
        header.stored_len = (block.len() - BLOCK_HEADER_BYTES) as u32;
        let position = self.options.position + at as u64;
        header.put(self.options.group, position, block);
        self.chunk.index.push(BlockIndex::of(position, &header));
    }

    /// Compresses what lies from `from` on; false if zstd has no memory.
    fn zip(&mut self, from: usize) -> bool {
        if self.zstd.is_none() {
            self.zstd = Compressor::new(self.options.level).ok();
        }
        let raw = &self.chunk.bytes.filled()[from..];
        self.zipped.clear();
        self.zipped.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.zstd.as_mut().is_some_and(|zstd| zstd.compress_to_buffer(raw, &mut self.zipped).is_ok())
    }
}

impl Open {
    /// Begins a block behind `bytes`, for `entry` and those that follow.
    fn at(bytes: &mut impl IoBuf, entry: &Entry) -> Self {
        let header = BlockHeader {
            codec: Codec::Raw,
            raw_len: 0,
            stored_len: 0,
            count: 0,
            term: entry.term,
            first_index: entry.index,
            last_index: entry.index,
            first_offset: entry.base_offset,
            next_offset: entry.base_offset,
            max_timestamp: i64::MIN,
        };
        let at = bytes.len();
        bytes.put_zeros(BLOCK_HEADER_BYTES);
        Self { at, header, packed: 0 }
    }

    fn raw_len(&self, bytes: &impl IoBuf) -> usize {
        bytes.len() - self.at - BLOCK_HEADER_BYTES
    }

    fn push(&mut self, entry: &Entry, bytes: &mut impl IoBuf) {
        let mut head = [0; ENTRY_HEADER_BYTES];
        let (len, kind) = head.split_at_mut(4);
        len.copy_from_slice(&(entry.payload.len() as u32).to_le_bytes());
        kind[0] = entry.kind as u8;
        bytes.put(&head);
        bytes.put(&entry.payload);
        self.header.count += 1;
        self.header.last_index = entry.index;
        if entry.kind == EntryKind::Batch
            && let Ok(batch) = Header::parse(&entry.payload)
        {
            self.header.max_timestamp = self.header.max_timestamp.max(batch.max_timestamp);
            if batch.compression() != Ok(Compression::None) {
                self.packed += entry.payload.len();
            }
        }
    }
}

/// Walks over the entries in a block's raw bytes.
pub fn entries(raw: &Bytes) -> impl Iterator<Item = Result<(EntryKind, Bytes), Short>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= raw.len() {
            return None;
        }
        let mut r = Reader::new(&raw[at..]);
        let step = (|| {
            let (len, kind) = (r.u32()? as usize, r.u8()?);
            r.take(len)?;
            let from = at + ENTRY_HEADER_BYTES;
            // Kinds that a later version adds are no batches for us.
            let kind = if kind == EntryKind::Batch as u8 { EntryKind::Batch } else { EntryKind::Raft };
            Ok((kind, from, from + len))
        })();
        match step {
            Ok((kind, from, to)) => {
                at = to;
                Some(Ok((kind, raw.slice(from..to))))
            }
            Err(short) => {
                at = raw.len();
                Some(Err(short))
            }
        }
    })
}

/// Checks that a block's raw bytes are the entries that its head promises: as many, nothing behind them, each batch
/// whole, in order and inside the offsets that the block answers for.
pub fn check_entries(header: &BlockHeader, raw: &Bytes) -> Result<(), Damage> {
    let mut count = 0_u32;
    let mut at = header.first_offset.0;
    for entry in entries(raw) {
        let (kind, payload) = entry.map_err(|short| Damage(format!("entry {count} of a block: {short}")))?;
        count += 1;
        if kind != EntryKind::Batch {
            continue;
        }
        let batch = Header::parse(&payload).map_err(|e| Damage(format!("entry {count} of a block is no batch: {e}")))?;
        if batch.batch_len != payload.len() || batch.base_offset < at || batch.next_offset() > header.next_offset.0 {
            return Err(Damage(format!(
                "a batch of {} bytes (its head says {}) with offsets {}..{}, where {at}..{} are left",
                payload.len(),
                batch.batch_len,
                batch.base_offset,
                batch.next_offset(),
                header.next_offset
            )));
        }
        at = batch.next_offset();
    }
    if count == header.count { Ok(()) } else { Err(Damage(format!("{count} entries in a block, its head says {}", header.count))) }
}
