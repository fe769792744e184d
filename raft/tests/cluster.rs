//! A cluster in the simulator: nodes with the production log, driver and links, over disks, clocks and a network that misbehave by the seed.
//!
//! What must hold, whatever happens: a term has one leader; an entry that is committed anywhere is the same everywhere and for ever; what was
//! acknowledged is there, at its offset, once; a read that asks the leader sees what was acknowledged before it began; a batch of an idempotent
//! producer that was sent again took effect once; what readers see of a replica never goes back while its node lives, though replicas trim and compact as they
//! like, so that others need snapshots; after everything is healed all replicas are equal and the cluster takes writes again.
//!
//! One seed: `SEED=123 cargo test -p millpond-raft --test cluster -- --nocapture`. Many: `SEEDS=5000`.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use bytes::{Bytes, BytesMut};
use millpond_batch::{Builder, Compression, Header, Producer};
use millpond_log::{GroupConfig, Log, LogConfig, ReadLimits, ReplicaState};
use millpond_raft::{
    Driver, Lost, Membership, ProposeError, RaftConfig, RaftId, Status, accept, change::Change, driver::Counters, link, wire::Greeting,
};
use millpond_runtime::{
    Conn, CoreId, GroupId, Listener, NodeId, Offset, Rt, Share, Term,
    rt::timeout,
    sim::{DiskImage, FaultPlan, Sim, SimConfig, SimRt},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

const CLUSTER: u64 = 7;
const PORT: u16 = 9000;
const GROUPS: u64 = 2;
/// Those that send one batch after the other without sending any again, per node and group.
const PLAIN: u64 = 2;

/// The batch that the idempotent producer of a group sends until it is acknowledged.
#[derive(Clone, Copy)]
struct Current {
    sequence: i32,
    value: u64,
}

/// One that is up.
type Node = (Log<SimRt>, Driver<SimRt>);

/// How all nodes are set up.
#[derive(Clone, Default)]
struct Settings {
    log: LogConfig,
    raft: RaftConfig,
    group: GroupConfig,
    /// A replica trims its log once in so many times that it is looked at; 0 never.
    trim_once_in: u64,
}

impl Settings {
    /// Little memory and few files as often as not, so that followers lack what their leader has in segments alone.
    fn draw(sim: &Sim) -> Self {
        let log = LogConfig {
            journal_file_bytes: 512 << 10,
            journal_files_max: 6 + 10 * sim.below(2) as usize,
            flush_bytes_max: 128 << 10,
            unsynced_bytes_max: 256 << 10,
            tail_bytes_max: (512 << 10) << (2 * sim.below(3)),
            settle_bytes: (8 << 10) << sim.below(5),
            settle_run_bytes_max: (16 << 10) << sim.below(4),
            compression_level: sim.below(2) as i32,
            disk_reserve_bytes: 0,
            mark_after: Duration::from_micros(500),
            maintain_every: Duration::from_millis(500),
            ..LogConfig::default()
        };
        let raft = RaftConfig {
            seed: sim.below(1 << 40),
            message_bytes_max: (4 << 10) << (2 * sim.below(3)),
            messages_in_flight_max: 2 + 30 * sim.below(2) as usize,
            uncommitted_bytes_max: 128 << 10,
            queue_bytes_max: 256 << 10,
            quiet_ticks: 2 + sim.below(8) as usize,
            snapshots_max: 1 + sim.below(3) as usize,
            snapshot_piece_bytes: 4096 << sim.below(6),
            snapshot_bytes_per_second: (64 << 10) << (4 * sim.below(3)),
            snapshot_patience_ticks: 40 + sim.below(60) as usize,
            ..RaftConfig::default()
        };
        let group = GroupConfig {
            retention_ms: None,
            producer_expiry_ms: u64::MAX,
            segment_bytes: (8 << 10) << (2 * sim.below(5)),
            compact: sim.below(4) == 0,
            ..GroupConfig::default()
        };
        Self { log, raft, group, trim_once_in: [0, 20, 100, 400][sim.below(4) as usize] }
    }
}

/// What everybody saw.
#[derive(Default)]
struct Book {
    committed: RefCell<BTreeMap<(GroupId, u64), (u64, Bytes)>>,
    acked: RefCell<Vec<(GroupId, Offset, u64)>>,
    current: RefCell<BTreeMap<GroupId, Current>>,
    values: Cell<u64>,
    settings: RefCell<Settings>,
    nodes: RefCell<BTreeMap<NodeId, Node>>,
    terms: Cell<u64>,
    lost: Cell<u64>,
    duplicates: Cell<u64>,
    reads: Cell<u64>,
    seen: RefCell<BTreeMap<(GroupId, Offset), u64>>,
    /// The nodes that a group began with, those that are to have it, and who led it when.
    first: RefCell<BTreeMap<GroupId, BTreeMap<NodeId, RaftId>>>,
    wanted: RefCell<BTreeMap<GroupId, BTreeSet<NodeId>>>,
    leaders: RefCell<BTreeMap<(GroupId, Term), RaftId>>,
    counters: RefCell<Counters>,
    /// How many disks a node has had before this one.
    disks: RefCell<BTreeMap<NodeId, u64>>,
    /// Nobody sends or reads.
    quiet: Cell<bool>,
}

impl Book {
    fn value(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    /// A replica's id: of each group a node has one at the most; on another disk it is another replica, since it knows nothing of what the one before
    /// has promised.
    fn replica(&self, group: GroupId, node: NodeId) -> RaftId {
        group.0 * 10_000 + node.0 * 100 + self.disks.borrow().get(&node).copied().unwrap_or(0)
    }

    fn current(&self, group: GroupId) -> Current {
        let next = || Current { sequence: 0, value: self.value() };
        *self.current.borrow_mut().entry(group).or_insert_with(next)
    }

    fn ack(&self, group: GroupId, offset: Offset, value: u64) {
        self.acked.borrow_mut().push((group, offset, value));
    }
}

fn batch(value: u64, fill: usize, producer: Option<Producer>) -> (BytesMut, Header) {
    let mut builder = Builder::new(Compression::None, 256);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(1_700_000_000_000, Some(&value.to_le_bytes()), Some(&vec![value as u8; fill]), &headers);
    let batch = builder.build(producer).unwrap();
    let header = Header::parse(&batch).unwrap();
    (batch, header)
}

fn value_of(batch: &Bytes) -> u64 {
    let records = millpond_batch::records(batch, millpond_batch::DecompressLimits::bytes(1 << 20)).unwrap();
    let record = records.into_iter().next().unwrap().unwrap();
    u64::from_le_bytes(record.key.as_deref().unwrap().try_into().unwrap())
}

/// One life of a node.
async fn live(rt: SimRt, me: NodeId, peers: BTreeMap<NodeId, SocketAddr>, at: SocketAddr, book: Rc<Book>) {
    let Settings { log: config, raft, .. } = book.settings.borrow().clone();
    let (log, _) = Log::open(rt.clone(), PathBuf::from("/data/core-00"), config).await.unwrap();
    let driver = Driver::start(rt.clone(), log.clone(), raft);
    let seen = Rc::clone(&book);
    driver.on_committed(move |group, entry| {
        let found = (entry.term, entry.data.clone());
        let mut committed = seen.committed.borrow_mut();
        let first = committed.entry((group, entry.index)).or_insert_with(|| found.clone());
        assert!(*first == found, "entry {} of group {group} is committed twice, in terms {} and {}", entry.index, first.0, found.0);
    });
    for group in (1..=GROUPS).map(GroupId) {
        if log.replica(group).is_some() {
            driver.open(group).unwrap();
        }
        for n in 0..=PLAIN {
            let (rt, driver, book) = (rt.clone(), driver.clone(), Rc::clone(&book));
            rt.clone().spawn("producer", Share::Serve, async move {
                if n == 0 { resend(rt, driver, group, book).await } else { send(rt, driver, group, book).await }
            });
        }
    }
    let (watch, log_too) = ((rt.clone(), driver.clone(), Rc::clone(&book)), log.clone());
    for group in (1..=GROUPS).map(GroupId) {
        let (rt, reader, log) = (rt.clone(), (driver.clone(), Rc::clone(&book)), log.clone());
        rt.clone().spawn("reader", Share::Serve, async move { read_on(rt, reader, log, group).await });
    }
    rt.spawn("watch", Share::Serve, async move { look_after(watch, log_too, me).await });
    for (to, at) in peers {
        link(&driver, to, move || Some((at, Greeting { cluster: CLUSTER, from: me, to, home: 0, age: 0, start: 0 })));
    }
    let listener = rt.listen(at).await.unwrap();
    book.nodes.borrow_mut().insert(me, (log, driver.clone()));
    loop {
        let Ok(conn) = listener.accept().await else { continue };
        let driver = driver.clone();
        rt.spawn("peer", Share::Serve, async move {
            // A connection that breaks is nothing to speak of.
            let (mut read, _write) = conn.split();
            let _ = accept(&mut read, BytesMut::new(), (CLUSTER, me), |_| Some(driver.clone())).await;
        });
    }
}

/// Reads now and then: everything that was acknowledged before must be there then.
async fn read_on(rt: SimRt, (driver, book): (Driver<SimRt>, Rc<Book>), log: Log<SimRt>, group: GroupId) {
    let mut before = Offset(0);
    loop {
        rt.sleep(Duration::from_micros(rt.rand() % 200_000)).await;
        if book.quiet.get() {
            continue;
        }
        // Whatever anybody reads, leader or not, is what it is for ever.
        let end = log.state(group).map_or(Offset(0), |state| state.high_watermark);
        assert!(end >= before, "what can be read of group {group} ends at offset {end}, and ended at {before} before");
        before = end;
        let limits = ReadLimits { bytes_max: 64 << 10, end };
        for batch in log.read(group, Offset(end.0.saturating_sub(5)), limits).await.map_or(Vec::new(), |out| out.batches) {
            let (offset, value) = (Offset(Header::parse(&batch).unwrap().base_offset), value_of(&batch));
            let first = *book.seen.borrow_mut().entry((group, offset)).or_insert(value);
            assert_eq!(first, value, "two readers saw different records at offset {offset} of group {group}");
        }
        let acked = book.acked.borrow().iter().filter(|(g, ..)| *g == group).map(|(_, offset, _)| *offset).max();
        if driver.read_index(group).await.is_ok() {
            let end = log.state(group).map(|state| state.high_watermark);
            assert!(acked.is_none_or(|acked| Some(acked) < end), "offset {acked:?} of group {group} was acknowledged, a read sees {end:?}");
            book.reads.set(book.reads.get() + 1);
        }
    }
}

/// Makes the replicas that this node is to have, moves those of groups that it leads to nodes that are to have them, and looks whether
/// anybody else leads in the same term.
async fn look_after((rt, driver, book): (SimRt, Driver<SimRt>, Rc<Book>), log: Log<SimRt>, me: NodeId) {
    loop {
        rt.sleep(Duration::from_millis(20)).await;
        for group in (1..=GROUPS).map(GroupId) {
            let (first, wanted) = (book.first.borrow()[&group].clone(), book.wanted.borrow()[&group].clone());
            if log.replica(group).is_none() && (first.contains_key(&me) || wanted.contains(&me)) {
                let kept = book.settings.borrow().group.clone();
                let all = first.iter().map(|(node, id)| (*id, *node)).collect();
                driver.create(group, kept, &Membership::first(book.replica(group, me), all)).unwrap();
            }
            let once_in = book.settings.borrow().trim_once_in;
            if let Some(state) = log.state(group).filter(|_| once_in > 0 && !book.quiet.get() && rt.rand().is_multiple_of(once_in)) {
                let retained = state.high_watermark.0.saturating_sub(state.start_offset.0);
                // Without room it is tried again.
                let _ = log.trim(group, Offset(state.start_offset.0 + rt.rand() % (retained + 1)));
            }
            let Some(status) = driver.status(group).filter(|status| status.leads) else { continue };
            let leader = *book.leaders.borrow_mut().entry((group, status.term)).or_insert(status.me);
            assert_eq!(leader, status.me, "two lead group {group} in term {}", status.term);
            rearrange(&driver, &book, group, &wanted);
        }
    }
}

/// Brings a group a step nearer to the nodes that are to have it: learners first, then all voters at once.
fn rearrange(driver: &Driver<SimRt>, book: &Book, group: GroupId, wanted: &BTreeSet<NodeId>) {
    let (Some(members), Some(matched)) = (driver.members(group), driver.matched(group)) else { return };
    let (voters, learners) = (&members.conf.voters, &members.conf.learners);
    let missing: Vec<NodeId> = wanted.iter().filter(|node| !voters.contains(&book.replica(group, **node))).copied().collect();
    let applied = driver.status(group).map_or(0, |status| status.applied.0);
    let near = |id: &RaftId| matched.get(id).is_some_and(|index| index.0 + 50 > applied);
    let changes: Vec<Change> = if let Some(node) = missing.iter().find(|node| !learners.contains(&book.replica(group, **node))) {
        vec![Change::AddLearner(book.replica(group, *node), *node)]
    } else if missing.iter().all(|node| near(&book.replica(group, *node))) {
        // Also one that was to become a voter, and whose disk was exchanged before it could.
        let gone = voters.iter().chain(learners).filter(|id| !wanted.iter().any(|node| book.replica(group, *node) == **id));
        let come = missing.iter().map(|node| Change::AddVoter(book.replica(group, *node), *node));
        come.chain(gone.map(|id| Change::Remove(*id))).collect()
    } else {
        return;
    };
    if !changes.is_empty() {
        // Another change may be under way.
        let _ = driver.change(group, &changes);
    }
}

/// Sends whatever comes to mind, as long as this replica leads.
async fn send(rt: SimRt, driver: Driver<SimRt>, group: GroupId, book: Rc<Book>) {
    loop {
        rt.sleep(Duration::from_micros(rt.rand() % 40_000)).await;
        if book.quiet.get() || !driver.status(group).is_some_and(|status| status.leads) {
            continue;
        }
        let value = book.value();
        let (batch, header) = batch(value, rt.rand() as usize % 3_000, None);
        match driver.propose(group, batch, &header) {
            Ok(proposed) => match timeout(&rt, Duration::from_secs(5), proposed.committed()).await {
                Ok(Ok(offset)) => book.ack(group, offset, value),
                Ok(Err(Lost)) => book.lost.set(book.lost.get() + 1),
                Err(_) => {}
            },
            Err(ProposeError::NotLeader { .. } | ProposeError::Busy | ProposeError::Unknown(_)) => {}
            Err(ProposeError::Log(error)) if error.is_retryable() => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends the group's current batch until somebody says that it is there.
async fn resend(rt: SimRt, driver: Driver<SimRt>, group: GroupId, book: Rc<Book>) {
    loop {
        rt.sleep(Duration::from_micros(rt.rand() % 40_000)).await;
        if book.quiet.get() {
            continue;
        }
        let Current { sequence, value } = book.current(group);
        let (batch, header) = batch(value, 100, Some(Producer { id: 5, epoch: 0, base_sequence: sequence }));
        let Ok(proposed) = driver.propose(group, batch, &header) else { continue };
        book.duplicates.set(book.duplicates.get() + u64::from(proposed.duplicate));
        if let Ok(Ok(offset)) = timeout(&rt, Duration::from_millis(500), proposed.committed()).await
            && book.current(group).sequence == sequence
        {
            book.ack(group, offset, value);
            book.current.borrow_mut().insert(group, Current { sequence: sequence + 1, value: book.value() });
        }
    }
}

/// What is counted, and in how many runs it must have happened: what never happens is not tested.
const MARKS: [(&str, u64); 16] = [
    ("terms that committed something", 1),
    ("writes acknowledged", 1),
    ("writes lost sight of", 20),
    ("repeats found out", 20),
    ("reads that asked the leader", 1),
    ("reads of segments for followers", 40),
    ("replicas begun anew", 1_000),
    ("entries refused for want of room", 40),
    ("changes of members", 20),
    ("rests of groups", 1),
    ("replicas woken for a node that was silent or began anew", 20),
    ("disks exchanged", 20),
    ("snapshots offered", 20),
    ("snapshots installed", 20),
    ("pieces of snapshots asked for again", 40),
    ("snapshots of which nothing came", 40),
];

struct Cluster {
    sim: Sim,
    nodes: Vec<NodeId>,
    book: Rc<Book>,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let sim = Sim::new(SimConfig { seed, faults: FaultPlan::survivable() });
        let nodes: Vec<NodeId> = (1..=3 + sim.below(3)).map(NodeId).collect();
        let this = Self { nodes, book: Rc::default(), sim };
        *this.book.settings.borrow_mut() = Settings::draw(&this.sim);
        for group in (1..=GROUPS).map(GroupId) {
            let some = this.some();
            let first = some.iter().map(|node| (*node, this.book.replica(group, *node))).collect();
            this.book.first.borrow_mut().insert(group, first);
            this.book.wanted.borrow_mut().insert(group, some);
        }
        this.nodes.iter().for_each(|node| this.boot(*node));
        this
    }

    /// Three of the nodes, or all.
    fn some(&self) -> BTreeSet<NodeId> {
        let count = if self.sim.below(4) == 0 { self.nodes.len() } else { 3 };
        let mut some = BTreeSet::new();
        while some.len() < count {
            some.insert(self.any());
        }
        some
    }

    fn boot(&self, me: NodeId) {
        let at = |node: NodeId| self.sim.node(node).addr(PORT);
        let peers = self.nodes.iter().filter(|node| **node != me).map(|node| (*node, at(*node))).collect();
        let (at, book) = (at(me), Rc::clone(&self.book));
        self.sim.node(me).start(CoreId(0), |rt| live(rt, me, peers, at, book));
    }

    fn any(&self) -> NodeId {
        self.nodes[self.sim.below(self.nodes.len() as u64) as usize]
    }

    fn down(&self, node: NodeId) {
        if let Some((_, driver)) = self.book.nodes.borrow_mut().remove(&node) {
            let (sum, one) = (&mut *self.book.counters.borrow_mut(), driver.counters());
            sum.lag_reads += one.lag_reads;
            sum.begun_anew += one.begun_anew;
            sum.refused += one.refused;
            sum.changes += one.changes;
            sum.rests += one.rests;
            sum.woken += one.woken;
            sum.snapshots_offered += one.snapshots_offered;
            sum.snapshots_installed += one.snapshots_installed;
            sum.snapshots_resumed += one.snapshots_resumed;
            sum.snapshots_failed += one.snapshots_failed;
        }
    }

    fn up(&self, node: NodeId) {
        if !self.sim.node(node).is_up() {
            assert_eq!(self.sim.halted(node), None, "node {node} halted");
            self.down(node);
            self.sim.restart(node);
            self.boot(node);
        }
    }

    /// Something happens.
    fn happen(&self) {
        let (sim, node, other) = (&self.sim, self.any(), self.any());
        match sim.below(17) {
            0 | 1 => {
                sim.crash(node);
                self.down(node);
            }
            2 => {
                sim.kill(node);
                self.down(node);
            }
            3 if sim.node(node).is_up() => sim.crash_at_poll(node, sim.node(node).polls() + 1 + sim.below(3_000)),
            4 | 5 if node != other => sim.cut(node, other),
            6 => self.nodes.iter().filter(|other| **other != node).for_each(|other| {
                sim.cut(node, *other);
                sim.cut(*other, node);
            }),
            7 => sim.heal_all(),
            8 => sim.node(node).pause(CoreId(0), Duration::from_millis(sim.below(3_000))),
            9 if node != other => sim.reset_conns(node, other),
            10 => {
                let (group, some) = (GroupId(1 + sim.below(GROUPS)), self.some());
                self.book.wanted.borrow_mut().insert(group, some);
            }
            // The power goes again and again while they elect.
            11 => (0..3 + sim.below(6)).for_each(|_| {
                let node = self.any();
                sim.crash(node);
                self.down(node);
                self.up(node);
                sim.run_for(Duration::from_millis(sim.below(700))).unwrap();
            }),
            14 => self.exchange_disk(node),
            12 | 13 => self.book.quiet.set(!self.book.quiet.get()),
            _ => self.nodes.iter().for_each(|node| self.up(*node)),
        }
    }

    /// A node comes back with an empty disk, at a moment when that is the only one that is missing.
    fn exchange_disk(&self, node: NodeId) {
        self.book.quiet.set(true);
        self.sim.heal_all();
        let equal = (0..100).any(|_| {
            self.nodes.iter().for_each(|node| self.up(*node));
            self.sim.run_for(Duration::from_millis(100)).unwrap();
            self.is_equal()
        });
        self.book.quiet.set(false);
        if equal {
            self.sim.crash(node);
            self.down(node);
            self.sim.node(node).disk().restore(&DiskImage::empty());
            *self.book.disks.borrow_mut().entry(node).or_default() += 1;
            self.up(node);
        }
    }

    /// All is well again: until all replicas have all, and something new.
    fn heal(&self) {
        self.sim.set_faults(FaultPlan::none());
        self.sim.heal_all();
        self.nodes.iter().for_each(|node| self.up(*node));
        for node in &self.nodes {
            self.sim.crash_at_poll(*node, u64::MAX);
            self.up(*node);
        }
        let before = self.book.acked.borrow().len();
        for _ in 0..600 {
            self.sim.run_for(Duration::from_millis(100)).unwrap();
            self.book.quiet.set(self.book.acked.borrow().len() >= before + 20);
            if self.book.quiet.get() && self.is_equal() {
                return self.rest();
            }
        }
        let nodes = self.book.nodes.borrow();
        let all: Vec<String> = nodes
            .iter()
            .flat_map(|(node, (log, driver))| {
                (1..=GROUPS).map(GroupId).map(move |g| {
                    format!(
                        "node {node}, group {g}: {:?}, {:?}, members {:?}, matched {:?}, room {}, {:?}, {:?}, {:?}",
                        driver.status(g),
                        driver.broken(g),
                        driver.members(g).map(|m| m.conf),
                        driver.matched(g),
                        log.room(),
                        log.replica(g).map(|r| (r.last_index, r.committed)),
                        log.state(g).map(|s| (s.start_offset, s.high_watermark)),
                        driver.counters()
                    )
                })
            })
            .collect();
        panic!("the cluster takes no writes or is not equal a minute after everything was healed:\n{}", all.join("\n"));
    }

    /// Nobody asks anything any more: all groups come to rest, and say nothing.
    fn rest(&self) {
        let nodes = self.book.nodes.borrow();
        let led: BTreeSet<GroupId> = (1..=GROUPS).map(GroupId).collect();
        let wanted = |group: &GroupId, node: &NodeId| self.book.wanted.borrow()[group].contains(node);
        let stands = || -> Vec<(GroupId, NodeId, Status)> {
            let of = |(node, (_, driver)): (&NodeId, &Node)| -> Vec<(GroupId, NodeId, Status)> {
                led.iter().filter(|group| wanted(group, node)).filter_map(|group| Some((*group, *node, driver.status(*group)?))).collect()
            };
            nodes.iter().flat_map(of).collect()
        };
        let rests = || stands().iter().all(|(_, _, status)| status.quiet);
        if !(0..300).any(|_| {
            self.sim.run_for(Duration::from_millis(100)).unwrap();
            rests()
        }) {
            let matched: Vec<_> = nodes.values().flat_map(|(_, driver)| led.iter().filter_map(|group| driver.matched(*group))).collect();
            panic!("groups do not come to rest: {:?}, matched {matched:?}", stands());
        }
        // Those that are no members any more may still ask for votes.
        if nodes.len() == 3 {
            let said = || nodes.values().map(|(_, driver)| driver.counters().messages).sum::<u64>();
            // What was on its way for long may still come, and wakes who hears it.
            let is_silent = (0..5).any(|_| {
                let before = said();
                self.sim.run_for(Duration::from_secs(5)).unwrap();
                said() == before
            });
            assert!(is_silent && rests(), "groups that rest have something to say: {:?}", stands());
        }
    }

    /// Whether all replicas have applied all that their leaders have.
    fn is_equal(&self) -> bool {
        let nodes = self.book.nodes.borrow();
        let groups = (1..=GROUPS).map(GroupId);
        groups.into_iter().all(|group| {
            let members = self.book.wanted.borrow()[&group].clone();
            let is_voter = |driver: &Driver<SimRt>, node: &NodeId| {
                driver
                    .members(group)
                    .is_some_and(|all| all.conf.voters.contains(&self.book.replica(group, *node)) && all.conf.voters.len() == members.len())
            };
            let stands: Vec<_> = nodes
                .iter()
                .filter(|(node, (_, driver))| members.contains(node) && is_voter(driver, node))
                .map(|(_, (log, driver))| (log.replica(group), driver.status(group)))
                .collect();
            if stands.len() != members.len() {
                return false;
            }
            let leads = stands.iter().any(|(_, status)| status.as_ref().is_some_and(|s| s.leads));
            let last = stands[0].0.as_ref().map(|replica| replica.last_index);
            let have = |(log, status): &(Option<ReplicaState>, Option<Status>)| {
                log.as_ref().map(|replica| replica.last_index) == last && status.as_ref().map(|s| s.applied) == last
            };
            leads && stands.iter().all(have)
        })
    }

    /// What a node has of a group, as readers see it, and where that begins.
    fn read(&self, node: NodeId, group: GroupId) -> (Offset, Vec<Bytes>) {
        let log = self.book.nodes.borrow()[&node].0.clone();
        let read = async move {
            let (start, end) = log.state(group).map(|state| (state.start_offset, state.high_watermark)).unwrap();
            let (mut from, mut all) = (start, Vec::new());
            while from < end {
                let out = log.read(group, from, ReadLimits { bytes_max: 8 << 20, end }).await.unwrap();
                all.extend(out.batches);
                from = out.next;
            }
            (start, all)
        };
        self.sim.block_on(node, |_| read).unwrap()
    }

    fn check(&self) {
        for group in (1..=GROUPS).map(GroupId) {
            let acked: Vec<(Offset, u64)> =
                self.book.acked.borrow().iter().filter(|(g, ..)| *g == group).map(|(_, offset, value)| (*offset, *value)).collect();
            let members = self.book.wanted.borrow()[&group].clone();
            let all: Vec<(Offset, Vec<Bytes>)> = members.iter().map(|node| self.read(*node, group)).collect();
            // Each has trimmed as it liked: what is behind that is the same.
            let begin = all.iter().map(|(start, _)| *start).max().unwrap();
            let common = |(_, batches): &(Offset, Vec<Bytes>)| -> Vec<Bytes> {
                batches.iter().filter(|b| Header::parse(b).unwrap().base_offset >= begin.0).cloned().collect()
            };
            assert!(all.windows(2).all(|pair| common(&pair[0]) == common(&pair[1])), "replicas of group {group} differ");
            for (start, batches) in &all {
                let found: BTreeMap<u64, u64> = batches.iter().map(|b| (value_of(b), Header::parse(b).unwrap().base_offset)).collect();
                assert_eq!(found.len(), batches.len(), "something is there twice");
                for ((_, offset), value) in self.book.seen.borrow().iter().filter(|((g, at), _)| *g == group && at >= start) {
                    assert_eq!(found.get(value), Some(&offset.0), "value {value} was read at offset {offset} of group {group}");
                }
                for (offset, value) in acked.iter().filter(|(offset, _)| offset >= start) {
                    assert_eq!(found.get(value), Some(&offset.0), "value {value} was acknowledged at offset {offset} of group {group}");
                }
            }
        }
        let terms: BTreeSet<(GroupId, u64)> = self.book.committed.borrow().iter().map(|((group, _), (term, _))| (*group, *term)).collect();
        self.book.terms.set(terms.len() as u64);
    }
}

/// What happened, in the order of [`MARKS`]; and the trace.
fn run(seed: u64) -> ([u64; MARKS.len()], u64) {
    let cluster = Cluster::new(seed);
    for _ in 0..10 + cluster.sim.below(30) {
        cluster.sim.run_for(Duration::from_millis(20 + cluster.sim.below(1_500))).unwrap();
        cluster.happen();
    }
    cluster.heal();
    cluster.check();
    cluster.nodes.iter().for_each(|node| cluster.down(*node));
    let book = &cluster.book;
    let Counters { lag_reads, begun_anew, refused, changes, rests, woken, .. } = *book.counters.borrow();
    let Counters { snapshots_offered, snapshots_installed, snapshots_resumed, snapshots_failed, .. } = *book.counters.borrow();
    let counts = [
        book.terms.get(),
        book.acked.borrow().len() as u64,
        book.lost.get(),
        book.duplicates.get(),
        book.reads.get(),
        lag_reads,
        begun_anew,
        refused,
        changes,
        rests,
        woken,
        book.disks.borrow().values().sum(),
        snapshots_offered,
        snapshots_installed,
        snapshots_resumed,
        snapshots_failed,
    ];
    (counts, cluster.sim.trace_hash())
}

#[test]
fn what_was_acknowledged_is_there_once_and_everywhere() {
    let env = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let (first, seeds) = env("SEED").map_or((0, env("SEEDS").unwrap_or(40)), |seed| (seed, 1));
    let mut sum = [0; MARKS.len()];
    for seed in first..first + seeds {
        let (counts, _) = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}: SEED={seed} runs it again"));
        sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    let marks: Vec<String> = MARKS.iter().zip(sum).map(|((mark, _), n)| format!("{n} {mark}")).collect();
    println!("{seeds} seeds: {}", marks.join(", "));
    for ((mark, within), n) in MARKS.iter().zip(sum) {
        assert!(n > 0 || seeds < *within, "no {mark} in {seeds} runs");
    }
    assert!(seeds < 20 || (sum[0] > 4 * seeds && sum[1] > 100 * seeds), "hardly anything happened");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let some = [3, 561].map(|seed| (run(seed), run(seed)));
    assert!(some.iter().all(|(one, other)| one == other));
    assert!(some.iter().any(|((counts, _), _)| counts[13] > 0), "one of them installs snapshots");
}
