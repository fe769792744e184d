//! Opening a journal home: a first start, a clean start or a start after a crash are the same road.

use crate::{
    config::LogConfig,
    error::{LogError, Result},
    groups::Groups,
    home::Home,
    journal::{
        Journal, Live, State,
        company::Company,
        file::{make_spare, mark, spare_path},
        format::{FIRST_FLUSH, FRAME_HEAD_BYTES, FileHeader, NOT_IN_USE, flush_disk_len},
        prepare,
        recovery::{Found, defuse, recover},
        sector::Stamps,
        waiters::Waiters,
        writer,
    },
    log::{Recovered, checkpoint},
    lsn::Lsn,
    settle,
    stats::LogStats,
    store::Store,
    trash::{self, Trash},
    upkeep,
};
use millpond_runtime::{File, Open, Rt, Share, limits::BLOCK_BYTES};
use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
};
use tokio::sync::Notify;

/// See [`crate::Log::open`].
pub(crate) async fn open<R: Rt>(rt: R, dir: PathBuf, config: LogConfig) -> Result<(Rc<Home<R>>, Recovered)> {
    config.check()?;
    let began = rt.mono();
    let (journal_dir, groups_dir) = (dir.join("journal"), dir.join("groups"));
    for made in [&journal_dir, &groups_dir] {
        rt.create_dir_all(made).await?;
    }
    for parent in dir.ancestors().take(3).chain([journal_dir.as_path(), &groups_dir]) {
        // A relative path ends in nothing, by which the directory is meant that we are in.
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // Also what an earlier process did to names and died before it synced them.
        rt.sync_dir(parent).await?;
    }
    let mut found = recover(&rt, &journal_dir, &config).await?;
    let fresh = found.live.is_empty();
    if fresh {
        refuse_orphans(&rt, &journal_dir, &groups_dir).await?;
    }
    found.spares = usable_spares(&rt, &journal_dir, &found, &config).await?;
    assert!(found.live.iter().all(|(_, checkpointed)| *checkpointed), "recovery leaves no file without a checkpoint");
    defuse(&found).await?;
    let last = found.live.last().map(|(file, _)| file.clone());
    let mut recovered = Recovered {
        fresh,
        files: found.live.len(),
        flushes: found.flushes,
        bytes: found.bytes,
        end: last.as_ref().map(|last| (last.path.clone(), found.position)),
        torn: found.torn.take(),
        gave_up_file: found.gave_up_file,
        ..Recovered::default()
    };
    let replay = std::mem::take(&mut found.replay);
    let groups =
        replay.finish().map_err(|error| LogError::Corrupt { file: journal_dir.clone(), position: 0, len: 0, what: error.to_string() })?;
    recovered.groups = groups.len();
    recovered.entries = groups.values().map(|g| g.tail.unsettled() as u64).sum();
    if let Some(last) = &last {
        // The last flush may be good and its sync may never have ended: it must be durable before anybody sees it,
        // and before files are removed on the strength of it.
        last.file.sync().await?;
    }
    let trash = Rc::new(Trash::open(&rt, dir.join("trash"), config.trash_step_bytes).await?);
    let store = Store::open(&rt, &groups_dir, trash, &config, groups.values()).await?;
    let journal = Journal {
        dir: journal_dir,
        config,
        state: RefCell::new(state(found, Stamps::new(rt.rand()))),
        work: Notify::new(),
        files: Notify::new(),
        quiet: Notify::new(),
        together: Notify::new(),
    };
    let groups = Groups::new(groups, journal.config.node_id);
    let home = Rc::new(Home::new(rt, dir, journal, groups, Rc::new(store)));
    begin_writing(&home, fresh).await?;
    home.groups.borrow().check();
    home.journal.check();
    recovered.took_us = (home.rt.mono() - began) / 1000;
    spawn(&home);
    Ok((home, recovered))
}

/// A home with data of groups and an empty journal is not a first start: somebody took the journal away.
async fn refuse_orphans<R: Rt>(rt: &R, journal_dir: &Path, groups_dir: &Path) -> Result<()> {
    let names = rt.list(groups_dir).await?;
    match names.first() {
        None => Ok(()),
        Some(name) => Err(LogError::Corrupt {
            file: journal_dir.to_path_buf(),
            position: 0,
            len: 0,
            what: format!("the journal is gone or empty, though {} holds data of {} groups", groups_dir.join(name).display(), names.len()),
        }),
    }
}

/// Spare files are marked as such: their old names may come back. Those of another length are removed then; and so is a spare name that a crash between a renaming and its sync has left
/// beside the new one, for a file that is in use: it is known by the nonce.
async fn usable_spares<R: Rt>(rt: &R, dir: &Path, found: &Found<R>, config: &LogConfig) -> Result<BTreeSet<u64>> {
    let nonces: BTreeSet<u64> = found.live.iter().map(|(file, _)| file).chain(&found.prepared).map(|f| f.header.nonce).collect();
    let mut usable = BTreeSet::new();
    for &seq in &found.spares {
        let path = spare_path(dir, seq);
        let file = rt.open(&path, Open::Read).await?;
        let file_len = file.len().await?;
        let in_use = match file.read_at(0, BLOCK_BYTES).await {
            Ok(block) => FileHeader::decode(&block).is_ok_and(|header| nonces.contains(&header.nonce)),
            Err(_) => true,
        };
        file.close().await?;
        if !in_use && file_len >= BLOCK_BYTES as u64 {
            let (cluster_id, node_id, home) = (config.cluster_id, config.node_id, config.home);
            mark(rt, dir, seq, FileHeader { cluster_id, node_id, home, file_seq: NOT_IN_USE, nonce: rt.rand(), file_len }).await?;
        }
        if !in_use && file_len == config.journal_file_bytes {
            usable.insert(seq);
        } else {
            rt.remove(&path).await?;
        }
    }
    rt.sync_dir(dir).await?;
    Ok(usable)
}

fn state<R: Rt>(found: Found<R>, stamps: Stamps) -> State<R> {
    let live: VecDeque<Live<R>> = found.live.into_iter().map(|(file, checkpointed)| Live { file, checkpointed }).collect();
    let header = live.back().map(|live| live.file.header);
    let last_seq = found.prepared.last().map(|f| f.header.file_seq).or(header.map(|h| h.file_seq)).unwrap_or(0);
    State {
        open: None,
        sealed: VecDeque::new(),
        file_seq: header.map_or(0, |h| h.file_seq),
        position: found.position,
        file_len: header.map_or(FIRST_FLUSH, |h| h.file_len),
        live,
        prepared: found.prepared.into(),
        spares: found.spares,
        next_file_seq: last_seq + 1,
        flush_seq: found.chain.next_seq,
        prev_crc: found.chain.prev_crc.unwrap_or(0),
        stamps,
        last_lsn: Lsn(0),
        synced_lsn: Lsn(0),
        gather_no: 0,
        unsynced_bytes: 0,
        checkpoint_bytes: 0,
        capacity_hint: 0,
        waiters: Waiters::default(),
        company: Company::default(),
        mark_wanted: true,
        marked: false,
        closing: false,
        stopped: None,
        disk_low: None,
        stats: LogStats::default(),
    }
}

/// Begins the first file of a new journal, and marks the last flush of an old one. No task runs yet.
async fn begin_writing<R: Rt>(home: &Rc<Home<R>>, fresh: bool) -> Result<()> {
    if fresh {
        if home.journal.state.borrow().prepared.is_empty() {
            let spare = home.journal.state.borrow().spares.first().copied();
            let spare = match spare {
                Some(spare) => spare,
                None => {
                    make_spare(&home.rt, &home.journal.dir, 1, home.config().journal_file_bytes, async |_| ()).await?;
                    1
                }
            };
            prepare::prepare_next(home, spare).await?;
        }
        let frames = checkpoint(home);
        home.journal.begin_first(frames);
    }
    let checkpoint_bytes = flush_disk_len(checkpoint(home).iter().map(|(_, payload)| FRAME_HEAD_BYTES + payload.len()).sum());
    home.journal.state.borrow_mut().checkpoint_bytes = checkpoint_bytes;
    writer::write_pending(home).await;
    Ok(())
}

fn spawn<R: Rt>(home: &Rc<Home<R>>) {
    home.start("journal writer", Share::First, writer::run(home.clone()));
    home.start("journal marker", Share::Serve, writer::run_marker(home.clone()));
    home.start("journal files", Share::Background, prepare::run(home.clone()));
    home.start("settler", Share::Background, settle::run(home.clone()));
    home.start("trash", Share::Background, trash::run(home.clone()));
    home.start("log upkeep", Share::Background, upkeep::run(home.clone()));
    home.start("log compaction", Share::Background, upkeep::run_compaction(home.clone()));
    home.journal.files.notify_one();
    home.settle.notify_one();
}
