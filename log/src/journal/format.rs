//! The bytes of a journal file: the header of a file, the header of a flush, and frames. Pure: no disk, no clock.
//! All integers are little-endian unless a batch says otherwise.
//!
//! ```text
//! file      | block 0: file header | flush | flush | ... | old bytes of an earlier life, or zeros |
//!
//! file header, 64 B, the rest of the block zeros
//!   0      4         8            16        24     26          28         32         40      48         56       60    64
//!   | MPJ1 | version | cluster id | node id | home | reserved  | reserved | file_seq | nonce | file len | reserved | crc |
//!
//! flush: begins at a block boundary, is one write, and one sync covers it. Its content lies in sectors: see [`super::sector`].
//!   | 504 B content, crc, stamp | 504 B content, crc, stamp | ... zeros up to the block's end, in sectors too |
//!
//! content of a flush
//!   | flush header 64 B | frames ... | zeros |
//!
//! flush header, 64 B
//!   0      4            8       16          24         32         36       40         44          48         60    64
//!   | MPJF | frames u32 | nonce | flush_seq | position | body len | stamp  | prev crc | reserved | reserved | crc |
//!
//! frame: head, then payload
//!   0     4          8      9        10       12      20      28     36        len
//!   | len | head crc | kind | variant| zeros  | group | index | term | payload |
//! ```
//!
//! `crc` is CRC-32 over the bytes before it. Payloads are covered by their sectors; the `head crc` of a frame covers its head alone
//! (without itself). `stamp` is what all sectors of the flush end with. `prev crc` is the header crc of the flush before, over
//! all files: the flushes are a chain.
//!
//! A flush header is valid only at its own `position` and with the `nonce` of its file's life. The nonce is drawn when
//! a file is made or recycled, so neither old bytes nor a hostile payload can pose as a flush. A flush is begun only
//! when the sync of the one before has returned: a valid header proves that **everything before it was synced**.
//! An empty flush (no frames) is written after a quiet moment for that proof alone: it is the mark of the flush before.
//!
//! Written by `writer`, read by `recovery` and `inspect`.

use super::sector::{self, Seal};
use bytes::BufMut;
use millpond_runtime::{GroupId, Index, Offset, Term, codec::Reader, limits::BLOCK_BYTES};

/// The first bytes of a journal file.
pub const FILE_MAGIC: [u8; 4] = *b"MPJ1";
/// The first bytes of a flush.
pub const FLUSH_MAGIC: [u8; 4] = *b"MPJF";
/// The version of this layout.
pub const VERSION: u32 = 1;
/// The number of a file that is in no use, whatever its name says.
pub const NOT_IN_USE: u64 = 0;
/// Length of a file header, in bytes. It has a block for itself.
pub const FILE_HEADER_BYTES: usize = 64;
/// Length of a flush header, in bytes.
pub const FLUSH_HEADER_BYTES: usize = 64;
/// Length of a frame's head, in bytes.
pub const FRAME_HEAD_BYTES: usize = 36;
/// Position of the first flush of a file.
pub const FIRST_FLUSH: u64 = BLOCK_BYTES as u64;

/// What block 0 of a journal file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The cluster that wrote it.
    pub cluster_id: u64,
    /// The node that wrote it.
    pub node_id: u64,
    /// The journal home.
    pub home: u16,
    /// Its place among the journal's files, counted from 1; [`NOT_IN_USE`] if it has none.
    pub file_seq: u64,
    /// Random, drawn for this life of the file.
    pub nonce: u64,
    /// Length of the file, in bytes.
    pub file_len: u64,
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not our magic: nothing was written here, or it was destroyed.
    #[error("no magic {expected:?}, found {found:?}")]
    Magic {
        /// What should stand there.
        expected: [u8; 4],
        /// What does.
        found: [u8; 4],
    },
    /// A version that this build cannot read.
    #[error("format version {found}, this build reads {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A checksum does not match.
    #[error("crc of the {what} is {computed:08x}, recorded {recorded:08x}")]
    Crc {
        /// What the checksum covers.
        what: &'static str,
        /// Over the bytes as they are.
        computed: u32,
        /// As written.
        recorded: u32,
    },
    /// A length or a field cannot be.
    #[error("{what}")]
    Shape {
        /// What cannot be.
        what: String,
    },
}

impl From<millpond_runtime::codec::Short> for FormatError {
    fn from(short: millpond_runtime::codec::Short) -> Self {
        Self::Shape { what: short.to_string() }
    }
}

fn shape<T>(what: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError::Shape { what: what.into() })
}

fn check_magic(bytes: &[u8], expected: [u8; 4]) -> Result<(), FormatError> {
    let mut found = [0; 4];
    found.copy_from_slice(Reader::new(bytes).take(4)?);
    if found == expected { Ok(()) } else { Err(FormatError::Magic { expected, found }) }
}

fn check_crc(what: &'static str, bytes: &[u8], recorded: u32) -> Result<(), FormatError> {
    let computed = crc32fast::hash(bytes);
    if computed == recorded { Ok(()) } else { Err(FormatError::Crc { what, computed, recorded }) }
}

impl FileHeader {
    /// The 64 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        let mut at = &mut bytes[..];
        at.put_slice(&FILE_MAGIC);
        at.put_u32_le(VERSION);
        at.put_u64_le(self.cluster_id);
        at.put_u64_le(self.node_id);
        at.put_u16_le(self.home);
        at.put_bytes(0, 6);
        at.put_u64_le(self.file_seq);
        at.put_u64_le(self.nonce);
        at.put_u64_le(self.file_len);
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the head of block 0.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_magic(bytes, FILE_MAGIC)?;
        let mut r = Reader::new(bytes);
        r.take(4)?;
        let version = r.u32()?;
        let header = Self {
            cluster_id: r.u64()?,
            node_id: r.u64()?,
            home: r.u16()?,
            file_seq: {
                r.take(6)?;
                r.u64()?
            },
            nonce: r.u64()?,
            file_len: r.u64()?,
        };
        r.take(4)?;
        let crc = r.u32()?;
        check_crc("file header", &bytes[..60], crc)?;
        if version != VERSION {
            return Err(FormatError::Version { found: version });
        }
        Ok(header)
    }
}

/// What the first bytes of a flush say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushHeader {
    /// Frames in the body.
    pub frames: u32,
    /// The nonce of the file's life.
    pub nonce: u64,
    /// Its place among the journal's flushes, counted from 1, over all files.
    pub flush_seq: u64,
    /// Where it stands in the file, in bytes.
    pub position: u64,
    /// Length of the frames, in bytes, without padding.
    pub body_len: u32,
    /// What its sectors end with: from 1 to 2^31 - 1.
    pub stamp: u32,
    /// The header crc of the flush before; 0 for the first.
    pub prev_crc: u32,
}

impl FlushHeader {
    /// Length of the whole flush on disk, in bytes: whole blocks.
    #[must_use]
    pub fn disk_len(&self) -> u64 {
        flush_disk_len(self.body_len as usize)
    }

    /// The 64 bytes; the last four are the crc that the next flush calls `prev_crc`.
    #[must_use]
    pub fn encode(&self) -> [u8; FLUSH_HEADER_BYTES] {
        let mut bytes = [0; FLUSH_HEADER_BYTES];
        let mut at = &mut bytes[..];
        at.put_slice(&FLUSH_MAGIC);
        at.put_u32_le(self.frames);
        at.put_u64_le(self.nonce);
        at.put_u64_le(self.flush_seq);
        at.put_u64_le(self.position);
        at.put_u32_le(self.body_len);
        at.put_u32_le(self.stamp);
        at.put_u32_le(self.prev_crc);
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header, and its own crc. Whether it belongs here is for the caller to say: see [`FlushHeader::belongs`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), FormatError> {
        check_magic(bytes, FLUSH_MAGIC)?;
        let mut r = Reader::new(bytes);
        r.take(4)?;
        let header = Self {
            frames: r.u32()?,
            nonce: r.u64()?,
            flush_seq: r.u64()?,
            position: r.u64()?,
            body_len: r.u32()?,
            stamp: r.u32()?,
            prev_crc: r.u32()?,
        };
        r.take(16)?;
        let crc = r.u32()?;
        check_crc("flush header", &bytes[..60], crc)?;
        Ok((header, crc))
    }

    /// Whether it was written at `position` in this life of the file, and fits into it.
    #[must_use]
    pub fn belongs(&self, file: &FileHeader, position: u64) -> bool {
        self.nonce == file.nonce
            && self.position == position
            && position.checked_add(self.disk_len()).is_some_and(|end| end <= file.file_len)
    }

    /// What its sectors have in common.
    #[must_use]
    pub fn seal(&self) -> Seal {
        Seal { nonce: self.nonce, stamp: self.stamp }
    }
}

/// Length on disk, in bytes, of a flush with `body_len` bytes of frames.
#[must_use]
pub fn flush_disk_len(body_len: usize) -> u64 {
    millpond_runtime::limits::block_up(sector::sectors_len(FLUSH_HEADER_BYTES + body_len) as u64)
}

/// What a frame is. The number is what lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// An entry of a group's log; the variant says which [`crate::EntryKind`]. A batch's base offset is in the batch.
    Entry = 1,
    /// A group came into being. Payload: its settings.
    GroupCreate = 2,
    /// A group's settings changed. Payload: the settings.
    GroupAlter = 3,
    /// A group is gone.
    GroupDrop = 4,
    /// A group's log starts later. Payload: the start offset.
    Trim = 5,
    /// A group's entries up to `index` are in synced segments. Payload: [`Settled`].
    Settled = 6,
    /// A group as it was when the file began. Payload: see `checkpoint`.
    CheckpointGroup = 7,
    /// The checkpoint is complete. Payload: number of groups.
    CheckpointEnd = 8,
    /// A replica's hard state changed. Payload: [`crate::HardState`].
    Hard = 9,
    /// A replica's newest entries are gone. Payload: [`crate::replica::Truncation`].
    Truncate = 10,
    /// A replica's members changed. Payload: [`crate::Members`].
    Members = 11,
    /// A group that was alone is a replica from here on. Payload: [`crate::Members`].
    Replicate = 12,
    /// A snapshot took the place of all that a replica had. Payload: the group as it is from then on, as in a checkpoint.
    Install = 13,
}

impl FrameKind {
    fn decode(kind: u8) -> Result<Self, FormatError> {
        Ok(match kind {
            1 => Self::Entry,
            2 => Self::GroupCreate,
            3 => Self::GroupAlter,
            4 => Self::GroupDrop,
            5 => Self::Trim,
            6 => Self::Settled,
            7 => Self::CheckpointGroup,
            8 => Self::CheckpointEnd,
            9 => Self::Hard,
            10 => Self::Truncate,
            11 => Self::Members,
            12 => Self::Replicate,
            13 => Self::Install,
            _ => return shape(format!("frame kind {kind} is not known")),
        })
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// What the payload is.
    pub kind: FrameKind,
    /// For an entry, its kind; for a group that is created, 1 if it is a replica; else 0.
    pub variant: u8,
    /// The group it speaks of.
    pub group: GroupId,
    /// The entry's index; for notes, the index that they speak of, or 0.
    pub index: Index,
    /// The entry's term, or 0.
    pub term: Term,
}

impl FrameHead {
    /// Of a note about a group, which speaks of no entry.
    #[must_use]
    pub fn note(kind: FrameKind, group: GroupId) -> Self {
        Self { kind, variant: 0, group, index: Index(0), term: Term(0) }
    }

    /// The 36 bytes before a payload of `payload_len` bytes.
    #[must_use]
    pub fn encode(&self, payload_len: usize) -> [u8; FRAME_HEAD_BYTES] {
        let mut bytes = [0; FRAME_HEAD_BYTES];
        let mut at = &mut bytes[..];
        at.put_u32_le((FRAME_HEAD_BYTES + payload_len) as u32);
        at.put_u32_le(0);
        at.put_u8(self.kind as u8);
        at.put_u8(self.variant);
        at.put_u16_le(0);
        at.put_u64_le(self.group.0);
        at.put_u64_le(self.index.0);
        at.put_u64_le(self.term.0);
        let crc = head_crc(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

fn head_crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..4]);
    hasher.update(&bytes[8..FRAME_HEAD_BYTES]);
    hasher.finalize()
}

/// A frame in a body, and where it begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Byte of the body at which it begins.
    pub at: usize,
    /// Its head.
    pub head: FrameHead,
    /// Its payload.
    pub payload: &'a [u8],
}

/// The frames of a body, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// Over the frames' bytes of one flush.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    fn read(&mut self) -> Result<Frame<'a>, FormatError> {
        let bytes = &self.body[self.at..];
        let mut r = Reader::new(bytes);
        let len = r.u32()? as usize;
        let crc = r.u32()?;
        if len < FRAME_HEAD_BYTES || len > bytes.len() {
            return shape(format!("frame of {len} bytes where {} are left", bytes.len()));
        }
        let computed = head_crc(bytes);
        if computed != crc {
            return Err(FormatError::Crc { what: "frame head", computed, recorded: crc });
        }
        let kind = FrameKind::decode(r.u8()?)?;
        let variant = r.u8()?;
        r.u16()?;
        let head = FrameHead { kind, variant, group: GroupId(r.u64()?), index: Index(r.u64()?), term: Term(r.u64()?) };
        let frame = Frame { at: self.at, head, payload: &bytes[FRAME_HEAD_BYTES..len] };
        self.at += len;
        Ok(frame)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.body.len() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.at = self.body.len();
        }
        Some(read)
    }
}

/// Where a group's settled entries end: in which segment, and at which byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMark {
    /// Base offset in the segment's name.
    pub base_offset: Offset,
    /// Generation in the segment's name.
    pub generation: u32,
    /// Synced bytes of the segment.
    pub position: u64,
}

/// What a group's segments hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The last settled entry.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// The segment that grows; `None` until there is one, and after everything was trimmed.
    pub segment: Option<SegmentMark>,
}

impl Settled {
    /// Appends the bytes that [`Settled::decode`] reads.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.next_offset.0);
        out.put_u8(u8::from(self.segment.is_some()));
        if let Some(segment) = self.segment {
            out.put_u64_le(segment.base_offset.0);
            out.put_u32_le(segment.generation);
            out.put_u64_le(segment.position);
        }
    }

    /// Reads what [`Settled::encode`] wrote.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let (index, term, next_offset) = (Index(r.u64()?), Term(r.u64()?), Offset(r.u64()?));
        let segment = match r.u8()? {
            0 => None,
            1 => Some(SegmentMark { base_offset: Offset(r.u64()?), generation: r.u32()?, position: r.u64()? }),
            other => return shape(format!("segment flag {other}")),
        };
        Ok(Self { index, term, next_offset, segment })
    }
}

#[cfg(test)]
mod tests;
