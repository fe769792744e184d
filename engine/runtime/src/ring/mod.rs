//! The production backend: one io_uring and one loop per core, O_DIRECT files, and nothing between the two.
//!
//! ```text
//!   tasks -> operations, timers, watches -> one call of the kernel per turn -> completions -> tasks
//! ```
//!
//! In reading order: [`tasks`] which tasks are ready, and how other threads make them so · [`timers`] · [`driver`] the ring · [`executor`] the loop · [`patience`] and [`contention`] whether it sleeps at once ·
//! [`memory`] what the disk reads and writes · [`file`] · [`net`] · [`raw`] receiving into spare capacity.
//!
//! A task that panics halts the node. A core that ends leaks what its tasks hold.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door: here the world is touched")]

mod contention;
mod driver;
mod executor;
mod file;
mod memory;
mod net;
mod patience;
mod raw;
mod tasks;
mod timers;

pub use driver::RingStats;
pub use executor::Executor;
pub use file::{RingBuf, RingBytes, RingFile};
pub use net::{RingConn, RingListener, RingRead, RingWrite};

use crate::{
    Backend, CoreId, Nanos, Open, Result, Rt, Share, Space,
    cores::{CorePlan, EXIT_HALTED, StartError},
    paths,
    pool::{Pool, panic_message},
};
use executor::{Local, now};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use std::{
    cell::RefCell,
    future::Future,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    panic::AssertUnwindSafe,
    path::Path,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The door of one core.
#[derive(Clone)]
pub struct RingRt {
    shared: Rc<Shared>,
}

struct Shared {
    core: CoreId,
    pool: Pool,
    random: RefCell<SmallRng>,
    local: Rc<Local>,
}

impl Backend for RingRt {
    type Executor = Executor;

    fn prepare() -> Result<(), StartError> {
        Ok(())
    }

    fn make(plan: &CorePlan) -> Result<Executor, String> {
        Executor::new(plan.idle_poll).map_err(|e| e.to_string())
    }

    fn run<T: 'static, Fut: Future<Output = T> + 'static>(
        executor: Executor,
        plan: &CorePlan,
        pool: Pool,
        main: impl FnOnce(Self) -> Fut,
    ) -> T {
        let random = RefCell::new(SmallRng::seed_from_u64(plan.seed));
        let local = Rc::clone(executor.local());
        let rt = Self { shared: Rc::new(Shared { core: plan.core, pool: pool.clone(), random, local }) };
        executor
            .run(main(rt.clone()), move || pool.is_computing())
            .unwrap_or_else(|e| rt.halt(&format!("the ring of core {} is broken: {e}", plan.core)))
    }

    fn busy(&self) -> Nanos {
        self.shared.local.busy()
    }
}

impl RingRt {
    /// What the ring of this core has done.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.shared.local.stats()
    }
}

impl Rt for RingRt {
    type File = RingFile;
    type Conn = RingConn;
    type Listener = RingListener;

    fn core(&self) -> CoreId {
        self.shared.core
    }

    fn mono(&self) -> Nanos {
        now()
    }

    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn rand(&self) -> u64 {
        self.shared.random.borrow_mut().next_u64()
    }

    fn is_crowded(&self) -> bool {
        self.shared.local.is_crowded()
    }

    fn sleep(&self, d: Duration) -> impl Future<Output = ()> + 'static {
        self.shared.local.sleep(d)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        futures_lite::future::yield_now()
    }

    fn yield_if_needed(&self) -> impl Future<Output = ()> + 'static {
        let needed = self.shared.local.should_yield();
        async move {
            if needed {
                futures_lite::future::yield_now().await;
            }
        }
    }

    fn spawn(&self, name: &'static str, share: Share, task: impl Future<Output = ()> + 'static) {
        let rt = self.clone();
        let guarded = async move {
            let caught = futures_lite::FutureExt::catch_unwind(AssertUnwindSafe(task)).await;
            if let Err(panic) = caught {
                rt.halt(&format!("task {name} panicked: {}", panic_message(&*panic)));
            }
        };
        self.shared.local.spawn(share, guarded);
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

    async fn open(&self, path: &Path, how: Open) -> Result<RingFile> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(how != Open::Read).custom_flags(libc::O_DIRECT);
        if how == Open::Create {
            options.create(true).truncate(true);
        }
        let file = paths::call(&self.shared.pool, "open", path, move |path| options.open(path)).await?;
        let (local, pool) = (Rc::clone(&self.shared.local), self.shared.pool.clone());
        Ok(RingFile { file: Some(Rc::new(file)), path: path.to_path_buf(), local, pool })
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

    async fn dial(&self, to: SocketAddr) -> Result<RingConn> {
        RingConn::dial(&self.shared.local, to).await
    }

    async fn listen(&self, at: SocketAddr) -> Result<RingListener> {
        RingListener::listen(&self.shared.local, at, true)
    }

    async fn listen_alone(&self, at: SocketAddr) -> Result<RingListener> {
        RingListener::listen(&self.shared.local, at, false)
    }
}

#[cfg(test)]
mod tests;
