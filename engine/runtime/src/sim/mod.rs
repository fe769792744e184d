//! The seeded simulator: whole clusters in one thread, one virtual time and one seed.
//!
//! The same seed, configuration and program give the same run, poll by poll ([`Sim::trace_hash`]). The program is
//! whatever is generic over [`crate::Rt`]; a test starts it on simulated nodes, breaks things, and asks:
//!
//! ```
//! use millpond_runtime::{CoreId, File, IoBuf, NodeId, Open, Rt, sim::Sim};
//! use std::path::Path;
//!
//! let sim = Sim::new(7);
//! let node = sim.node(NodeId(1));
//! let written = sim.block_on(NodeId(1), |rt| async move {
//!     let file = rt.open(Path::new("/a"), Open::Create).await?;
//!     let mut buf = file.buf(4096);
//!     buf.put(b"not lost");
//!     buf.pad_to_block();
//!     file.write_at(0, buf).await?;
//!     file.sync().await?;
//!     rt.sync_dir(Path::new("/")).await
//! });
//! written.expect("the run ends")?;
//! sim.crash(NodeId(1));
//! assert_eq!(&node.disk().read_stable(Path::new("/a"), 0, 8)?, b"not lost");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: [`faults`](FaultPlan) what may go wrong · `dice` chance · `world` the executor · `disk` the model of
//! a disk · `file` files over it · `net` the model of a network · `conn` connections over it · `rt` the door · `node` what a
//! test may do to a node.
//!
//! What surprises most is that names are POSIX's: after a power cut a file is reachable only if its directory was synced
//! after its creation, and a directory only if its *parent* was, up to the root; `create_dir_all` syncs nothing.
//!
//! Loops over seeds go through [`for_seeds`], which prints the command that replays a failing one.
//!
//! What a program must not do here: use `tokio::select!` without `biased` (it draws from the thread's own randomness), or
//! loop over a map with a random hasher: the same seed would give other runs.

mod conn;
mod dice;
mod disk;
mod draw;
mod faults;
mod file;
mod net;
mod node;
mod rt;
mod world;

pub use conn::{SimConn, SimConnRead, SimConnWrite, SimListener};
pub use draw::Draw;
pub use faults::{DiskFault, FaultPlan};
pub use file::{SimBuf, SimFile};
pub use node::{DiskImage, SimDisk, SimNode};
pub use rt::SimRt;

use crate::{CoreId, NodeId};
use dice::Dice;
use net::Net;
use std::{cell::RefCell, collections::BTreeMap, fmt, future::Future, rc::Rc, time::Duration};
use world::{RunEnd, State, World};

/// How long [`Sim::block_on`] lets its task run, in virtual time.
const BLOCK_ON_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What a simulation starts from.
#[derive(Clone, Debug, Default)]
pub struct SimConfig {
    /// Decides everything that is not decided by the test.
    pub seed: u64,
    /// What may go wrong.
    pub faults: FaultPlan,
}

impl From<u64> for SimConfig {
    /// A seed without faults.
    fn from(seed: u64) -> Self {
        Self { seed, faults: FaultPlan::none() }
    }
}

/// Why a run ended otherwise than the test wanted. Each names the seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// A task panicked.
    #[error("seed {seed}: task {task} panicked: {message}")]
    Panicked {
        /// The seed of the run.
        seed: u64,
        /// Node, core and name of the task.
        task: String,
        /// The panic's message.
        message: String,
    },
    /// Nothing is ready, no timer runs, and what was waited for has not come.
    #[error("seed {seed}: deadlock; waiting: {}", Names(tasks))]
    Deadlock {
        /// The seed of the run.
        seed: u64,
        /// Node, core and name of every task.
        tasks: Vec<String>,
    },
    /// The virtual time that the test allowed is over.
    #[error("seed {seed}: not done within {limit:?}; running: {}", Names(tasks))]
    OutOfTime {
        /// The seed of the run.
        seed: u64,
        /// Virtual time allowed.
        limit: Duration,
        /// Node, core and name of every task.
        tasks: Vec<String>,
    },
    /// The node died under a [`Sim::block_on`].
    #[error("seed {seed}: node {node} went down{}", halted.as_ref().map_or(String::new(), |why| format!(": {why}")))]
    NodeDown {
        /// The seed of the run.
        seed: u64,
        /// The node.
        node: NodeId,
        /// What it halted with, if it did.
        halted: Option<String>,
    },
    /// Tasks wake each other for ever.
    #[error("seed {seed}: millions of polls without an end; running: {}", Names(tasks))]
    Livelock {
        /// The seed of the run.
        seed: u64,
        /// Node, core and name of every task.
        tasks: Vec<String>,
    },
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("no task at all") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// A simulation. Dropping it drops all tasks.
pub struct Sim {
    world: Rc<World>,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sim(seed {}, {:?} in)", self.world.seed, self.elapsed())
    }
}

impl Sim {
    /// An empty world: from a [`SimConfig`], or from a seed alone.
    #[must_use]
    pub fn new(config: impl Into<SimConfig>) -> Self {
        let SimConfig { seed, faults } = config.into();
        Self { world: Rc::new(World::new(seed, Dice::new(seed, faults), Net::default())) }
    }

    /// The node of this id. The first call makes it and turns it on.
    #[must_use]
    pub fn node(&self, id: NodeId) -> SimNode {
        if !self.world.nodes.borrow().contains_key(&id) {
            self.world.boot(id);
        }
        SimNode { world: self.world.clone(), id }
    }

    /// Runs until `done`, for at most `limit` of virtual time. `done` is asked before every poll.
    pub fn run_until(&self, done: impl FnMut() -> bool, limit: Duration) -> Result<(), Stopped> {
        let seed = self.world.seed;
        let end = self.world.now.get().saturating_add(nanos(limit));
        match self.world.run(end, done)? {
            RunEnd::Stopped => Ok(()),
            RunEnd::Time => Err(Stopped::OutOfTime { seed, limit, tasks: self.world.task_names() }),
            RunEnd::Idle => Err(Stopped::Deadlock { seed, tasks: self.world.task_names() }),
        }
    }

    /// Runs for `d` of virtual time. Having nothing to do is fine.
    pub fn run_for(&self, d: Duration) -> Result<(), Stopped> {
        let end = self.world.now.get().saturating_add(nanos(d));
        if self.world.run(end, || false)? == RunEnd::Idle {
            self.world.now.set(end);
        }
        Ok(())
    }

    /// Runs a task on core 0 of a node until it has its result, or, after a day of virtual time, gives up.
    pub fn block_on<T: 'static, F: Future<Output = T> + 'static>(&self, node: NodeId, task: impl FnOnce(SimRt) -> F) -> Result<T, Stopped> {
        let result = Rc::new(RefCell::new(None));
        let (slot, node) = (result.clone(), self.node(node));
        node.start(CoreId(0), |rt| {
            let task = task(rt);
            async move {
                let answer = task.await;
                *slot.borrow_mut() = Some(answer);
            }
        });
        let life = node.life();
        self.run_until(|| result.borrow().is_some() || !self.world.alive(node.id, life), BLOCK_ON_LIMIT)?;
        let answer = result.borrow_mut().take();
        answer.ok_or_else(|| Stopped::NodeDown { seed: self.world.seed, node: node.id, halted: self.halted(node.id) })
    }

    /// Cuts the power of a node: its tasks are dropped, un-synced data is kept, lost or torn by the seed, and nobody
    /// answers for it. So it goes too if only its process was gone. Off already: nothing happens.
    pub fn crash(&self, node: NodeId) {
        let node = self.node(node);
        let off = self.world.nodes.borrow().get(&node.id).is_none_or(|node| node.state == State::Off);
        if !off {
            self.world.power_off(node.id);
        }
    }

    /// Ends the process of a node (`kill -9`): what it wrote is there but still not synced, its sockets are closed.
    pub fn kill(&self, node: NodeId) {
        if self.node(node).is_up() {
            self.world.exit(node, "kill");
        }
    }

    /// Cuts the power of a node instead of its poll number `poll` of this life, counted from 0. [`SimNode::polls`] tells how
    /// many there were: trying each number once crashes at every await.
    pub fn crash_at_poll(&self, node: NodeId, poll: u64) {
        let node = self.node(node);
        if let Some(node) = self.world.nodes.borrow_mut().get_mut(&node.id) {
            node.crash_at_poll = Some(poll);
        }
    }

    /// Ends the process of a node instead of its poll number `poll` of this life, as [`Sim::crash_at_poll`] cuts its power.
    pub fn kill_at_poll(&self, node: NodeId, poll: u64) {
        let node = self.node(node);
        if let Some(node) = self.world.nodes.borrow_mut().get_mut(&node.id) {
            node.kill_at_poll = Some(poll);
        }
    }

    /// Starts a node again, without tasks: after [`Sim::crash`], [`Sim::kill`] or `halt`.
    ///
    /// # Panics
    /// If it is up.
    pub fn restart(&self, node: NodeId) -> SimNode {
        let node = self.node(node);
        self.world.boot(node.id);
        node
    }

    /// The message with which a node halted, until it is restarted.
    #[must_use]
    pub fn halted(&self, node: NodeId) -> Option<String> {
        self.world.nodes.borrow().get(&node).and_then(|node| node.halted.clone())
    }

    /// What happened how often, faults and outcomes of crashes, since the beginning.
    #[must_use]
    pub fn coverage(&self) -> BTreeMap<&'static str, u64> {
        self.world.dice.borrow().coverage().clone()
    }

    /// A rolling hash over polls, disk and network: equal for equal runs.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.world.trace_hash()
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.world.now.get())
    }

    /// Changes the plan of faults from now on, say to `FaultPlan::none()` for a phase of recovery.
    pub fn set_faults(&self, faults: FaultPlan) {
        self.world.dice.borrow_mut().plan = faults;
    }

    /// A number below `n` from the seed, for the test's own choices. `n` is not 0.
    #[must_use]
    pub fn below(&self, n: u64) -> u64 {
        self.world.dice.borrow_mut().below(n)
    }

    /// Nothing sent from `from` arrives at `to`, until healed. The other direction is a link of its own.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.world.dice.borrow_mut().count("link_cut");
        self.world.net.borrow_mut().cut(from, to);
    }

    /// Nothing sent from `from` arrives at `to` for `d`.
    pub fn clog(&self, from: NodeId, to: NodeId, d: Duration) {
        self.world.dice.borrow_mut().count("link_clog");
        self.world.net.borrow_mut().clog(&self.world, from, to, nanos(d));
    }

    /// What is sent from `from` to `to` takes this many times as long, until healed; 1 is a healthy link.
    pub fn slow_link(&self, from: NodeId, to: NodeId, times: u64) {
        self.world.dice.borrow_mut().count("link_slow");
        self.world.net.borrow_mut().slow_down(from, to, times);
    }

    /// Ends a cut, a clog or slowness; what waited arrives.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        self.world.net.borrow_mut().heal(&self.world, from, to);
    }

    /// Ends all cuts and clogs, and all slowness of links.
    pub fn heal_all(&self) {
        self.world.net.borrow_mut().heal_all(&self.world);
    }

    /// Breaks every connection between two nodes, with a reset at both ends.
    pub fn reset_conns(&self, a: NodeId, b: NodeId) {
        let mut net = self.world.net.borrow_mut();
        for conn in net.between(a, b) {
            self.world.dice.borrow_mut().count("conn_reset");
            net.reset(&self.world, conn);
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.world.clear();
    }
}

/// Calls `test` with the seeds from 0 to `count`, or with those that the environment asks for: `MILLPOND_SEED=17`
/// or, to soak, `MILLPOND_SEED=1000..9000`. A seed that fails prints the command that replays it.
///
/// # Panics
/// As `test` does; and if the variable is neither a number nor a range.
pub fn for_seeds(count: u64, test: impl Fn(u64)) {
    let seeds = match std::env::var("MILLPOND_SEED") {
        Ok(text) => seeds_of(&text).expect("MILLPOND_SEED is a number like 17 or a range like 1000..9000"),
        Err(_) => 0..count,
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(payload) = outcome {
            let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
            let thread = std::thread::current();
            eprintln!("replay: MILLPOND_SEED={seed} cargo test -p {package} {}", thread.name().unwrap_or_default());
            std::panic::resume_unwind(payload);
        }
    }
}

fn seeds_of(text: &str) -> Option<std::ops::Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => text.parse().ok().and_then(|seed: u64| Some(seed..seed.checked_add(1)?)),
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
