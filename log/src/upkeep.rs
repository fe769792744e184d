//! What time alone brings about: retention, compaction, silent producers, a disk that fills up.

use crate::{
    config::GroupConfig,
    error::{LogError, Result},
    groups::Groups,
    home::Home,
    journal::layout::Class,
    segment::{compact, group::Sealed},
};
use millpond_runtime::{GroupId, Offset, Rt, rt::to_next};
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
const PRODUCER_BYTES: usize = 115;

/// Forgets the producers that were silent longest, in all groups alike, until those that are left take at most `bytes_max` in a
/// checkpoint: it must leave room for entries in a journal file, whatever clients do.
pub(crate) fn bound_producers(groups: &mut Groups, now_ms: i64, bytes_max: usize) {
    let ids = groups.ids();
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
        home.nap(to_next(&home.rt, home.config().maintain_every)).await;
        home.note_space().await;
        for group in ids(&home) {
            if home.stopping() {
                return;
            }
            if over(&home, group, "upkeep", look_after(&home, group)).await {
                return;
            }
            home.rt.yield_if_needed().await;
        }
        let bytes_max = home.config().journal_file_bytes as usize / 4;
        bound_producers(&mut home.groups.borrow_mut(), home.rt.wall_ms(), bytes_max);
    }
}

/// Compacts now and then until the log stops. A task of its own: one group may take minutes, and retention must not wait.
pub(crate) async fn run_compaction<R: Rt>(home: Rc<Home<R>>) {
    while !home.stopping() {
        home.nap(to_next(&home.rt, home.config().maintain_every)).await;
        for group in ids(&home) {
            if home.stopping() || over(&home, group, "compaction", compact(&home, group)).await {
                return;
            }
            home.rt.yield_if_needed().await;
        }
    }
}

fn ids<R: Rt>(home: &Home<R>) -> Vec<GroupId> {
    home.groups.borrow().ids()
}

/// Does `work` and deals with its failure; whether the log has stopped.
async fn over<R: Rt>(home: &Home<R>, group: GroupId, what: &str, work: impl Future<Output = Result<()>>) -> bool {
    match work.await {
        // What is damaged waits to be dropped.
        Ok(()) | Err(LogError::UnknownGroup { .. } | LogError::Full { .. } | LogError::Damaged { .. }) => {}
        Err(LogError::Stopped { .. }) => return true,
        Err(error) if error.is_disk_full() => home.note_space().await,
        Err(error @ LogError::Corrupt { .. }) => tracing::error!(group = group.0, %error, "{what} leaves a damaged segment as it is"),
        Err(error) => home.fail(&format!("{what} of group {group}: {error}")),
    }
    false
}

async fn look_after<R: Rt>(home: &Rc<Home<R>>, group: GroupId) -> Result<()> {
    let now_ms = home.rt.wall_ms();
    let segments = home.store.get(group)?;
    let start = {
        let mut groups = home.groups.borrow_mut();
        let Some(g) = groups.get_mut(group) else { return Ok(()) };
        g.producers.expire(now_ms, g.config.producer_expiry_ms);
        let holdings = Holdings {
            sealed: segments.as_ref().map_or_else(Vec::new, |s| s.sealed()),
            bytes: segments.as_ref().map_or(0, |s| s.bytes()) + g.tail.unsettled_bytes() as u64,
            max_timestamp: g.max_timestamp,
            start: g.start_offset,
            end: g.lasting_offset(),
        };
        retain_from(&holdings, &g.config, now_ms)
    };
    if let Some(start) = start {
        home.trim(group, start, Class::Relief)?;
    }
    Ok(())
}

/// Compacts a group's sealed segments if that is worth it. Settling and trimming go on meanwhile.
async fn compact<R: Rt>(home: &Rc<Home<R>>, group: GroupId) -> Result<()> {
    let now_ms = home.rt.wall_ms();
    let found = home.groups.borrow().get(group).filter(|g| g.config.compact).and_then(|g| Some((g.noted?, g.config.clone())));
    let (Some((noted, config)), Some(segments)) = (found, home.store.get(group)?) else { return Ok(()) };
    let Some(claim) = home.store.claim_compaction(group) else { return Ok(()) };
    let range = compact::pick(&segments.sealed(), noted, &config, now_ms);
    if range.is_empty() {
        return Ok(());
    }
    let level = home.config().compression_level;
    let done = compact::run(&segments, range, &config, level, now_ms).await;
    drop(claim);
    // A drop may wait for it.
    home.settle.notify_one();
    let done = done?;
    tracing::debug!(group = group.0, ?done, "compacted");
    let mut state = home.journal.state.borrow_mut();
    state.stats.compactions += u64::from(done.segments > 0);
    state.stats.compactions_overtaken += u64::from(done.overtaken);
    Ok(())
}

#[cfg(test)]
mod tests;
