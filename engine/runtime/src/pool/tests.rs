use super::*;
use futures_lite::future::block_on;
use std::sync::mpsc;

/// The scheduling policy of the calling thread, as the system tells it; 3 is SCHED_BATCH.
fn policy() -> i64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
    let behind_name = stat.rsplit(") ").next().expect("a name in parentheses");
    behind_name.split(' ').nth(38).expect("the 41st field").parse().expect("a number")
}

#[test]
fn computing_is_batch_work_and_calls_have_threads_of_their_own() {
    let (started, starts) = mpsc::channel();
    let pool = Pool::new(1, 4, move |n| started.send(n).expect("the test listens")).expect("threads");
    let ours = policy();
    let (go, wait) = mpsc::channel::<()>();
    let held = pool.compute("held", move || {
        wait.recv().expect("the test lets it go");
        policy()
    });
    let beside = async {
        let seen = pool.call("beside", || (thread::current().name().map(str::to_owned), policy())).await;
        go.send(()).expect("the job waits");
        seen.expect("runs")
    };
    let (held, beside) = block_on(futures_lite::future::zip(held, beside));
    assert_eq!(held.expect("runs"), 3);
    let (name, policy) = beside;
    assert!(name.is_some_and(|name| name.starts_with("calls-")) && policy == ours, "calls run beside, as what we are");
    let failed = block_on(pool.compute("panic", || panic!("on purpose")));
    assert!(matches!(failed, Err(IoError::JobPanicked { job: "panic", .. })), "{failed:?}");
    assert_eq!(block_on(pool.compute("after", || 7)).expect("the thread goes on"), 7);
    // A call that takes long holds up nobody.
    let (go, wait) = mpsc::channel::<()>();
    pool.call_later(move || {
        // An error is how it is let go.
        let _ = wait.recv();
    });
    assert_eq!(block_on(pool.call("beside", || 5)).expect("runs"), 5);
    drop(go);
    // Each thread has its number, and ends with the pool.
    drop(pool);
    let mut numbers: Vec<usize> = starts.iter().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1 + CALLERS).collect::<Vec<_>>());
}
