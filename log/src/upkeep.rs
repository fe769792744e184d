//! What time alone brings about: retention, compaction, silent producers, a disk that fills up.

use crate::{
    config::GroupConfig,
    error::{LogError, Result},
    groups::Groups,
    home::Home,
    journal::layout::Class,
    segment::{GroupSegments, compact, group::Sealed},
};
use millpond_runtime::{GroupId, Offset, Rt};
use std::rc::Rc;

/// What retention needs to know of a group.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    /// Sealed segments, oldest first.
    pub(crate) sealed: Vec<Sealed>,
    /// Bytes in all: segments, and what is not settled yet.
    pub(crate) bytes: u64,
    /// The largest timestamp of all.
    pub(crate) max_timestamp: Option<i64>,
    /// Where the log begins now.
    pub(crate) start: Offset,
    /// Up to where it is synced.
    pub(crate) end: Offset,
}

/// Where the log should begin by its retention, if that is later than now. Pure.
pub(crate) fn retain_from(holdings: &Holdings, config: &GroupConfig, now_ms: i64) -> Option<Offset> {
    if !config.delete {
        return None;
    }
    let oldest = config.retention_ms.map(|ms| now_ms.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
    let expired = |timestamp: i64| oldest.is_some_and(|oldest| timestamp < oldest);
    if holdings.max_timestamp.is_some_and(expired) {
        return (holdings.end > holdings.start).then_some(holdings.end);
    }
    let mut bytes = holdings.bytes;
    let mut start = holdings.start;
    for segment in &holdings.sealed {
        let too_many = config.retention_bytes.is_some_and(|max| bytes > max);
        if !too_many && !expired(segment.max_timestamp) {
            break;
        }
        bytes = bytes.saturating_sub(segment.bytes);
        start = start.max(segment.next_offset);
    }
    (start > holdings.start).then_some(start)
}

/// A producer's bytes in a checkpoint, at most.
const PRODUCER_BYTES: usize = 103;

/// Forgets the producers that were silent longest, in all groups alike, until those that are left take at most `bytes_max` in a
/// checkpoint: it must leave room for entries in a journal file, whatever clients do.
pub(crate) fn bound_producers(groups: &mut Groups, now_ms: i64, bytes_max: usize) {
    let ids: Vec<GroupId> = groups.iter().map(|g| g.id).collect();
    let mut silent_ms = 24 * 3600 * 1000;
    while groups.iter().map(|g| g.producers.len()).sum::<usize>() * PRODUCER_BYTES > bytes_max && silent_ms > 0 {
        silent_ms /= 2;
        for id in &ids {
            if let Some(group) = groups.get_mut(*id) {
                group.producers.expire(now_ms, silent_ms);
            }
        }
    }
}

/// Looks after everything now and then until the log stops.
pub(crate) async fn run<R: Rt>(home: Rc<Home<R>>) {
    while !home.stopping() {
        home.nap(home.config().maintain_every).await;
        home.note_space().await;
        let groups: Vec<GroupId> = home.groups.borrow().iter().map(|g| g.id).collect();
        for group in groups {
            if home.stopping() {
                return;
            }
            match look_after(&home, group).await {
                Ok(()) | Err(LogError::UnknownGroup { .. } | LogError::Full { .. }) => {}
                Err(LogError::Stopped { .. }) => return,
                Err(error) if error.is_disk_full() => home.note_space().await,
                Err(error @ LogError::Corrupt { .. }) => tracing::error!(%error, %group, "compaction leaves a damaged segment as it is"),
                Err(error) => home.fail(&format!("upkeep of group {group}: {error}")),
            }
            home.rt.yield_if_needed().await;
        }
        let bytes_max = home.config().journal_file_bytes as usize / 4;
        bound_producers(&mut home.groups.borrow_mut(), home.rt.wall_ms(), bytes_max);
    }
}

async fn look_after<R: Rt>(home: &Rc<Home<R>>, group: GroupId) -> Result<()> {
    let now_ms = home.rt.wall_ms();
    let segments = home.store.get(group);
    let (start, config) = {
        let mut groups = home.groups.borrow_mut();
        let Some(g) = groups.get_mut(group) else { return Ok(()) };
        g.producers.expire(now_ms, g.config.producer_expiry_ms);
        let holdings = Holdings {
            sealed: segments.as_ref().map_or_else(Vec::new, |s| s.sealed()),
            bytes: segments.as_ref().map_or(0, |s| s.bytes()) + g.tail.unsettled_bytes() as u64,
            max_timestamp: g.max_timestamp,
            start: g.start_offset,
            end: g.synced_offset,
        };
        (retain_from(&holdings, &g.config, now_ms), g.config.clone())
    };
    if let Some(start) = start {
        home.trim(group, start, Class::Relief)?;
    }
    if let Some(segments) = segments {
        compact(home, group, &segments, &config, now_ms).await?;
    }
    Ok(())
}

/// Compacts a group's sealed segments if that is worth it. While it lasts, the group is not settled.
async fn compact<R: Rt>(home: &Rc<Home<R>>, group: GroupId, segments: &GroupSegments<R>, config: &GroupConfig, now_ms: i64) -> Result<()> {
    if !config.compact {
        return Ok(());
    }
    let Some(noted) = home.groups.borrow().get(group).and_then(|g| g.noted) else { return Ok(()) };
    let Some(_claim) = home.store.claim(group) else { return Ok(()) };
    let range = compact::pick(&segments.sealed(), noted, config, now_ms);
    if range.is_empty() {
        return Ok(());
    }
    let level = home.config().compression_level;
    let done = compact::run(segments, range, config, level, now_ms).await?;
    tracing::debug!(%group, ?done, "compacted");
    home.journal.state.borrow_mut().stats.compactions += 1;
    Ok(())
}

#[cfg(test)]
mod tests;
