//! What must hold of a log, said with the model.

use super::model::{Drop, GroupModel, Model, Sent};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, Record, records};
use millpond_log::{Log, LogError, ReadLimits};
use millpond_runtime::{GroupId, Offset, Rt};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

/// After a start: what was promised is there, nothing else is. Takes what the log has kept as the new truth.
pub(crate) async fn after_start<R: Rt>(log: &Log<R>, model: &Rc<RefCell<Model>>) -> Result<(), String> {
    log.check();
    let there = log.groups();
    {
        let mut m = model.borrow_mut();
        for id in &there {
            if !m.groups.contains_key(id) {
                return Err(format!("group {id} was never created"));
            }
        }
        let known: Vec<GroupId> = m.groups.keys().copied().collect();
        for id in known {
            let present = there.contains(&id);
            let g = m.groups.get_mut(&id).expect("just listed");
            match (present, g.create_acked, g.drop) {
                (false, true, Drop::No) => return Err(format!("group {id} was created and synced, and is gone")),
                (true, _, Drop::Acked) => return Err(format!("group {id} was dropped and synced, and is back")),
                (false, ..) => _ = m.groups.remove(&id),
                (true, ..) => {
                    g.create_acked = true;
                    g.drop = Drop::No;
                }
            }
        }
    }
    // All at once, before anything in the background moves a start that is not synced yet.
    for &id in &there {
        let state = log.state(id).ok_or("a listed group has no state")?;
        let before = model.borrow().groups[&id].clone();
        let (start, end) = (state.start_offset.0, state.high_watermark.0);
        if state.end_offset != state.high_watermark {
            return Err(format!("group {id} serves before all is synced: {state:?}"));
        }
        if end < before.acked_end || end > before.end() {
            return Err(format!("group {id} ends at {end}, acked up to {}, appended up to {}", before.acked_end, before.end()));
        }
        if end != 0 && !before.batches.iter().any(|b| b.base + b.count == end) {
            return Err(format!("group {id} ends at {end}, in the middle of a batch"));
        }
        check_start(id, &before, start, end)?;
        let mut m = model.borrow_mut();
        if end < before.end() {
            m.saw("unacked_batches_lost");
        }
        if end > before.acked_end {
            m.saw("unacked_batches_kept");
        }
        let g = m.groups.get_mut(&id).expect("checked above");
        g.survived(end);
        g.trim_acked = start;
        g.trim_asked = start;
    }
    for id in there {
        contents(log, model, id).await?;
    }
    Ok(())
}

fn check_start(id: GroupId, g: &GroupModel, start: u64, end: u64) -> Result<(), String> {
    if start < g.trim_acked {
        return Err(format!("group {id} starts at {start}, but the trim to {} was synced", g.trim_acked));
    }
    let highest = if g.has_retention() { end } else { g.trim_asked };
    if start > highest {
        return Err(format!("group {id} starts at {start}, trimmed to {highest} at most"));
    }
    Ok(())
}

/// Reads a group from its start to its end, in pieces, and compares.
pub(crate) async fn contents<R: Rt>(log: &Log<R>, model: &Rc<RefCell<Model>>, id: GroupId) -> Result<(), String> {
    let Some(state) = log.state(id) else { return Ok(()) };
    let mut from = state.start_offset;
    let mut read: Vec<Bytes> = Vec::new();
    let until = state.high_watermark;
    while from < until {
        let limits = ReadLimits { bytes_max: 5000, end: until };
        match log.read(id, from, limits).await {
            Ok(out) => {
                if out.next <= from {
                    return Err(format!("group {id}: reading from {from} of {until} goes nowhere"));
                }
                check_piece(log, model, id, from, &out.batches)?;
                from = out.next;
                read.extend(out.batches);
            }
            // Retention, a trim or a drop ran past us.
            Err(LogError::OffsetOutOfRange { start, .. }) if start > from => {
                from = start;
                read.clear();
            }
            Err(LogError::UnknownGroup { .. }) if log.state(id).is_none() => return Ok(()),
            Err(error) if model.borrow().expected(&error) => {
                model.borrow_mut().saw("damage_reported_by_read");
                return Ok(());
            }
            Err(error) => return Err(format!("group {id}: reading from {from}: {error}")),
        }
    }
    let start = log.state(id).map_or(u64::MAX, |s| s.start_offset.0);
    whole(model, id, start.max(state.start_offset.0), until.0, &read)
}

/// Batches of one read are the model's, byte for byte, and follow each other.
fn check_piece<R: Rt>(log: &Log<R>, model: &Rc<RefCell<Model>>, id: GroupId, from: Offset, batches: &[Bytes]) -> Result<(), String> {
    let m = model.borrow();
    let Some(g) = m.groups.get(&id) else { return Ok(()) };
    let mut at = from.0;
    for batch in batches {
        let header = millpond_batch::check(batch).map_err(|e| format!("group {id} at {at}: {e}"))?;
        let Some(sent) = g.batch_at(header.base_offset) else {
            return Err(format!("group {id} has a batch at {}, where none was appended", header.base_offset));
        };
        let next = header.base_offset + header.record_span();
        if g.config.compact {
            if next <= at {
                return Err(format!("group {id}: a batch at {}, after offset {at} was asked for", header.base_offset));
            }
        } else if sent.bytes != *batch {
            return Err(format!("group {id} at {}: other bytes than were appended", header.base_offset));
        } else if header.base_offset > at {
            let start = log.state(id).map_or(u64::MAX, |s| s.start_offset.0);
            if start < header.base_offset {
                return Err(format!("group {id}: a gap from {at} to {}", header.base_offset));
            }
        }
        at = next;
    }
    Ok(())
}

/// Everything from `start` to `end` was read, once and in order; of a compacted group, the last record of every key.
fn whole(model: &Rc<RefCell<Model>>, id: GroupId, start: u64, end: u64, read: &[Bytes]) -> Result<(), String> {
    let m = model.borrow();
    let Some(g) = m.groups.get(&id) else { return Ok(()) };
    let in_range = |r: &Record| r.offset >= start && r.offset < end;
    let all = |batches: &mut dyn Iterator<Item = Bytes>| -> Result<Vec<Record>, String> {
        let mut out = Vec::new();
        for batch in batches {
            let broken =
                |e: millpond_batch::BatchError| format!("group {id}: {e} in {:?}, {} bytes", millpond_batch::check(&batch), batch.len());
            for record in records(&batch, DecompressLimits::default()).map_err(broken)? {
                out.push(record.map_err(broken)?);
            }
        }
        out.retain(in_range);
        Ok(out)
    };
    let behind_start = |b: &&Sent| b.base + b.count > start;
    let expected = || g.batches.iter().filter(behind_start).filter(|b| b.base < end);
    if !g.config.compact {
        // Each was compared to its bytes when it was read: now their row.
        let row = |base: u64, next: u64| (next > start && base < end).then_some((base, next));
        let ours: Vec<_> = expected().filter_map(|b| row(b.base, b.base + b.count)).collect();
        let headers = read.iter().map(|b| millpond_batch::Header::parse(b).map_err(|e| format!("group {id}: {e}")));
        let headers = headers.collect::<Result<Vec<_>, _>>()?;
        let theirs: Vec<_> = headers.iter().filter_map(|h| row(h.base_offset, h.next_offset())).collect();
        return if ours == theirs {
            Ok(())
        } else {
            Err(format!("group {id}: {} batches from {start} to {end}, expected {}", theirs.len(), ours.len()))
        };
    }
    let ours = all(&mut expected().map(|b| b.bytes.clone()))?;
    let theirs = all(&mut read.iter().cloned())?;
    let by_offset: BTreeMap<u64, &Record> = ours.iter().map(|r| (r.offset, r)).collect();
    let mut last = None;
    for record in &theirs {
        if last >= Some(record.offset) {
            return Err(format!("group {id}: offset {} comes twice or late", record.offset));
        }
        last = Some(record.offset);
        if by_offset.get(&record.offset) != Some(&record) {
            return Err(format!("group {id}: another record at {} than was appended", record.offset));
        }
    }
    // A record that came while we read may have been the reason for an older one to go.
    let so_far: Vec<Record> =
        g.batches.iter().filter(behind_start).flat_map(|b| records(&b.bytes, DecompressLimits::default())).flatten().flatten().collect();
    let newest: BTreeMap<&Bytes, &Record> = so_far.iter().filter_map(|r| Some((r.key.as_ref()?, r))).collect();
    for (key, record) in newest {
        if in_range(record) && record.value.is_some() && !theirs.contains(record) {
            return Err(format!("group {id}: the last record of key {key:?}, at {}, is gone", record.offset));
        }
    }
    Ok(())
}

/// The first record at or after a time is the one that the model finds, and later times have later records.
pub(crate) async fn times<R: Rt>(log: &Log<R>, model: &Rc<RefCell<Model>>, id: GroupId, ms: i64) -> Result<(), String> {
    let Some(state) = log.state(id) else { return Ok(()) };
    let found = match log.offset_for_time(id, ms).await {
        Ok(found) => found,
        Err(LogError::UnknownGroup { .. }) => return Ok(()),
        Err(error) if model.borrow().expected(&error) => return Ok(()),
        Err(error) => return Err(format!("group {id}: offset for time {ms}: {error}")),
    };
    let m = model.borrow();
    let (Some(g), Some(after)) = (m.groups.get(&id), log.state(id)) else { return Ok(()) };
    if g.config.compact || after.start_offset != state.start_offset {
        return Ok(());
    }
    let records = g
        .batches
        .iter()
        .filter(|b| b.base + b.count > state.start_offset.0)
        .flat_map(|b| records(&b.bytes, DecompressLimits::default()).into_iter().flatten().flatten());
    let first = records.filter(|r| r.offset >= state.start_offset.0).find(|r| r.timestamp >= ms);
    let expected = first.map(|r| (Offset(r.offset), r.timestamp)).filter(|(o, _)| *o < after.high_watermark);
    // What was synced while we looked may be found or not.
    if found != expected && expected.is_none_or(|(o, _)| o < state.high_watermark) {
        return Err(format!("group {id}: time {ms} is at {found:?}, expected {expected:?}; {state:?}"));
    }
    Ok(())
}
