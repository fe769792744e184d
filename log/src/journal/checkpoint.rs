//! The payloads of notes about groups: settings, and a group as a checkpoint keeps it. Pure.
//!
//! ```text
//! settings     | version u8 = 1 | retention_ms opt | retention_bytes opt | segment_bytes u64 | segment_ms u64 | flags u8 (1 compact, 2 delete)
//!              | delete_retention_ms u64 | min_compaction_lag_ms u64 | producer_expiry_ms u64 |       opt = u8 0, or u8 1 and u64
//! group        | settings | start_offset u64 | last_index u64 | end_offset u64 | max_timestamp i64 (i64::MIN none) | settled | producers |
//!              | if it is a replica: hard state | members | terms | if it has installed any: snapshots u32 |
//! hard state   | term u64 | vote u64 | commit u64 |
//! members      | index u64 | len u32 | bytes |
//! terms        | n u32 | n x ( first index u64 | term u64 ) |
//! new replica  | settings | members |
//! ```
//!
//! A journal file begins with a checkpoint: a frame per group as it was just before the file's first entry, then
//! `CheckpointEnd` with their number. Only the checkpoint of the oldest file is ever read; the others wait to become it.

use super::format::{FormatError, Settled};
use crate::{config::GroupConfig, group::Group, producers::Producers, replica::Replica};
use bytes::BufMut;
use millpond_runtime::{GroupId, Index, Offset, codec::Reader};

const SETTINGS_VERSION: u8 = 1;
const COMPACT: u8 = 1;
const DELETE: u8 = 2;

fn put_opt(out: &mut Vec<u8>, value: Option<u64>) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        out.put_u64_le(value);
    }
}

fn read_opt(r: &mut Reader<'_>) -> Result<Option<u64>, FormatError> {
    match r.u8()? {
        0 => Ok(None),
        1 => Ok(Some(r.u64()?)),
        other => Err(FormatError::Shape { what: format!("flag of an optional number is {other}") }),
    }
}

/// Appends a group's settings.
pub fn encode_config(config: &GroupConfig, out: &mut Vec<u8>) {
    out.put_u8(SETTINGS_VERSION);
    put_opt(out, config.retention_ms);
    put_opt(out, config.retention_bytes);
    out.put_u64_le(config.segment_bytes);
    out.put_u64_le(config.segment_ms);
    out.put_u8(if config.compact { COMPACT } else { 0 } | if config.delete { DELETE } else { 0 });
    out.put_u64_le(config.delete_retention_ms);
    out.put_u64_le(config.min_compaction_lag_ms);
    out.put_u64_le(config.producer_expiry_ms);
}

/// Reads a group's settings.
pub fn decode_config(r: &mut Reader<'_>) -> Result<GroupConfig, FormatError> {
    let version = r.u8()?;
    if version != SETTINGS_VERSION {
        return Err(FormatError::Shape { what: format!("settings of version {version}, this build reads {SETTINGS_VERSION}") });
    }
    let (retention_ms, retention_bytes) = (read_opt(r)?, read_opt(r)?);
    let (segment_bytes, segment_ms, flags) = (r.u64()?, r.u64()?, r.u8()?);
    Ok(GroupConfig {
        retention_ms,
        retention_bytes,
        segment_bytes,
        segment_ms,
        compact: flags & COMPACT != 0,
        delete: flags & DELETE != 0,
        delete_retention_ms: r.u64()?,
        min_compaction_lag_ms: r.u64()?,
        producer_expiry_ms: r.u64()?,
    })
}

/// Appends a group as it is now.
pub fn encode_group(group: &Group, out: &mut Vec<u8>) {
    encode_config(&group.config, out);
    out.put_u64_le(group.start_offset.0);
    out.put_u64_le(group.last_index.0);
    out.put_u64_le(group.end_offset.0);
    out.put_i64_le(group.max_timestamp.unwrap_or(i64::MIN));
    group.settled.encode(out);
    group.producers.encode(out);
    group.replica.iter().for_each(|replica| replica.encode(out));
}

/// Reads a group as it was.
pub fn decode_group(id: GroupId, r: &mut Reader<'_>) -> Result<Group, FormatError> {
    let mut group = Group::new(id, decode_config(r)?);
    group.start_offset = Offset(r.u64()?);
    group.last_index = Index(r.u64()?);
    group.end_offset = Offset(r.u64()?);
    let max_timestamp = r.i64()?;
    group.max_timestamp = (max_timestamp != i64::MIN).then_some(max_timestamp);
    group.settled = Settled::decode(r)?;
    group.producers = Producers::decode(r)?;
    if r.left() > 0 {
        group.replica = Some(Box::new(Replica::decode(r)?));
    }
    group.sound()?;
    Ok(group)
}

#[cfg(test)]
mod tests;
