//! A segment, told to people. Works on plain bytes, so that a stopped node's files can be looked at with nothing running.

use super::{
    chunk::entries,
    format::{BLOCK_HEADER_BYTES, BlockHeader, HEADER_BYTES, SegmentHeader, check_block, decode_footer, decode_tail, unpack},
    list::{decode_list, decode_list_tail, list_len},
};
use crate::entry::EntryKind;
use bytes::Bytes;
use millpond_batch::Header;
use millpond_runtime::{GroupId, limits::BLOCK_BYTES};
use std::fmt::Write;

/// Describes the bytes of a segment file, line by line; `entries_too` lists each entry. Damage is told, not hidden, and the
/// walk goes on at the next whole 4 KiB.
#[must_use]
pub fn describe(bytes: &[u8], entries_too: bool) -> String {
    let mut out = String::new();
    let group = match SegmentHeader::decode(bytes) {
        Ok(h) => {
            let _ = writeln!(
                out,
                "segment of group {}, generation {}, from offset {} (entry {}), begun at {} ms",
                h.group, h.generation, h.base_offset, h.base_index, h.created_ms
            );
            h.group
        }
        Err(d) => {
            let _ = writeln!(out, "DAMAGED header at byte 0: {d}");
            return out;
        }
    };
    let tail_from = bytes.len().saturating_sub(BLOCK_BYTES);
    let tail = decode_tail(&bytes[tail_from..], bytes.len() as u64).ok();
    let end = tail.map_or(bytes.len(), |t| t.footer as usize);
    let mut at = HEADER_BYTES as usize;
    while at + BLOCK_HEADER_BYTES <= end {
        match check_block(group, at as u64, &bytes[at..end]) {
            Ok((h, data)) => {
                describe_block(&mut out, at, &h, data, entries_too);
                at += h.len();
            }
            Err(_) if list_len(&bytes[at..end]).is_some() => at += describe_list(&mut out, group, at, &bytes[at..end]),
            Err(d) => {
                let next = (at + 1).next_multiple_of(BLOCK_BYTES).min(end);
                let padding = bytes[at..next].iter().all(|byte| *byte == 0);
                if !padding {
                    let _ = writeln!(out, "DAMAGED at byte {at}: {d}");
                }
                at = (at + 1).next_multiple_of(BLOCK_BYTES);
            }
        }
    }
    match tail.map(|t| (t, decode_footer(&t, &bytes[t.footer as usize..]))) {
        Some((t, Ok(index))) => {
            let _ = writeln!(
                out,
                "sealed: footer at byte {} with {} blocks, up to offset {} (entry {}), newest {} ms",
                t.footer,
                index.len(),
                t.next_offset,
                t.last_index,
                t.max_timestamp
            );
        }
        Some((t, Err(d))) => {
            let _ = writeln!(out, "DAMAGED footer at byte {}: {d}", t.footer);
        }
        None => out.push_str("not sealed: the journal says how far it counts\n"),
    }
    out
}

/// The list that ends a chunk; how many bytes to go on.
fn describe_list(out: &mut String, group: GroupId, at: usize, bytes: &[u8]) -> usize {
    let list = list_len(bytes).and_then(|len| bytes.get(..len)).unwrap_or_default();
    let end = (at + list.len()) as u64;
    match decode_list_tail(group, end, list).and_then(|tail| decode_list(group, end, &tail, list)) {
        Ok(blocks) => {
            let from = blocks.first().map_or(0, |block| block.position);
            let _ = writeln!(out, "list at byte {at}: {} blocks from byte {from} on", blocks.len());
            list.len()
        }
        Err(d) => {
            let _ = writeln!(out, "DAMAGED list at byte {at}: {d}");
            (at + 1).next_multiple_of(BLOCK_BYTES) - at
        }
    }
}

fn describe_block(out: &mut String, at: usize, h: &BlockHeader, data: &[u8], entries_too: bool) {
    let _ = writeln!(
        out,
        "block at byte {at}: {} bytes ({} raw, {:?}), {} entries {}..={} of term {}, offsets {}..{}, newest {} ms",
        h.len(),
        h.raw_len,
        h.codec,
        h.count,
        h.first_index,
        h.last_index,
        h.term,
        h.first_offset,
        h.next_offset,
        h.max_timestamp
    );
    if !entries_too {
        return;
    }
    let raw = match unpack(h, data) {
        Ok(raw) => Bytes::from(raw),
        Err(d) => {
            let _ = writeln!(out, "  DAMAGED: {d}");
            return;
        }
    };
    for entry in entries(&raw) {
        let _ = match entry {
            Ok((EntryKind::Batch, payload)) => match Header::parse(&payload) {
                Ok(b) => writeln!(
                    out,
                    "  batch of {} bytes: offsets {}..{}, {} records, producer {} epoch {} sequence {}, newest {} ms",
                    payload.len(),
                    b.base_offset,
                    b.next_offset(),
                    b.count,
                    b.producer_id,
                    b.producer_epoch,
                    b.base_sequence,
                    b.max_timestamp
                ),
                Err(e) => writeln!(out, "  DAMAGED batch: {e}"),
            },
            Ok((EntryKind::Raft, payload)) => writeln!(out, "  entry of {} bytes without records", payload.len()),
            Err(short) => writeln!(out, "  DAMAGED entry: {short}"),
        };
    }
}
