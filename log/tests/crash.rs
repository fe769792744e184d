//! Crashes at any await, in the simulator: what was acked is there, once, in order, and nothing else is.
//!
//! One seed: `SEED=123 cargo test -p millpond-log --test crash -- --nocapture`. Many: `SEEDS=20000`, from `FIRST` on (0).

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use support::run::run;

const THREADS: usize = 2;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn nothing_acked_is_lost() {
    if let Some(seed) = env("SEED") {
        match run(seed) {
            Ok(outcome) => println!("seed {seed}: holds; trace {:016x}; {:?}", outcome.trace_hash, outcome.seen),
            Err(what) => panic!("seed {seed}: {what}"),
        }
        return;
    }
    let (first, seeds) = (env("FIRST").unwrap_or(0), env("SEEDS").unwrap_or(300));
    let next = AtomicU64::new(first);
    let seen: Mutex<BTreeMap<&'static str, (u64, u64)>> = Mutex::default();
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    #[expect(clippy::disallowed_methods, reason = "each thread runs simulations of its own")]
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failed.lock().unwrap().len() < 5 {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    match run(seed) {
                        Ok(outcome) => {
                            let mut seen = seen.lock().unwrap();
                            for (what, n) in outcome.seen.into_iter().filter(|(_, n)| *n > 0) {
                                let (runs, times) = seen.entry(what).or_default();
                                *runs += 1;
                                *times += n;
                            }
                        }
                        Err(what) => failed.lock().unwrap().push((seed, what)),
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    println!("{:<28} {:>8} {:>12}", "what", "runs", "times");
    for (what, (runs, times)) in &seen {
        println!("{what:<28} {runs:>8} {times:>12}");
    }
    let failed = failed.into_inner().unwrap();
    for (seed, what) in &failed {
        println!("SEED={seed} cargo test -p millpond-log --test crash -- --nocapture   # {what}");
    }
    assert!(failed.is_empty(), "{} seeds broke a promise, the first: {:?}", failed.len(), failed.first());
    if seeds >= 300 {
        let rare = if seeds >= 3000 { &RARE[..] } else { &[] };
        for what in EXPECTED.iter().chain(rare) {
            assert!(seen.contains_key(what), "{seeds} seeds and never {what}: the test has gone blind");
        }
    }
}

/// What a run of many seeds must have met, or it proves little.
const EXPECTED: [&str; 26] = [
    "acks",
    "closed",
    "compactions",
    "compactions_overtaken",
    "crash_in_recovery",
    "damage_harmless",
    "died_after_start",
    "damage_refused",
    "damage_refused_in_last_flush",
    "disk_was_full",
    "duplicates",
    "files_recycled",
    "groups_created",
    "groups_dropped",
    "halted_after_failed_io",
    "killed",
    "marks",
    "reads_segments",
    "reads_tail",
    "recovered_entries",
    "recovered_over_files",
    "settles",
    "torn_tail_cut",
    "trims",
    "unacked_batches_kept",
    "unacked_batches_lost",
];

/// What some in a thousand meet.
const RARE: [&str; 1] = ["file_given_up"];

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in [3, 1001] {
        let (a, b) = (run(seed).unwrap(), run(seed).unwrap());
        assert_eq!(a.trace_hash, b.trace_hash, "seed {seed}");
        assert_eq!(a.seen, b.seen, "seed {seed}");
    }
}
