//! One life of one home of a node: its log, its driver, its links, and those who ask something of it.

use crate::{
    book::Book,
    load::{PLAIN, read_on, resend, send},
};
use bytes::BytesMut;
use millpond_log::{Log, LogConfig, LogError};
use millpond_raft::{Driver, Membership, RaftId, accept, change::Change, link, wire::Greeting};
use millpond_runtime::{Conn, ConnWrite, GroupId, IoError, Listener, NodeId, Offset, Open, Rt, Share, sim::SimRt};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

const CLUSTER: u64 = 7;
/// Of home 0; the others' follow it.
pub(crate) const PORT: u16 = 9000;

/// Which home, and where all nodes have theirs of this number.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) home: u16,
    pub(crate) peers: BTreeMap<NodeId, SocketAddr>,
    pub(crate) at: SocketAddr,
}

/// The log of a home.
pub(crate) async fn open_log(rt: &SimRt, book: &Book, home: u16) -> Result<Log<SimRt>, String> {
    let config = LogConfig { home, ..book.settings.log.clone() };
    let opened = Log::open(rt.clone(), PathBuf::from(format!("/data/core-{home:02}")), config).await;
    opened.map(|(log, _)| log).map_err(|error| error.to_string())
}

pub(crate) async fn live(rt: SimRt, place: Place, book: Rc<Book>) {
    let begun = match count_start(&rt, &book, &place).await {
        Ok(()) => open_log(&rt, &book, place.home).await,
        Err(refused) => Err(refused),
    };
    match begun {
        Ok(log) => serve(rt, place, book, log).await,
        Err(refused) => {
            book.refused.borrow_mut().insert(place.node, refused.clone());
            rt.halt(&refused)
        }
    }
}

/// Notes on the disk that there is one more start, before anything else is done, and refuses a disk that knows of fewer than there were: an old one,
/// which has forgotten what its replicas promised since.
async fn count_start(rt: &SimRt, book: &Book, place: &Place) -> Result<(), String> {
    let error = |error: IoError| error.to_string();
    let dir = PathBuf::from(format!("/data/starts-{:02}", place.home));
    rt.create_dir_all(&dir).await.map_err(error)?;
    for parent in ["/", "/data"] {
        rt.sync_dir(Path::new(parent)).await.map_err(error)?;
    }
    // One empty file, whose name is the count.
    let names = rt.list(&dir).await.map_err(error)?;
    let there = names.iter().filter_map(|name| name.parse::<u64>().ok()).max().unwrap_or(0);
    let key = (place.node, place.home);
    if there < book.starts.borrow().get(&key).copied().unwrap_or(0) {
        return Err("the disk is older than the last start".into());
    }
    drop(rt.open(&dir.join((there + 1).to_string()), Open::Create).await.map_err(error)?);
    rt.sync_dir(&dir).await.map_err(error)?;
    book.starts.borrow_mut().insert(key, there + 1);
    for name in names {
        rt.remove(&dir.join(name)).await.map_err(error)?;
    }
    Ok(())
}

async fn serve(rt: SimRt, place: Place, book: Rc<Book>, log: Log<SimRt>) {
    let Place { node: me, home, peers, at } = place;
    let driver = Driver::start(rt.clone(), log.clone(), book.settings.raft.clone());
    let seen = Rc::clone(&book);
    driver.on_committed(move |group, entry| {
        let found = (entry.term, entry.data.clone());
        let mut committed = seen.committed.borrow_mut();
        let first = committed.entry((group, entry.index)).or_insert_with(|| found.clone());
        assert!(*first == found, "entry {} of group {group} is committed twice, in terms {} and {}", entry.index, first.0, found.0);
    });
    for group in book.groups_of(home) {
        match driver.kept(group) {
            Some(old) if old < book.replica(group, me) => driver.retire(group, "another is to have its place".into()),
            Some(_) => driver.open(group).unwrap(),
            None => {}
        }
        for n in 0..=PLAIN {
            let (rt, driver, book) = (rt.clone(), driver.clone(), Rc::clone(&book));
            rt.clone().spawn("producer", Share::Serve, async move {
                if n == 0 { resend(rt, driver, group, book).await } else { send(rt, driver, group, book).await }
            });
        }
        let (rt, reader, log) = (rt.clone(), (driver.clone(), Rc::clone(&book)), log.clone());
        rt.clone().spawn("reader", Share::Serve, async move { read_on(rt, reader, log, group).await });
    }
    let (watch, log_too) = ((rt.clone(), driver.clone(), Rc::clone(&book)), log.clone());
    rt.spawn("watch", Share::Serve, async move { look_after(watch, log_too, (me, home)).await });
    for (to, at) in peers {
        link(&driver, to, move || Some((at, Greeting { cluster: CLUSTER, from: me, to, home: u32::from(home), age: 0, start: 0 })));
    }
    let listener = rt.listen(at).await.unwrap();
    book.homes.borrow_mut().insert((me, home), (log, driver.clone()));
    loop {
        let Ok(conn) = listener.accept().await else { continue };
        let driver = driver.clone();
        rt.spawn("peer", Share::Serve, async move {
            // A connection that breaks is nothing to speak of.
            let (mut read, mut write) = conn.split();
            let of = |wanted: &Greeting| (wanted.home == u32::from(home)).then(|| driver.clone());
            let _ = accept(&mut read, async |welcome| write.send(&[welcome]).await, BytesMut::new(), (CLUSTER, me), of).await;
        });
    }
}

/// Makes the replicas that this node is to have, moves those of groups that it leads to nodes that are to have them, and looks whether
/// anybody else leads in the same term.
async fn look_after((rt, driver, book): (SimRt, Driver<SimRt>, Rc<Book>), log: Log<SimRt>, (me, home): (NodeId, u16)) {
    loop {
        rt.sleep(Duration::from_millis(20)).await;
        for group in book.groups_of(home) {
            let (first, wanted) = (&book.first[&group], book.wanted.borrow()[&group].clone());
            if log.replica(group).is_none() && (first.contains_key(&me) || wanted.contains(&me)) {
                let all = first.iter().map(|(node, id)| (*id, *node)).collect();
                match driver.create(group, book.settings.group.clone(), &Membership::first(book.replica(group, me), all)) {
                    // What was here of a damaged one goes first, and a small journal may be full.
                    Ok(()) | Err(LogError::Dropping { .. } | LogError::Full { .. } | LogError::DiskFull { .. }) => {}
                    Err(error) => panic!("a replica of group {group} cannot be made: {error}"),
                }
            }
            renew(&driver, &log, &book, (group, me), wanted.len());
            let once_in = book.settings.trim_once_in;
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

/// A replica that takes no part any more is made anew, as the catalog would have it: another one is wanted in its place, and once the others call that, what is
/// left of the old one goes.
fn renew(driver: &Driver<SimRt>, log: &Log<SimRt>, book: &Book, (group, me): (GroupId, NodeId), wanted: usize) {
    let (Some(_), Some(old)) = (driver.broken(group), driver.kept(group)) else { return };
    let new = book.replica(group, me);
    if old == new && wanted > 2 {
        book.mark("replicas found damaged");
        *book.renewed.borrow_mut().entry((group, me)).or_default() += 1;
    } else if driver.is_called(group, new) && log.drop_group(group).is_ok() {
        driver.close(group);
        book.mark("replicas made anew");
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
