//! [`SimRt`]: one core's door to the simulated world.

use super::{
    conn::{SimConn, SimListener},
    dice::Dice,
    disk::Disk,
    faults::DiskOp,
    file::{SimFile, disk_error},
    world::{Event, Halting, Later, Slot, TimerKey, World, panic_message},
};
use crate::{CoreId, IoError, Nanos, NodeId, Open, Result, Rt, Share, Space};
use std::{
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

/// Milliseconds since 1970 at the beginning of every simulation: a day in November 2023.
const WALL_START_MS: i64 = 1_700_000_000_000;

/// One core's door, for one life of its node: after a crash it does nothing, answers nothing and wakes nobody.
#[derive(Clone)]
pub struct SimRt {
    pub(super) world: Rc<World>,
    pub(super) node: NodeId,
    pub(super) core: CoreId,
    pub(super) life: u64,
}

impl SimRt {
    /// The node that this core belongs to.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// True with probability `p`, for tests that vary what a node is asked to do.
    #[must_use]
    pub fn chance(&self, p: f64) -> bool {
        self.world.dice.borrow_mut().chance(p)
    }
}

impl std::fmt::Debug for SimRt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimRt(n{}/c{}, life {})", self.node, self.core, self.life)
    }
}

impl Rt for SimRt {
    type File = SimFile;
    type Conn = SimConn;
    type Listener = SimListener;

    fn core(&self) -> CoreId {
        self.core
    }

    fn mono(&self) -> Nanos {
        let nodes = self.world.nodes.borrow();
        let Some(node) = nodes.get(&self.node) else { return 0 };
        let elapsed = i128::from(self.world.now.get() - node.clock.booted_at.min(self.world.now.get()));
        let drifted = elapsed + elapsed * i128::from(node.clock.drift_ppb) / 1_000_000_000;
        node.clock.mono_start + drifted as u64
    }

    fn wall_ms(&self) -> i64 {
        let mut nodes = self.world.nodes.borrow_mut();
        let Some(node) = nodes.get_mut(&self.node) else { return WALL_START_MS };
        let mut dice = self.world.dice.borrow_mut();
        let p = dice.plan.wall_jump;
        if dice.fault("wall_jump", p) {
            node.clock.wall_offset_ms = dice.below(7_200_001) as i64 - 3_600_000;
        }
        WALL_START_MS + (self.world.now.get() / 1_000_000) as i64 + node.clock.wall_offset_ms
    }

    fn rand(&self) -> u64 {
        self.world.dice.borrow_mut().bits()
    }

    // Nobody else is here.
    fn is_crowded(&self) -> bool {
        false
    }

    fn sleep(&self, d: Duration) -> impl Future<Output = ()> + 'static {
        Sleep { rt: self.clone(), wanted: d, timer: None }
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        yield_once(true)
    }

    fn yield_if_needed(&self) -> impl Future<Output = ()> + 'static {
        yield_once(self.world.dice.borrow_mut().below(4) == 0)
    }

    fn spawn(&self, name: &'static str, _share: Share, task: impl Future<Output = ()> + 'static) {
        self.world.spawn((self.node, self.core, self.life), name, Box::pin(task));
    }

    fn offload<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>> + 'static {
        let rt = self.clone();
        async move {
            if !rt.world.alive(rt.node, rt.life) {
                return pending().await;
            }
            let done = catch_unwind(AssertUnwindSafe(job))
                .map_err(|payload| IoError::JobPanicked { job: name, message: panic_message(payload.as_ref()) });
            let delay = rt.world.dice.borrow_mut().skewed(10_000..=5_000_000);
            rt.later(delay, move || done).await
        }
    }

    fn halt(&self, why: &str) -> ! {
        self.world.halt(self.node, why);
        // Not `panic!`: nothing is wrong, and the hook would print a backtrace.
        std::panic::resume_unwind(Box::new(Halting))
    }

    async fn open(&self, path: &Path, how: Open) -> Result<SimFile> {
        let (at, rt) = (path.to_owned(), self.clone());
        let open = move |disk: &mut Disk, dice: &mut Dice| {
            let ino = match how {
                Open::Create => disk.create(&at, dice)?,
                Open::Read | Open::ReadWrite => disk.resolve(&at)?,
            };
            disk.opened(ino)?;
            Ok(SimFile::opened(rt, ino, at, how != Open::Read))
        };
        self.name_op(if how == Open::Create { "create" } else { "open" }, path, open).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (old, new) = (from.to_owned(), to.to_owned());
        self.name_op("rename", from, move |disk, _| disk.rename(&old, &new)).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        let at = path.to_owned();
        self.name_op("remove", path, move |disk, _| disk.remove(&at)).await
    }

    async fn links(&self, path: &Path) -> Result<u64> {
        let at = path.to_owned();
        self.name_op("look at", path, move |disk, _| disk.links(&at)).await
    }

    async fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let at = dir.to_owned();
        self.name_op("create directory", dir, move |disk, dice| disk.create_dir_all(&at, dice)).await
    }

    async fn remove_dir(&self, dir: &Path) -> Result<()> {
        let at = dir.to_owned();
        self.name_op("remove directory", dir, move |disk, _| disk.remove_dir(&at)).await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let at = dir.to_owned();
        self.name_op("list", dir, move |disk, _| disk.list(&at)).await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        let at = dir.to_owned();
        let end = move |disk: &mut Disk, dice: &mut Dice, mark, _| disk.sync_dir(&at, mark, dice);
        self.disk_op(DiskOp::Sync, dir, |disk| disk.mark(), end).await.map_err(disk_error("sync directory", dir))
    }

    async fn space(&self, dir: &Path) -> Result<Space> {
        self.name_op("ask for space", dir, |disk, _| Ok(Space { free: disk.free(), total: disk.total() })).await
    }

    async fn dial(&self, to: SocketAddr) -> Result<SimConn> {
        super::conn::dial(self, to).await
    }

    async fn listen(&self, at: SocketAddr) -> Result<SimListener> {
        super::conn::listen(self, at).await
    }
}

impl SimRt {
    /// What `make` makes, `delay` later, if this life lasts that long.
    pub(super) fn later<T: 'static>(&self, delay: Nanos, make: impl FnOnce() -> T + 'static) -> Later<T> {
        let later = Later::new();
        let (slot, rt) = (later.0.clone(), self.clone());
        self.world.call_after(delay, move |world| {
            if world.alive(rt.node, rt.life) {
                Slot::fill(&slot, make());
            }
        });
        later
    }

    /// Nanoseconds of the world in which this node's clock advances by `d`.
    fn true_delay(&self, d: Duration) -> Nanos {
        let drift = self.world.nodes.borrow().get(&self.node).map_or(0, |node| node.clock.drift_ppb);
        let exact = d.as_nanos() * 1_000_000_000 / (1_000_000_000 + i128::from(drift)) as u128;
        u64::try_from(exact).unwrap_or(u64::MAX / 2).saturating_add(2)
    }
}

fn yield_once(really: bool) -> impl Future<Output = ()> + 'static {
    let mut left = really;
    poll_fn(move |cx| {
        if std::mem::take(&mut left) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
}

/// Begins when it is first polled; ends a little late, as timers do.
struct Sleep {
    rt: SimRt,
    wanted: Duration,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let world = &self.rt.world;
        if !world.alive(self.rt.node, self.rt.life) {
            return Poll::Pending;
        }
        let due = match self.timer {
            None => {
                let late = world.dice.borrow_mut().skewed(100..=50_000);
                world.now.get().saturating_add(self.rt.true_delay(self.wanted)).saturating_add(late)
            }
            Some(key) if world.now.get() >= key.0 => return Poll::Ready(()),
            Some(key) => {
                world.cancel(key);
                key.0
            }
        };
        let key = world.after(due - world.now.get(), Event::Wake(cx.waker().clone()));
        self.timer = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            self.rt.world.cancel(key);
        }
    }
}
