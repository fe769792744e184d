//! Runs: one, and many side by side.

use crate::{cluster::Cluster, marks, schedule::Schedule};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Of so many seeds one is run twice.
const TWICE_ONE_IN: u64 = 50;
/// So many failures end a run of many seeds.
const FAILURES_MAX: usize = 3;

/// How a run went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) marks: BTreeMap<&'static str, u64>,
    pub(crate) trace: u64,
    pub(crate) elapsed: Duration,
}

/// The first panic of a run.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The place in the source, which tells one kind from another.
    pub(crate) at: String,
    pub(crate) message: String,
}

thread_local! {
    static RUNS: Cell<bool> = const { Cell::new(false) };
    static FAILED: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Keeps the first panic of a run instead of printing it: several run side by side, and shrinking fails on purpose.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !RUNS.get() {
                return others(info);
            }
            let at = info.location().map_or(String::new(), ToString::to_string);
            let message = info.payload_as_str().unwrap_or("(not a text)").to_owned();
            FAILED.with_borrow_mut(|failed| _ = failed.get_or_insert(Failure { at, message }));
        }));
    });
}

/// Runs a schedule to its end.
pub(crate) fn run(schedule: &Schedule) -> Result<Outcome, Failure> {
    keep_panics();
    RUNS.set(true);
    FAILED.set(None);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let cluster = Cluster::new(schedule);
        for (_, step) in &schedule.steps {
            cluster.run_for(step.wait);
            cluster.perform(&step.what);
        }
        cluster.heal();
        cluster.check();
        cluster.nodes.iter().for_each(|node| cluster.down(*node));
        Outcome { marks: marks::of(&cluster), trace: cluster.sim.trace_hash(), elapsed: cluster.sim.elapsed() }
    }));
    RUNS.set(false);
    outcome.map_err(|_| FAILED.take().expect("a panic was kept"))
}

/// What many runs met.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    /// Times, and the number of runs.
    pub(crate) marks: BTreeMap<&'static str, (u64, u64)>,
    /// Runs by nodes and homes.
    pub(crate) shapes: BTreeMap<(usize, u16), u64>,
    pub(crate) elapsed: Duration,
    pub(crate) failures: BTreeMap<u64, Failure>,
}

impl Sum {
    fn add(&mut self, schedule: &Schedule, outcome: Outcome) {
        self.seeds += 1;
        self.elapsed += outcome.elapsed;
        *self.shapes.entry((schedule.nodes.len(), schedule.settings.homes)).or_default() += 1;
        for (mark, n) in outcome.marks {
            self.mark(mark, n);
        }
    }

    fn mark(&mut self, mark: &'static str, n: u64) {
        let (times, runs) = self.marks.entry(mark).or_default();
        *times += n;
        *runs += 1;
    }
}

/// Runs many seeds on some threads, and some of them twice. The sum does not depend on who ran what.
#[expect(clippy::disallowed_methods, reason = "each thread runs simulations of its own; progress is about the real time")]
pub(crate) fn many(first: u64, seeds: u64, jobs: usize) -> Sum {
    let sum = Mutex::new(Sum { first, ..Sum::default() });
    let (next, began) = (AtomicU64::new(first), std::time::Instant::now());
    let said = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || sum.lock().unwrap().failures.len() >= FAILURES_MAX {
                        return;
                    }
                    let schedule = Schedule::draw(seed);
                    let ran = run(&schedule);
                    let twice = seed.is_multiple_of(TWICE_ONE_IN).then(|| run(&schedule));
                    let mut sum = sum.lock().unwrap();
                    match (ran, twice) {
                        (Ok(ran), Some(Ok(again))) if ran != again => {
                            let message = format!("the same seed gave another run: traces {:x} and {:x}", ran.trace, again.trace);
                            sum.failures.insert(seed, Failure { at: "determinism".into(), message });
                        }
                        (Err(failure), _) | (_, Some(Err(failure))) => {
                            eprintln!("seed {seed}: {failure}");
                            sum.failures.insert(seed, failure);
                        }
                        (Ok(ran), again) => {
                            sum.add(&schedule, ran);
                            if again.is_some() {
                                sum.mark("seeds run twice with the same trace", 1);
                            }
                        }
                    }
                    let minutes = began.elapsed().as_secs() / 60;
                    if said.fetch_max(minutes, Ordering::Relaxed) < minutes {
                        let done = sum.seeds;
                        eprintln!(
                            "{done} of {seeds} seeds, {:.1} a second, {} failed",
                            done as f64 / began.elapsed().as_secs_f64(),
                            sum.failures.len()
                        );
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}
