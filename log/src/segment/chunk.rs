//! From entries to blocks. Pure, and heavy where it compresses: that is done on the pool.

use super::{
    format::{BLOCK_HEADER_BYTES, BlockHeader, BlockIndex, Codec, Damage, ENTRY_HEADER_BYTES},
    list::end_chunk,
};
use crate::entry::{Entry, EntryKind};
use bytes::{BufMut, Bytes};
use millpond_batch::{Compression, Header};
use millpond_runtime::{
    GroupId, Index, Offset,
    codec::{Reader, Short},
};

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
pub struct Chunk {
    /// Whole 4 KiB.
    pub bytes: Vec<u8>,
    /// The blocks in it.
    pub index: Vec<BlockIndex>,
}

/// Entries on their way into a block, and what the block answers for.
struct Open {
    raw: Vec<u8>,
    header: BlockHeader,
    /// Bytes whose batch its client has compressed already.
    packed: usize,
}

/// Packs `entries` (in order, at least one) into a chunk. The blocks answer for all offsets from the first entry's
/// on up to `next_offset`, without a hole between them. `before` are the last blocks in front of the chunk, for its
/// [list](super::list): [`BEFORE_MAX`](super::list::BEFORE_MAX) and one more are enough.
#[must_use]
pub fn encode_chunk(entries: &[Entry], next_offset: Offset, options: ChunkOptions, before: &[BlockIndex]) -> Chunk {
    let mut packer = Packer::new(options);
    for entry in entries {
        packer.push(entry);
    }
    packer.finish(next_offset, before)
}

/// Makes a chunk entry by entry. What one entry takes is bounded by a block of [`BLOCK_RAW_BYTES`] and the entry itself.
pub struct Packer {
    options: ChunkOptions,
    chunk: Chunk,
    open: Option<Open>,
    /// After the last entry.
    next_index: Index,
    /// Memory of the block that was closed last, for the next.
    spare: Vec<u8>,
}

impl Packer {
    /// Nothing yet.
    #[must_use]
    pub fn new(options: ChunkOptions) -> Self {
        Self { options, chunk: Chunk::default(), open: None, next_index: Index(0), spare: Vec::new() }
    }

    /// Takes the next entry; whether that has ended a block.
    pub fn push(&mut self, entry: &Entry) -> bool {
        let full = self.open.take_if(|o| o.raw.len() >= BLOCK_RAW_BYTES || o.header.term != entry.term);
        let ended = full.is_some();
        if let Some(full) = full {
            self.close(full, entry.index, entry.base_offset);
        }
        let spare = &mut self.spare;
        self.open.get_or_insert_with(|| Open::at(entry, std::mem::take(spare))).push(entry);
        self.next_index = entry.index.next();
        ended
    }

    /// Ends the chunk, as [`encode_chunk`] does.
    #[must_use]
    pub fn finish(mut self, next_offset: Offset, before: &[BlockIndex]) -> Chunk {
        if let Some(last) = self.open.take() {
            self.close(last, self.next_index, next_offset);
        }
        end_chunk(self.options.group, self.options.position, &self.chunk.index, before, &mut self.chunk.bytes);
        self.chunk
    }

    /// Ends a block: it answers up to where the next one begins.
    fn close(&mut self, open: Open, next_index: Index, next_offset: Offset) {
        let Open { mut raw, mut header, packed } = open;
        header.raw_len = raw.len() as u32;
        header.next_offset = next_offset;
        header.last_index = header.last_index.max(Index(next_index.0 - 1));
        // What clients have compressed does not compress again; and packing must save a twentieth to be worth the reading.
        let worth = self.options.level > 0 && packed * 2 < raw.len();
        let zip = || zstd::bulk::compress(&raw, self.options.level).ok();
        let zipped = worth.then(zip).flatten().filter(|z| z.len() + z.len() / 20 < raw.len());
        let data = zipped.as_ref().unwrap_or(&raw);
        header.codec = if zipped.is_some() { Codec::Zstd } else { Codec::Raw };
        header.stored_len = data.len() as u32;
        let bytes = &mut self.chunk.bytes;
        let position = self.options.position + bytes.len() as u64;
        bytes.reserve(BLOCK_HEADER_BYTES + data.len());
        header.encode(self.options.group, position, data, bytes);
        self.chunk.index.push(BlockIndex::of(position, &header));
        raw.clear();
        self.spare = raw;
    }
}

impl Open {
    fn at(entry: &Entry, mut raw: Vec<u8>) -> Self {
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
        raw.reserve(BLOCK_RAW_BYTES + entry.payload.len());
        Self { raw, header, packed: 0 }
    }

    fn push(&mut self, entry: &Entry) {
        self.raw.put_u32_le(entry.payload.len() as u32);
        self.raw.put_u8(entry.kind as u8);
        self.raw.put_slice(&entry.payload);
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
