//! Starting the cores of a node, one thread each, on either production backend.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door: here the threads of cores are made")]

use crate::{
    CoreId, Nanos, Rt,
    limits::BLOCK_BYTES,
    placement,
    pool::{Pool, panic_message},
    sys,
    topology::Topology,
};
use futures_util::FutureExt;
use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Exit code of a halted node: EX_SOFTWARE of sysexits.h.
pub const EXIT_HALTED: i32 = 70;
/// The file that each core reads before all others in a data directory.
pub(crate) const PROBE_NAME: &str = ".probe";
/// Jobs that may wait for a thread of the pool.
const POOL_QUEUE: usize = 64;

/// What to start.
#[derive(Clone, Debug)]
pub struct CoresConfig {
    /// The CPU of each core, as [`crate::placement`] plans them; `None` leaves it to the scheduler.
    pub cpus: Vec<Option<usize>>,
    /// Threads of the pool beside the cores.
    pub pool_threads: usize,
    /// An idle core looks for news for so long before it sleeps, while a disk is at work or a client is likely to come back; zero
    /// saves the CPU that it takes.
    pub idle_poll: Duration,
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
        "io_uring is not available: {0}. Millpond needs Linux 5.13 or newer with io_uring allowed: check `sysctl kernel.io_uring_disabled` and the seccomp profile of the container"
    )]
    NoRing(io::Error),
    /// Too little memory may be locked.
    #[error(
        "only {found} bytes of memory may be locked, {needed} are needed: raise the limit (`ulimit -l 8192`, or LimitMEMLOCK=8M in the unit)"
    )]
    Memlock {
        /// What may be locked.
        found: u64,
        /// What is needed.
        needed: u64,
    },
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
        /// What the backend or the system said.
        message: String,
    },
}

/// How a core is made, on the thread that will run it.
#[derive(Clone, Copy, Debug)]
pub struct CorePlan {
    /// Its number.
    pub core: CoreId,
    /// Its CPU, if it is pinned.
    pub cpu: Option<usize>,
    /// How many cores there are.
    pub cores: usize,
    /// How long it looks for news before it sleeps.
    pub idle_poll: Duration,
    /// The seed of its randomness.
    pub seed: u64,
}

/// A backend that runs cores on real threads.
pub trait Backend: Rt {
    /// A core that has been made and not been run.
    type Executor;

    /// What must hold before any core is made.
    fn prepare() -> Result<(), StartError>;
    /// Makes a core on this thread, which is pinned already, and whose memory comes from the right node.
    fn make(plan: &CorePlan) -> Result<Self::Executor, String>;
    /// Runs a core until `main`, given its door, has ended.
    fn run<T: 'static, Fut: Future<Output = T> + 'static>(
        executor: Self::Executor,
        plan: &CorePlan,
        pool: Pool,
        main: impl FnOnce(Self) -> Fut,
    ) -> T;
    /// Time that this core's tasks have run since its start, in ns.
    fn busy(&self) -> Nanos;
}

/// The running cores of a node.
pub struct Cores<T: Send + 'static> {
    threads: Vec<JoinHandle<Option<T>>>,
}

impl<T: Send + 'static> Cores<T> {
    /// Starts one core per configured CPU and runs `main` on each: on all or, with an error, on none. A panic in `main`
    /// halts the node, as one in any task does.
    ///
    /// A pinned core takes its memory from the NUMA node of its CPU. The limit of open files is raised as far as it goes.
    pub fn start<B, F, Fut>(config: &CoresConfig, main: F) -> Result<Self, StartError>
    where
        B: Backend,
        F: Fn(B) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        prepare::<B>(config)?;
        let topology = Topology::read();
        let pool = start_pool(config, &topology).map_err(|e| StartError::Core { core: 0, message: e.to_string() })?;
        let (made, reports) = mpsc::channel();
        let (mut threads, mut goes) = (Vec::new(), Vec::new());
        for (n, cpu) in config.cpus.iter().enumerate() {
            let core = CoreId(u16::try_from(n).map_err(|_| StartError::Core { core: u16::MAX, message: "too many cores".into() })?);
            let seed = config.seed ^ (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let plan = CorePlan { core, cpu: *cpu, cores: config.cpus.len(), idle_poll: config.idle_poll, seed };
            // With one node there is nothing to choose.
            let node = cpu.and_then(|cpu| topology.node_of(cpu)).filter(|_| topology.nodes().len() > 1);
            let (main, pool, dirs, made) = (main.clone(), pool.clone(), config.data_dirs.clone(), made.clone());
            let (go, wait) = mpsc::channel::<()>();
            goes.push(go);
            let body = move || {
                let executor = match settle_down(&plan, node).and_then(|()| B::make(&plan)) {
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
                Some(B::run(executor, &plan, pool, move |rt: B| life(rt, dirs, main)))
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

/// What has to hold before any core starts.
fn prepare<B: Backend>(config: &CoresConfig) -> Result<(), StartError> {
    io_uring::IoUring::new(8).map_err(StartError::NoRing)?;
    B::prepare()?;
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
    Ok(())
}

/// Puts the calling thread where its core belongs.
fn settle_down(plan: &CorePlan, node: Option<usize>) -> Result<(), String> {
    if let Some(cpu) = plan.cpu {
        sys::run_on(&[cpu]).map_err(|e| format!("it cannot be pinned to CPU {cpu}: {e}"))?;
    }
    if let Some(node) = node
        && let Err(why) = sys::prefer_node(node)
    {
        tracing::warn!(core = plan.core.0, node, %why, "the core's memory cannot be bound to its NUMA node: it may be slower");
    }
    Ok(())
}

/// A core from its start to its end.
async fn life<B: Backend, T, Fut: Future<Output = T>>(rt: B, dirs: Vec<PathBuf>, main: impl Fn(B) -> Fut) -> T {
    warm_up(&rt, &dirs).await;
    match AssertUnwindSafe(async { main(rt.clone()).await }).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => rt.halt(&format!("core {} panicked: {}", rt.core(), panic_message(&*panic))),
    }
}

/// Reads a block in each data directory: whether direct I/O works there should be known before anything depends on it. glommio needs it
/// also because its probe for polled I/O must meet a file with bytes in it.
async fn warm_up<B: Backend>(rt: &B, dirs: &[PathBuf]) {
    use crate::{File, Open};
    for dir in dirs {
        let path = dir.join(PROBE_NAME);
        let read = async {
            let file = rt.open(&path, Open::Read).await?;
            let read = file.read_at(0, BLOCK_BYTES).await?.len();
            file.close().await?;
            Ok::<_, crate::IoError>(read)
        };
        match read.await {
            Ok(BLOCK_BYTES) => {}
            Ok(n) => rt.halt(&format!("read {n} bytes of {} where {BLOCK_BYTES} were written", path.display())),
            Err(e) => rt.halt(&format!("direct I/O does not work in {}: {e}", dir.display())),
        }
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
