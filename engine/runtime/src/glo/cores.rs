//! Making and running one executor.

use super::{Counted, GloRt, Shared, pulse::Pulse};
use crate::{
    Backend, Nanos, Rt, Share,
    cores::{CorePlan, StartError},
    limits::BLOCK_BYTES,
    pool::Pool,
    sys,
};
use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares};
use rand::{SeedableRng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    future::Future,
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

impl Backend for GloRt {
    type Executor = (LocalExecutor, Pulse);

    fn prepare() -> Result<(), StartError> {
        let found = sys::memlock().soft;
        if found < MEMLOCK_BYTES_MIN {
            return Err(StartError::Memlock { found, needed: MEMLOCK_BYTES_MIN });
        }
        Ok(())
    }

    fn make(plan: &CorePlan) -> Result<Self::Executor, String> {
        let pulse = Pulse::start().map_err(|e| e.to_string())?;
        let executor = LocalExecutorBuilder::new(plan.cpu.map_or(Placement::Unbound, Placement::Fixed))
            .name(&format!("core-{}", plan.core.0))
            .io_memory(io_memory_bytes(sys::memlock().soft, plan.cores))
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            .spin_before_park(Duration::ZERO)
            .make()
            .map_err(|e| e.to_string())?;
        Ok((executor, pulse))
    }

    fn run<T: 'static, Fut: Future<Output = T> + 'static>(
        (executor, pulse): Self::Executor,
        plan: &CorePlan,
        pool: Pool,
        main: impl FnOnce(Self) -> Fut,
    ) -> T {
        if let Err(why) = pulse.starting() {
            tracing::warn!(core = plan.core.0, %why, "a core that falls asleep while it starts cannot be woken");
        }
        executor.run(async move {
            let rt = door(plan, pool);
            let counts = rt.clone();
            rt.spawn("pulse", Share::Serve, pulse.heart(move || counts.counted().tasks));
            let outcome = main(rt).await;
            drop(pulse);
            outcome
        })
    }

    fn busy(&self) -> Nanos {
        u64::try_from(self.counted().busy.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn door(plan: &CorePlan, pool: Pool) -> GloRt {
    let executor = glommio::executor();
    let serve = executor.create_task_queue(Shares::Static(1000), Latency::NotImportant, "serve");
    let background = executor.create_task_queue(Shares::Static(100), Latency::NotImportant, "background");
    let random = RefCell::new(SmallRng::seed_from_u64(plan.seed));
    let counted: Cell<Counted> = Cell::default();
    GloRt { shared: Rc::new(Shared { core: plan.core, serve, background, pool, random, started: Instant::now(), counted }) }
}

/// Registered memory per executor, in bytes: within memlock, which each of the three rings of every executor counts against.
fn io_memory_bytes(memlock: u64, cores: usize) -> usize {
    let share = memlock / (3 * cores.max(1) as u64 + 1);
    let share = usize::try_from(share).unwrap_or(usize::MAX).min(IO_MEMORY_BYTES_MAX);
    (share / BLOCK_BYTES * BLOCK_BYTES).max(16 * BLOCK_BYTES)
}
