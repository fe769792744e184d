//! Starting the executors of a node, one per core.

use super::{GloRt, Shared, pulse::Pulse};
use crate::{CoreId, Rt, Share, limits::BLOCK_BYTES, pool::Pool};
use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares, io::OpenOptions};
use rand::{SeedableRng, rngs::SmallRng};
use std::{
    cell::RefCell,
    future::Future,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

/// A task that computes this long is asked to yield.
const PREEMPT: Duration = Duration::from_millis(1);
/// Submission entries of each ring.
const RING_DEPTH: usize = 512;
/// Registered memory of an executor where memlock allows it, in bytes. It is registered with each of its three rings.
const IO_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What glommio wants of RLIMIT_MEMLOCK at the least, in bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// The file that each executor reads before all others in a data directory.
const PROBE_NAME: &str = ".probe";

/// What to start.
#[derive(Clone, Debug)]
pub struct CoresConfig {
    /// The CPU of each core; `None` leaves it to the scheduler.
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
    handles: Vec<ExecutorJoinHandle<T>>,
}

impl<T: Send + 'static> Cores<T> {
    /// Starts one executor per configured CPU and runs `main` on each.
    pub fn start<F, Fut>(config: &CoresConfig, main: F) -> Result<Self, StartError>
    where
        F: Fn(GloRt) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        io_uring::IoUring::new(8).map_err(StartError::NoRing)?;
        let memlock = memlock_bytes();
        if memlock < MEMLOCK_BYTES_MIN {
            return Err(StartError::Memlock(memlock));
        }
        for dir in &config.data_dirs {
            make_probe(dir).map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        }
        let pool = Pool::new(config.pool_threads, 64, |_| {}).map_err(|e| StartError::Core { core: 0, message: e.to_string() })?;
        let io_memory = io_memory_bytes(memlock, config.cpus.len());
        let started = Instant::now();
        let mut handles = Vec::with_capacity(config.cpus.len());
        let pulses = Pulse::start(config.cpus.len()).map_err(|e| StartError::Core { core: 0, message: e.to_string() })?;
        for ((n, cpu), pulse) in config.cpus.iter().enumerate().zip(pulses) {
            let core = CoreId(u16::try_from(n).map_err(|_| StartError::Core { core: u16::MAX, message: "too many cores".into() })?);
            let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
            let (main, pool, dirs) = (main.clone(), pool.clone(), config.data_dirs.clone());
            let seed = config.seed ^ (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let handle = LocalExecutorBuilder::new(placement)
                .name(&format!("core-{n}"))
                .io_memory(io_memory)
                .ring_depth(RING_DEPTH)
                .preempt_timer(PREEMPT)
                .spin_before_park(Duration::ZERO)
                .spawn(move || async move {
                    let rt = door(core, pool, seed, started);
                    rt.spawn("pulse", Share::Serve, pulse.heart());
                    warm_up(&rt, &dirs).await;
                    let outcome = main(rt).await;
                    drop(pulse);
                    outcome
                })
                .map_err(|e| StartError::Core { core: core.0, message: e.to_string() })?;
            handles.push(handle);
        }
        Ok(Self { handles })
    }

    /// Waits for all cores to end; what each returned, in order, or why it ended otherwise.
    pub fn join(self) -> Vec<Result<T, StartError>> {
        let outcome = |(n, handle): (usize, ExecutorJoinHandle<T>)| {
            handle.join().map_err(|e| StartError::Core { core: u16::try_from(n).unwrap_or(u16::MAX), message: e.to_string() })
        };
        self.handles.into_iter().enumerate().map(outcome).collect()
    }
}

fn door(core: CoreId, pool: Pool, seed: u64, started: Instant) -> GloRt {
    let executor = glommio::executor();
    let serve = executor.create_task_queue(Shares::Static(1000), Latency::NotImportant, "serve");
    let background = executor.create_task_queue(Shares::Static(100), Latency::NotImportant, "background");
    let random = RefCell::new(SmallRng::seed_from_u64(seed));
    GloRt { shared: Rc::new(Shared { core, serve, background, pool, random, started }) }
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
fn io_memory_bytes(memlock: u64, cores: usize) -> usize {
    let share = memlock / (3 * cores.max(1) as u64 + 1);
    let share = usize::try_from(share).unwrap_or(usize::MAX).min(IO_MEMORY_BYTES_MAX);
    (share / BLOCK_BYTES * BLOCK_BYTES).max(16 * BLOCK_BYTES)
}

fn memlock_bytes() -> u64 {
    super::raw::memlock_bytes()
}
