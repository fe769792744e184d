//! The backend on glommio: one of its executors per core, io_uring, O_DIRECT. In a build with the feature `glommio`.
//!
//! glommio 0.9 has faults that are guarded here and nowhere else:
//! - an executor that loses its CPU at the wrong moment goes to sleep with tasks in its queues, timers and all: a thread
//!   wakes each of them again and again ([`pulse`]);
//! - tasks in queues whose latency matters can lose wake-ups from foreign threads: both queues are of the other kind;
//! - the first file that an executor opens on a device is probed for polled I/O, and an empty one breaks all later
//!   reads: each executor first opens a non-empty file in each data directory (see [`crate::cores`]);
//! - a panic in a task would take the executor down and leave the others running: every task is caught, and halts the node.
#![expect(clippy::disallowed_methods, reason = "this is the door: here the world is touched")]

mod cores;
mod file;
mod net;
mod pulse;
mod raw;

pub use file::{GloBuf, GloFile};
pub use net::{GloConn, GloListener, GloRead, GloWrite};

use crate::{
    CoreId, IoError, Nanos, Open, Result, Rt, Share, Space,
    cores::EXIT_HALTED,
    paths,
    pool::{Pool, panic_message},
};
use futures_util::FutureExt;
use glommio::{GlommioError, TaskQueueHandle, io::OpenOptions, net::TcpListener};
use rand::{RngCore, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    path::Path,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The door of one core.
#[derive(Clone)]
pub struct GloRt {
    shared: Rc<Shared>,
}

struct Shared {
    core: CoreId,
    serve: TaskQueueHandle,
    background: TaskQueueHandle,
    pool: Pool,
    random: RefCell<SmallRng>,
    started: Instant,
    counted: Cell<Counted>,
}

/// What a core has done since its start. glommio counts from the last time that it was asked.
#[derive(Clone, Copy, Default)]
struct Counted {
    busy: Duration,
    tasks: u64,
}

pub(crate) fn disk_error(doing: &'static str, path: &Path, error: GlommioError<()>) -> IoError {
    IoError::Disk { doing, path: path.to_path_buf(), source: system_error(error) }
}

fn net_error(doing: impl Into<String>, error: GlommioError<()>) -> IoError {
    IoError::Net { doing: doing.into(), source: system_error(error) }
}

/// The system's own words: glommio wraps some errors with a path and a descriptor that we name better.
fn system_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

impl GloRt {
    /// Nobody else may ask glommio for its statistics: that sets them back.
    fn counted(&self) -> Counted {
        let since = glommio::executor().executor_stats();
        let before = self.shared.counted.get();
        let now = Counted { busy: before.busy + since.total_runtime(), tasks: before.tasks + since.tasks_executed() };
        self.shared.counted.set(now);
        now
    }
}

impl Rt for GloRt {
    type File = GloFile;
    type Conn = GloConn;
    type Listener = GloListener;

    fn core(&self) -> CoreId {
        self.shared.core
    }

    fn mono(&self) -> Nanos {
        u64::try_from(self.shared.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn rand(&self) -> u64 {
        self.shared.random.borrow_mut().next_u64()
    }

    // It is not known here.
    fn is_crowded(&self) -> bool {
        false
    }

    fn sleep(&self, d: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(d).map(drop)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        futures_lite::future::yield_now()
    }

    fn yield_if_needed(&self) -> impl Future<Output = ()> + 'static {
        glommio::yield_if_needed()
    }

    fn spawn(&self, name: &'static str, share: Share, task: impl Future<Output = ()> + 'static) {
        let queue = match share {
            Share::First | Share::Serve => self.shared.serve,
            Share::Background => self.shared.background,
        };
        let rt = self.clone();
        let guarded = async move {
            let caught = futures_lite::FutureExt::catch_unwind(AssertUnwindSafe(task)).await;
            if let Err(panic) = caught {
                rt.halt(&format!("task {name} panicked: {}", panic_message(&*panic)));
            }
        };
        match glommio::spawn_local_into(guarded, queue) {
            Ok(task) => drop(task.detach()),
            Err(e) => self.halt(&format!("task {name} could not be started: {e}")),
        }
    }

    fn offload<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>> + 'static {
        let pool = self.shared.pool.clone();
        async move { pool.compute(name, job).await }
    }

    fn halt(&self, why: &str) -> ! {
        tracing::error!(core = self.shared.core.0, why, "the node halts");
        eprintln!("millpond: the node halts: {why}");
        std::process::exit(EXIT_HALTED)
    }

    async fn open(&self, path: &Path, how: Open) -> Result<GloFile> {
        let mut options = OpenOptions::new();
        options.read(true);
        if how != Open::Read {
            options.write(true);
        }
        if how == Open::Create {
            options.create(true).truncate(true);
        }
        let file = options.dma_open(path).await.map_err(|e| disk_error("open", path, e))?;
        Ok(GloFile { file, path: path.to_path_buf() })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        paths::rename(&self.shared.pool, from, to).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        paths::remove(&self.shared.pool, path).await
    }

    async fn links(&self, path: &Path) -> Result<u64> {
        paths::links(&self.shared.pool, path).await
    }

    async fn create_dir_all(&self, dir: &Path) -> Result<()> {
        paths::create_dir_all(&self.shared.pool, dir).await
    }

    async fn remove_dir(&self, dir: &Path) -> Result<()> {
        paths::remove_dir(&self.shared.pool, dir).await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<String>> {
        paths::list(&self.shared.pool, dir).await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        paths::sync_dir(&self.shared.pool, dir).await
    }

    async fn space(&self, dir: &Path) -> Result<Space> {
        paths::space(&self.shared.pool, dir).await
    }

    async fn dial(&self, to: SocketAddr) -> Result<GloConn> {
        let stream = glommio::net::TcpStream::connect(to).await.map_err(|e| net_error(format!("connect to {to}"), e))?;
        GloConn::new(stream)
    }

    async fn listen(&self, at: SocketAddr) -> Result<GloListener> {
        let listener = TcpListener::bind(at).map_err(|e| net_error(format!("listen on {at}"), e))?;
        let local = listener.local_addr().map_err(|e| net_error(format!("listen on {at}"), e))?;
        Ok(GloListener { listener, local })
    }
}

#[cfg(test)]
mod tests;
