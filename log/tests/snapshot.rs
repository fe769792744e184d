//! Snapshots in the simulator: one node takes them while it trims and compacts, another installs them, and its power goes at any await. What a start
//! finds is the old replica or the new one, never less than what was said to last, and readers see nothing else meanwhile.
//!
//! One seed: `SEED=123 cargo test -p millpond-log --test snapshot -- --nocapture`. Many: `SEEDS=20000`.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

#[path = "support/transactions.rs"]
mod transactions;

use bytes::Bytes;
use millpond_batch::{Builder, Compression, Header, Producer};
use millpond_log::{Entry, EntryKind, GroupConfig, HardState, Log, LogConfig, LogError, Manifest, Members, ReadLimits, Received, Snapshot};
use millpond_runtime::{
    GroupId, Index, NodeId, Offset, Rt, Share, Term,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

const SOURCE: NodeId = NodeId(1);
const TARGET: NodeId = NodeId(2);
const GROUP: GroupId = GroupId(9);
/// Beside it on the target, so that files roll and are used again.
const OTHER: GroupId = GroupId(10);
const HOME: &str = "/data/core-00";

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
        maintain_every: Duration::from_millis(20),
        open_segments_max: 1 + sim.below(8) as usize,
        ..LogConfig::default()
    }
}

/// The log that all replicas agree on, as far as it was made.
#[derive(Default)]
struct Truth {
    entries: Vec<Entry>,
}

impl Truth {
    fn end(&self) -> Offset {
        self.entries.last().map_or(Offset(0), next_offset)
    }

    /// The next entry, of this term.
    fn grow(&mut self, term: u64, kind: EntryKind, fill: usize) -> Entry {
        let entry = entry(self.entries.len() as u64 + 1, self.end(), term, kind, fill);
        self.entries.push(entry.clone());
        entry
    }
}

fn next_offset(entry: &Entry) -> Offset {
    match entry.kind {
        EntryKind::Batch => Offset(Header::parse(&entry.payload).unwrap().next_offset()),
        EntryKind::Raft => entry.base_offset,
    }
}

fn entry(index: u64, base_offset: Offset, term: u64, kind: EntryKind, fill: usize) -> Entry {
    let of_transaction = transactions::batch(index, base_offset, term, fill).filter(|_| kind == EntryKind::Batch);
    let payload = match kind {
        EntryKind::Raft => Bytes::from(format!("leader of term {term}")),
        EntryKind::Batch if let Some(batch) = of_transaction => batch,
        EntryKind::Batch => {
            let mut builder = Builder::new(Compression::None, 256);
            let headers: [(&[u8], Option<&[u8]>); 0] = [];
            for n in 0..=fill % 3 {
                let key = [(index % 7) as u8, n as u8];
                builder.append(1_700_000_000_000 + index as i64, Some(&key), Some(&vec![fill as u8; fill]), &headers);
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

/// Everything that is retained up to `end`, as readers see it, by its offset.
async fn read(log: &Log<SimRt>, end: Offset) -> BTreeMap<u64, Bytes> {
    let (mut from, mut all) = (log.state(GROUP).unwrap().start_offset, BTreeMap::new());
    while from < end {
        let out = log.read(GROUP, from, ReadLimits { bytes_max: 8 << 10, end }).await.expect("what is retained can be read");
        all.extend(out.batches.into_iter().map(|batch| (Header::parse(&batch).unwrap().base_offset, batch)));
        from = out.next;
    }
    all
}

/// Puts an entry as soon as there is room.
async fn put(rt: &SimRt, log: &Log<SimRt>, entry: Entry) -> Result<(), LogError> {
    loop {
        log.wait_room().await;
        match log.append_entry(GROUP, entry.clone(), 0) {
            Ok(_) => return Ok(()),
            Err(LogError::Full { .. }) => rt.sleep(Duration::from_millis(1)).await,
            Err(error) => return Err(error),
        }
    }
}

async fn last(rt: &SimRt, log: &Log<SimRt>, hard: HardState) -> Result<(), LogError> {
    loop {
        match log.set_hard_state(GROUP, hard) {
            Ok(lsn) => return log.synced(lsn).await,
            Err(LogError::Full { .. }) => rt.sleep(Duration::from_millis(1)).await,
            Err(error) => return Err(error),
        }
    }
}

/// What is sent, and what readers saw where it was taken.
struct Sent {
    manifest: Manifest,
    /// All entries up to its last.
    entries: Vec<Entry>,
    files: Vec<Vec<u8>>,
    seen: BTreeMap<u64, Bytes>,
    /// The source compacts.
    compacts: bool,
}

/// The source goes on: entries come and are committed, the oldest go, and a snapshot is taken and read while yet more go.
async fn go_on(rt: SimRt, log: Log<SimRt>, truth: Rc<RefCell<Truth>>, piece: usize) -> Sent {
    let term = 1 + rt.rand() % 3 + truth.borrow().entries.last().map_or(0, |e| e.term.0);
    let settled = log.replica(GROUP).unwrap();
    last(&rt, &log, HardState { term: Term(term), vote: 1, commit: settled.committed }).await.unwrap();
    for _ in 0..10 + rt.rand() % 100 {
        let kind = if rt.rand().is_multiple_of(5) { EntryKind::Raft } else { EntryKind::Batch };
        if !log.room() {
            // Nothing else would make any.
            log.commit(GROUP, log.replica(GROUP).unwrap().last_index);
        }
        let new = truth.borrow_mut().grow(term, kind, rt.rand() as usize % 3_000);
        put(&rt, &log, new.clone()).await.unwrap();
        if rt.rand().is_multiple_of(3) {
            log.commit(GROUP, Index(new.index.0 - rt.rand() % 2));
            rt.sleep(Duration::from_micros(rt.rand() % 2_000)).await;
        }
    }
    let committed = Index(truth.borrow().entries.len() as u64);
    log.commit(GROUP, committed);
    log.set_members(GROUP, Members { index: committed, bytes: Bytes::from(format!("members of {committed}")) }).unwrap();
    // Others are on their way, and may never be committed.
    let end = truth.borrow().end();
    let mut at = end;
    for n in 1..=rt.rand() % 6 {
        let new = entry(committed.0 + n, at, term, EntryKind::Batch, rt.rand() as usize % 900);
        at = next_offset(&new);
        put(&rt, &log, new).await.unwrap();
    }
    if rt.rand().is_multiple_of(2) {
        let start = log.state(GROUP).unwrap().start_offset;
        let _ = log.trim(GROUP, Offset(start.0 + rt.rand() % (end.0 - start.0 + 1)));
    }
    rt.sleep(Duration::from_millis(rt.rand() % 100)).await;
    let snapshot = loop {
        if let Some(taken) = log.take_snapshot(GROUP).await.unwrap() {
            break taken;
        }
        rt.sleep(Duration::from_millis(1)).await;
    };
    log.check();
    let Snapshot { manifest, .. } = &snapshot;
    assert_eq!((manifest.index, manifest.term, manifest.next_offset), (committed, Term(term), end));
    let seen = read(&log, end).await;
    // Whatever goes from here on is held.
    if rt.rand().is_multiple_of(2) {
        let _ = log.trim(GROUP, end);
    }
    let mut files = Vec::new();
    for (n, file) in manifest.files.iter().enumerate() {
        let mut bytes = Vec::new();
        loop {
            rt.sleep(Duration::from_micros(rt.rand() % 2_000)).await;
            match snapshot.read(n, bytes.len() as u64, piece).await.unwrap() {
                some if some.is_empty() => break,
                some => bytes.extend(some),
            }
        }
        assert_eq!(bytes.len() as u64, file.bytes);
        files.push(bytes);
    }
    // What was not committed goes again, as if another leader had not had it.
    let next = truth.borrow_mut().grow(term + 1, EntryKind::Raft, 0);
    last(&rt, &log, HardState { term: Term(term + 1), vote: 1, commit: committed }).await.unwrap();
    put(&rt, &log, next).await.unwrap();
    let manifest = Manifest::decode(snapshot.manifest_bytes()).expect("what was encoded");
    assert_eq!(&manifest, &snapshot.manifest);
    let entries = truth.borrow().entries[..manifest.index.0 as usize].to_vec();
    Sent { manifest, entries, files, seen, compacts: log.config(GROUP).unwrap().compact }
}

/// What the target must be.
#[derive(Default)]
struct Book {
    /// What it has before the snapshot: entries, of which some are others than those of the truth, and its hard state.
    old: RefCell<(Vec<Entry>, HardState)>,
    /// The snapshot was said to last.
    installed: Cell<bool>,
    /// How far readers saw, at the most, in this life.
    seen: Cell<Offset>,
    installs: Cell<u64>,
    found_old: Cell<u64>,
    done: Cell<bool>,
}

async fn receive(log: &Log<SimRt>, sent: &Sent, piece: usize) -> Result<Received<SimRt>, LogError> {
    let mut receiving = log.receive(GROUP, sent.manifest.clone()).await?;
    assert!(matches!(log.receive(GROUP, sent.manifest.clone()).await, Err(LogError::Full { .. })), "one at a time");
    while let Some((file, position, left)) = receiving.wanted() {
        let at = position as usize;
        let bytes = &sent.files[file][at..at + piece.min(left as usize)];
        receiving.write(bytes).await?;
    }
    receiving.finish().await
}

/// One life of the target: it looks what it has, and installs the snapshot if it has not.
async fn live(rt: SimRt, log: Log<SimRt>, sent: Rc<Sent>, book: Rc<Book>, truth: Rc<RefCell<Truth>>, piece: usize) -> Result<(), LogError> {
    let m = &sent.manifest;
    let found = log.replica(GROUP).expect("the group was synced");
    let is_new = found.last_index >= m.index && found.committed >= m.index;
    assert!(is_new || !book.installed.get(), "it was said to last, and is gone");
    check_names(&rt).await;
    watch(&rt, &log, &sent, &book);
    if !is_new {
        book.found_old.set(book.found_old.get() + 1);
        check_old(&log, &book);
        let received = receive(&log, &sent, piece).await?;
        // Others append meanwhile.
        flood(&rt, &log).await;
        let mut ready = received.ready().await;
        let lsn = loop {
            match log.install(ready, Bytes::from_static(b"mine")) {
                Ok(lsn) => break lsn,
                Err(refused) => {
                    let (error, received) = *refused;
                    assert!(error.is_retryable(), "{error}");
                    rt.sleep(Duration::from_millis(1)).await;
                    ready = received.ready().await;
                }
            }
        };
        log.check();
        let (_, hard) = book.old.borrow().clone();
        let now = log.replica(GROUP).unwrap();
        assert_eq!((now.last_index, now.committed, now.last_term), (m.index, m.index, m.term));
        let kept = if hard.term >= m.term { (hard.term, hard.vote) } else { (m.term, 0) };
        assert_eq!((now.hard.term, now.hard.vote, now.hard.commit), (kept.0, kept.1, m.index), "it forgets a promise");
        if rt.rand().is_multiple_of(4) {
            // Another note behind it.
            let _ = log.set_members(GROUP, Members { index: m.index, bytes: Bytes::from_static(b"mine") });
        }
        log.synced(lsn).await?;
        book.installed.set(true);
        book.installs.set(book.installs.get() + 1);
        assert_eq!(log.state(GROUP).unwrap().high_watermark, m.next_offset, "all of it can be read once it lasts");
    }
    check_new(&log, &sent).await;
    // It goes on from there, as the leader's entries come.
    let more: Vec<Entry> = truth.borrow().entries.iter().filter(|e| e.index > log.replica(GROUP).unwrap().last_index).cloned().collect();
    for entry in more {
        let hard = HardState { term: entry.term.max(log.replica(GROUP).unwrap().hard.term), vote: 0, ..log.replica(GROUP).unwrap().hard };
        if hard.term > log.replica(GROUP).unwrap().hard.term {
            last(&rt, &log, hard).await?;
        }
        put(&rt, &log, entry.clone()).await?;
        log.commit(GROUP, entry.index);
        let hard = HardState { commit: entry.index, ..log.replica(GROUP).unwrap().hard };
        last(&rt, &log, hard).await?;
        flood(&rt, &log).await;
    }
    log.check();
    check_new(&log, &sent).await;
    book.done.set(true);
    Ok(())
}

/// Each group has one directory, its own, once a start has tidied up.
async fn check_names(rt: &SimRt) {
    let names = rt.list(Path::new(HOME).join("groups").as_path()).await.unwrap();
    for group in [GROUP, OTHER] {
        let of = |name: &&String| name.split('.').next() == Some(&group.0.to_string());
        assert!(names.iter().filter(of).count() <= 1, "{names:?}");
    }
}

/// Looks all the time: what readers see never goes back, and is what the source had.
fn watch(rt: &SimRt, log: &Log<SimRt>, sent: &Rc<Sent>, book: &Rc<Book>) {
    book.seen.set(log.state(GROUP).unwrap().high_watermark);
    let told = Rc::clone(book);
    log.on_advance(move |advances| {
        for advance in advances.iter().filter(|a| a.group == GROUP) {
            assert!(advance.high_watermark >= told.seen.get(), "readers are told to go back");
            told.seen.set(advance.high_watermark);
        }
    });
    let (door, log, sent, book) = (rt.clone(), log.clone(), Rc::clone(sent), Rc::clone(book));
    rt.spawn("reader", Share::Serve, async move {
        loop {
            let (before, state) = (book.seen.get(), log.state(GROUP).unwrap());
            assert!(
                state.high_watermark >= before.max(state.start_offset).min(sent.manifest.next_offset),
                "what readers see goes back: {state:?}"
            );
            let from = state.start_offset.0 + door.rand() % (state.high_watermark.0 - state.start_offset.0 + 1);
            let limits = ReadLimits { bytes_max: 4 << 10, end: state.high_watermark };
            if let Ok(out) = log.read(GROUP, Offset(from), limits).await {
                for batch in out.batches {
                    let at = Header::parse(&batch).unwrap().base_offset;
                    if let Some(theirs) = sent.seen.get(&at) {
                        assert!(
                            Header::parse(theirs).unwrap().next_offset() == Header::parse(&batch).unwrap().next_offset(),
                            "another batch"
                        );
                    }
                }
            }
            door.sleep(Duration::from_micros(door.rand() % 3_000)).await;
        }
    });
}

fn check_old(log: &Log<SimRt>, book: &Book) {
    let (entries, hard) = book.old.borrow().clone();
    let found = log.replica(GROUP).unwrap();
    assert_eq!((found.hard, found.last_index.0), (hard, entries.len() as u64));
    for entry in &entries {
        // Of what is trimmed nothing is known.
        let known = log.term_of(GROUP, entry.index);
        assert!(known == Some(entry.term) || (known.is_none() && entry.index <= found.committed), "entry {}: {known:?}", entry.index);
    }
    assert_eq!(log.state(GROUP).unwrap().end_offset, entries.last().map_or(Offset(0), next_offset));
    transactions::check(log, GROUP, &entries);
}

/// It has what the source had.
async fn check_new(log: &Log<SimRt>, sent: &Sent) {
    let m = &sent.manifest;
    let found = log.replica(GROUP).unwrap();
    if found.last_index == m.index {
        assert_eq!((found.members.index, &found.members.bytes[..]), (m.members.index, &b"mine"[..]));
    }
    assert_eq!(log.term_of(GROUP, m.index), Some(m.term));
    let state = log.state(GROUP).unwrap();
    assert!(state.start_offset >= m.start_offset && state.high_watermark >= m.next_offset);
    // It has not been compacted here.
    let ours = read(log, m.next_offset).await;
    let theirs: BTreeMap<u64, Bytes> = sent
        .seen
        .iter()
        .filter(|(_, batch)| Header::parse(batch).unwrap().next_offset() > state.start_offset.0)
        .map(|(o, b)| (*o, b.clone()))
        .collect();
    if sent.compacts {
        // Readers there may see from memory what its segments do not hold any more.
        assert_eq!(newest(&ours), newest(&theirs), "the newest record of a key is another");
        return;
    }
    assert!(ours == theirs, "readers see other batches than where the snapshot was taken");
    if found.last_index == m.index {
        let mut next = None;
        // As far as the producer was alone in the log.
        for batch in theirs.values().rev().map(|batch| Header::parse(batch).unwrap()).filter(|batch| batch.producer_id == 1).take(5) {
            if next.is_some_and(|next: u64| batch.next_offset() != next) {
                break;
            }
            assert_eq!(log.produced(GROUP, &batch, 0).unwrap(), Some(Offset(batch.base_offset)));
            if next.is_none() {
                let follows = Header { base_sequence: i32::try_from(batch.next_offset()).unwrap(), producer_id: 1, ..any_header() };
                assert_eq!(log.produced(GROUP, &follows, 0).unwrap(), None, "what would come next");
            }
            next = Some(batch.base_offset);
        }
        transactions::check(log, GROUP, &sent.entries);
    }
}

/// Where the newest record of each key lies.
fn newest(batches: &BTreeMap<u64, Bytes>) -> BTreeMap<Bytes, i64> {
    let mut newest = BTreeMap::new();
    for batch in batches.values() {
        for record in millpond_batch::records(batch, millpond_batch::DecompressLimits::bytes(1 << 20)).unwrap() {
            let record = record.unwrap();
            newest.insert(Bytes::copy_from_slice(record.key.as_deref().unwrap()), record.offset as i64);
        }
    }
    newest
}

fn any_header() -> Header {
    Header::parse(&entry(1, Offset(0), 1, EntryKind::Batch, 0).payload).unwrap()
}

/// Fills the other group's log for a while, so that journal files are used again.
async fn flood(rt: &SimRt, log: &Log<SimRt>) {
    for _ in 0..rt.rand() % 6 {
        log.wait_room().await;
        let other = entry(1, Offset(0), 1, EntryKind::Batch, 900);
        let plain = Header { producer_id: -1, ..Header::parse(&other.payload).unwrap() };
        let _ = log.append(OTHER, other.payload.to_vec().as_slice().into(), &plain, 0);
    }
}

/// The target begins with a part of the log, and with entries that nobody else has.
async fn prepare(rt: SimRt, log: Log<SimRt>, truth: Rc<RefCell<Truth>>, book: Rc<Book>) {
    let found = log.replica(GROUP).unwrap();
    let have = found.last_index.0 as usize;
    let known = truth.borrow().entries[have..].to_vec();
    let upto = have + rt.rand() as usize % (known.len() + 1) / 2;
    let mut term = found.hard.term.max(Term(1));
    for entry in &known[..upto - have] {
        if entry.term > term {
            term = entry.term;
            last(&rt, &log, HardState { term, vote: 0, ..log.replica(GROUP).unwrap().hard }).await.unwrap();
        }
        put(&rt, &log, entry.clone()).await.unwrap();
    }
    let committed = found.committed.0.max(upto as u64 * (rt.rand() % 3) / 2);
    log.commit(GROUP, Index(committed));
    let start = log.state(GROUP).unwrap();
    if rt.rand().is_multiple_of(4) {
        let _ = log.trim(GROUP, Offset(start.start_offset.0 + rt.rand() % (start.end_offset.0 - start.start_offset.0 + 1)));
    }
    // A leader of a term that came to nothing.
    let mut at = start.end_offset;
    if rt.rand().is_multiple_of(2) {
        for n in 1..=rt.rand() % 8 {
            let own = entry(upto as u64 + n, at, term.0, EntryKind::Batch, rt.rand() as usize % 2_000);
            at = next_offset(&own);
            put(&rt, &log, own).await.unwrap();
        }
    }
    let before = log.replica(GROUP).unwrap();
    let term = Term(before.hard.term.0.max(1) + rt.rand() % 12);
    let vote = if term == before.hard.term && before.hard.vote != 0 { before.hard.vote } else { 1 + rt.rand() % 3 };
    last(&rt, &log, HardState { term, vote, commit: Index(committed) }).await.unwrap();
    let found = log.replica(GROUP).unwrap();
    let mut entries = truth.borrow().entries[..upto].to_vec();
    let mut at = entries.last().map_or(Offset(0), next_offset);
    for index in upto as u64 + 1..=found.last_index.0 {
        let own = log.entries_in_memory(GROUP, Index(index), Index(index), 1).unwrap().remove(0);
        at = at.max(next_offset(&own));
        entries.push(own);
    }
    *book.old.borrow_mut() = (entries, found.hard);
    log.check();
}

fn open(sim: &Sim, node: NodeId, config: &LogConfig) -> Log<SimRt> {
    let opened = sim.block_on(node, |rt| Log::open(rt, PathBuf::from(HOME), config.clone())).unwrap();
    let (log, _) = opened.unwrap_or_else(|e| panic!("a start was refused: {e}"));
    log.check();
    log
}

/// Snapshots installed, starts that found the old replica, files sent.
fn run(seed: u64) -> (u64, u64, u64) {
    let sim = Sim::new(SimConfig { seed, faults: FaultPlan::survivable() });
    // Both have entries that are not committed when their logs are to take more: that needs room to carry them.
    let with_room = |own: LogConfig, files: usize| LogConfig { journal_files_max: own.journal_files_max.max(files), ..own };
    let configs = (with_room(config(&sim), 8), with_room(config(&sim), 5));
    let kept = GroupConfig {
        retention_ms: None,
        producer_expiry_ms: u64::MAX,
        segment_bytes: 4096 << sim.below(5),
        compact: sim.below(3) == 0,
        ..GroupConfig::default()
    };
    let source = open(&sim, SOURCE, &configs.0);
    source.create_replica(GROUP, kept.clone(), Bytes::from_static(b"1 2 3")).unwrap();
    let target = open(&sim, TARGET, &configs.1);
    let own = GroupConfig { compact: false, ..kept };
    target.create_replica(GROUP, own.clone(), Bytes::from_static(b"mine")).unwrap();
    let made = target.create_group(OTHER, own).unwrap();
    sim.block_on(TARGET, |_| async move { target.synced(made).await }).unwrap().unwrap();
    let (truth, book) = (Rc::new(RefCell::new(Truth::default())), Rc::new(Book::default()));
    let (log, known) = (source.clone(), Rc::clone(&truth));
    sim.block_on(SOURCE, |rt| go_on(rt, log, known, 4096)).unwrap();
    let mut files = 0;
    for _ in 0..1 + sim.below(3) {
        let piece = 4096 << sim.below(5);
        sim.crash(TARGET);
        sim.restart(TARGET);
        let (log, known, old) = (open(&sim, TARGET, &configs.1), Rc::clone(&truth), Rc::clone(&book));
        sim.block_on(TARGET, |rt| prepare(rt, log, known, old)).unwrap();
        let (log, known) = (source.clone(), Rc::clone(&truth));
        let sent = Rc::new(sim.block_on(SOURCE, |rt| go_on(rt, log, known, piece)).unwrap());
        files += sent.files.len() as u64;
        book.installed.set(false);
        book.done.set(false);
        let mut lives = 0;
        while !book.done.get() {
            sim.crash(TARGET);
            sim.restart(TARGET);
            let log = open(&sim, TARGET, &configs.1);
            if lives < 6 {
                let now = sim.node(TARGET).polls();
                sim.crash_at_poll(TARGET, now + 1 + sim.below(3_000 >> sim.below(5)));
            }
            lives += 1;
            let (sent, book, truth) = (Rc::clone(&sent), Rc::clone(&book), Rc::clone(&truth));
            match sim.block_on(TARGET, |rt| live(rt, log, sent, book, truth, piece)) {
                Ok(lived) => lived.unwrap(),
                Err(_) if sim.halted(TARGET).is_none() => {}
                Err(stopped) => panic!("{stopped}: {:?}", sim.halted(TARGET)),
            }
            sim.crash_at_poll(TARGET, u64::MAX);
        }
        source.check();
    }
    (book.installs.get(), book.found_old.get(), files)
}

#[test]
fn a_start_finds_the_old_replica_or_the_new_one() {
    let env = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let (first, seeds) = env("SEED").map_or((0, env("SEEDS").unwrap_or(200)), |seed| (seed, 1));
    let (mut installs, mut old, mut files) = (0, 0, 0);
    for seed in first..first + seeds {
        let (i, o, f) = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}: SEED={seed} runs it again"));
        (installs, old, files) = (installs + i, old + o, files + f);
    }
    println!("{seeds} seeds: {installs} snapshots installed, {old} starts with what was before, {files} segments sent");
    assert!(seeds < 100 || (installs > seeds && old > installs && files > 3 * seeds), "{installs}, {old}, {files}");
}

/// All is trimmed, and an entry without records is committed before that is synced: it is settled as any other, and is not forgotten.
#[test]
fn what_is_committed_while_a_trim_is_synced_stays() {
    let sim = Sim::new(SimConfig { seed: 1, faults: FaultPlan::none() });
    let config = LogConfig { disk_reserve_bytes: 0, ..LogConfig::default() };
    let log = open(&sim, SOURCE, &config);
    let lives = async move {
        log.create_replica(GROUP, GroupConfig::default(), Bytes::from_static(b"1 2 3")).unwrap();
        let mut truth = Truth::default();
        log.append_entry(GROUP, truth.grow(1, EntryKind::Batch, 100), 0).unwrap();
        let lsn = log.append_entry(GROUP, truth.grow(1, EntryKind::Raft, 0), 0).unwrap();
        log.synced(lsn).await.unwrap();
        log.commit(GROUP, Index(1));
        let trimmed = log.trim(GROUP, truth.end()).unwrap();
        log.commit(GROUP, Index(2));
        log.synced(trimmed).await.unwrap();
        log.check();
        let snapshot = log.take_snapshot(GROUP).await.unwrap().expect("all of it is settled");
        assert_eq!((snapshot.manifest.index, snapshot.manifest.start_offset), (Index(2), truth.end()));
        let lsn = log.set_hard_state(GROUP, HardState { term: Term(1), vote: 1, commit: Index(2) }).unwrap();
        log.synced(lsn).await.unwrap();
    };
    sim.block_on(SOURCE, |_| lives).unwrap();
    sim.crash(SOURCE);
    sim.restart(SOURCE);
    assert_eq!(open(&sim, SOURCE, &config).replica(GROUP).unwrap().committed, Index(2));
}
