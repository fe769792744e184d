#![expect(clippy::disallowed_methods, reason = "affinity and memory policy belong to threads")]

use super::*;
use std::{fs, thread};

/// Runs `work` on a thread of its own, since affinity and memory policy stay with a thread.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().expect("the thread ended well"))
}

#[test]
fn a_thread_runs_where_it_was_told_to() {
    let allowed = allowed_cpus().expect("the allowed CPUs");
    let last = *allowed.last().expect("at least one CPU");
    let then = apart(|| {
        run_on(&[last]).expect("an allowed CPU");
        allowed_cpus().expect("the allowed CPUs")
    });
    assert_eq!(then, [last]);
    assert_eq!(allowed_cpus().expect("the allowed CPUs"), allowed, "only that thread was bound");
    assert!(apart(|| run_on(&[CPUS_MAX])).is_err(), "a CPU beyond the mask is refused");
    assert!(apart(|| run_on(&[CPUS_MAX - 1])).is_err(), "a CPU that does not exist is refused");
}

#[test]
fn a_thread_takes_memory_where_it_was_told_to() {
    let policy = || fs::read_to_string("/proc/thread-self/numa_maps").unwrap_or_default();
    if policy().is_empty() {
        return; // A kernel without NUMA has no policies.
    }
    let then = apart(|| {
        prefer_node(0).expect("node 0 exists on every machine");
        policy()
    });
    assert!(then.contains(" prefer"), "{}", then.lines().next().unwrap_or_default());
    assert!(!policy().contains(" prefer"), "only that thread was bound");
    assert!(apart(|| prefer_node(NODES_MAX)).is_err(), "a node beyond the mask is refused");
    assert!(apart(|| prefer_node(NODES_MAX - 1)).is_err(), "a node that does not exist is refused");
}

#[test]
fn the_limit_of_open_files_is_raised_to_the_hard_one() {
    let hard = open_files().hard;
    assert_eq!(raise_open_files().expect("raising a soft limit needs no privilege"), hard);
    assert_eq!(open_files(), Limit { soft: hard, hard });
    assert_eq!(raise_open_files().expect("nothing to raise"), hard);
}
