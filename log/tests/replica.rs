//! A replica's log in the simulator: entries come, go and are committed, the power goes at any await, and what a start finds is what the journal
//! held at one moment, not before the last one that was synced.
//!
//! One seed: `SEED=123 cargo test -p millpond-log --test replica -- --nocapture`. Many: `SEEDS=20000`.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

#[path = "support/transactions.rs"]
mod transactions;

use bytes::Bytes;
use millpond_batch::{Builder, Compression, Header, Producer};
use millpond_log::{Entry, EntryKind, GroupConfig, HardState, Log, LogConfig, LogError, Lsn, Members, ReadLimits, ReplicaState};
use millpond_runtime::{
    GroupId, Index, NodeId, Offset, Rt, Term,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

const NODE: NodeId = NodeId(1);
const GROUP: GroupId = GroupId(9);
/// Beside it, so that files roll and are used again.
const OTHER: GroupId = GroupId(10);

/// What the log should hold after some note.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: Vec<Entry>,
    hard: HardState,
    members: Members,
}

impl Model {
    fn end(&self) -> Offset {
        self.entries.last().map_or(Offset(0), next_offset)
    }
    fn last(&self) -> u64 {
        self.entries.len() as u64
    }
}

fn next_offset(entry: &Entry) -> Offset {
    match entry.kind {
        EntryKind::Batch => Offset(Header::parse(&entry.payload).unwrap().next_offset()),
        EntryKind::Raft => entry.base_offset,
    }
}

/// All that the journal may hold, in order, and how far it must.
#[derive(Default)]
struct Book {
    states: RefCell<Vec<(Lsn, Model)>>,
    synced: Cell<Lsn>,
    committed: Cell<u64>,
    truncated: Cell<u64>,
    settled: Cell<u64>,
}

impl Book {
    fn now(&self) -> Model {
        self.states.borrow().last().unwrap().1.clone()
    }
    fn last(&self) -> Lsn {
        self.states.borrow().last().unwrap().0
    }
    fn put(&self, lsn: Lsn, model: Model) {
        self.states.borrow_mut().push((lsn, model));
    }
}

fn config(sim: &Sim) -> LogConfig {
    LogConfig {
        journal_file_bytes: 4096 * (24 + 8 * sim.below(4)),
        journal_files_max: 3 + sim.below(4) as usize,
        flush_bytes_max: 4096 * (2 + sim.below(4)) as usize,
        unsynced_bytes_max: 64 << 10,
        tail_bytes_max: 256 << 10,
        settle_bytes: (2 << 10) << sim.below(3),
        settle_run_bytes_max: (4 << 10) << sim.below(3),
        compression_level: sim.below(2) as i32,
        trash_step_bytes: 8 << 10,
        disk_reserve_bytes: 0,
        mark_after: Duration::from_micros(500),
        ..LogConfig::default()
    }
}

fn entry(model: &Model, index: u64, term: u64, kind: EntryKind, fill: usize) -> Entry {
    let base_offset = index.checked_sub(2).map_or(Offset(0), |at| next_offset(&model.entries[at as usize]));
    let of_transaction = transactions::batch(index, base_offset, term, fill).filter(|_| kind == EntryKind::Batch);
    let payload = match kind {
        EntryKind::Raft => Bytes::from(format!("leader of term {term}")),
        EntryKind::Batch if let Some(batch) = of_transaction => batch,
        EntryKind::Batch => {
            let mut builder = Builder::new(Compression::None, 256);
            let headers: [(&[u8], Option<&[u8]>); 0] = [];
            for _ in 0..=fill % 3 {
                builder.append(1_700_000_000_000 + index as i64, Some(b"k"), Some(&vec![fill as u8; fill]), &headers);
            }
            // A producer whose sequence says where in the log its batch lies.
            let producer = Producer { id: 1, epoch: 0, base_sequence: i32::try_from(base_offset.0).unwrap() };
            let mut bytes = builder.build(Some(producer)).unwrap();
            millpond_batch::stamp(&mut bytes, base_offset.0, term as i32);
            bytes.freeze()
        }
    };
    Entry { index: Index(index), term: Term(term), kind, base_offset, payload }
}

/// What Raft would do, until the power goes.
async fn live(rt: SimRt, log: Log<SimRt>, book: Rc<Book>, steps: u64) -> Result<(), LogError> {
    for _ in 0..steps {
        log.wait_room().await;
        let mut model = book.now();
        match rt.rand() % 10 {
            0..=4 => {
                let term = model.hard.term.0.max(1);
                let kind = if rt.rand().is_multiple_of(5) { EntryKind::Raft } else { EntryKind::Batch };
                let new = entry(&model, model.last() + 1, term, kind, rt.rand() as usize % 3_000);
                model.entries.push(new.clone());
                tell(log.append_entry(GROUP, new, 0), |lsn| book.put(lsn, model))?;
            }
            5 => {
                // Another leader has other entries, in a term of its own.
                let committed = book.committed.get().max(model.hard.commit.0);
                if model.last() > committed {
                    let hard = HardState { term: Term(model.hard.term.0 + 1), vote: 0, ..model.hard };
                    model.hard = hard;
                    let next = model.clone();
                    tell(log.set_hard_state(GROUP, hard), |lsn| book.put(lsn, next))?;
                    if book.now().hard != hard {
                        continue;
                    }
                    let index = committed + 1 + rt.rand() % (model.last() - committed);
                    let new = entry(&model, index, hard.term.0, EntryKind::Batch, rt.rand() as usize % 500);
                    model.entries.truncate(index as usize - 1);
                    let gone = model.clone();
                    model.entries.push(new.clone());
                    let before = log.synced_lsn();
                    match log.append_entry(GROUP, new, 0) {
                        // What went is a note of its own, and the power may go between the two.
                        Ok(lsn) => {
                            book.put(Lsn(lsn.0 - 1), gone);
                            book.put(lsn, model);
                            book.truncated.set(book.truncated.get() + 1);
                        }
                        Err(LogError::Full { .. }) => {
                            if log.replica(GROUP).unwrap().last_index.0 < index {
                                book.put(before.next(), gone);
                            }
                        }
                        Err(e) => return Err(e),
                    }
                }
            }
            6 => {
                model.hard = HardState {
                    term: Term(model.hard.term.0 + rt.rand() % 2),
                    vote: 1 + rt.rand() % 3,
                    commit: Index(book.committed.get()),
                };
                if model.hard.term == book.now().hard.term && book.now().hard.vote != 0 {
                    model.hard.vote = book.now().hard.vote;
                }
                let hard = model.hard;
                tell(log.set_hard_state(GROUP, hard), |lsn| book.put(lsn, model))?;
            }
            7 => {
                let members = Members { index: Index(model.last()), bytes: Bytes::from(format!("{}", rt.rand())) };
                model.members = members.clone();
                tell(log.set_members(GROUP, members), |lsn| book.put(lsn, model))?;
            }
            8 => {
                let to = book.committed.get() + rt.rand() % (model.last() - book.committed.get() + 1);
                // A quorum has it: so it is synced here too, in this test.
                log.synced(book.last()).await?;
                book.synced.set(log.synced_lsn());
                book.committed.set(to);
                log.commit(GROUP, Index(to));
                check(&log, &book.now(), &log.replica(GROUP).unwrap());
            }
            _ => {
                log.synced(book.last()).await?;
                book.synced.set(log.synced_lsn());
                rt.sleep(Duration::from_micros(rt.rand() % 3_000)).await;
            }
        }
        let other = entry(&Model::default(), 1, 1, EntryKind::Batch, 900);
        let header = Header::parse(&other.payload).unwrap();
        if rt.rand().is_multiple_of(2) && log.room() {
            let plain = Header { producer_id: -1, ..header };
            let _ = log.append(OTHER, other.payload.to_vec().as_slice().into(), &plain, 0);
        }
        log.check();
        book.settled.set(book.settled.get().max(log.stats().settles));
    }
    Ok(())
}

/// A log that is full takes the entry later.
fn tell(put: Result<Lsn, LogError>, then: impl FnOnce(Lsn)) -> Result<(), LogError> {
    match put {
        Ok(lsn) => then(lsn),
        Err(LogError::Full { .. }) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// What the log says of itself is what the model says.
fn check(log: &Log<SimRt>, model: &Model, found: &ReplicaState) {
    assert_eq!((found.hard, &found.members, found.last_index.0), (model.hard, &model.members, model.last()));
    assert_eq!(found.last_term, model.entries.last().map_or(Term(0), |e| e.term));
    for entry in &model.entries {
        assert_eq!(log.term_of(GROUP, entry.index), Some(entry.term), "entry {}", entry.index);
    }
    assert_eq!(log.state(GROUP).unwrap().end_offset, model.end());
    // The producer's last batches are known, and nothing that is gone is.
    let batches = model.entries.iter().filter(|e| e.kind == EntryKind::Batch).map(|e| Header::parse(&e.payload).unwrap());
    // In a row without gaps, since it was last alone in the log.
    let mut batches: Vec<Header> = batches.filter(|header| header.producer_id == 1).collect();
    let follows = |pair: &[Header]| pair[0].base_offset + pair[0].record_span() == pair[1].base_offset;
    let gap = batches.windows(2).rposition(|pair| !follows(pair)).map_or(0, |at| at + 1);
    batches.drain(..gap);
    transactions::check(log, GROUP, &model.entries);
    for batch in batches.iter().rev().take(5) {
        assert_eq!(log.produced(GROUP, batch, 0).unwrap(), Some(Offset(batch.base_offset)));
    }
    if let Some(last) = batches.last() {
        let next = Header { base_sequence: i32::try_from(last.next_offset()).unwrap(), ..*last };
        assert_eq!(log.produced(GROUP, &next, 0).unwrap(), None, "what would come next");
    }
    if let Some(first) = found.committed.0.checked_add(1).filter(|first| *first <= model.last()) {
        let rest = log.entries_in_memory(GROUP, Index(first), found.last_index, usize::MAX).expect("what is not committed is in memory");
        assert_eq!(rest, model.entries[first as usize - 1..]);
    }
}

/// All batches that readers see.
async fn read(log: &Log<SimRt>) -> Vec<Bytes> {
    let end = log.state(GROUP).unwrap().high_watermark;
    let (mut from, mut all) = (Offset(0), Vec::new());
    while from < end {
        let out = log.read(GROUP, from, ReadLimits { bytes_max: 8 << 10, end }).await.expect("what is committed can be read");
        all.extend(out.batches);
        from = out.next;
    }
    all
}

/// All entries up to `upto`, by their index, in pieces.
async fn read_by_index(log: &Log<SimRt>, upto: u64, bytes_max: usize) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    while (all.len() as u64) < upto {
        let next = Index(all.len() as u64 + 1);
        let some = log.read_entries(GROUP, next, bytes_max).await.expect("it can be read").expect("nothing was trimmed");
        assert_eq!(some[0].index, next);
        all.extend(some);
    }
    all.truncate(upto as usize);
    all
}

/// Where terms end, and which ones committed records are of, is what the entries say.
async fn check_ends(log: &Log<SimRt>, model: &Model, committed: u64) {
    let end = committed.checked_sub(1).map_or(Offset(0), |last| next_offset(&model.entries[last as usize]));
    let last = model.entries.last().map_or(0, |entry| entry.term.0);
    for term in (0..=last + 1).map(Term) {
        let of = model.entries.iter().rev().map(|entry| entry.term).find(|of| *of <= term).unwrap_or(term);
        let later = model.entries.iter().find(|entry| entry.term > term);
        let expected = match later {
            Some(first) => Some((of, first.base_offset.min(end))),
            None => (last > 0 && of == term).then_some((term, end)),
        };
        assert_eq!(log.term_end(GROUP, term).await.unwrap(), expected, "the end of term {term}");
    }
    for entry in &model.entries[..committed as usize] {
        for offset in entry.base_offset.0..next_offset(entry).0 {
            assert_eq!(log.term_at(GROUP, Offset(offset)).await.unwrap(), Some(entry.term), "offset {offset}");
        }
    }
    assert_eq!(log.term_at(GROUP, end).await.unwrap(), None);
}

/// Which of the states that the journal may hold a start has found.
fn find(book: &Book, log: &Log<SimRt>) -> usize {
    let found = log.replica(GROUP).expect("the group was synced");
    let states = book.states.borrow();
    let fits = |model: &Model| {
        found.hard == model.hard
            && found.members == model.members
            && found.last_index.0 == model.last()
            && model.entries.iter().all(|e| log.term_of(GROUP, e.index) == Some(e.term))
    };
    let at = states.iter().rposition(|(_, model)| fits(model)).unwrap_or_else(|| panic!("{found:?} was never there"));
    let must = states.iter().rposition(|(lsn, _)| *lsn <= book.synced.get()).unwrap();
    assert!(at >= must || fits(&states[must].1), "synced up to state {must}, found state {at}");
    at
}

fn create(log: &Log<SimRt>, kept: GroupConfig, members: Bytes, first: Model) -> (Lsn, Model) {
    (log.create_replica(GROUP, kept, members).unwrap(), first)
}

/// A group that has been alone, for some entries.
fn grow_alone(sim: &Sim, log: &Log<SimRt>, kept: GroupConfig, mut model: Model, book: &Book) -> (Lsn, Model) {
    log.create_group(GROUP, kept).unwrap();
    for index in 1..=sim.below(30) {
        let new = entry(&model, index, 1, EntryKind::Batch, 5 * sim.below(180) as usize);
        let header = Header::parse(&new.payload).unwrap();
        let put = log.append(GROUP, new.payload.to_vec().as_slice().into(), &header, 0).unwrap();
        assert!(matches!(put, millpond_log::Appended::New { base_offset, .. } if base_offset == new.base_offset));
        model.entries.push(new);
        model.hard = HardState { term: Term(1), vote: 0, commit: Index(index) };
        book.committed.set(index);
    }
    let lsn = log.replicate(GROUP, model.members.bytes.clone()).unwrap();
    let refused = log.replicate(GROUP, Bytes::new());
    assert!(matches!(refused, Err(LogError::Replica { .. })), "a replica does not become one again: {refused:?}");
    check(log, &model, &log.replica(GROUP).unwrap());
    (lsn, model)
}

fn run(seed: u64) -> (u64, u64, u64) {
    let sim = Sim::new(SimConfig { seed, faults: FaultPlan::survivable() });
    let (config, home) = (config(&sim), PathBuf::from("/data/core-00"));
    let book = Rc::new(Book::default());
    let members = Bytes::from_static(b"1 2 3");
    let first = Model { members: Members { index: Index(0), bytes: members.clone() }, ..Model::default() };
    let (log, _) = sim.block_on(NODE, |rt| Log::open(rt, home.clone(), config.clone())).unwrap().unwrap();
    let kept = GroupConfig { retention_ms: None, producer_expiry_ms: u64::MAX, ..GroupConfig::default() };
    log.create_group(OTHER, kept.clone()).unwrap();
    let first = if sim.below(3) == 0 { grow_alone(&sim, &log, kept, first, &book) } else { create(&log, kept, members, first) };
    let (made, first) = first;
    sim.block_on(NODE, |_| async move { log.synced(made).await.map(|()| log) }).unwrap().map(|log| log.check()).unwrap();
    book.put(Lsn(0), first);
    for _ in 0..3 + sim.below(4) {
        sim.crash(NODE);
        sim.restart(NODE);
        let opened = sim.block_on(NODE, |rt| Log::open(rt, home.clone(), config.clone())).unwrap();
        let (log, _) = opened.unwrap_or_else(|e| panic!("a start was refused: {e}"));
        log.check();
        let at = find(&book, &log);
        let model = book.states.borrow()[at].1.clone();
        let found = log.replica(GROUP).unwrap();
        assert!(found.committed >= model.hard.commit && found.committed.0 <= book.committed.get(), "{found:?}, {:?}", book.committed);
        check(&log, &model, &found);
        // A leader tells it how far all is committed, and then everything can be read.
        assert!(book.committed.get() <= model.last(), "committed entries are gone");
        log.commit(GROUP, Index(book.committed.get()));
        let batches =
            |entries: &[Entry]| entries.iter().filter(|e| e.kind == EntryKind::Batch).map(|e| e.payload.clone()).collect::<Vec<_>>();
        let seen = sim
            .block_on(NODE, |_| {
                let log = log.clone();
                async move { read(&log).await }
            })
            .unwrap();
        assert!(seen == batches(&model.entries[..book.committed.get() as usize]), "readers see something else than what was committed");
        let (again, upto, bytes_max) = (log.clone(), model.last(), 1 + sim.below(10_000) as usize);
        let entries = sim.block_on(NODE, |_| async move { read_by_index(&again, upto, bytes_max).await }).unwrap();
        assert!(entries == model.entries, "entries by index are others");
        let (again, whole, committed) = (log.clone(), model.clone(), book.committed.get());
        sim.block_on(NODE, |_| async move { check_ends(&again, &whole, committed).await }).unwrap();
        // From here on everything that was recovered is on stable media.
        *book.states.borrow_mut() = vec![(Lsn(0), model)];
        book.synced.set(Lsn(0));
        let (steps, polls) = (20 + sim.below(200), 1 + sim.below(4_000));
        if sim.below(4) > 0 {
            let now = sim.node(NODE).polls();
            sim.crash_at_poll(NODE, now + polls);
        }
        let (again, book) = (log.clone(), Rc::clone(&book));
        drop(log);
        match sim.block_on(NODE, |rt| live(rt, again, book, steps)) {
            Ok(lived) => lived.unwrap(),
            Err(_) if sim.halted(NODE).is_none() => {}
            Err(stopped) => panic!("{stopped}: {:?}", sim.halted(NODE)),
        }
    }
    (book.truncated.get(), book.settled.get(), book.committed.get())
}

/// Five entries without a quorum, and then ten times what the journal holds in another group.
#[test]
fn what_cannot_be_settled_does_not_hold_the_journal() {
    let sim = Sim::new(3);
    let config = LogConfig { journal_files_max: 4, tail_bytes_max: 1 << 20, ..config(&sim) };
    let (home, bytes) = (PathBuf::from("/data/core-00"), 10 * config.journal_file_bytes * config.journal_files_max as u64);
    let open = |rt: SimRt| Log::open(rt, home.clone(), config.clone());
    let (log, _) = sim.block_on(NODE, open).unwrap().unwrap();
    let kept = GroupConfig { retention_ms: None, ..GroupConfig::default() };
    let members = Members { index: Index(0), bytes: Bytes::from_static(b"1 2 3") };
    log.create_replica(GROUP, kept.clone(), members.bytes.clone()).unwrap();
    log.create_group(OTHER, kept).unwrap();
    let mut model = Model { members, ..Model::default() };
    for index in 1..=5 {
        let kind = if index == 3 { EntryKind::Raft } else { EntryKind::Batch };
        model.entries.push(entry(&model, index, 1, kind, 700));
        log.append_entry(GROUP, model.entries.last().unwrap().clone(), 0).unwrap();
    }
    let other = entry(&Model::default(), 1, 1, EntryKind::Batch, 3_000).payload;
    let header = Header { producer_id: -1, ..Header::parse(&other).unwrap() };
    let flood = |log: Log<SimRt>, other: Bytes| async move {
        for _ in 0..bytes / other.len() as u64 {
            log.wait_room().await;
            let done = log.append(OTHER, other.to_vec().as_slice().into(), &header, 0).unwrap();
            if let millpond_log::Appended::New { lsn, .. } = done {
                log.synced(lsn).await.unwrap();
            }
        }
        log
    };
    let log = sim.block_on(NODE, |_| flood(log, other.clone())).unwrap();
    let stats = log.stats();
    assert!(stats.carried > 0 && stats.carried <= stats.files_recycled, "once for each time that it lies in the oldest file: {stats:?}");
    check(&log, &model, &log.replica(GROUP).unwrap());
    log.check();
    drop(log);
    for _ in 0..3 {
        sim.crash(NODE);
        sim.restart(NODE);
        let (log, _) = sim.block_on(NODE, open).unwrap().unwrap();
        check(&log, &model, &log.replica(GROUP).unwrap());
        let log = sim.block_on(NODE, |_| flood(log, other.clone())).unwrap();
        check(&log, &model, &log.replica(GROUP).unwrap());
    }
}

#[test]
fn what_a_start_finds_is_what_was_synced() {
    let env = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let (first, seeds) = env("SEED").map_or((0, env("SEEDS").unwrap_or(300)), |seed| (seed, 1));
    let (mut truncated, mut settled, mut committed) = (0, 0, 0);
    for seed in first..first + seeds {
        let (t, s, c) = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}: SEED={seed} runs it again"));
        (truncated, settled, committed) = (truncated + t, settled + s, committed + c);
    }
    println!("{seeds} seeds: {truncated} truncations, {settled} settling runs, {committed} entries committed");
    assert!(seeds < 100 || (truncated > seeds && settled > seeds && committed > 10 * seeds), "{truncated}, {settled}, {committed}");
}
