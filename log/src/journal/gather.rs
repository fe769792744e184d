//! A flush in the making: frames go straight into the memory that the disk will read, sector by sector, and are hashed as they
//! come.

use super::{
    format::{FLUSH_HEADER_BYTES, FRAME_HEAD_BYTES, FlushHeader, FrameHead, flush_disk_len},
    sector::{CONTENT_BYTES, SECTOR_BYTES, Seal},
};
use crate::lsn::Lsn;
use millpond_runtime::{GroupId, Index, IoBuf, Offset};

/// How far a group's log will be synced once the flush is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    /// The group.
    pub(crate) group: GroupId,
    /// Its last entry.
    pub(crate) index: Index,
    /// The offset after it.
    pub(crate) end: Offset,
    /// See [`crate::group::Group::life`].
    pub(crate) life: u32,
}

/// What becomes true once the flush is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Entries up to the index are settled, and it is known that they are, in a segment of this base offset.
    Settled(GroupId, Index, Offset),
    /// Entries before the offset are gone.
    Trimmed(GroupId, Offset),
    /// The group is gone.
    Dropped(GroupId),
    /// Entries that begin in this journal file are gone, and it is known that they are.
    Truncated(u64),
    /// A snapshot has taken the place of what was there, of which the oldest that was not settled lies in the journal file, if there was any.
    Installed(GroupId, Option<u64>),
    /// The checkpoint of this journal file is complete.
    Checkpointed(u64),
}

/// See the module. `B` is the disk's memory.
pub(crate) struct Gather<B> {
    buf: B,
    seal: Seal,
    frames: u32,
    body_len: usize,
    /// The file it goes to.
    pub(crate) file_seq: u64,
    /// Where it goes, in bytes.
    pub(crate) position: u64,
    /// The last frame in it.
    pub(crate) last_lsn: Lsn,
    /// Bytes of entries in it.
    pub(crate) entry_bytes: usize,
    /// Entries in it.
    pub(crate) entries: u64,
    /// Groups whose logs it makes longer.
    pub(crate) touched: Vec<Touched>,
    /// What becomes true with it, in order.
    pub(crate) then: Vec<Then>,
}

impl<B: IoBuf> Gather<B> {
    /// Starts one. `buf` is empty; it goes to `position` of this file.
    pub(crate) fn new(mut buf: B, seal: Seal, file_seq: u64, position: u64, last_lsn: Lsn) -> Self {
        buf.put_zeros(FLUSH_HEADER_BYTES);
        Self {
            buf,
            seal,
            frames: 0,
            body_len: 0,
            file_seq,
            position,
            last_lsn,
            entry_bytes: 0,
            entries: 0,
            touched: Vec::new(),
            then: Vec::new(),
        }
    }

    /// Length of the frames so far.
    pub(crate) fn body_len(&self) -> usize {
        self.body_len
    }

    /// Bytes it will take on disk.
    pub(crate) fn disk_len(&self) -> u64 {
        flush_disk_len(self.body_len())
    }

    /// Bytes it would take on disk with one more frame of this payload.
    pub(crate) fn disk_len_with(&self, payload_len: usize) -> u64 {
        flush_disk_len(self.body_len() + FRAME_HEAD_BYTES + payload_len)
    }

    /// Memory for `capacity` bytes, where what is there moves to.
    pub(crate) fn grow(&mut self, mut larger: B) {
        larger.put(self.buf.filled());
        self.buf = larger;
    }

    /// Bytes that its memory can take.
    pub(crate) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Adds a frame. The caller has made sure that there is capacity.
    pub(crate) fn put(&mut self, head: &FrameHead, payload: &[u8], lsn: Lsn) {
        let head = head.encode(payload.len());
        self.put_content(&head);
        self.put_content(payload);
        self.body_len += head.len() + payload.len();
        self.frames += 1;
        self.last_lsn = lsn;
    }

    /// Notes that a group's log ends here now. `slot` is where the same gather noted it before, if it did.
    pub(crate) fn touch(&mut self, touched: Touched, slot: Option<usize>) -> usize {
        match slot.and_then(|slot| self.touched.get_mut(slot)) {
            Some(earlier) => *earlier = touched,
            None => self.touched.push(touched),
        }
        slot.unwrap_or(self.touched.len() - 1)
    }

    fn put_content(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = CONTENT_BYTES - self.buf.len() % SECTOR_BYTES;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buf.put(now);
            if now.len() == room {
                self.buf.put_zeros(SECTOR_BYTES - CONTENT_BYTES);
                // The first one is closed last, with the header in it.
                let at = self.buf.len() - SECTOR_BYTES;
                if at > 0 {
                    self.close_sector(at);
                }
            }
            bytes = later;
        }
    }

    fn close_sector(&mut self, at: usize) {
        let seal = if at == 0 { self.seal.head() } else { self.seal };
        seal.close(self.position + at as u64, &mut self.buf.filled()[at..at + SECTOR_BYTES]);
    }

    /// Writes the header and the padding: the memory is ready for the disk. The number is the header's crc.
    pub(crate) fn finish(mut self, flush_seq: u64, prev_crc: u32) -> (B, u32) {
        let header = FlushHeader {
            frames: self.frames,
            nonce: self.seal.nonce,
            flush_seq,
            position: self.position,
            body_len: self.body_len as u32,
            stamp: self.seal.stamp,
            prev_crc,
        };
        let bytes = header.encode();
        self.buf.filled()[..FLUSH_HEADER_BYTES].copy_from_slice(&bytes);
        let open = self.buf.len() / SECTOR_BYTES * SECTOR_BYTES;
        self.buf.pad_to_block();
        for at in (open..self.buf.len()).step_by(SECTOR_BYTES).chain((open > 0).then_some(0)) {
            self.close_sector(at);
        }
        let [.., a, b, c, d] = bytes;
        (self.buf, u32::from_le_bytes([a, b, c, d]))
    }
}
