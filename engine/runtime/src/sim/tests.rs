//! The simulator itself: executor, clocks, lives of nodes. Disk, its faults and the network have files of their own.

mod disk;
mod faults;
mod net;

use super::*;
use crate::{Conn, ConnRead, ConnWrite, CoreId, File, IoBuf, IoError, Listener, NodeId, Open, Rt, Share, mailbox::mailbox, rt::timeout};
use bytes::{Bytes, BytesMut};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::Path,
};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const C0: CoreId = CoreId(0);
const C1: CoreId = CoreId(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A buffer of whole blocks, every byte the same.
fn filled(file: &SimFile, blocks: usize, byte: u8) -> SimBuf {
    let mut buf = file.buf(blocks * 4096);
    buf.put(&vec![byte; blocks * 4096]);
    buf
}

/// A file server: stores what arrives in blocks, and answers each with one byte once it is synced.
async fn store_and_answer(rt: SimRt) -> crate::Result<()> {
    let listener = rt.listen("0.0.0.0:7400".parse().expect("an address")).await?;
    let file = Rc::new(rt.open(Path::new("/log"), Open::Create).await?);
    rt.sync_dir(Path::new("/")).await?;
    let end = Rc::new(Cell::new(0));
    loop {
        let (mut reader, mut writer) = listener.accept().await?.split();
        let (rt2, file, end) = (rt.clone(), file.clone(), end.clone());
        rt.spawn("serve", Share::Serve, async move {
            let mut bytes = BytesMut::with_capacity(4096);
            while reader.recv(&mut bytes).await.is_ok_and(|n| n > 0) {
                let mut buf = file.buf(4096);
                buf.put(&bytes);
                buf.pad_to_block();
                bytes.clear();
                let position = end.replace(end.get() + 4096);
                if file.write_at(position, buf).await.is_ok() && file.sync().await.is_err() {
                    rt2.halt("sync failed");
                }
                rt2.yield_if_needed().await;
                if writer.send(&[Bytes::from_static(b"!")]).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// A client that sends ten messages, and tells how many were answered.
async fn talk(rt: SimRt, to: std::net::SocketAddr) -> usize {
    let mut answered = 0;
    for n in 0..10_u8 {
        rt.sleep(Duration::from_millis(rt.rand() % 20)).await;
        let _ = rt.wall_ms();
        let Ok(Ok(conn)) = timeout(&rt, SECOND, rt.dial(to)).await else { continue };
        let (mut reader, mut writer) = conn.split();
        let mut answer = BytesMut::with_capacity(16);
        let exchange = async {
            writer.send(&[Bytes::from(vec![n; 100]), Bytes::from(vec![n; 1 + usize::from(n) * 50])]).await?;
            reader.recv(&mut answer).await
        };
        if let Ok(Ok(1..)) = timeout(&rt, SECOND, exchange).await {
            answered += 1;
        }
    }
    answered
}

/// A run with a bit of everything; what it did in the end.
fn busy_run(seed: u64, faults: FaultPlan) -> (u64, Duration, BTreeMap<&'static str, u64>, usize) {
    let sim = Sim::new(SimConfig { seed, faults });
    let (server, client) = (sim.node(N1), sim.node(N2));
    let answered = Rc::new(Cell::new(0));
    let start = || {
        server.start(C0, |rt| async move {
            if store_and_answer(rt.clone()).await.is_err() {
                rt.halt("the disk failed");
            }
        });
    };
    start();
    for core in [C0, C1] {
        let (answered, to) = (answered.clone(), server.addr(7400));
        client.start(core, |rt| async move {
            answered.set(answered.get() + talk(rt, to).await);
        });
    }
    sim.crash_at_poll(N1, 40 + seed % 100);
    sim.run_for(SECOND).expect("nothing panics");
    if !server.is_up() {
        sim.restart(N1);
        start();
    }
    sim.run_for(10 * SECOND).expect("nothing panics");
    (sim.trace_hash(), sim.elapsed(), sim.coverage(), answered.get())
}

#[test]
fn same_seed_same_run() {
    let mut hashes = BTreeSet::new();
    for seed in 0..500 {
        let plan = || if seed % 2 == 0 { FaultPlan::everything() } else { FaultPlan::none() };
        let first = busy_run(seed, plan());
        assert_eq!(first, busy_run(seed, plan()), "seed {seed}");
        hashes.insert(first.0);
    }
    assert_eq!(hashes.len(), 500, "every seed is a run of its own");
}

#[test]
fn busy_runs_get_somewhere() {
    let answered: usize = (0..50).map(|seed| busy_run(seed, FaultPlan::none()).3).sum();
    assert!(answered > 300, "{answered} of 1000 answered; the rest met the crash");
}

#[test]
fn ready_tasks_run_in_any_order() {
    let mut orders = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        for n in 0..3 {
            let order = order.clone();
            sim.node(N1).start(C0, |_| async move { order.borrow_mut().push(n) });
        }
        sim.run_for(SECOND).expect("nothing fails");
        orders.insert(order.take());
    }
    assert_eq!(orders.len(), 6, "{orders:?}");
}

#[test]
fn deadlock_names_the_tasks() {
    let sim = Sim::new(1);
    sim.node(N1).start(C1, |rt| async move {
        rt.spawn("waits", Share::Serve, std::future::pending());
        // A timer that is cancelled must not hide the deadlock.
        let _ = timeout(&rt, Duration::from_millis(1), timeout(&rt, HOUR, std::future::pending::<()>())).await;
        std::future::pending::<()>().await;
    });
    let stopped = sim.run_until(|| false, 10 * HOUR).expect_err("nobody is ever done");
    assert!(sim.elapsed() < SECOND, "the hour was cancelled: {:?}", sim.elapsed());
    assert_eq!(stopped.to_string(), "seed 1: deadlock; waiting: n1/c1/main, n1/c1/waits");
}

#[test]
fn limit_of_time_is_kept() {
    let sim = Sim::new(1);
    sim.node(N1).start(C0, |rt| async move {
        loop {
            rt.sleep(7 * SECOND).await;
        }
    });
    let stopped = sim.run_until(|| false, 10 * SECOND);
    assert!(matches!(stopped, Err(Stopped::OutOfTime { .. })), "{stopped:?}");
    assert_eq!(sim.elapsed(), 10 * SECOND);
    sim.run_for(SECOND).expect("nothing fails");
    assert_eq!(sim.elapsed(), 11 * SECOND);
}

#[test]
fn panic_fails_the_run() {
    let sim = Sim::new(3);
    sim.node(N1).start(C0, |rt| async move {
        rt.spawn("breaks", Share::Background, async { panic!("index {} of {}", 7, 5) });
    });
    let stopped = sim.run_for(SECOND).expect_err("a task panics");
    assert_eq!(stopped.to_string(), "seed 3: task n1/c0/breaks panicked: index 7 of 5");
    assert!(!sim.node(N1).is_up(), "a panic takes the node down");
    assert_eq!(sim.run_for(SECOND), Err(stopped), "a failed run stays failed");
}

#[test]
fn halt_stops_the_node_and_not_the_run() {
    let sim = Sim::new(3);
    let after = Rc::new(Cell::new(false));
    let flag = after.clone();
    sim.node(N1).start(C0, |rt| async move {
        let rt2 = rt.clone();
        rt.spawn("neighbour", Share::Serve, async move {
            rt2.sleep(2 * SECOND).await;
            flag.set(true);
        });
        rt.sleep(SECOND).await;
        rt.halt("a sync failed");
    });
    sim.run_for(5 * SECOND).expect("halting is no failure");
    assert_eq!(sim.halted(N1).as_deref(), Some("a sync failed"));
    assert!(!after.get() && !sim.node(N1).is_up());
    assert_eq!(sim.coverage().get("halt"), Some(&1));
    sim.restart(N1);
    assert_eq!(sim.halted(N1), None);
}

#[test]
fn crash_comes_at_each_poll() {
    let run = |at: Option<u64>| {
        let sim = Sim::new(9);
        let steps = Rc::new(Cell::new(0));
        let counted = steps.clone();
        let node = sim.node(N1);
        node.start(C0, |rt| async move {
            for _ in 0..5 {
                rt.yield_now().await;
                counted.set(counted.get() + 1);
            }
        });
        if let Some(at) = at {
            sim.crash_at_poll(N1, at);
        }
        sim.run_for(SECOND).expect("nothing fails");
        (steps.get(), node.polls(), node.is_up())
    };
    assert_eq!(run(None), (5, 6, true));
    for at in 0..6 {
        assert_eq!(run(Some(at)), (at.saturating_sub(1), at, false), "crash instead of poll {at}");
    }
    assert_eq!(run(Some(6)), (5, 6, true));
}

/// Does to the world, when dropped, all that a destructor could think of.
struct Nuisance {
    rt: SimRt,
    dropped: Rc<Cell<u32>>,
    held: Option<(SimFile, SimConn)>,
}

impl Drop for Nuisance {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
        self.held = None;
        let (rt, _) = (self.rt.clone(), self.rt.rand());
        let _ = (rt.mono(), rt.wall_ms());
        self.rt.spawn("from a destructor", Share::Serve, async move { rt.sleep(SECOND).await });
        drop(self.rt.sleep(SECOND));
        drop(self.rt.open(Path::new("/x"), Open::Create));
    }
}

#[test]
fn destructors_may_touch_the_world() {
    type End = fn(Sim);
    let ends: [(&str, End); 4] = [
        ("crash", |sim| sim.crash(N1)),
        ("kill", |sim| sim.kill(N1)),
        ("crash, restart, run", |sim| {
            sim.crash(N1);
            sim.restart(N1);
            sim.run_for(SECOND).expect("nothing fails");
        }),
        ("drop", drop),
    ];
    for (what, end) in ends {
        for seed in 0..20 {
            let sim = Sim::new(seed);
            let dropped = Rc::new(Cell::new(0));
            for _ in 0..3 {
                let dropped = dropped.clone();
                sim.node(N1).start(C0, |rt| async move {
                    let listener = rt.listen("127.0.0.1:0".parse().expect("an address")).await.expect("free");
                    let conn = rt.dial(listener.local()).await.expect("someone listens");
                    let file = rt.open(Path::new("/f"), Open::Create).await.expect("room");
                    let _nuisance = Nuisance { rt: rt.clone(), dropped, held: Some((file, conn)) };
                    rt.sleep(HOUR).await;
                });
            }
            sim.run_for(SECOND).expect("nothing fails");
            end(sim);
            assert_eq!(dropped.get(), 3, "{what}, seed {seed}: every task is dropped once");
        }
    }
}

#[test]
fn handles_of_a_former_life_are_dead() {
    let sim = Sim::new(5);
    let node = sim.node(N1);
    let old = node.rt(C0);
    let file = sim.block_on(N1, |rt| async move { rt.open(Path::new("/f"), Open::Create).await });
    let file = file.expect("done").expect("there is room");
    sim.crash(N1);
    sim.restart(N1);
    let ran = Rc::new(Cell::new(false));
    let flag = ran.clone();
    old.spawn("ghost", Share::Serve, async move { flag.set(true) });
    node.start(C0, |_| async move {
        let _ = file.write_at(0, filled(&file, 1, 1)).await;
        unreachable!("a file of a dead process answers nobody");
    });
    sim.run_for(HOUR).expect("nothing panics");
    assert!(!ran.get());
}

#[test]
fn sleep_lasts_at_least_as_long_by_the_own_clock() {
    for seed in 0..200 {
        let sim = Sim::new(SimConfig { seed, faults: FaultPlan { mono_drift: 0.1, ..FaultPlan::none() } });
        let slept = sim.block_on(N1, |rt| async move {
            let before = rt.mono();
            rt.sleep(SECOND).await;
            rt.mono() - before
        });
        let slept = slept.expect("done");
        assert!((1_000_000_000..1_010_000_000).contains(&slept), "seed {seed}: {slept} ns");
        let truly = sim.elapsed();
        assert!(truly > SECOND * 9 / 11 && truly < SECOND * 12 / 10, "seed {seed}: {truly:?}");
    }
}

#[test]
fn wall_jumps_and_mono_does_not() {
    let sim = Sim::new(SimConfig { seed: 1, faults: FaultPlan { wall_jump: 0.1, ..FaultPlan::none() } });
    let node = sim.node(N1);
    let backwards = sim.block_on(N1, |rt| async move {
        let (mut wall, mut mono, mut backwards) = (rt.wall_ms(), rt.mono(), 0);
        for _ in 0..1000 {
            rt.sleep(Duration::from_millis(1)).await;
            assert!(rt.mono() > mono, "the monotonic clock went back");
            mono = rt.mono();
            let now = rt.wall_ms();
            backwards += u32::from(now < wall);
            wall = now;
        }
        backwards
    });
    assert!(backwards.expect("done") > 10);
    sim.set_faults(FaultPlan::none());
    let before = node.rt(C0).wall_ms();
    node.jump_wall(-60_000);
    assert_eq!(node.rt(C0).wall_ms(), before - 60_000);
}

#[test]
fn paused_core_stands_still_alone() {
    let sim = Sim::new(1);
    let node = sim.node(N1);
    let ticks = Rc::new(RefCell::new([0, 0]));
    for core in [C0, C1] {
        let ticks = ticks.clone();
        node.start(core, |rt| async move {
            loop {
                rt.sleep(Duration::from_millis(1)).await;
                ticks.borrow_mut()[usize::from(core.0)] += 1;
            }
        });
    }
    node.pause(C1, 2 * SECOND);
    sim.run_for(SECOND).expect("nothing fails");
    assert!(ticks.borrow()[0] > 900 && ticks.borrow()[1] == 0, "{ticks:?}");
    sim.run_for(2 * SECOND).expect("nothing fails");
    assert!(ticks.borrow()[1] > 900, "{ticks:?}");
}

#[test]
fn offloaded_job_takes_time_and_may_panic() {
    let sim = Sim::new(1);
    let (sum, broken) = sim
        .block_on(N1, |rt| async move {
            let before = rt.mono();
            let sum = rt.offload("sum", || (1..=10).sum::<u32>()).await;
            assert!(rt.mono() > before);
            (sum, rt.offload("break", || -> u32 { panic!("no such codec") }).await)
        })
        .expect("a panic in a job is no panic of the task");
    assert_eq!(sum.expect("no panic"), 55);
    let broken = broken.expect_err("it panics");
    assert!(matches!(broken, IoError::JobPanicked { job: "break", ref message } if message == "no such codec"));
}

#[test]
fn mailboxes_join_cores() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let node = sim.node(N1);
        let (sender, mut receiver) = mailbox::<u32>(4);
        for core in [C0, C1] {
            let sender = sender.clone();
            node.start(core, |rt| async move {
                for n in 0..100 {
                    sender.send(n).await.expect("the receiver lives");
                    rt.yield_if_needed().await;
                }
            });
        }
        drop(sender);
        let got = Rc::new(RefCell::new(Vec::new()));
        let out = got.clone();
        node.start(CoreId(2), |_| async move {
            while let Some(n) = receiver.recv().await {
                out.borrow_mut().push(n);
            }
        });
        sim.run_until(|| got.borrow().len() == 200, SECOND).expect("all arrive");
        assert_eq!(got.borrow().iter().sum::<u32>(), 2 * 4950, "seed {seed}");
    }
}

#[test]
fn block_on_a_dying_node_says_so() {
    let sim = Sim::new(4);
    let stopped = sim.block_on(N1, |rt| async move { rt.halt("no more") }).expect_err("it dies");
    assert_eq!(stopped.to_string(), "seed 4: node 1 went down: no more");
    sim.restart(N1);
    sim.crash_at_poll(N1, 1);
    let stopped = sim.block_on(N1, |rt| async move { rt.sleep(SECOND).await }).expect_err("it dies");
    assert_eq!(stopped.to_string(), "seed 4: node 1 went down");
}

#[test]
fn a_process_may_end_at_any_poll_and_its_machine_stays() {
    let sim = Sim::new(4);
    sim.kill_at_poll(N1, 1);
    let stopped = sim.block_on(N1, |rt| async move { rt.sleep(SECOND).await }).expect_err("it dies");
    assert_eq!(stopped.to_string(), "seed 4: node 1 went down");
    assert_eq!((sim.coverage().get("kill_at_poll"), sim.coverage().get("crash")), (Some(&1), None));
}

#[test]
fn seeds_are_numbers_or_ranges() {
    assert_eq!(seeds_of("17"), Some(17..18));
    assert_eq!(seeds_of("1000..9000"), Some(1000..9000));
    for wrong in ["", "x", "1..", "..2", "-1", "18446744073709551615"] {
        assert_eq!(seeds_of(wrong), None, "{wrong:?}");
    }
}

#[test]
fn skewed_stays_in_its_range_and_reaches_both_ends() {
    let mut dice = dice::Dice::new(1, FaultPlan::none());
    for (low, high) in [(1, 1), (5, 6), (100, 50_000), (3, 4), (1, u64::MAX)] {
        let drawn: Vec<u64> = (0..10_000).map(|_| dice.skewed(low..=high)).collect();
        assert!(drawn.iter().all(|n| (low..=high).contains(n)), "{low}..={high}");
        let span = high - low;
        assert!(drawn.iter().any(|n| *n >= high - span / 4), "{low}..={high} never gets near its end");
        assert!(drawn.iter().any(|n| *n <= low + span / 4), "{low}..={high} never gets near its beginning");
    }
}
