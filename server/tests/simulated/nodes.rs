//! The nodes, each as `millpond serve` runs it, and what a step of a schedule does to them.

use crate::{
    ask::ask,
    book::{Book, TOPIC},
    clients,
    schedule::{Fault, Schedule},
};
use millpond::{
    boot::{self, Start},
    node::{NodeConfig, Shared, config::Security, mesh},
    security::Strangers,
};
use millpond_log::LogConfig;
use millpond_raft::RaftConfig;
use millpond_runtime::{
    CoreId, NodeId, Rt,
    mailbox::mailbox,
    sim::{FaultPlan, Sim, SimConfig},
};
use millpond_wire::messages::{CreateTopic, DescribeCluster, DescribeClusterReply, Kind, TopicReply};
use std::{path::PathBuf, rc::Rc, sync::Arc, time::Duration};

pub(crate) const PORT: u16 = 7400;
/// Where clients live; nothing happens to it but that links break.
pub(crate) const CLIENTS: NodeId = NodeId(90);
/// A cluster is whole in this time once nothing more happens to it.
pub(crate) const WHOLE_WITHIN: Duration = Duration::from_secs(180);
/// What a node says that ends before it has begun, since nobody takes it in.
const NOT_TAKEN_IN: &str = "cannot join the cluster";

pub(crate) struct Nodes {
    pub(crate) sim: Sim,
    pub(crate) schedule: Schedule,
    pub(crate) book: Rc<Book>,
}

impl Nodes {
    /// A cluster that is whole, with clients that have begun.
    pub(crate) fn start(schedule: &Schedule) -> Self {
        let this = Self::found(schedule);
        this.sim.set_faults(FaultPlan::survivable());
        let (book, partitions) = (Rc::clone(&this.book), this.schedule.partitions);
        this.sim.node(CLIENTS).start(CoreId(0), move |rt| async move { clients::start(&rt, &book, partitions) });
        this
    }

    /// A cluster that is whole, and of which nobody wants anything.
    pub(crate) fn found(schedule: &Schedule) -> Self {
        let sim = Sim::new(SimConfig { seed: schedule.seed, faults: FaultPlan::none() });
        let servers = schedule.nodes.iter().map(|node| sim.node(*node).addr(PORT)).collect();
        let book = Rc::new(Book::new(servers, schedule.partitions));
        let this = Self { sim, schedule: schedule.clone(), book };
        this.schedule.nodes.iter().for_each(|node| this.boot(*node));
        let count = this.schedule.nodes.len();
        this.wait_for("all nodes are in", move |health| health.nodes.len() == count && health.nodes.iter().all(|node| node.up));
        this.create_topic();
        this.wait_for("the topic is whole", is_whole);
        this
    }

    pub(crate) fn run_for(&self, d: Duration) {
        self.sim.run_for(d).unwrap();
    }

    /// Starts a node as `millpond serve` does: the same on each core.
    fn boot(&self, node: NodeId) {
        let config = Arc::new(self.config(node));
        let shared = Arc::new(Shared::new());
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..self.schedule.cores).map(|_| mailbox(mesh::DEPTH)).unzip();
        for (core, calls) in receivers.into_iter().enumerate() {
            let start = Start { config: Arc::clone(&config), shared: Arc::clone(&shared), calls, mesh: senders.clone(), busy: |_| 0 };
            self.sim.node(node).start(CoreId(core as u16), |rt| async move {
                if let Err(failed) = boot::run(rt.clone(), start).await {
                    // As the process would end.
                    rt.halt(&failed.to_string());
                }
            });
        }
    }

    fn config(&self, node: NodeId) -> NodeConfig {
        let at = |node: NodeId| self.sim.node(node).addr(PORT);
        let others = self.schedule.nodes.iter().filter(|other| **other != node);
        let founds = self.schedule.nodes[0] == node;
        NodeConfig {
            data: PathBuf::from("/data"),
            listen: at(node),
            advertise: at(node).ip().to_string(),
            log: LogConfig {
                journal_file_bytes: 1 << 20,
                journal_files_max: 8,
                flush_bytes_max: 1 << 17,
                settle_bytes: 32 << 10,
                trash_step_bytes: 16 << 10,
                disk_reserve_bytes: 0,
                maintain_every: Duration::from_secs(1),
                ..LogConfig::default()
            },
            // Clocks here run wrong by up to 5 hundredths either way.
            raft: RaftConfig { lease_drift_percent: self.schedule.leases.then_some(11), ..RaftConfig::default() },
            ip: at(node).ip(),
            tls: false,
            authenticate: false,
            strangers: Strangers::new(&[0; 32]),
            rack: String::new(),
            join: if founds { Vec::new() } else { others.map(|other| at(*other)).collect() },
            replace: None,
            memory_bytes: 128 << 20,
            partitions_default: 1,
            connections_max: 1_000,
            security: Security::default(),
        }
    }

    /// Waits until some node says of the cluster what is wanted.
    pub(crate) fn wait_for(&self, what: &str, enough: impl Fn(&DescribeClusterReply) -> bool + 'static) {
        let servers = self.book.servers.clone();
        let asked = self.sim.block_on(CLIENTS, move |rt| async move {
            let mut said = "nobody answers".to_owned();
            let until = rt.mono() + WHOLE_WITHIN.as_nanos() as u64;
            while rt.mono() < until {
                for at in &servers {
                    match ask::<DescribeClusterReply>(&rt, *at, Kind::DescribeCluster, &DescribeCluster {}, &[]).await {
                        Ok((health, _)) if enough(&health) => return Ok(()),
                        Ok((health, _)) => said = format!("{health:?}"),
                        Err(_) => {}
                    }
                }
                rt.sleep(Duration::from_millis(200)).await;
            }
            Err(said)
        });
        if let Err(said) = asked.unwrap() {
            panic!("waited in vain until {what}: {said}; ended: {:?}", self.ended());
        }
    }

    /// Why nodes have ended by themselves.
    fn ended(&self) -> Vec<Option<String>> {
        self.schedule.nodes.iter().map(|node| self.sim.halted(*node)).collect()
    }

    fn create_topic(&self) {
        let (at, partitions) = (self.book.servers[0], self.schedule.partitions);
        let request = CreateTopic { name: TOPIC.into(), partitions, replication: 3, ..CreateTopic::default() };
        let made = self.sim.block_on(CLIENTS, move |rt| async move { ask::<TopicReply>(&rt, at, Kind::CreateTopic, &request, &[]).await });
        made.unwrap().unwrap();
    }

    /// Starts a node that is down.
    pub(crate) fn up(&self, node: NodeId) {
        if self.sim.node(node).is_up() {
            return;
        }
        if let Some(why) = self.sim.halted(node) {
            assert!(why.contains(NOT_TAKEN_IN), "node {node} ended by itself: {why}");
            self.book.mark("nodes that were not taken in");
        }
        self.sim.restart(node);
        self.boot(node);
    }

    pub(crate) fn mend(&self) {
        self.sim.heal_all();
        self.schedule.nodes.iter().for_each(|node| self.sim.node(*node).disk().calm());
    }

    /// Something happens.
    pub(crate) fn perform(&self, what: &Fault) {
        let (sim, mark) = (&self.sim, |mark| self.book.mark(mark));
        match what {
            Fault::Crash(node) => {
                mark("power cuts");
                sim.crash(*node);
            }
            Fault::Kill(node) if sim.node(*node).is_up() => {
                mark("kills");
                sim.kill(*node);
            }
            Fault::Kill(_) => {}
            Fault::CrashAtPoll(node, polls) => sim.crash_at_poll(*node, sim.node(*node).polls() + polls),
            Fault::KillAtPoll(node, polls) => sim.kill_at_poll(*node, sim.node(*node).polls() + polls),
            Fault::Cut(from, to) => {
                mark("cuts of links");
                sim.cut(*from, *to);
            }
            Fault::Isolate { node, deaf, mute } => {
                mark("nodes cut off");
                for other in self.schedule.nodes.iter().chain([&CLIENTS]).filter(|other| *other != node) {
                    if *mute {
                        sim.cut(*node, *other);
                    }
                    if *deaf {
                        sim.cut(*other, *node);
                    }
                }
            }
            Fault::Clog(from, to, d) => sim.clog(*from, *to, *d),
            Fault::Slow(a, b, times) => {
                sim.slow_link(*a, *b, *times);
                sim.slow_link(*b, *a, *times);
            }
            Fault::Reset(a, b) => sim.reset_conns(*a, *b),
            Fault::Pause(node, core, d) => {
                mark("pauses of cores");
                sim.node(*node).pause(*core, *d);
            }
            Fault::SlowDisk(node, times) => sim.node(*node).disk().slow_down(*times),
            Fault::JumpClock(node, ms) => sim.node(*node).jump_wall(*ms),
            Fault::Mend => self.mend(),
            Fault::UpAll => self.schedule.nodes.iter().for_each(|node| self.up(*node)),
        }
    }
}

/// Whether each partition has its replicas, and all of them are near its end.
pub(crate) fn is_whole(health: &DescribeClusterReply) -> bool {
    health.nodes.iter().all(|node| node.up) && health.leaderless.is_empty() && health.under_replicated.is_empty()
}
