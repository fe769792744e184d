//! Three nodes of production code in the simulator, each with replicas of the same groups: what the tests of one matter share. Those under all faults are
//! in `cluster`.
#![allow(dead_code, reason = "each test uses what it needs")]
#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use bytes::BytesMut;
use millpond_batch::{Builder, Compression};
use millpond_log::{GroupConfig, Log, LogConfig};
use millpond_raft::{Driver, Membership, RaftConfig, RaftId, accept, link, wire::Greeting};
use millpond_runtime::{
    Conn, ConnWrite, CoreId, GroupId, Listener, NodeId, Rt, Share,
    sim::{Sim, SimRt},
};
use std::{net::SocketAddr, path::PathBuf};

pub(crate) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const PORT: u16 = 9000;

pub(crate) fn id(group: GroupId, node: NodeId) -> RaftId {
    group.0 * 10 + node.0
}

/// A batch of one record.
pub(crate) fn batch(value: &[u8]) -> BytesMut {
    let mut builder = Builder::new(Compression::None, 256);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(1_700_000_000_000, None, Some(value), &headers);
    builder.build(None).unwrap()
}

/// How a node is set up.
#[derive(Clone)]
pub(crate) struct Setup {
    /// Groups 1 to this one.
    pub(crate) groups: u64,
    pub(crate) log: LogConfig,
    pub(crate) raft: RaftConfig,
    pub(crate) group: GroupConfig,
}

impl Default for Setup {
    fn default() -> Self {
        let log = LogConfig { disk_reserve_bytes: 0, ..LogConfig::default() };
        Self { groups: 1, log, raft: RaftConfig::default(), group: GroupConfig::default() }
    }
}

impl Setup {
    /// Begins a life of a node; `ready` gets what it has once others can reach it.
    pub(crate) fn boot(&self, sim: &Sim, me: NodeId, ready: impl FnOnce(Log<SimRt>, Driver<SimRt>) + 'static) {
        let at = |node: NodeId| sim.node(node).addr(PORT);
        let peers = NODES.into_iter().filter(|node| *node != me).map(|node| (node, at(node))).collect();
        let (at, setup) = (at(me), self.clone());
        sim.node(me).start(CoreId(0), |rt| setup.live(rt, me, peers, at, ready));
    }

    async fn live(
        self,
        rt: SimRt,
        me: NodeId,
        peers: Vec<(NodeId, SocketAddr)>,
        at: SocketAddr,
        ready: impl FnOnce(Log<SimRt>, Driver<SimRt>),
    ) {
        let (log, _) = Log::open(rt.clone(), PathBuf::from("/data/core-00"), self.log).await.unwrap();
        let driver = Driver::start(rt.clone(), log.clone(), self.raft);
        for group in (1..=self.groups).map(GroupId) {
            if log.replica(group).is_some() {
                driver.open(group).unwrap();
            } else {
                let all = NODES.iter().map(|node| (id(group, *node), *node)).collect();
                driver.create(group, self.group.clone(), &Membership::first(id(group, me), all)).unwrap();
            }
        }
        for (to, at) in peers {
            link(&driver, to, move || Some((at, Greeting { cluster: 7, from: me, to, home: 0, age: 0, start: 0 })));
        }
        let listener = rt.listen(at).await.unwrap();
        ready(log, driver.clone());
        loop {
            let Ok(conn) = listener.accept().await else { continue };
            let driver = driver.clone();
            rt.spawn("peer", Share::Serve, async move {
                // A connection that breaks is nothing to speak of.
                let (mut read, mut write) = conn.split();
                let _ = accept(&mut read, async |welcome| write.send(&[welcome]).await, BytesMut::new(), (7, me), |_| Some(driver.clone()))
                    .await;
            });
        }
    }
}
