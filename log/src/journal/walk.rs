//! Tells a torn tail from a rotten one. Pure: bytes in, verdicts out.
//!
//! A flush is begun only when the sync of the one before has returned. So a valid flush header proves that everything
//! before it had been synced, and:
//!
//! | found at the expected place | anything valid and later | verdict |
//! |---|---|---|
//! | header and body good | - | accept |
//! | header good, body bad | no | the sync never ended, nobody was told: torn, cut |
//! | header good, body bad | yes | **corrupt** |
//! | no valid header | no | the end of the journal |
//! | no valid header | yes | **corrupt** |
//! | a valid header with a later number | (itself) | **corrupt**: flushes between are missing |
//!
//! "Later" is a valid header in its own place, of this life of the file, with a higher flush number: in the rest of the
//! file or in any later file. An older number is what an earlier crash had cut, and says nothing.

use super::format::{FLUSH_HEADER_BYTES, FileHeader, FlushHeader, FormatError, Frames};
use millpond_runtime::limits::BLOCK_BYTES;

/// What the next flush must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its number.
    pub next_seq: u64,
    /// The header crc of the flush before it; `None` at the start of the oldest file, whose predecessor is gone.
    pub prev_crc: Option<u32>,
}

/// What stands where a flush may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The flush that was expected, with its header's crc. The body is still to be checked.
    Expected(FlushHeader, u32),
    /// A flush of a higher number: the expected one is missing, though it was synced.
    Later(FlushHeader),
    /// A flush of the expected number that does not follow the one before.
    Unchained(FlushHeader),
    /// What an earlier crash had cut.
    Stale(FlushHeader),
    /// No flush of this life of the file.
    Nothing(FormatError),
}

/// Looks at the first bytes of a block at `position`.
#[must_use]
pub fn look(block: &[u8], file: &FileHeader, position: u64, chain: &Chain) -> Look {
    let (header, crc) = match FlushHeader::decode(block) {
        Ok(read) => read,
        Err(error) => return Look::Nothing(error),
    };
    if !header.belongs(file, position) {
        return Look::Nothing(FormatError::Shape { what: "a flush of another place or of an earlier life of the file".into() });
    }
    if header.flush_seq > chain.next_seq {
        Look::Later(header)
    } else if header.flush_seq < chain.next_seq {
        Look::Stale(header)
    } else if chain.prev_crc.is_some_and(|prev| prev != header.prev_crc) {
        Look::Unchained(header)
    } else {
        Look::Expected(header, crc)
    }
}

/// Checks the frames of a flush: their bytes, their heads, their number.
pub fn check_body(header: &FlushHeader, flush: &[u8]) -> Result<(), FormatError> {
    let body = flush.get(FLUSH_HEADER_BYTES..FLUSH_HEADER_BYTES + header.body_len as usize);
    let body = body.ok_or_else(|| FormatError::Shape { what: "the file ends inside the flush".into() })?;
    header.check_body(body)?;
    let mut frames = 0u32;
    for frame in Frames::new(body) {
        frame?;
        frames += 1;
    }
    if frames != header.frames {
        return Err(FormatError::Shape { what: format!("{frames} frames, {} recorded", header.frames) });
    }
    Ok(())
}

/// The first proof in `bytes` (whole blocks from `position` on) that flushes from `chain.next_seq` on were synced.
#[must_use]
pub fn find_proof(bytes: &[u8], file: &FileHeader, position: u64, chain: &Chain) -> Option<FlushHeader> {
    bytes.chunks(BLOCK_BYTES).zip(0u64..).find_map(|(block, i)| match look(block, file, position + i * BLOCK_BYTES as u64, chain) {
        Look::Later(header) => Some(header),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
