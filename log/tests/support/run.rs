//! The run of one seed: lives, deaths, starts, and what must hold after each.

use super::{
    life::{self, LifePlan},
    model::Model,
    verify,
};
use millpond_log::{
    Log, LogConfig, LogError, Recovered,
    journal::format::{FileHeader, FlushHeader},
};
use millpond_runtime::{
    CoreId, NodeId,
    sim::{DiskFault, FaultPlan, Sim, SimConfig, SimDisk, SimRt, Stopped},
};
use std::{cell::RefCell, collections::BTreeMap, ops::Range, path::PathBuf, rc::Rc, time::Duration};

const NODE: NodeId = NodeId(1);

/// What a run leaves.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) trace_hash: u64,
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

/// What is done to the disk in this run, beyond crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    FailedIo,
    Rot,
    FullDisk,
}

/// What became of opening and then verifying: the simulation may have stopped, the log may have refused.
type Opened = Result<Result<(Log<SimRt>, Recovered, Result<(), String>), LogError>, Stopped>;

struct Runner {
    sim: Sim,
    model: Rc<RefCell<Model>>,
    config: LogConfig,
    plan: LifePlan,
    trouble: Trouble,
    log: Rc<RefCell<Option<Log<SimRt>>>>,
}

/// Runs one seed. The error says which promise was broken.
pub(crate) fn run(seed: u64) -> Result<Outcome, String> {
    let sim = Sim::new(SimConfig { seed, faults: FaultPlan::survivable() });
    if sim.below(6) == 0 {
        // Operations overtake each other: what should wait for a sync and doesn't shows itself.
        sim.set_faults(FaultPlan { disk_stall: 0.03, ..FaultPlan::survivable() });
    }
    let trouble = match sim.below(8) {
        0 => Trouble::FailedIo,
        1 => Trouble::Rot,
        2 => Trouble::FullDisk,
        _ => Trouble::None,
    };
    let block = 4096;
    let file = block * (24 + 8 * sim.below(4));
    // So many groups that a checkpoint takes several flushes.
    let many = sim.below(6) == 0;
    let config = LogConfig {
        cluster_id: 7,
        node_id: 1,
        home: 3,
        journal_file_bytes: file,
        journal_files_max: 3 + sim.below(4) as usize,
        flush_bytes_max: (block * if many { 1 } else { 2 + sim.below(4) }) as usize,
        unsynced_bytes_max: 64 << 10,
        tail_bytes_max: (128 << 10) << sim.below(2),
        settle_bytes: (4 << 10) << sim.below(3),
        settle_run_bytes_max: (8 << 10) << sim.below(3),
        compression_level: sim.below(2) as i32,
        trash_step_bytes: 8 << 10,
        disk_reserve_bytes: if trouble == Trouble::FullDisk { 64 << 10 } else { 0 },
        // Without marks the last flush has nothing but itself to tell that it was synced.
        mark_after: [Duration::from_micros(500), Duration::from_secs(3600)][sim.below(2) as usize],
        maintain_every: Duration::from_millis(5),
        open_segments_max: 4,
    };
    let plan = LifePlan {
        think_us: 50 << sim.below(6),
        burst_max: 1 + sim.below(4),
        groups_max: if many { 48 } else { 2 + sim.below(5) as usize },
    };
    if std::env::var("SEED").is_ok() {
        println!("{trouble:?} {plan:?} {config:?}");
    }
    let mut runner = Runner { sim, model: Rc::default(), config, plan, trouble, log: Rc::default() };
    runner.lives()?;
    let mut seen = runner.model.borrow().seen.clone();
    for (what, n) in runner.sim.coverage() {
        *seen.entry(what).or_default() += n;
    }
    Ok(Outcome { trace_hash: runner.sim.trace_hash(), seen })
}

/// Tries of one start. What strikes it strikes by chance, or once.
const STARTS_MAX: usize = 100;

impl Runner {
    fn below(&self, n: u64) -> u64 {
        self.sim.below(n)
    }

    fn saw(&self, what: &'static str) {
        self.model.borrow_mut().saw(what);
    }

    fn broken(&self) -> Result<(), String> {
        self.model.borrow().broken.clone().map_or(Ok(()), Err)
    }

    fn lives(&mut self) -> Result<(), String> {
        let lives = 3 + self.below(6);
        for life in 0..lives {
            let Some(log) = self.start(life > 0)? else { continue };
            if self.below(5) == 0 {
                // What was recovered has been seen, so it must last, whatever happens next.
                self.saw("died_after_start");
                self.sim.crash(NODE);
                continue;
            }
            self.live(log)?;
        }
        // The end: everything must still be readable, and a clean stop must lose nothing.
        self.sim.node(NODE).disk().set_quota(None);
        let Some(log) = self.start(true)? else { return Ok(()) };
        self.counted(&log);
        self.close(log)?;
        self.broken()
    }

    /// Closes the log. A failure asked for may strike even then.
    fn close(&self, log: Log<SimRt>) -> Result<(), String> {
        match self.sim.block_on(NODE, |_| async move { log.close().await }) {
            Ok(()) => self.saw("closed"),
            Err(_) if self.trouble == Trouble::FailedIo && self.sim.halted(NODE).is_some() => self.saw("halted_after_failed_io"),
            Err(stopped) => return Err(format!("closing: {stopped}; halted: {:?}", self.sim.halted(NODE))),
        }
        Ok(())
    }

    /// Starts the node, perhaps dying under it now and then, and checks what it has recovered. `None` if damage on purpose
    /// kept it from opening, which was checked and undone.
    fn start(&mut self, rotten: bool) -> Result<Option<Log<SimRt>>, String> {
        for _ in 0..STARTS_MAX {
            if !self.sim.node(NODE).is_up() {
                self.sim.restart(NODE);
            }
            let damage = if rotten && self.trouble == Trouble::Rot && self.below(2) == 0 { self.damage()? } else { None };
            if damage.is_none() && self.below(4) == 0 {
                self.sim.crash_at_poll(NODE, self.below(60));
            }
            if !self.sim.node(NODE).disk().is_clean() {
                self.saw("started_on_unsynced_data");
            }
            let (config, model) = (self.config.clone(), self.model.clone());
            let promised = model.borrow().groups.clone();
            let opened = self.sim.block_on(NODE, |rt| async move {
                let (log, recovered) = Log::open(rt, PathBuf::from("/data/core-03"), config).await?;
                Ok::<_, LogError>((log.clone(), recovered, verify::after_start(&log, &model).await))
            });
            if damage.is_some() {
                let outcome = self.after_damage(damage, opened);
                self.model.borrow_mut().groups = promised;
                return outcome;
            }
            match opened {
                Err(_) if !self.sim.node(NODE).is_up() && self.sim.halted(NODE).is_none() => {
                    self.saw("crash_in_recovery");
                    continue;
                }
                Err(_) if self.trouble == Trouble::FailedIo && self.sim.halted(NODE).is_some() => {
                    self.saw("halted_after_failed_io");
                    self.sim.restart(NODE);
                    self.sim.crash(NODE);
                }
                Err(stopped) => return Err(format!("starting: {stopped}; halted: {:?}", self.sim.halted(NODE))),
                Ok(Err(LogError::DiskFull { .. })) if self.trouble == Trouble::FullDisk => {
                    self.sim.node(NODE).disk().set_quota(None);
                    continue;
                }
                Ok(Err(LogError::Io(_))) if self.trouble == Trouble::FailedIo => {
                    self.saw("start_refused_after_failed_io");
                    self.sim.crash(NODE);
                }
                Ok(Err(error)) => return Err(format!("starting: {error}")),
                Ok(Ok((log, recovered, verified))) => {
                    self.recovered(&recovered);
                    verified.map_err(|what| format!("after {recovered:?}: {what}"))?;
                    // The order to die in recovery must not strike later.
                    self.sim.crash_at_poll(NODE, u64::MAX);
                    *self.log.borrow_mut() = Some(log.clone());
                    return Ok(Some(log));
                }
            }
        }
        Err(format!("the log cannot be opened, not even with the {STARTS_MAX}th try"))
    }

    fn recovered(&self, recovered: &Recovered) {
        if recovered.torn.is_some() {
            self.saw("torn_tail_cut");
        }
        if recovered.gave_up_file {
            self.saw("file_given_up");
        }
        if recovered.files > 1 {
            self.saw("recovered_over_files");
        }
        if recovered.entries > 0 {
            self.saw("recovered_entries");
        }
    }

    /// One life, from a good start to its end.
    fn live(&mut self, log: Log<SimRt>) -> Result<(), String> {
        let node = self.sim.node(NODE);
        let (model, plan) = (self.model.clone(), self.plan);
        let l = log.clone();
        node.start(CoreId(0), |rt| async move { life::start(&rt, &l, &model, plan) });
        let polls = node.polls();
        let dies_at = polls + self.below([100, 1000, 5000, 20_000][self.below(4) as usize]);
        let clean = self.below(5) == 0;
        if !clean {
            self.sim.crash_at_poll(NODE, dies_at);
        }
        match self.trouble {
            Trouble::FailedIo => self.ask_for_failure(),
            Trouble::FullDisk => {
                let used: u64 = node.disk().files().iter().map(|(_, len)| len).sum();
                node.disk().set_quota(Some(used + (128 << 10) + self.below(512 << 10)));
            }
            Trouble::None | Trouble::Rot => {}
        }
        let broken = || self.model.borrow().broken.is_some();
        let ran = self.sim.run_until(|| !node.is_up() || broken(), Duration::from_millis(100 + self.below(400)));
        match ran {
            Ok(()) | Err(Stopped::OutOfTime { .. }) => {}
            Err(other) => return Err(other.to_string()),
        }
        self.counted(&log);
        self.broken()?;
        if self.trouble == Trouble::FullDisk && node.is_up() {
            self.lift_quota(&log)?;
        }
        self.end(log, clean)
    }

    fn ask_for_failure(&self) {
        let fault = [DiskFault::SyncError, DiskFault::WriteError][self.below(2) as usize];
        let place = ["journal/", ".seg", "groups"][self.below(3) as usize];
        self.sim.node(NODE).disk().inject(place, fault);
    }

    /// Space comes back: whoever was refused must get through again.
    fn lift_quota(&self, log: &Log<SimRt>) -> Result<(), String> {
        let node = self.sim.node(NODE);
        if !log.stats().disk_full {
            return Ok(());
        }
        self.saw("disk_was_full");
        node.disk().set_quota(None);
        let log = log.clone();
        let before = log.stats().entries_synced;
        let broken = || self.model.borrow().broken.is_some();
        let has_groups = !log.groups().is_empty();
        let resumed = || !has_groups || log.stats().entries_synced > before;
        match self.sim.run_until(|| !node.is_up() || broken() || resumed(), Duration::from_secs(60)) {
            Ok(()) => Ok(()),
            Err(stopped) => Err(format!("space is back, appends are not: {stopped}; {:?}", log.stats())),
        }
    }

    fn end(&self, log: Log<SimRt>, clean: bool) -> Result<(), String> {
        let node = self.sim.node(NODE);
        if let Some(why) = self.sim.halted(NODE) {
            if self.trouble != Trouble::FailedIo {
                return Err(format!("the node halted: {why}"));
            }
            self.saw("halted_after_failed_io");
            self.sim.restart(NODE);
            self.sim.crash(NODE);
        } else if node.is_up() {
            match self.below(3) {
                _ if clean => {
                    self.sim.crash_at_poll(NODE, u64::MAX);
                    self.close(log)?;
                    self.sim.crash(NODE);
                }
                0 => {
                    self.saw("killed");
                    self.sim.kill(NODE);
                    if self.below(2) == 0 {
                        self.sim.crash(NODE);
                    }
                }
                _ => self.sim.crash(NODE),
            }
        }
        self.log.borrow_mut().take();
        self.broken()
    }

    fn counted(&self, log: &Log<SimRt>) {
        let stats = log.stats();
        let mut m = self.model.borrow_mut();
        for (what, n) in [
            ("files_made", stats.files_made),
            ("files_extra", stats.files_extra),
            ("files_recycled", stats.files_recycled),
            ("settles", stats.settles),
            ("compactions", stats.compactions),
            ("compactions_overtaken", stats.compactions_overtaken),
            ("marks", stats.marks),
            ("syncs", stats.syncs),
            ("reads_tail", stats.reads_tail),
            ("reads_segments", stats.reads_segments),
        ] {
            *m.seen.entry(what).or_default() += n;
        }
    }

    /// Flips a bit somewhere. The file, its position, and the disk as it was.
    fn damage(&self) -> Result<Option<Damage>, String> {
        let disk = self.sim.node(NODE).disk();
        let files: Vec<(PathBuf, u64)> =
            disk.files().into_iter().filter(|(path, len)| *len > 0 && path.extension().is_some_and(|e| e == "jnl" || e == "seg")).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let (path, len) = files[self.below(files.len() as u64) as usize].clone();
        let last = last_flush(&disk, &files);
        let (path, position) = match (self.below(4), &last) {
            // Headers are small: without help hardly any flip would hit one.
            (0, _) => (path, self.below(len / 4096) * 4096 + self.below(64)),
            // Nothing that follows proves that this one was synced: it must say so itself.
            (1 | 2, Some((path, range))) => (path.clone(), range.start + self.below(range.end - range.start)),
            _ => (path, self.below(len)),
        };
        let in_last = last.is_some_and(|(file, range)| file == path && range.contains(&position));
        let before = disk.snapshot();
        // After a mere kill the place may not be on stable media yet: nothing to rot there.
        if disk.flip(&path, position, 1 << self.below(8)).is_err() {
            return Ok(None);
        }
        self.model.borrow_mut().damaged = Some(path.clone());
        self.saw("damaged");
        Ok(Some(Damage { path, position, in_last, before }))
    }

    /// The log must have seen the damage, or be right all the same.
    fn after_damage(&mut self, damage: Option<Damage>, opened: Opened) -> Result<Option<Log<SimRt>>, String> {
        let Some(Damage { path, position, in_last, before }) = damage else { return Ok(None) };
        let outcome = match opened {
            // What grows is read when it is to grow: damage in it stops the node, by name.
            Err(_) if self.sim.halted(NODE).is_some_and(|why| why.contains(&*path.to_string_lossy()) && why.contains("damaged")) => {
                self.saw("damage_halted");
                Ok(())
            }
            Err(stopped) => Err(format!("{stopped}; halted {:?}", self.sim.halted(NODE))),
            Ok(Err(LogError::Corrupt { file, position: at, len, what })) if file == path => {
                self.saw(if in_last { "damage_refused_in_last_flush" } else { "damage_refused" });
                if what.contains("flush") && len > 0 && (position < at || position >= at + len) && at + len != at {
                    Err(format!("damage at byte {position} reported at {at}+{len}: {what}"))
                } else {
                    Ok(())
                }
            }
            Ok(Err(LogError::Foreign { file, .. })) if file == path => {
                self.saw("damage_refused");
                Ok(())
            }
            Ok(Err(error)) => Err(format!("{error}")),
            Ok(Ok((_, recovered, verified))) => match verified {
                Ok(()) => {
                    self.saw("damage_harmless");
                    Ok(())
                }
                Err(what) => Err(format!("{what}; {recovered:?}")),
            },
        };
        outcome.map_err(|what| format!("after a flipped bit at byte {position} of {}: {what}", path.display()))?;
        self.model.borrow_mut().damaged = None;
        self.sim.crash(NODE);
        self.sim.node(NODE).disk().restore(&before);
        Ok(None)
    }
}

/// The newest flush on stable media whose header can be read: its file, and the bytes that it takes there.
fn last_flush(disk: &SimDisk, files: &[(PathBuf, u64)]) -> Option<(PathBuf, Range<u64>)> {
    let mut newest: Option<(u64, PathBuf, Range<u64>)> = None;
    for (path, len) in files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "jnl")) {
        let bytes = disk.read_stable(path, 0, *len as usize).ok()?;
        let Ok(file) = FileHeader::decode(&bytes) else { continue };
        for position in (4096..bytes.len()).step_by(4096) {
            let Ok((header, _)) = FlushHeader::decode(&bytes[position..]) else { continue };
            let newer = newest.as_ref().is_none_or(|(seq, ..)| *seq < header.flush_seq);
            if newer && header.belongs(&file, position as u64) {
                newest = Some((header.flush_seq, path.clone(), header.position..header.position + header.disk_len()));
            }
        }
    }
    newest.map(|(_, path, range)| (path, range))
}

struct Damage {
    path: PathBuf,
    position: u64,
    /// In the newest flush of the journal.
    in_last: bool,
    before: millpond_runtime::sim::DiskImage,
}
