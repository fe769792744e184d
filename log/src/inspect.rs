//! Any of our files, told to people. Works on plain bytes, so that a stopped node's files can be looked at with nothing
//! running. Damage is told, not hidden, and the walk goes on behind it where it can.

use crate::{
    journal::checkpoint::decode_group,
    journal::format::{FILE_MAGIC, FIRST_FLUSH, FLUSH_HEADER_BYTES, FileHeader, FlushHeader, Frame, FrameKind, Frames, Settled},
    journal::sector::{self, place},
    journal::walk::{Fault, read_body},
    replica::{HardState, Members, Truncation},
    segment,
};
use millpond_batch::Header;
use millpond_runtime::{codec::Reader, limits::BLOCK_BYTES};
use std::fmt::Write;

/// Describes the bytes of a journal file or a segment, line by line; `entries_too` lists each frame or entry as well.
///
/// ```
/// assert!(millpond_log::inspect::describe(b"something else", false).contains("not one of our files"));
/// ```
#[must_use]
pub fn describe(bytes: &[u8], entries_too: bool) -> String {
    if bytes.starts_with(&FILE_MAGIC) {
        return describe_journal(bytes, entries_too);
    }
    if bytes.starts_with(&segment::format::HEADER_MAGIC) {
        return segment::inspect::describe(bytes, entries_too);
    }
    if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) {
        return format!("{} bytes of zeros: a file made ready for the journal\n", bytes.len());
    }
    format!("{} bytes, not one of our files: they begin with {:02x?}\n", bytes.len(), &bytes[..bytes.len().min(8)])
}

fn describe_journal(bytes: &[u8], entries_too: bool) -> String {
    let mut out = String::new();
    let file = match FileHeader::decode(bytes) {
        Ok(file) => file,
        Err(error) => {
            let _ = writeln!(out, "DAMAGED header at byte 0: {error}");
            return out;
        }
    };
    let _ = writeln!(
        out,
        "journal file {} of home {}, node {}, cluster {}: {} bytes, life {:016x}",
        file.file_seq, file.home, file.node_id, file.cluster_id, file.file_len, file.nonce
    );
    let mut position = FIRST_FLUSH as usize;
    let mut last: Option<(FlushHeader, u32)> = None;
    let mut skipped: Option<usize> = None;
    while position + FLUSH_HEADER_BYTES <= bytes.len() {
        let Some((header, crc)) = FlushHeader::decode(&bytes[position..]).ok().filter(|(h, _)| h.belongs(&file, position as u64)) else {
            if sector::head_is_rotten(file.nonce, position as u64, &bytes[position..bytes.len().min(position + BLOCK_BYTES)]) {
                let _ = writeln!(out, "DAMAGED at byte {position}: the header of a flush was written, and is not what was written");
            }
            skipped.get_or_insert(position);
            position += BLOCK_BYTES;
            continue;
        };
        let follows = last.is_none_or(|(before, crc)| header.flush_seq == before.flush_seq + 1 && header.prev_crc == crc);
        match skipped.take() {
            // Older flushes behind newer ones are what a crash has cut.
            Some(_) if last.is_some_and(|(before, _)| header.flush_seq <= before.flush_seq) => {}
            Some(from) => {
                let _ = writeln!(
                    out,
                    "DAMAGED at byte {from}: flush {} at byte {position} proves that something was synced here",
                    header.flush_seq
                );
            }
            None if !follows => {
                let _ = writeln!(out, "DAMAGED at byte {position}: flush {} does not follow the one before", header.flush_seq);
            }
            None => {}
        }
        position += describe_flush(&mut out, &header, &bytes[position..], entries_too);
        last = Some((header, crc));
    }
    let end = skipped.unwrap_or(position);
    let _ = writeln!(out, "ends at byte {end}; behind it are zeros, old bytes of an earlier life, or a flush that was never synced");
    out
}

/// One flush; how many bytes to go on.
fn describe_flush(out: &mut String, header: &FlushHeader, bytes: &[u8], entries_too: bool) -> usize {
    let what = if header.frames == 0 {
        "mark of the flush before".to_owned()
    } else {
        format!("{} frames, {} bytes", header.frames, header.body_len)
    };
    let _ = writeln!(out, "byte {:>10}  flush {:>8}  {what}", header.position, header.flush_seq);
    let len = header.disk_len() as usize;
    let mut body = Vec::new();
    let fault = match read_body(header, bytes, &mut body) {
        Ok(()) => None,
        Err(Fault::Torn { position }) => Some((position, "a sector was never written; torn if nothing valid follows".to_owned())),
        Err(Fault::Rotten { position }) => Some((position, "a sector was written, and is not what was written".to_owned())),
        Err(Fault::Senseless(error)) => Some((header.position, error.to_string())),
    };
    if let Some((position, what)) = fault {
        let _ = writeln!(out, "DAMAGED at byte {position}: {what}");
        return BLOCK_BYTES;
    }
    if entries_too {
        for frame in Frames::new(&body).flatten() {
            describe_frame(out, header.position, &frame);
        }
    }
    len
}

fn describe_frame(out: &mut String, flush_at: u64, frame: &Frame<'_>) {
    let head = &frame.head;
    let at = flush_at + place(FLUSH_HEADER_BYTES + frame.at) as u64;
    let _ = write!(out, "byte {at:>10}    {:?} group {}", head.kind, head.group);
    let mut r = Reader::new(frame.payload);
    let _ = match head.kind {
        FrameKind::Entry => match Header::parse(frame.payload) {
            Ok(batch) => writeln!(
                out,
                " entry {} term {}: offsets {} to {}, {} records, {} bytes, newest {} ms",
                head.index,
                head.term,
                batch.base_offset,
                batch.next_offset().saturating_sub(1),
                batch.count,
                frame.payload.len(),
                batch.max_timestamp
            ),
            Err(error) => writeln!(out, " entry {}: no batch: {error}", head.index),
        },
        FrameKind::Settled => match Settled::decode(&mut r) {
            Ok(s) => writeln!(out, " up to entry {}, offset {}, in {:?}", s.index, s.next_offset, s.segment),
            Err(error) => writeln!(out, ": {error}"),
        },
        FrameKind::Hard => match HardState::decode(&mut r) {
            Ok(hard) => writeln!(out, " term {}, vote {}, committed up to entry {}", hard.term, hard.vote, hard.commit),
            Err(error) => writeln!(out, ": {error}"),
        },
        FrameKind::Truncate => match Truncation::decode(&mut r) {
            Ok(gone) => writeln!(out, " to entry {}, offset {}", gone.last_index, gone.end_offset),
            Err(error) => writeln!(out, ": {error}"),
        },
        FrameKind::Members | FrameKind::Replicate => match Members::decode(&mut r) {
            Ok(members) => writeln!(out, " by entry {}, {} bytes", members.index, members.bytes.len()),
            Err(error) => writeln!(out, ": {error}"),
        },
        FrameKind::Install => match decode_group(head.group, &mut r) {
            Ok(group) => writeln!(out, " up to entry {}, offsets {} to {}", group.last_index, group.start_offset, group.end_offset),
            Err(error) => writeln!(out, ": {error}"),
        },
        FrameKind::Trim => match r.u64() {
            Ok(start) => writeln!(out, " to offset {start}"),
            Err(error) => writeln!(out, ": {error}"),
        },
        _ => writeln!(out, " {} bytes", frame.payload.len()),
    };
}

#[cfg(test)]
mod tests;
