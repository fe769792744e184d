//! Group commit: one task writes what all groups have gathered, one flush at a time, each with one sync.
//!
//! The next flush gathers while one is under way. When a sync returns, in this order: accounts, callbacks, then whoever
//! waits, in the order of their places. A failed write or sync ends the journal and the node: what the disk then holds
//! is unknown, and a second sync would not bring back what the first one lost.

use super::{
    Buf, State,
    file::JournalFile,
    gather::{Gather, Then, Touched},
    layout::Class,
};
use crate::{config::LogConfig, home::Home, log::Advance};
use millpond_runtime::{File, Rt, limits::BLOCK_BYTES};
use std::{rc::Rc, task::Waker};

/// A gather this small waits one turn for company: others that are ready to run may append to it.
const COMPANY_BYTES: usize = 64 << 10;

/// A flush up to so many bytes is written and synced in one operation, which saves a turn of the core between the two; larger ones go faster in
/// two (at 1 MiB by half).
const ONE_OPERATION_BYTES: u64 = 128 << 10;

/// Writes until the journal is closed or broken.
pub(crate) async fn run<R: Rt>(home: Rc<Home<R>>) {
    loop {
        if home.journal.state.borrow().open.as_ref().is_some_and(|g| g.body_len() < COMPANY_BYTES) {
            home.rt.yield_now().await;
            wait_for_company(&home).await;
        }
        let next = take_next(&mut home.journal.state.borrow_mut(), home.config());
        match next {
            Some((gather, file)) => flush(&home, gather, file).await,
            None if home.journal.state.borrow().closing => break,
            None => home.journal.work.notified().await,
        }
    }
    home.journal.stop("closed");
}

/// See [`super::company`].
async fn wait_for_company<R: Rt>(home: &Home<R>) {
    let journal = &home.journal;
    let entries = || journal.state.borrow().open.as_ref().map_or(0, |open| open.entries);
    let before = entries();
    let wait = {
        let mut state = journal.state.borrow_mut();
        let gathers = state.sealed.is_empty() && before > 0 && !state.closing;
        let bytes = state.open.as_ref().map_or(0, Gather::body_len);
        if gathers { state.company.wait(bytes) } else { None }
    };
    if let Some(wait) = wait {
        futures_lite::future::or(home.rt.sleep(wait), journal.together.notified()).await;
        let now = entries();
        journal.state.borrow_mut().company.waited(before, now.max(before));
    }
}

/// Writes what is pending, and the mark that is wanted: before any task runs.
pub(crate) async fn write_pending<R: Rt>(home: &Rc<Home<R>>) {
    loop {
        let next = take_next(&mut home.journal.state.borrow_mut(), home.config());
        let Some((gather, file)) = next else { return };
        flush(home, gather, file).await;
    }
}

type Next<R> = (Gather<Buf<R>>, Rc<JournalFile<R>>);

fn take_next<R: Rt>(state: &mut State<R>, config: &LogConfig) -> Option<Next<R>> {
    if state.stopped.is_some() {
        return None;
    }
    if state.sealed.is_empty() {
        if state.open.is_none() && (state.mark_wanted || state.closing) && !state.marked {
            begin_mark(state, config);
        }
        state.seal();
    }
    let gather = state.sealed.pop_front()?;
    let live = state.live.iter().rev().find(|live| live.file.header.file_seq == gather.file_seq);
    let file = live.expect("a file stays live until all of its gathers are written").file.clone();
    Some((gather, file))
}

/// An empty flush, if the file has room for one; a mark is worth neither a new file nor the reserve.
fn begin_mark<R: Rt>(state: &mut State<R>, config: &LogConfig) {
    state.mark_wanted = false;
    if !state.layout(config).fits_at(state.position, BLOCK_BYTES as u64, Class::Note) {
        return;
    }
    let hint = state.capacity_hint;
    state.begin_in(BLOCK_BYTES);
    state.seal();
    state.capacity_hint = hint;
}

async fn flush<R: Rt>(home: &Rc<Home<R>>, gather: Gather<Buf<R>>, file: Rc<JournalFile<R>>) {
    let flush_seq = home.journal.state.borrow().flush_seq;
    let prev_crc = home.journal.state.borrow().prev_crc;
    let (position, disk_len, is_mark) = (gather.position, gather.disk_len(), gather.body_len() == 0);
    let mut done =
        Done { last_lsn: gather.last_lsn, entry_bytes: gather.entry_bytes, entries: gather.entries, touched: Vec::new(), then: Vec::new() };
    let mut gather = gather;
    std::mem::swap(&mut done.touched, &mut gather.touched);
    std::mem::swap(&mut done.then, &mut gather.then);
    let (buf, crc) = gather.finish(flush_seq, prev_crc);
    let began = home.rt.mono();
    home.store.lane().make_way();
    let written = if disk_len <= ONE_OPERATION_BYTES {
        file.file.write_synced_at(position, buf).await
    } else {
        match file.file.write_at(position, buf).await {
            Ok(()) => file.file.sync().await,
            Err(error) => Err(error),
        }
    };
    if let Err(error) = written {
        let why = format!("journal: {error}; a failed write or sync is not retried, since what it lost is unknown");
        home.journal.stop(&why);
        home.rt.halt(&why);
    }
    {
        let mut state = home.journal.state.borrow_mut();
        state.flush_seq += 1;
        state.prev_crc = crc;
        state.marked = is_mark;
        let took_us = (home.rt.mono() - began) / 1000;
        state.stats.record_sync(took_us);
        if done.entries > 0 {
            state.company.synced(done.entries, took_us);
        }
        state.stats.marks += u64::from(is_mark);
        state.stats.bytes_journaled += disk_len;
    }
    complete(home, done);
}

/// What a flush leaves to be done once it is synced.
struct Done {
    last_lsn: crate::lsn::Lsn,
    entry_bytes: usize,
    entries: u64,
    touched: Vec<super::gather::Touched>,
    then: Vec<Then>,
}

fn complete<R: Rt>(home: &Rc<Home<R>>, done: Done) {
    let advances: Vec<Advance> = {
        let mut groups = home.groups.borrow_mut();
        let settle_bytes = home.journal.config.settle_bytes;
        let advance = |t: &Touched| Some(Advance { group: t.group, high_watermark: groups.synced(t, settle_bytes)? });
        let mut advances: Vec<Advance> = done.touched.iter().filter_map(advance).collect();
        for then in &done.then {
            match *then {
                Then::Settled(group, index, segment) => groups.release(group, index, segment),
                Then::Trimmed(group, start) => groups.trim(group, start),
                Then::Dropped(group) => groups.forget(group),
                Then::Truncated(file_seq) => groups.let_go(file_seq),
                Then::Installed(group, file_seq) => {
                    advances.extend(groups.installed(group, settle_bytes).map(|high_watermark| Advance { group, high_watermark }));
                    if let Some(file_seq) = file_seq {
                        groups.let_go(file_seq);
                    }
                }
                Then::Checkpointed(file_seq) => home.journal.checkpointed(file_seq),
            }
        }
        let cache_max = home.journal.config.tail_bytes_max.saturating_sub(groups.unsettled_bytes());
        groups.evict_to(cache_max);
        advances
    };
    let (wakers, quiet): (Vec<Waker>, bool) = {
        let mut state = home.journal.state.borrow_mut();
        state.synced_lsn = done.last_lsn;
        state.unsynced_bytes -= done.entry_bytes;
        state.stats.entries_synced += done.entries;
        let quiet = !state.marked && state.sealed.is_empty() && state.open.is_none();
        (state.waiters.take(done.last_lsn).collect(), quiet)
    };
    if !advances.is_empty() {
        home.advanced(&advances);
    }
    wakers.into_iter().for_each(Waker::wake);
    if quiet {
        home.journal.quiet.notify_one();
    }
    home.after_flush(!done.then.is_empty());
}

/// Marks the last flush once the journal has been quiet for a while.
pub(crate) async fn run_marker<R: Rt>(home: Rc<Home<R>>) {
    loop {
        home.journal.quiet.notified().await;
        loop {
            let before = home.journal.state.borrow().flush_seq;
            home.nap(home.journal.config.mark_after).await;
            let mut state = home.journal.state.borrow_mut();
            if state.closing || state.stopped.is_some() {
                return;
            }
            if state.flush_seq == before {
                state.mark_wanted = true;
                drop(state);
                home.journal.work.notify_one();
                break;
            }
        }
    }
}
