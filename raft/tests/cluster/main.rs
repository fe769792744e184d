//! A cluster in the simulator: nodes with the production log, driver and links, over disks, clocks and a network that misbehave by the seed.
//!
//! What must hold, whatever happens: a term has one leader; an entry that is committed anywhere is the same everywhere and for ever; what was
//! acknowledged is there, at its offset, once; a read that asks the leader sees what was acknowledged before it began; a batch of an idempotent
//! producer that was sent again took effect once; what readers see of a replica never goes back while its node lives, though replicas trim and compact as they
//! like, so that others need snapshots; a damaged disk is found out or harms nothing; after everything is healed all replicas are equal and the
//! cluster takes writes again.
//!
//! One seed: `SEED=123 cargo test -p millpond-raft --test cluster -- --nocapture`; of its steps some alone: `STEPS=1,4,7`. Many: `SEEDS=5000`, from
//! `FIRST` on (0), on `JOBS` threads. `TABLE=file` writes the coverage table, `SHRINK=0` leaves a failing schedule as it is. See `docs/simulation.md`.
//!
//! In reading order: [`schedule`] what is done and when · [`settings`] how nodes are set up · [`cluster`] the nodes and what a step does to them ·
//! [`disks`] what is done to disks · [`node`] one life of a node · [`load`] who sends and reads · [`book`] what all of them saw · [`check`] what must hold
//! in the end · [`many`] runs · [`marks`] what they met · [`shrink`](mod@shrink) fewer steps of what fails.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod book;
mod check;
mod cluster;
mod disks;
mod load;
mod many;
mod marks;
mod node;
mod schedule;
mod settings;
mod shrink;

use many::{Failure, many, run};
use schedule::Schedule;
use std::collections::BTreeSet;

/// So many runs may go into shrinking one failure.
const SHRINK_RUNS: u64 = 200;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn what_was_acknowledged_is_there_once_and_everywhere() {
    if let Some(seed) = env("SEED") {
        return one(seed);
    }
    let jobs = env("JOBS").map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |jobs| jobs as usize);
    let sum = many(env("FIRST").unwrap_or(0), env("SEEDS").unwrap_or(40), jobs);
    let table = marks::table(&sum);
    println!("{table}");
    let mut places = BTreeSet::new();
    for (seed, failure) in &sum.failures {
        println!("seed {seed} fails at {failure}");
        if places.insert(&failure.at) {
            explain(&Schedule::draw(*seed), failure);
        }
    }
    if let Some((seed, failure)) = sum.failures.first_key_value() {
        panic!("seed {seed}: SEED={seed} runs it again: {failure}");
    }
    if let Ok(path) = std::env::var("TABLE") {
        write_table(&path, &table);
    }
    assert_eq!(marks::missing(&sum), Vec::<&str>::new(), "in {} seeds: the test has gone blind", sum.seeds);
    let each = |mark: &str| sum.marks.get(mark).map_or(0, |(times, _)| *times) / sum.seeds;
    assert!(
        sum.seeds < 20 || (each("terms that committed something") > 4 && each("writes acknowledged") > 100),
        "hardly anything happened"
    );
}

/// Runs one seed, or some of its steps.
fn one(seed: u64) {
    let mut schedule = Schedule::draw(seed);
    if let Ok(steps) = std::env::var("STEPS") {
        let kept: Vec<usize> = steps.split(',').filter_map(|step| step.trim().parse().ok()).collect();
        schedule = schedule.with(&kept);
    }
    print(&schedule);
    match run(&schedule) {
        Ok(outcome) => println!("holds after {:?}; trace {:016x}; {:#?}", outcome.elapsed, outcome.trace, outcome.marks),
        Err(failure) => {
            if std::env::var("STEPS").is_err() {
                explain(&schedule, &failure);
            }
            panic!("seed {seed}: {failure}");
        }
    }
}

fn print(schedule: &Schedule) {
    println!("seed {}, {} nodes, {:?}", schedule.seed, schedule.nodes.len(), schedule.settings);
    for (number, step) in &schedule.steps {
        println!("{number:>3}: after {:?} {:?}", step.wait, step.what);
    }
}

/// Shrinks a schedule that fails, and says how to run what is left.
fn explain(schedule: &Schedule, failure: &Failure) {
    let (least, failure, runs) = shrink::shrink(schedule, failure, env("SHRINK").unwrap_or(SHRINK_RUNS) as usize);
    println!("{} of {} steps are enough, found in {runs} runs:", least.steps.len(), schedule.steps.len());
    print(&least);
    println!("fails at {failure}");
    let steps: Vec<String> = least.steps.iter().map(|(number, _)| number.to_string()).collect();
    let steps = if steps.is_empty() { "none".to_owned() } else { steps.join(",") };
    println!("make cluster-sim SEED={} STEPS={steps}", least.seed);
}

#[expect(clippy::disallowed_methods, reason = "a file of documentation, not one of a node")]
fn write_table(path: &str, table: &str) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    std::fs::write(path, marks::into_text(&text, table)).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let some = [3, 561].map(|seed| (run(&Schedule::draw(seed)).unwrap(), run(&Schedule::draw(seed)).unwrap()));
    assert!(some.iter().all(|(one, other)| one == other));
    assert!(some.iter().any(|(one, _)| one.marks.contains_key("snapshots installed")), "one of them installs snapshots");
}
