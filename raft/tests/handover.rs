//! Leadership that is handed over under load: what was taken before is acknowledged by whoever took it, and the next leader is there at once.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use bytes::BytesMut;
use millpond_batch::{Builder, Compression, Header};
use millpond_log::{GroupConfig, Log, LogConfig};
use millpond_raft::{Driver, Membership, RaftConfig, RaftId, accept, link, wire::Greeting};
use millpond_runtime::{
    Conn, ConnWrite, CoreId, GroupId, Listener, NodeId, Rt, Share,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, path::PathBuf, rc::Rc, time::Duration};

const GROUP: GroupId = GroupId(1);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const PORT: u16 = 9000;
/// Well below the time in which a leader is missed.
const SOON: Duration = Duration::from_millis(100);

type Drivers = Rc<RefCell<BTreeMap<NodeId, Driver<SimRt>>>>;

fn id(node: NodeId) -> RaftId {
    10 + node.0
}

async fn live(rt: SimRt, me: NodeId, peers: BTreeMap<NodeId, SocketAddr>, at: SocketAddr, drivers: Drivers) {
    let config = LogConfig { disk_reserve_bytes: 0, ..LogConfig::default() };
    let (log, _) = Log::open(rt.clone(), PathBuf::from("/data/core-00"), config).await.unwrap();
    let driver = Driver::start(rt.clone(), log.clone(), RaftConfig::default());
    let all = NODES.iter().map(|node| (id(*node), *node)).collect();
    driver.create(GROUP, GroupConfig::default(), &Membership::first(id(me), all)).unwrap();
    for (to, at) in peers {
        link(&driver, to, move || Some((at, Greeting { cluster: 7, from: me, to, home: 0, age: 0, start: 0 })));
    }
    let listener = rt.listen(at).await.unwrap();
    drivers.borrow_mut().insert(me, driver.clone());
    loop {
        let Ok(conn) = listener.accept().await else { continue };
        let driver = driver.clone();
        rt.spawn("peer", Share::Serve, async move {
            // A connection that breaks is nothing to speak of.
            let (mut read, mut write) = conn.split();
            let _ =
                accept(&mut read, async |welcome| write.send(&[welcome]).await, BytesMut::new(), (7, me), |_| Some(driver.clone())).await;
        });
    }
}

struct Cluster {
    sim: Sim,
    drivers: Drivers,
}

impl Cluster {
    /// Somebody leads.
    fn new(seed: u64) -> Self {
        let this = Self { sim: Sim::new(SimConfig { seed, faults: FaultPlan::none() }), drivers: Rc::default() };
        for me in NODES {
            let at = |node: NodeId| this.sim.node(node).addr(PORT);
            let peers = NODES.into_iter().filter(|node| *node != me).map(|node| (node, at(node))).collect();
            let (at, drivers) = (at(me), Rc::clone(&this.drivers));
            this.sim.node(me).start(CoreId(0), |rt| live(rt, me, peers, at, drivers));
        }
        this.sim.run_for(Duration::from_secs(3)).unwrap();
        this
    }

    fn leader(&self) -> NodeId {
        let drivers = self.drivers.borrow();
        *drivers.iter().find(|(_, driver)| driver.status(GROUP).is_some_and(|status| status.serves)).expect("somebody leads").0
    }

    fn driver(&self, node: NodeId) -> Driver<SimRt> {
        self.drivers.borrow()[&node].clone()
    }
}

fn propose(driver: &Driver<SimRt>) -> Result<millpond_raft::Proposed, millpond_raft::ProposeError> {
    let mut builder = Builder::new(Compression::None, 256);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(1_700_000_000_000, None, Some(b"value"), &headers);
    let batch = builder.build(None).unwrap();
    let header = Header::parse(&batch).unwrap();
    driver.propose(GROUP, batch, &header)
}

#[test]
fn what_was_taken_before_a_handover_is_acknowledged_after_it() {
    for seed in 0..30 {
        let cluster = Cluster::new(seed);
        for turn in 0..6 {
            let from = cluster.leader();
            let to = NODES.into_iter().cycle().skip_while(|node| *node != from).nth(1 + turn % 2).unwrap();
            let (driver, next) = (cluster.driver(from), cluster.driver(to));
            let handed = async move {
                let taken: Vec<_> = (0..5).map(|_| propose(&driver).unwrap()).collect();
                assert!(driver.transfer(GROUP, id(to)) && driver.hands_over(GROUP), "seed {seed}");
                assert!(propose(&driver).is_err(), "it takes nothing more");
                for proposed in taken {
                    proposed.committed().await.unwrap_or_else(|lost| panic!("seed {seed}, turn {turn}: {lost}"));
                }
                driver
            };
            let driver = cluster.sim.block_on(from, |_| handed).unwrap();
            cluster.sim.run_for(SOON).unwrap();
            assert_eq!(cluster.leader(), to, "seed {seed}");
            assert!(!driver.hands_over(GROUP), "seed {seed}: it knows who leads");
            assert_eq!(driver.status(GROUP).unwrap().leader_node, Some(to), "seed {seed}");
            cluster.sim.block_on(to, |_| async move { propose(&next).unwrap().committed().await.unwrap() }).unwrap();
        }
    }
}

#[test]
fn a_handover_to_one_that_is_gone_comes_to_nothing() {
    let cluster = Cluster::new(1);
    let from = cluster.leader();
    let to = *NODES.iter().find(|node| **node != from).unwrap();
    let driver = cluster.driver(from);
    cluster.sim.crash(to);
    cluster.drivers.borrow_mut().remove(&to);
    assert!(driver.transfer(GROUP, id(to)) && driver.hands_over(GROUP));
    cluster.sim.run_for(Duration::from_secs(1)).unwrap();
    assert!(!driver.hands_over(GROUP) && cluster.leader() == from, "it goes on leading");
    cluster.sim.block_on(from, |_| async move { propose(&driver).unwrap().committed().await.unwrap() }).unwrap();
}
