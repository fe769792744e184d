//! From entries to blocks. Pure and heavy: called on the pool.

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
    let mut chunk = Chunk::default();
    let mut open: Option<Open> = None;
    for entry in entries {
        if let Some(full) = open.take_if(|o| o.raw.len() >= BLOCK_RAW_BYTES || o.header.term != entry.term) {
            close(full, entry.index, entry.base_offset, &options, &mut chunk);
        }
        open.get_or_insert_with(|| Open::at(entry)).push(entry);
    }
    if let Some(last) = open {
        let after = entries.last().map_or(Index(0), |e| e.index.next());
        close(last, after, next_offset, &options, &mut chunk);
    }
    end_chunk(options.group, options.position, &chunk.index, before, &mut chunk.bytes);
    chunk
}

impl Open {
    fn at(entry: &Entry) -> Self {
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
        Self { raw: Vec::with_capacity(BLOCK_RAW_BYTES + entry.payload.len()), header, packed: 0 }
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

/// Ends a block: it answers up to where the next one begins.
fn close(open: Open, next_index: Index, next_offset: Offset, options: &ChunkOptions, chunk: &mut Chunk) {
    let Open { raw, mut header, packed } = open;
    header.raw_len = raw.len() as u32;
    header.next_offset = next_offset;
    header.last_index = header.last_index.max(Index(next_index.0 - 1));
    // What clients have compressed does not compress again; and packing must save a twentieth to be worth the reading.
    let worth = options.level > 0 && packed * 2 < raw.len();
    let zipped = worth.then(|| zstd::bulk::compress(&raw, options.level).ok()).flatten().filter(|z| z.len() + z.len() / 20 < raw.len());
    let data = zipped.as_ref().unwrap_or(&raw);
    header.codec = if zipped.is_some() { Codec::Zstd } else { Codec::Raw };
    header.stored_len = data.len() as u32;
    let position = options.position + chunk.bytes.len() as u64;
    chunk.bytes.reserve(BLOCK_HEADER_BYTES + data.len());
    header.encode(options.group, position, data, &mut chunk.bytes);
    chunk.index.push(BlockIndex::of(position, &header));
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
