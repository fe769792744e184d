//! Starting the executors of a node, one per core.

use super::{GloRt, Shared, pulse::Pulse};
use crate::{
    CoreId, Rt, Share,
    limits::BLOCK_BYTES,
    placement,
    pool::{Pool, panic_message},
    sys,
    topology::Topology,
};
use futures_util::FutureExt;
use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, io::OpenOptions};
use rand::{SeedableRng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    rc::Rc,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A task that computes this long is asked to yield.
const PREEMPT: Duration = Duration::from_millis(1);
/// Submission entries of each ring.
const RING_DEPTH: usize = 512;
/// Registered memory of an executor where memlock allows it, in bytes. It is registered with each of its three rings.
const IO_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What glommio wants of RLIMIT_MEMLOCK at the least, in bytes.
pub(crate) const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// The file that each executor reads before all others in a data directory.
const PROBE_NAME: &str = ".probe";
/// Jobs that may wait for a thread of the pool.
const POOL_QUEUE: usize = 64;

/// What to start.
#[derive(Clone, Debug)]
pub struct CoresConfig {
    /// The CPU of each core, as [`crate::placement`] plans them; `None` leaves it to the scheduler.
    pub cpus: Vec<Option<usize>>,
    /// Threads of the pool beside the cores.
    pub pool_threads: usize,
    /// The seed of all randomness.
    pub seed: u64,
    /// Directories that will hold files, existing or to be created.
    pub data_dirs: Vec<PathBuf>,
}

/// Why no core could be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel refuses io_uring.
    #[error(
        "io_uring is not available: {0}. Millpond needs Linux 5.8 or newer with io_uring allowed: check `sysctl kernel.io_uring_disabled` and the seccomp profile of the container"
    )]
    NoRing(io::Error),
    /// Too little memory may be locked.
    #[error(
        "only {0} bytes of memory may be locked, {MEMLOCK_BYTES_MIN} are needed: raise the limit (`ulimit -l 8192`, or LimitMEMLOCK=8M in the unit)"
    )]
    Memlock(u64),
    /// A data directory cannot be used.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or an executor could not be started.
    #[error("core {core} could not be started: {message}")]
    Core {
        /// The core.
        core: u16,
        /// What glommio or the system said.
        message: String,
    },
}

/// The running cores of a node.
pub struct Cores<T: Send + 'static> {
    threads: Vec<JoinHandle<Option<T>>>,
}

impl<T: Send + 'static> Cores<T> {
    /// Starts one executor per configured CPU and runs `main` on each: on all or, with an error, on none. A panic in `main`
    /// halts the node, as one in any task does.
    ///
    /// A pinned core takes its memory from the NUMA node of its CPU. The limit of open files is raised as far as it goes.
    pub fn start<F, Fut>(config: &CoresConfig, main: F) -> Result<Self, StartError>
    where
        F: Fn(GloRt) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let memlock = prepare(config)?;
        let topology = Topology::read();
        let pool = start_pool(config, &topology).map_err(|e| StartError::Core { core: 0, message: e.to_string() })?;
        let started = Instant::now();
        let pulses = Pulse::start(config.cpus.len()).map_err(|e| StartError::Core { core: 0, message: e.to_string() })?;
        let (made, reports) = mpsc::channel();
        let (mut threads, mut goes) = (Vec::new(), Vec::new());
        for ((n, cpu), pulse) in config.cpus.iter().enumerate().zip(pulses) {
            let core = CoreId(u16::try_from(n).map_err(|_| StartError::Core { core: u16::MAX, message: "too many cores".into() })?);
            let plan = CorePlan {
                core,
                cpu: *cpu,
                // With one node there is nothing to choose.
                node: cpu.and_then(|cpu| topology.node_of(cpu)).filter(|_| topology.nodes().len() > 1),
                io_memory: io_memory_bytes(memlock, config.cpus.len()),
            };
            let (main, pool, dirs, made) = (main.clone(), pool.clone(), config.data_dirs.clone(), made.clone());
            let seed = config.seed ^ (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let (go, wait) = mpsc::channel::<()>();
            goes.push(go);
            let body = move || {
                let executor = match plan.make() {
                    Ok(executor) => executor,
                    Err(message) => {
                        // The starting thread waits for a report of each core.
                        let _ = made.send(Err(StartError::Core { core: core.0, message }));
                        return None;
                    }
                };
                let _ = made.send(Ok(()));
                drop(made);
                // An error means that another core could not be made.
                wait.recv().ok()?;
                if let Err(why) = pulse.starting() {
                    tracing::warn!(core = core.0, %why, "a core that falls asleep while it starts cannot be woken");
                }
                Some(executor.run(async move {
                    let rt = door(core, pool, seed, started);
                    let counts = rt.clone();
                    rt.spawn("pulse", Share::Serve, pulse.heart(move || counts.counted().tasks));
                    warm_up(&rt, &dirs).await;
                    let outcome = match AssertUnwindSafe(async { main(rt.clone()).await }).catch_unwind().await {
                        Ok(outcome) => outcome,
                        Err(panic) => rt.halt(&format!("core {core} panicked: {}", panic_message(&*panic))),
                    };
                    drop(pulse);
                    outcome
                }))
            };
            let thread = thread::Builder::new().name(format!("core-{n}")).spawn(body);
            threads.push(thread.map_err(|e| StartError::Core { core: core.0, message: e.to_string() })?);
        }
        drop(made);
        // A thread that ended without a report panicked, and has said why on stderr.
        let ended = |_| StartError::Core { core: u16::MAX, message: "its thread ended while it was made".into() };
        for _ in &threads {
            reports.recv().map_err(ended)??;
        }
        for go in goes {
            // The thread waits for it.
            let _ = go.send(());
        }
        Ok(Self { threads })
    }

    /// Waits for all cores to end; what each returned, in order, or why it ended otherwise.
    pub fn join(self) -> Vec<Result<T, StartError>> {
        let outcome = |(n, thread): (usize, JoinHandle<Option<T>>)| {
            let ended = |message| StartError::Core { core: u16::try_from(n).unwrap_or(u16::MAX), message };
            match thread.join() {
                Ok(outcome) => outcome.ok_or_else(|| ended("it was never started".into())),
                Err(panic) => Err(ended(format!("its thread panicked: {}", panic_message(&*panic)))),
            }
        };
        self.threads.into_iter().enumerate().map(outcome).collect()
    }
}

/// What has to hold before any core starts; how much memory may be locked, in bytes.
fn prepare(config: &CoresConfig) -> Result<u64, StartError> {
    io_uring::IoUring::new(8).map_err(StartError::NoRing)?;
    let memlock = sys::memlock().soft;
    if memlock < MEMLOCK_BYTES_MIN {
        return Err(StartError::Memlock(memlock));
    }
    if !sys::keep_freed_memory() {
        tracing::debug!("the allocator gives freed memory back to the system: it will be fetched anew, page by page");
    }
    match sys::raise_open_files() {
        Ok(files) => tracing::debug!(files, "the limit of open files"),
        Err(why) => tracing::warn!(%why, "the limit of open files cannot be raised"),
    }
    for dir in &config.data_dirs {
        make_probe(dir).map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
    }
    Ok(memlock)
}

/// How one executor is made, on the thread that will run it.
struct CorePlan {
    core: CoreId,
    cpu: Option<usize>,
    node: Option<usize>,
    io_memory: usize,
}

impl CorePlan {
    fn make(&self) -> Result<LocalExecutor, String> {
        // Before the executor, whose buffers are allocated when it is made.
        if let Some(node) = self.node
            && let Err(why) = sys::prefer_node(node)
        {
            tracing::warn!(core = self.core.0, node, %why, "the core's memory cannot be bound to its NUMA node: it may be slower");
        }
        let placement = self.cpu.map_or(Placement::Unbound, Placement::Fixed);
        let builder = LocalExecutorBuilder::new(placement)
            .name(&format!("core-{}", self.core.0))
            .io_memory(self.io_memory)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            .spin_before_park(Duration::ZERO);
        builder.make().map_err(|e| e.to_string())
    }
}

/// Threads beside the cores, on CPUs that no core is pinned to where there are enough of them.
fn start_pool(config: &CoresConfig, topology: &Topology) -> io::Result<Pool> {
    let beside = placement::beside(topology, &config.cpus, config.pool_threads);
    Pool::new(config.pool_threads, POOL_QUEUE, move |_| {
        if let Some(cpus) = &beside
            && let Err(why) = sys::run_on(cpus)
        {
            tracing::warn!(%why, ?cpus, "a thread of the pool cannot be kept off the cores");
        }
    })
}

fn door(core: CoreId, pool: Pool, seed: u64, started: Instant) -> GloRt {
    let executor = glommio::executor();
    let serve = executor.create_task_queue(Shares::Static(1000), Latency::NotImportant, "serve");
    let background = executor.create_task_queue(Shares::Static(100), Latency::NotImportant, "background");
    let random = RefCell::new(SmallRng::seed_from_u64(seed));
    GloRt { shared: Rc::new(Shared { core, serve, background, pool, random, started, counted: Cell::default() }) }
}

/// Reads a block in each data directory, so that glommio's probe for polled I/O meets a file with bytes in it.
async fn warm_up(rt: &GloRt, dirs: &[PathBuf]) {
    for dir in dirs {
        let path = dir.join(PROBE_NAME);
        let read = async {
            let file = OpenOptions::new().read(true).dma_open(&path).await?;
            let read = file.read_at_aligned(0, BLOCK_BYTES).await?.len();
            file.close().await?;
            Ok::<_, glommio::GlommioError<()>>(read)
        };
        match read.await {
            Ok(BLOCK_BYTES) => {}
            Ok(n) => rt.halt(&format!("read {n} bytes of {} where {BLOCK_BYTES} were written", path.display())),
            Err(e) => rt.halt(&format!("direct I/O does not work in {}: {e}", dir.display())),
        }
    }
}

fn make_probe(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(PROBE_NAME);
    if std::fs::metadata(&path).is_ok_and(|m| m.len() >= BLOCK_BYTES as u64) {
        return Ok(());
    }
    let mut text = b"Read by each core at its start; may be deleted while no server runs.\n".to_vec();
    text.resize(BLOCK_BYTES, b'\n');
    std::fs::write(&path, text)?;
    std::fs::File::open(&path)?.sync_all()
}

/// Registered memory per executor, in bytes: within memlock, which each of the three rings of every executor counts against.
pub(crate) fn io_memory_bytes(memlock: u64, cores: usize) -> usize {
    let share = memlock / (3 * cores.max(1) as u64 + 1);
    let share = usize::try_from(share).unwrap_or(usize::MAX).min(IO_MEMORY_BYTES_MAX);
    (share / BLOCK_BYTES * BLOCK_BYTES).max(16 * BLOCK_BYTES)
}
