//! Whole nodes in the simulator: what `millpond serve` runs on each core, from the first look at its disk to its doors, and clients that speak to those.
//!
//! `millpond-raft`'s clusters in the simulator look at logs and replicas from within, under disks that lie as well; here nothing is looked at but what clients
//! are told. What must hold, whatever happens to nodes and links:
//!
//! - a record that was acknowledged is there, once, at its offset; one that was refused never is; what two readers see at an offset is the same;
//! - who asks for the end of a partition is told of all that was acknowledged before;
//! - a consumer group's position is a register: who reads it sees the last commit that was acknowledged before, or a later one, and what anybody has seen is not
//!   taken back; so it is where members of a group share its partitions;
//! - a topic whose creation, or deletion, was acknowledged is there, with its id, or is not, on all nodes;
//! - once all is healed, all of that goes on.
//!
//! One seed: `SEED=123 cargo test -p millpond --test simulated -- --nocapture`; many: `SEEDS=500`, from `FIRST` on (0), on `JOBS` threads.
//!
//! In reading order: [`schedule`] what is done and when · [`nodes`] the nodes and what a step does to them · [`ask`] asking a node · [`clients`] who asks
//! what · [`members`] those who share a group · [`book`] what they were told · [`check`] what must hold in the end; and [`deposed`], a leader that does not know
//! that another one leads.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod ask;
mod book;
mod check;
mod clients;
mod deposed;
mod members;
mod nodes;
mod schedule;

use nodes::Nodes;
use schedule::Schedule;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// What must happen in some run of many, or the test has gone blind.
const WANTED: [&str; 21] = [
    "cuts of links",
    "ends of partitions looked up",
    "kills",
    "members joined",
    "members left",
    "members that were forgotten, or fenced",
    "nodes cut off",
    "pauses of cores",
    "positions committed",
    "positions committed by members",
    "positions read",
    "power cuts",
    "records acknowledged",
    "records refused",
    "records seen",
    "records with an unknown end",
    "repeats found out",
    "requests sent elsewhere",
    "topics created",
    "topics deleted",
    "tries again",
];

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

/// What a run met, and its trace.
type Outcome = (BTreeMap<&'static str, u64>, u64);

fn run(seed: u64) -> Outcome {
    let schedule = Schedule::draw(seed);
    let nodes = Nodes::start(&schedule);
    for (wait, what) in &schedule.steps {
        nodes.run_for(*wait);
        nodes.perform(what);
    }
    nodes.heal();
    nodes.check();
    (nodes.book.marks.borrow().clone(), nodes.sim.trace_hash())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "each thread runs simulations of its own")]
fn what_clients_were_told_is_so() {
    if let Some(seed) = env("SEED") {
        println!("{:#?}", Schedule::draw(seed));
        println!("{:#?}", run(seed));
        return;
    }
    let (first, seeds) = (env("FIRST").unwrap_or(0), env("SEEDS").unwrap_or(16));
    let jobs = env("JOBS").map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |jobs| jobs as usize);
    let (next, sum) = (AtomicU64::new(first), Mutex::new((BTreeMap::<&str, u64>::new(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || !sum.lock().unwrap().1.is_empty() {
                        return;
                    }
                    let ran = std::panic::catch_unwind(|| run(seed));
                    let mut sum = sum.lock().unwrap();
                    match ran {
                        Ok((marks, _)) => marks.into_iter().for_each(|(mark, n)| *sum.0.entry(mark).or_default() += n),
                        Err(_) => sum.1.push(seed),
                    }
                }
            });
        }
    });
    let (marks, failed) = sum.into_inner().unwrap();
    println!("{seeds} seeds from {first} on: {marks:#?}");
    assert!(failed.is_empty(), "seeds {failed:?}: SEED={} runs one again", failed[0]);
    let missing: Vec<&str> = WANTED.into_iter().filter(|mark| !marks.contains_key(mark)).collect();
    assert!(missing.is_empty(), "never met, the test has gone blind: {missing:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(1), run(1));
}
