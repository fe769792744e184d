//! Tells a torn tail from a rotten one. Pure: bytes in, verdicts out.
//!
//! Two things tell. A sector says whether it was written to its end, see [`super::sector`]; and a flush is begun only when
//! the sync of the one before has returned, so that a valid flush header proves that everything before it had been synced.
//!
//! | found at the expected place | anything valid and later | verdict |
//! |---|---|---|
//! | header and all sectors good | - | accept |
//! | a sector that was written and is not what was written | - | **corrupt** |
//! | header good, sectors that were not written | no | the sync never ended, nobody was told: torn, cut |
//! | header good, sectors that were not written | yes | **corrupt** |
//! | no valid header, and it was not written | no | the end of the journal |
//! | no valid header | yes | **corrupt** |
//! | any of these | a header that was written, and is not what was written | **corrupt** |
//! | a valid header with a later number | (itself) | **corrupt**: flushes between are missing |
//!
//! "Later" is a valid header in its own place, of this life of the file, with a higher flush number: in the rest of the
//! file or in any later file. An older number is what an earlier crash had cut, and says nothing.

use super::{
    format::{FLUSH_HEADER_BYTES, FileHeader, FlushHeader, FormatError, Frames},
    sector::{SECTOR_BYTES, State, copy_content, head_is_rotten},
};
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
    /// A header was written here, and is not what was written.
    Rotten(FormatError),
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
        Err(error) if head_is_rotten(file.nonce, position, block) => return Look::Rotten(error),
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

/// What is wrong with the body of a flush whose header is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Some sectors were never written to their end: the first one, in bytes of the file.
    Torn {
        /// Byte of the file.
        position: u64,
    },
    /// A sector was written and is not what was written.
    Rotten {
        /// Byte of the file where the sector begins.
        position: u64,
    },
    /// Every sector is as it was written, and what they say makes no sense.
    Senseless(FormatError),
}

/// Appends the frames' bytes of a flush to `body`, after a look at each of its sectors. What `flush` lacks counts as unwritten.
pub fn read_body(header: &FlushHeader, flush: &[u8], body: &mut Vec<u8>) -> Result<(), Fault> {
    let mut torn = None;
    let len = header.disk_len() as usize;
    for at in (0..len).step_by(SECTOR_BYTES) {
        let position = header.position + at as u64;
        let seal = if at == 0 { header.seal().head() } else { header.seal() };
        match flush.get(at..at + SECTOR_BYTES).map_or(State::Unwritten, |sector| seal.check(position, sector)) {
            State::Good => {}
            // Never a tear on doubt: rot counts even if the sync may not have ended.
            State::Rotten => return Err(Fault::Rotten { position }),
            State::Unwritten => _ = torn.get_or_insert(position),
        }
    }
    if let Some(position) = torn {
        return Err(Fault::Torn { position });
    }
    copy_content(flush, FLUSH_HEADER_BYTES..FLUSH_HEADER_BYTES + header.body_len as usize, body);
    let mut frames = 0u32;
    for frame in Frames::new(body) {
        frame.map_err(Fault::Senseless)?;
        frames += 1;
    }
    if frames != header.frames {
        return Err(Fault::Senseless(FormatError::Shape { what: format!("{frames} frames, {} recorded", header.frames) }));
    }
    Ok(())
}

/// What says that the place where a walk ended was synced once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A flush with a later number.
    Later(FlushHeader),
    /// The head of a flush, at this byte of the file, that was written to its end and cannot be read any more. It is no part of
    /// what an earlier crash had cut: that has lost its stamps, see [`super::sector::disarm`].
    Rotten(u64, FormatError),
}

/// The first proof in `bytes` (whole blocks from `position` on) that flushes from `chain.next_seq` on were synced.
#[must_use]
pub fn find_proof(bytes: &[u8], file: &FileHeader, position: u64, chain: &Chain) -> Option<Proof> {
    bytes.chunks(BLOCK_BYTES).zip((position..).step_by(BLOCK_BYTES)).find_map(|(block, at)| match look(block, file, at, chain) {
        Look::Later(header) => Some(Proof::Later(header)),
        Look::Rotten(error) => Some(Proof::Rotten(at, error)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
