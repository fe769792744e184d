//! What replicas say about a snapshot beside Raft: whoever receives asks for one piece after the other, so that it comes no faster than it can be kept, and goes on
//! where it was when a connection breaks.
//!
//! Each has the head of a message, whose numbers mean other things than in Raft's:
//!
//! ```text
//!   type         term  log term  index  commit    commit term     reject hint  reject         entries
//!   32 ask       0     number    file   position  bytes, 0 none   0            0              0
//!   33 piece     0     number    file   position  file's length   0            0              length of the data, which follow
//!   34 end       0     number    0, or 1 if it is damaged              0     0    1 if it failed 0
//! ```
//!
//! `number` is the snapshot's, `file` 0 its manifest, from 1 on its segments.

use super::{MESSAGE_BYTES, Said, WireError};
use bytes::{BufMut, Bytes, BytesMut};
use millpond_runtime::{GroupId, codec::Reader};

/// The largest piece, in bytes.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

const ASK: u8 = 32;
const PIECE: u8 = 33;
const END: u8 = 34;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotAsk {
    /// The replica that asks.
    pub from: u64,
    /// The replica that offered it.
    pub to: u64,
    /// The snapshot.
    pub number: u64,
    /// 0 its manifest, from 1 on its segments.
    pub file: u64,
    /// The first byte.
    pub position: u64,
    /// At most [`PIECE_BYTES_MAX`]; 0 if nothing is wanted but that the sender knows that it is still wanted.
    pub bytes: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// The replica that offered it.
    pub from: u64,
    /// The replica that asked.
    pub to: u64,
    /// The snapshot.
    pub number: u64,
    /// As asked for.
    pub file: u64,
    /// As asked for.
    pub position: u64,
    /// Bytes of the whole file.
    pub len: u64,
    /// As many as were asked for, or fewer; of a segment whole blocks.
    pub data: Bytes,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// Who says so: the one that receives, or the one that cannot send any more.
    pub from: u64,
    /// The other one.
    pub to: u64,
    /// The snapshot.
    pub number: u64,
    /// Whether it is installed, or not needed any more.
    pub done: bool,
    /// Whether what has come is not what was written once: the disk of one of the two is damaged.
    pub damaged: bool,
}

/// What all messages begin with, behind the group.
pub(super) struct Head {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Term, log term, index, commit, commit term, reject hint.
    pub(super) numbers: [u64; 6],
    pub(super) priority: i64,
    pub(super) kind: u8,
    pub(super) reject: bool,
    pub(super) context: u16,
    pub(super) count: u32,
}

impl Head {
    pub(super) fn put(&self, group: GroupId, out: &mut BytesMut) {
        let at = out.len();
        for n in [group.0, self.from, self.to].into_iter().chain(self.numbers) {
            out.put_u64_le(n);
        }
        out.put_i64_le(self.priority);
        out.put_u8(self.kind);
        out.put_u8(u8::from(self.reject));
        out.put_u16_le(self.context);
        out.put_u32_le(self.count);
        debug_assert_eq!(out.len() - at, MESSAGE_BYTES, "a message begins with so much");
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (from, to) = (r.u64()?, r.u64()?);
        let mut numbers = [0; 6];
        for n in &mut numbers {
            *n = r.u64()?;
        }
        Ok(Self { from, to, numbers, priority: r.i64()?, kind: r.u8()?, reject: r.u8()? != 0, context: r.u16()?, count: r.u32()? })
    }

    fn of(kind: u8, from: u64, to: u64, number: u64, [file, position, len]: [u64; 3]) -> Self {
        Self { from, to, numbers: [0, number, file, position, len, 0], priority: 0, kind, reject: false, context: 0, count: 0 }
    }
}

impl SnapshotAsk {
    pub(super) fn head(&self) -> Head {
        Head::of(ASK, self.from, self.to, self.number, [self.file, self.position, self.bytes.into()])
    }
}

impl SnapshotPiece {
    pub(super) fn head(&self) -> Head {
        let head = Head::of(PIECE, self.from, self.to, self.number, [self.file, self.position, self.len]);
        Head { count: self.data.len() as u32, ..head }
    }
}

impl SnapshotEnd {
    pub(super) fn head(&self) -> Head {
        Head { reject: !self.done, ..Head::of(END, self.from, self.to, self.number, [self.damaged.into(), 0, 0]) }
    }
}

/// What the head begins, if it is one of these. Nothing that it counts on is left unchecked.
pub(super) fn said(head: &Head, r: &mut Reader<'_>, frame: &Bytes) -> Result<Option<Said>, WireError> {
    let Head { from, to, numbers: [_, number, file, position, len, _], kind, reject, context, count, .. } = *head;
    if !matches!(kind, ASK | PIECE | END) {
        return Ok(None);
    }
    let wrong = |what: String| Err(WireError::Shape(format!("of snapshot {number:x}: {what}")));
    if context != 0 || (kind != PIECE && count != 0) {
        return wrong(format!("a context of {context} bytes and {count} entries"));
    }
    Ok(Some(match kind {
        ASK if len > PIECE_BYTES_MAX as u64 => return wrong(format!("{len} bytes are asked for at once")),
        ASK => Said::Ask(SnapshotAsk { from, to, number, file, position, bytes: len as u32 }),
        END => Said::End(SnapshotEnd { from, to, number, done: !reject, damaged: file != 0 }),
        _ => {
            let bytes = count as usize;
            let fits = position.checked_add(bytes as u64).is_some_and(|end| end <= len);
            if bytes > PIECE_BYTES_MAX || !fits {
                return wrong(format!("{bytes} bytes at byte {position} of {len}"));
            }
            Said::Piece(SnapshotPiece { from, to, number, file, position, len, data: frame.slice_ref(r.take(bytes)?) })
        }
    }))
}
