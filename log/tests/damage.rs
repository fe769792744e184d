//! A replica whose segments are damaged: the others of its home go on, nothing of it is read or settled, and it can be made anew.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use bytes::Bytes;
use millpond_batch::{Builder, Compression, Header, builder::NO_HEADERS};
use millpond_log::{Entry, EntryKind, GroupConfig, Log, LogConfig, LogError, ReadLimits};
use millpond_runtime::{
    GroupId, Index, NodeId, Offset, Rt, Term,
    sim::{Sim, SimRt},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const NODE: NodeId = NodeId(1);
const DAMAGED: GroupId = GroupId(9);
const WELL: GroupId = GroupId(10);
const HOME: &str = "/data/core-00";

fn config() -> LogConfig {
    LogConfig {
        journal_file_bytes: 256 << 10,
        journal_files_max: 4,
        flush_bytes_max: 32 << 10,
        unsynced_bytes_max: 128 << 10,
        tail_bytes_max: 512 << 10,
        settle_bytes: 8 << 10,
        settle_run_bytes_max: 32 << 10,
        disk_reserve_bytes: 0,
        maintain_every: Duration::from_millis(100),
        ..LogConfig::default()
    }
}

fn open(sim: &Sim) -> Result<Log<SimRt>, LogError> {
    sim.block_on(NODE, |rt| Log::open(rt, PathBuf::from(HOME), config())).unwrap().map(|(log, _)| log)
}

fn batch(offset: u64) -> Bytes {
    let mut builder = Builder::new(Compression::None, 256);
    // Nothing that could be compressed.
    let value: Vec<u8> = (0..400_u64).map(|n| ((offset * 400 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    builder.append(1_700_000_000_000, None, Some(&value), NO_HEADERS);
    let mut bytes = builder.build(None).unwrap();
    millpond_batch::stamp(&mut bytes, offset, 1);
    bytes.freeze()
}

/// Appends records, and commits each.
async fn fill(log: &Log<SimRt>, group: GroupId, records: std::ops::Range<u64>) -> Result<(), LogError> {
    for n in records {
        let index = Index(n + 1);
        let entry = Entry { index, term: Term(1), kind: EntryKind::Batch, base_offset: Offset(n), payload: batch(n) };
        let lsn = log.append_entry(group, entry, 0)?;
        log.synced(lsn).await?;
        log.commit(group, index);
    }
    Ok(())
}

async fn read(log: &Log<SimRt>, group: GroupId) -> Result<u64, LogError> {
    let (mut from, end) = (Offset(0), log.state(group).unwrap().high_watermark);
    while from < end {
        let out = log.read(group, from, ReadLimits { bytes_max: 64 << 10, end }).await?;
        assert!(out.batches.iter().all(|b| *b == batch(Header::parse(b).unwrap().base_offset)));
        from = out.next;
    }
    Ok(end.0)
}

fn segments(sim: &Sim, group: GroupId) -> Vec<(PathBuf, u64)> {
    let dir = Path::new(HOME).join("groups").join(group.to_string());
    let files = sim.node(NODE).disk().files().into_iter();
    files.filter(|(path, _)| path.starts_with(&dir) && path.extension().is_some_and(|e| e == "seg")).collect()
}

/// Two replicas whose records are in segments, several of them.
fn home(sim: &Sim) -> Log<SimRt> {
    let log = open(sim).unwrap();
    let l = log.clone();
    let filled = sim.block_on(NODE, |rt| async move {
        for group in [DAMAGED, WELL] {
            let settings = GroupConfig { segment_bytes: 16 << 10, ..GroupConfig::default() };
            l.synced(l.create_replica(group, settings, Bytes::from_static(b"members"))?).await?;
            fill(&l, group, 0..300).await?;
            let put = l.set_hard_state(group, millpond_log::HardState { term: Term(1), vote: 1, commit: Index(300) })?;
            l.synced(put).await?;
        }
        rt.sleep(Duration::from_secs(1)).await;
        Ok::<_, LogError>(())
    });
    filled.unwrap().unwrap();
    assert!([DAMAGED, WELL].iter().all(|group| segments(sim, *group).len() > 2));
    log
}

/// Cuts the power, and changes a byte of one of the damaged group's segments; of the last one if it is not sealed.
fn spoil(sim: &Sim, growing: bool, from_end: bool) {
    sim.crash(NODE);
    let mut files = segments(sim, DAMAGED);
    files.sort();
    let (path, len) = if growing { files.last().unwrap() } else { &files[0] };
    let disk = sim.node(NODE).disk();
    let written = |at: &u64| disk.read_stable(path, at / 512 * 512, 512).is_ok_and(|sector| sector[(at % 512) as usize] != 0);
    let at = if from_end { (0..*len).rev().find(written).unwrap() } else { (4500..*len).find(written).unwrap() };
    disk.flip(path, at, 0x10).unwrap();
    sim.restart(NODE);
}

/// It is dropped, and made anew under its number, once nothing of it is left.
fn make_anew(sim: &Sim, log: &Log<SimRt>) {
    let l = log.clone();
    let made = sim.block_on(NODE, |rt| async move {
        let lsn = l.drop_group(DAMAGED)?;
        let early = l.create_replica(DAMAGED, GroupConfig::default(), Bytes::from_static(b"others"));
        assert!(matches!(early, Err(LogError::Dropping { group: DAMAGED })), "{early:?}");
        l.synced(lsn).await?;
        let made = loop {
            match l.create_replica(DAMAGED, GroupConfig::default(), Bytes::from_static(b"others")) {
                Err(LogError::Dropping { .. }) => rt.sleep(Duration::from_millis(1)).await,
                made => break made?,
            }
        };
        l.synced(made).await?;
        assert!(l.damaged(DAMAGED).is_none());
        fill(&l, DAMAGED, 0..200).await?;
        rt.sleep(Duration::from_secs(1)).await;
        Ok::<_, LogError>(())
    });
    made.unwrap().unwrap();
    assert!(!segments(sim, DAMAGED).is_empty());
    let l = log.clone();
    assert_eq!(sim.block_on(NODE, |_| async move { read(&l, DAMAGED).await }).unwrap().unwrap(), 200);
    sim.crash(NODE);
    sim.restart(NODE);
    let log = open(sim).unwrap();
    log.check();
    assert_eq!(log.replica(DAMAGED).unwrap().members.bytes, Bytes::from_static(b"others"));
}

fn refuses_the_damaged_one_alone(sim: &Sim, log: &Log<SimRt>) {
    let l = log.clone();
    let (damaged, well) = sim.block_on(NODE, |_| async move { (read(&l, DAMAGED).await, read(&l, WELL).await) }).unwrap();
    assert!(matches!(damaged, Err(LogError::Damaged { group: DAMAGED, .. })), "{damaged:?}");
    assert_eq!(well.unwrap(), 300);
}

#[test]
fn damage_that_a_start_finds_keeps_no_other_group_from_starting() {
    let sim = Sim::new(1);
    drop(home(&sim));
    spoil(&sim, false, true);
    let log = open(&sim).unwrap();
    let found = log.take_damaged();
    assert!(found.len() == 1 && found[0].0 == DAMAGED && found[0].1.contains(".seg is damaged"), "{found:?}");
    assert!(log.take_damaged().is_empty() && log.damaged(DAMAGED).is_some());
    refuses_the_damaged_one_alone(&sim, &log);
    // What was not settled stays in the journal, and is found again.
    let l = log.clone();
    sim.block_on(NODE, |_| async move { fill(&l, WELL, 300..600).await }).unwrap().unwrap();
    drop(log);
    sim.crash(NODE);
    sim.restart(NODE);
    let log = open(&sim).unwrap();
    assert!(log.damaged(DAMAGED).is_some() && log.replica(DAMAGED).unwrap().last_index == Index(300));
    make_anew(&sim, &log);
}

#[test]
fn damage_that_settling_finds_ends_nothing_but_the_settling_of_that_group() {
    let sim = Sim::new(2);
    drop(home(&sim));
    spoil(&sim, true, true);
    let log = open(&sim).unwrap();
    assert!(log.damaged(DAMAGED).is_none(), "what grows is read when it grows");
    let l = log.clone();
    let filled = sim.block_on(NODE, |rt| async move {
        for n in 0..40 {
            fill(&l, DAMAGED, 300 + n..301 + n).await?;
            fill(&l, WELL, 300 + n..301 + n).await?;
        }
        rt.sleep(Duration::from_secs(1)).await;
        Ok::<_, LogError>(())
    });
    filled.unwrap().unwrap();
    assert_eq!(log.take_damaged().len(), 1);
    let l = log.clone();
    assert_eq!(sim.block_on(NODE, |_| async move { read(&l, WELL).await }).unwrap().unwrap(), 340);
    make_anew(&sim, &log);
}

#[test]
fn damage_that_a_read_finds_is_suspected_until_somebody_has_looked() {
    let sim = Sim::new(3);
    drop(home(&sim));
    spoil(&sim, false, false);
    let log = open(&sim).unwrap();
    assert!(log.take_damaged().is_empty() && log.take_suspects().is_empty());
    refuses_the_damaged_one_alone(&sim, &log);
    assert_eq!(log.take_suspects(), [DAMAGED]);
    let l = log.clone();
    let error = sim.block_on(NODE, |_| async move { l.verify(DAMAGED).await }).unwrap().unwrap_err();
    assert!(error.is_damage(), "{error}");
    log.note_damage(DAMAGED, &error);
    assert_eq!(log.take_damaged().len(), 1);
    make_anew(&sim, &log);
}
