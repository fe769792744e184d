use super::*;
use futures_lite::future::block_on;
use std::sync::mpsc;

/// The scheduling policy of the calling thread, as the system tells it; 5 is SCHED_IDLE.
fn policy() -> i64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
    let behind_name = stat.rsplit(") ").next().expect("a name in parentheses");
    behind_name.split(' ').nth(38).expect("the 41st field").parse().expect("a number")
}

fn name() -> Option<String> {
    thread::current().name().map(str::to_owned)
}

#[test]
fn computing_gives_way_and_calls_do_not() {
    let (started, starts) = mpsc::channel();
    // However busy the machine is, nothing is late.
    let pool = Pool::with_late(Duration::from_secs(3600), 2, 4, move |n| started.send(n).expect("the test listens")).expect("threads");
    let ours = policy();
    assert_eq!(block_on(pool.compute("policy", policy)).expect("runs"), 5);
    assert_eq!(block_on(pool.call("policy", policy)).expect("runs"), ours);
    assert_eq!(block_on(pool.call("name", name)).expect("runs").as_deref(), Some("calls"));
    let failed = block_on(pool.compute("panic", || panic!("on purpose")));
    assert!(matches!(failed, Err(IoError::JobPanicked { job: "panic", .. })), "{failed:?}");
    assert_eq!(block_on(pool.compute("after", || 7)).expect("the thread goes on"), 7);
    // Each thread has its number, and ends with the pool.
    drop(pool);
    let mut numbers: Vec<usize> = starts.iter().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn a_job_that_nobody_begins_gets_a_thread_of_ordinary_priority() {
    let pool = Pool::new(1, 4, |_| ()).expect("threads");
    let (go, wait) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let held = pool.compute("held", move || {
        begun.send(()).expect("the test listens");
        wait.recv().expect("the test lets it go");
        (name(), policy())
    });
    let beside = async {
        begins.recv().expect("a thread takes the first job");
        let beside = pool.compute("beside", || (name(), policy())).await.expect("runs");
        go.send(()).expect("the job waits");
        beside
    };
    let (held, beside) = block_on(futures_lite::future::zip(held, beside));
    // On a busy machine the first job may have been the late one.
    let mut ran = [held.expect("runs"), beside];
    ran.sort();
    assert_eq!(ran, [(Some("pool-0".into()), 5), (Some("pool-late".into()), policy())]);
}
