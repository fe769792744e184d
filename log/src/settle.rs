//! Moves entries from memory into segments, in the background.
//!
//! In order, and each step durable before the next begins: the entries are synced in the journal; they are written to the
//! segment and synced; the note about it is put into the journal; the note is synced; only then may the entries leave
//! memory and their journal file be used again. A crash between any two of these repeats work and loses none.

use crate::{
    config::LogConfig,
    damage,
    entry::Entry,
    error::{LogError, Result},
    home::{Home, Pressure},
    journal::format::{SegmentMark, Settled},
    log::SEGMENT_TRIES,
    segment::first_at,
    store::{Chore, Claim},
    together::join,
};
use millpond_runtime::{GroupId, Index, Offset, Rt};
use std::{cell::RefCell, rc::Rc, time::Duration};

/// Groups settled in one go before new ones are picked.
const ROUND_MAX: usize = 32;
/// Groups settled side by side at most: while one is compressed another is written and a third is synced.
const SIDE_BY_SIDE_MAX: usize = 3;
/// Each of them may take this part of the tail's memory for what it makes.
const RUN_PART: usize = 8;
/// How long to wait when the disk or the journal has no room.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is to be settled now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) groups: Vec<GroupId>,
    /// zstd level; 0 when speed matters more than size: short of memory, or where others want the CPU.
    pub(crate) level: i32,
}

/// Decides what to settle: groups that have enough; and under pressure first those that hold back the oldest journal file, however little
/// they have. Behind groups that have enough again by the time that they are settled they would never come. Short of memory those with the most come before
/// all that have enough, since each costs a sync or two, whatever it has; where both is scarce, each of the two gets its half.
pub(crate) fn pick(
    ready: impl Iterator<Item = GroupId>,
    by_need: impl Iterator<Item = (u64, GroupId)>,
    largest: impl FnOnce(usize) -> Vec<GroupId>,
    pressure: Pressure,
    level: i32,
) -> Pick {
    let ready: Vec<GroupId> = ready.take(enough_max(pressure)).collect();
    let early = if pressure.is_any() { ROUND_MAX - ready.len() } else { 0 };
    let needed = if !pressure.files { 0 } else { early.div_ceil(1 + usize::from(pressure.memory)) };
    let mut groups: Vec<GroupId> = by_need.map(|(_, group)| group).take(needed).collect();
    let most = if pressure.memory { largest(early - groups.len()) } else { Vec::new() };
    for group in most.into_iter().chain(ready) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Pick { groups, level: if pressure.memory { 0 } else { level } }
}

/// Groups of a round that are picked because they have enough.
const fn enough_max(pressure: Pressure) -> usize {
    if pressure.is_any() { ROUND_MAX / 2 } else { ROUND_MAX }
}

/// Settles until the log stops.
pub(crate) async fn run<R: Rt>(home: Rc<Home<R>>) {
    while !home.stopping() {
        match round(&home).await {
            Ok(true) => home.rt.yield_now().await,
            Ok(false) => home.settle.notified().await,
            Err(LogError::Stopped { .. }) => return,
            Err(error) if error.is_disk_full() => {
                home.note_space().await;
                home.nap(RETRY_AFTER).await;
            }
            Err(error @ LogError::Full { .. }) => {
                tracing::debug!(%error, "settling waits");
                home.nap(RETRY_AFTER).await;
            }
            Err(error) => fail(&home, &error),
        }
    }
}

/// Whether settling may be tried again after this.
fn passes(error: &LogError) -> bool {
    matches!(error, LogError::Stopped { .. } | LogError::Full { .. }) || error.is_disk_full()
}

fn fail<R: Rt>(home: &Home<R>, error: &LogError) -> ! {
    home.fail(&format!("settling: {error}"))
}

/// One round; false if there was nothing to do.
async fn round<R: Rt>(home: &Rc<Home<R>>) -> Result<bool> {
    let mut worked = chores(home).await?;
    let pick = {
        let pressure = home.pressure();
        let mut groups = home.groups.borrow_mut();
        let ready: Vec<GroupId> = std::iter::from_fn(|| groups.next_ready()).take(enough_max(pressure)).collect();
        // Nothing is settled into those that are damaged, and they must not take the place of others.
        let is_well = |group: &GroupId| home.store.damage.of(*group).is_none();
        let level = if home.rt.is_crowded() { 0 } else { home.config().compression_level };
        let by_need = groups.by_need().filter(|(_, group)| is_well(group));
        let largest = |n| groups.largest(n + home.store.damage.len()).into_iter().filter(is_well).take(n).collect();
        pick(ready.into_iter().filter(is_well), by_need, largest, pressure, level)
    };
    let groups = RefCell::new(pick.groups.into_iter());
    let one_by_one = async || {
        let mut worked = false;
        loop {
            let next = groups.borrow_mut().next();
            let Some(group) = next else { return Ok::<_, LogError>(worked) };
            worked |= match settle(home, group, pick.level).await {
                // At once, before the others note anything: a sync that failed may have lost what another one then calls synced.
                Err(error) if !passes(&error) => fail(home, &error),
                settled => settled?,
            };
        }
    };
    // Each goes on to its end whatever becomes of the others: a write that was given up could still reach the disk, after what is
    // written there next.
    for one in join((0..side_by_side(home.config())).map(|_| one_by_one()).collect()).await {
        worked |= one?;
    }
    Ok(worked)
}

/// How many groups are settled side by side.
fn side_by_side(config: &LogConfig) -> usize {
    (config.tail_bytes_max / RUN_PART / config.settle_run_bytes_max).clamp(1, SIDE_BY_SIDE_MAX)
}

/// Deletes what trims and drops have left.
async fn chores<R: Rt>(home: &Rc<Home<R>>) -> Result<bool> {
    let mut worked = false;
    loop {
        let synced = home.journal.state.borrow().synced_lsn;
        let Some((chore, _claim)) = home.store.take_chore(synced) else { return Ok(worked) };
        worked = true;
        let group = chore.group();
        match chore {
            Chore::Trim(group, start) => {
                if let Ok(Some(segments)) = home.store.get(group) {
                    segments.remove_before(start).await?;
                }
            }
            Chore::Drop(segments) => segments.remove_all().await?,
        }
        home.store.done(group);
    }
}

/// Settles what a group has, up to the bound of one run. False if there was nothing, or somebody else is at it.
async fn settle<R: Rt>(home: &Rc<Home<R>>, group: GroupId, level: i32) -> Result<bool> {
    let Some(claim) = home.store.claim(group) else { return Ok(false) };
    Ok(settle_upto(home, &claim, group, Index(u64::MAX), level).await? || home.carry(group)?)
}

/// Settles all that a group has up to the entry, for somebody who has claimed it, as far as it is committed and synced.
pub(crate) async fn settle_all<R: Rt>(home: &Rc<Home<R>>, claim: &Claim<R>, group: GroupId, upto: Index) -> Result<()> {
    loop {
        match settle_upto(home, claim, group, upto, home.config().compression_level).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if !passes(&error) => fail(home, &error),
            Err(error) => return Err(error),
        }
    }
}

/// Settles what a group has up to the entry, up to the bound of one run, for somebody who has claimed it. False if there was nothing.
async fn settle_upto<R: Rt>(home: &Rc<Home<R>>, _: &Claim<R>, group: GroupId, upto: Index, level: i32) -> Result<bool> {
    let installs = home.groups.borrow().get(group).and_then(|g| g.replica.as_ref()).map_or(0, |replica| replica.installs);
    let segments = home.store.get_or_new(group, installs);
    if home.store.damage.of(group).is_some() {
        return Ok(false);
    }
    begin_anew(home, group, &segments).await?;
    let (entries, config) = {
        let groups = home.groups.borrow();
        let Some(g) = groups.get(group) else { return Ok(false) };
        (groups.settleable(group, upto, home.config().settle_run_bytes_max), g.config.clone())
    };
    let Some(last) = entries.last() else { return Ok(false) };
    let (index, term, next_offset) = (last.entry.index, last.entry.term, last.next_offset);
    let bytes: usize = entries.iter().map(|e| e.entry.payload.len()).sum();
    let batch: Vec<Entry> = entries.into_iter().map(|e| e.entry).collect();
    // What grows is read once after a start.
    if let Err(error) = segments.growing().await
        && damage::is_lasting(&error)
        && home.groups.borrow().get(group).is_some_and(|g| g.replica.is_some())
    {
        home.store.damage.find(group, &error);
        return Ok(false);
    }
    let mark = segments.append(batch, next_offset, &config, level, home.rt.wall_ms()).await?;
    let name = mark.name;
    let segment = Some(SegmentMark { base_offset: name.base_offset, generation: name.generation, position: mark.position });
    let settled = Settled { index, term, next_offset, segment };
    // The segment is ahead of the journal now: nothing else may happen to the group before the note is in.
    loop {
        match home.note_settled(group, settled) {
            Ok(noted) => {
                let mut state = home.journal.state.borrow_mut();
                state.stats.settles += u64::from(noted);
                state.stats.bytes_settled += bytes as u64;
                return Ok(true);
            }
            Err(LogError::Full { .. } | LogError::DiskFull { .. }) => home.nap(RETRY_AFTER).await,
            Err(error) => return Err(error),
        }
    }
}

/// A trim may have overtaken the settled end: then what grows is all trimmed, and a new segment begins with what
/// comes. The old one goes first, once the trim is synced.
async fn begin_anew<R: Rt>(home: &Rc<Home<R>>, group: GroupId, segments: &crate::segment::GroupSegments<R>) -> Result<()> {
    let (start, lsn) = {
        let groups = home.groups.borrow();
        match groups.get(group) {
            Some(g) if g.settled.segment.is_none() && segments.next_offset().is_some() => {
                (g.start_offset, home.journal.state.borrow().last_lsn)
            }
            _ => return Ok(()),
        }
    };
    home.synced(lsn).await?;
    segments.remove_unknown(start).await
}

impl<R: Rt> Home<R> {
    /// See [`crate::Log::offset_for_time`].
    pub(crate) async fn offset_for_time(&self, group: GroupId, ms: i64) -> Result<Option<(Offset, i64)>> {
        let mut tries = SEGMENT_TRIES;
        loop {
            match self.find_time(group, ms).await {
                Err(LogError::Io(error)) if error.is_not_found() && tries > 0 => tries -= 1,
                found => return found,
            }
        }
    }

    async fn find_time(&self, group: GroupId, ms: i64) -> Result<Option<(Offset, i64)>> {
        let start = {
            let groups = self.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            if g.max_timestamp.is_none_or(|max| max < ms) {
                return Ok(None);
            }
            g.start_offset
        };
        let mut searched = start;
        loop {
            let first = self.groups.borrow().get(group).and_then(|g| g.tail.first_offset());
            let Some(segments) = self.store.get(group)?.filter(|_| first.is_none_or(|first| first > searched)) else { break };
            let Some(end) = segments.next_offset().filter(|end| *end > searched) else { break };
            let found = segments.find_time(ms, searched).await;
            let groups = self.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            if let Some(found) = found?
                && found.0 >= g.start_offset
            {
                return Ok(Some(found));
            }
            // What was in memory may have moved into segments while we searched them: then they are searched on.
            searched = end;
        }
        let groups = self.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        let mut from = g.start_offset;
        while let Some((batch, next)) = g.tail.find_time(from, g.lasting_offset(), ms) {
            if let Some(found) = first_at(&batch, ms, from) {
                return Ok(Some(found));
            }
            from = next;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
