//! What nodes say to each other: a greeting, a welcome back, then frames, each with messages of any number of groups.
//!
//! ```text
//!   greeting, 60 bytes: | MPRG | oldest u32 | newest u32 | cluster u64 | from node u64 | to node u64 | home u32 | age u64 | start u64 | crc u32 |
//!   welcome, 20 bytes:  | MPRW | version u32, 0: none | oldest u32 | newest u32 | crc u32 |
//!
//!   frame:   0      4      8        12         20
//!            | len  | crc  | n u32  | life u64 | n × message |
//!   message: | group u64 | from u64 | to u64 | term u64 | log term u64 | index u64 | commit u64 | commit term u64 |
//!            | reject hint u64 | priority i64 | type u8 | reject u8 | context len u16 | entries u32 | context | entries × entry |
//!   entry:   | index u64 | term u64 | type u8 | len u32 | payload |
//! ```
//!
//! Little-endian. Whoever dials says which [`Versions`] of all this it speaks, and is told which one of them both are to speak: the newest that both know. `len` counts what follows it, `crc` (CRC-32) covers what follows it. Payloads are not copied: they leave as pieces of their
//! own, and arrive as slices of the frame if they are most of it. `life` tells one start of the sender from another, and changes when a replica there breaks; a
//! frame without messages says that the node lives. The types are numbered as in the `raft` crate; those that a node only says to itself,
//! and proposals (only leaders propose) are refused. `MsgSnapshot` offers one: `index` and `log term` are those of its last entry, `reject hint` is its
//! number. Pieces of it are asked for, see [`Said`]. `MsgBeat`, which Raft's library says to itself, means here that the leader has nothing more to
//! say, see `driver/rest.rs`.

mod greeting;
mod pieces;
pub(crate) use greeting::nothing_in_common;
pub use greeting::{GREETING_BYTES, Greeting, MAGIC, Versions, WELCOME_BYTES, Welcome};
pub use pieces::{PIECE_BYTES_MAX, SnapshotAsk, SnapshotEnd, SnapshotPiece};

use bytes::{BufMut, Bytes, BytesMut};
use millpond_runtime::{
    GroupId,
    codec::{Reader, Short},
    limits::{BATCH_BYTES_LIMIT, FRAME_BYTES_MAX},
};
use pieces::Head;
use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};

/// Bytes before a frame's messages.
pub const HEAD_BYTES: usize = 20;
/// Bytes of a message before its context.
const MESSAGE_BYTES: usize = 88;
/// Bytes of an entry before its payload.
const ENTRY_BYTES: usize = 21;
/// Payloads below this are copied into the piece before them: a piece of their own costs more.
const COPIED_BYTES_MAX: usize = 1024;
/// A message whose payloads are less than this part of their frame has them copied, as a numerator and a denominator: they stay in memory for long, and
/// would keep what others have sent in the same frame. Those of one message come and go together.
const KEPT_PART: (usize, usize) = (3, 4);
/// Bytes that a read is known by, at most.
const READ_BYTES_MAX: usize = 64;
/// Entries of a message that room is made for before they are read.
const ENTRIES_AT_ONCE: usize = 16;
/// The longest frame, in bytes: whoever sends cuts earlier, after the message that reaches [`CUT_BYTES`].
pub const BYTES_MAX: usize = FRAME_BYTES_MAX;
/// A frame that is so long, in bytes, takes no further message.
pub const CUT_BYTES: usize = 1 << 20;

/// A message of one replica to another of its group.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The group.
    pub group: GroupId,
    /// What it says.
    pub said: Said,
}

/// What a replica says to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// What Raft says. A snapshot that is offered has the index and the term of its last entry, and 8 bytes of data, its number (little-endian); its members
    /// are not sent.
    Raft(Message),
    /// It wants a piece of a snapshot, or wants its sender to know that it is still at it.
    Ask(SnapshotAsk),
    /// A piece of a snapshot.
    Piece(SnapshotPiece),
    /// A snapshot is installed, or nothing will come of it.
    End(SnapshotEnd),
}

/// What one node has sent to another at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Which life of the sender this is, a number that looks like chance, but for its lowest bit: whether the sender keeps to leases of leaders
    /// (`driver/leases.rs`).
    pub life: u64,
    /// What its replicas say.
    pub envelopes: Vec<Envelope>,
}

impl Envelope {
    /// Bytes that it takes in a frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        let message = match &self.said {
            Said::Raft(message) => message,
            Said::Piece(piece) => return MESSAGE_BYTES + piece.data.len(),
            Said::Ask(_) | Said::End(_) => return MESSAGE_BYTES,
        };
        let entries: usize = message.entries.iter().map(|e| ENTRY_BYTES + e.data.len()).sum();
        MESSAGE_BYTES + message.context.len() + entries
    }
}

/// What a peer has sent is not what we speak. The connection is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ended too early.
    #[error("a peer's message is cut: {0}")]
    Short(#[from] Short),
    /// It was changed on its way.
    #[error("a peer's frame has checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// As it says.
        expected: u32,
        /// As it is.
        found: u32,
    },
    /// No sense.
    #[error("a peer says what makes no sense: {0}")]
    Shape(String),
    /// Another cluster, another node, another version.
    #[error("a peer is not whom we expect: {0}")]
    Stranger(String),
}

/// A frame of these messages from a sender in this life, in pieces to be sent one behind the other.
#[must_use]
pub fn encode(life: u64, envelopes: &[Envelope]) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    pieces.open.put_bytes(0, HEAD_BYTES);
    for Envelope { group, said } in envelopes {
        match said {
            Said::Raft(message) => pieces.put_message(*group, message),
            Said::Ask(ask) => ask.head().put(*group, &mut pieces.open),
            Said::End(end) => end.head().put(*group, &mut pieces.open),
            Said::Piece(piece) => {
                piece.head().put(*group, &mut pieces.open);
                pieces.put_payload(&piece.data);
            }
        }
    }
    pieces.finish(envelopes.len() as u32, life)
}

/// Bytes of ours and payloads of others, in turns.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Pieces {
    fn put_message(&mut self, group: GroupId, m: &Message) {
        let mut head = Head {
            from: m.from,
            to: m.to,
            numbers: [m.term, m.log_term, m.index, m.commit, m.commit_term, m.reject_hint],
            priority: m.priority,
            kind: m.get_msg_type() as u8,
            reject: m.reject,
            context: m.context.len() as u16,
            count: m.entries.len() as u32,
        };
        if m.get_msg_type() == MessageType::MsgSnapshot {
            let (snapshot, of) = (m.get_snapshot(), m.get_snapshot().get_metadata());
            head.numbers = [m.term, of.term, of.index, m.commit, m.commit_term, snapshot_number(snapshot)];
        }
        head.put(group, &mut self.open);
        self.open.put_slice(&m.context);
        m.entries.iter().for_each(|entry| self.put_entry(entry));
    }

    fn put_entry(&mut self, entry: &Entry) {
        self.open.put_u64_le(entry.index);
        self.open.put_u64_le(entry.term);
        self.open.put_u8(entry.get_entry_type() as u8);
        self.open.put_u32_le(entry.data.len() as u32);
        self.put_payload(&entry.data);
    }

    fn put_payload(&mut self, data: &Bytes) {
        if data.len() < COPIED_BYTES_MAX {
            return self.open.put_slice(data);
        }
        self.done.push(self.open.split().freeze());
        self.done.push(data.clone());
    }

    fn finish(mut self, count: u32, life: u64) -> Vec<Bytes> {
        self.done.push(self.open.freeze());
        let len: usize = self.done.iter().map(Bytes::len).sum();
        let mut first = BytesMut::from(&self.done[0][..]);
        first[..4].copy_from_slice(&((len - 4) as u32).to_le_bytes());
        first[8..12].copy_from_slice(&count.to_le_bytes());
        first[12..20].copy_from_slice(&life.to_le_bytes());
        let mut hash = crc32fast::Hasher::new();
        hash.update(&first[8..]);
        self.done[1..].iter().for_each(|piece| hash.update(piece));
        first[4..8].copy_from_slice(&hash.finalize().to_le_bytes());
        self.done[0] = first.freeze();
        self.done
    }
}

/// Bytes of the frame at the front of `bytes`, `len` and all, once its first four are there.
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(len) = bytes.get(..4) else { return Ok(None) };
    let len = 4 + u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    if (HEAD_BYTES..=BYTES_MAX).contains(&len) {
        return Ok(Some(len));
    }
    Err(WireError::Shape(format!("a frame of {len} bytes, where {HEAD_BYTES} to {BYTES_MAX} can be")))
}

/// Reads a whole frame.
pub fn decode(frame: &Bytes) -> Result<Frame, WireError> {
    let mut r = Reader::new(frame);
    let (len, expected) = (r.u32()? as usize, r.u32()?);
    if len + 4 != frame.len() {
        return Err(WireError::Shape(format!("a frame of {} bytes calls itself {} long", frame.len(), len + 4)));
    }
    let found = crc32fast::hash(&frame[8..]);
    if found != expected {
        return Err(WireError::Checksum { expected, found });
    }
    let (count, life) = (r.u32()? as usize, r.u64()?);
    if count > r.left() / MESSAGE_BYTES {
        return Err(WireError::Shape(format!("{count} messages in {} bytes", r.left())));
    }
    // No more than so many fit into the frame. Growing step by step would move them again and again.
    let mut envelopes = Vec::with_capacity(count);
    for _ in 0..count {
        envelopes.push(message(&mut r, frame)?);
    }
    if r.left() > 0 {
        return Err(WireError::Shape(format!("{} bytes behind the last message", r.left())));
    }
    Ok(Frame { life, envelopes })
}

fn message(r: &mut Reader<'_>, frame: &Bytes) -> Result<Envelope, WireError> {
    let group = GroupId(r.u64()?);
    let head = Head::read(r)?;
    if let Some(said) = pieces::said(&head, r, frame)? {
        return Ok(Envelope { group, said });
    }
    let Head { from, to, numbers: [term, log_term, index, commit, commit_term, reject_hint], priority, reject, .. } = head;
    let mut m = Message { from, to, term, log_term, index, commit, commit_term, reject_hint, priority, reject, ..Message::default() };
    m.set_msg_type(type_of(head.kind)?);
    if m.get_msg_type() == MessageType::MsgSnapshot {
        offered(&mut m)?;
    }
    let (context, entries) = (usize::from(head.context), head.count as usize);
    m.context = Bytes::copy_from_slice(r.take(context)?);
    if entries > r.left() / ENTRY_BYTES {
        return Err(WireError::Shape(format!("{entries} entries in {} bytes", r.left())));
    }
    // Nearly always there is one; many of them have to be there first.
    let mut read = Vec::with_capacity(entries.min(ENTRIES_AT_ONCE));
    for _ in 0..entries {
        read.push(entry(r, frame)?);
    }
    m.set_entries(read.into());
    check_entries(&m)?;
    let payloads: usize = m.entries.iter().map(|entry| entry.data.len()).sum();
    if payloads * KEPT_PART.1 < frame.len() * KEPT_PART.0 {
        m.entries.iter_mut().for_each(|entry| entry.data = Bytes::copy_from_slice(&entry.data));
    }
    Ok(Envelope { group, said: Said::Raft(m) })
}

/// Makes the offer of a snapshot of what the head of its message says.
fn offered(m: &mut Message) -> Result<(), WireError> {
    if m.index == 0 || m.log_term == 0 || m.log_term > m.term || m.index > i64::MAX as u64 {
        return Err(WireError::Shape(format!("a snapshot of entry {} of term {}, offered in term {}", m.index, m.log_term, m.term)));
    }
    let (index, term, number) = (std::mem::take(&mut m.index), std::mem::take(&mut m.log_term), std::mem::take(&mut m.reject_hint));
    let snapshot = m.mut_snapshot();
    snapshot.data = Bytes::copy_from_slice(&number.to_le_bytes());
    let of = snapshot.mut_metadata();
    (of.index, of.term) = (index, term);
    Ok(())
}

/// The number of a snapshot that is offered: 0 for what nobody offers.
pub(crate) fn snapshot_number(snapshot: &Snapshot) -> u64 {
    snapshot.data.as_ref().try_into().map_or(0, u64::from_le_bytes)
}

/// Whether the entries of a message are what Raft counts on.
fn check_entries(m: &Message) -> Result<(), WireError> {
    match m.get_msg_type() {
        MessageType::MsgAppend => {
            let expected = (1..=m.entries.len() as u64).map(|n| m.index.checked_add(n));
            match m.entries.iter().zip(expected).find(|(entry, expected)| Some(entry.index) != *expected) {
                Some((entry, _)) => Err(WireError::Shape(format!("entry {} among those that follow entry {}", entry.index, m.index))),
                None => Ok(()),
            }
        }
        // What a read is known by.
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if m.entries.len() == 1 && m.entries[0].data.len() <= READ_BYTES_MAX => {
            Ok(())
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => Err(WireError::Shape("a read that is known by nothing".into())),
        _ if m.entries.is_empty() => Ok(()),
        other => Err(WireError::Shape(format!("entries in a message of type {}", other as u8))),
    }
}

fn entry(r: &mut Reader<'_>, frame: &Bytes) -> Result<Entry, WireError> {
    let mut entry = Entry { index: r.u64()?, term: r.u64()?, ..Entry::default() };
    entry.set_entry_type(match r.u8()? {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        2 => EntryType::EntryConfChangeV2,
        other => return Err(WireError::Shape(format!("an entry of type {other}"))),
    });
    let len = r.u32()? as usize;
    if len > BATCH_BYTES_LIMIT {
        return Err(WireError::Shape(format!("an entry of {len} bytes")));
    }
    entry.data = frame.slice_ref(r.take(len)?);
    Ok(entry)
}

/// Those that nodes say to each other.
fn type_of(n: u8) -> Result<MessageType, WireError> {
    use MessageType::{
        MsgAppend, MsgAppendResponse, MsgBeat, MsgHeartbeat, MsgHeartbeatResponse, MsgReadIndex, MsgReadIndexResp, MsgRequestPreVote,
        MsgRequestPreVoteResponse, MsgRequestVote, MsgRequestVoteResponse, MsgSnapshot, MsgTimeoutNow, MsgTransferLeader,
    };
    const TYPES: [MessageType; 14] = [
        MsgBeat,
        MsgAppend,
        MsgAppendResponse,
        MsgRequestVote,
        MsgRequestVoteResponse,
        MsgSnapshot,
        MsgHeartbeat,
        MsgHeartbeatResponse,
        MsgTransferLeader,
        MsgTimeoutNow,
        MsgReadIndex,
        MsgReadIndexResp,
        MsgRequestPreVote,
        MsgRequestPreVoteResponse,
    ];
    TYPES.into_iter().find(|t| *t as u8 == n).ok_or_else(|| WireError::Shape(format!("a message of type {n}")))
}

#[cfg(test)]
mod tests;
