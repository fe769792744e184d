//! What every production backend must do: the same tests for each, by [`tests_of`].
#![expect(clippy::disallowed_methods, reason = "real threads, in real time")]

use crate::{Backend, Conn, ConnRead, ConnWrite, Cores, CoresConfig, File, IoBuf, IoError, Listener, Open, Share, mailbox::mailbox};
use bytes::{Bytes, BytesMut};
use std::{
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Runs `main` on `cores` unpinned cores over a scratch directory.
pub(crate) fn run<B, T, F, Fut>(cores: usize, main: F) -> Vec<T>
where
    B: Backend,
    T: Send + 'static,
    F: Fn(B, PathBuf) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let dir = tempfile::Builder::new().prefix("millpond-cores-").tempdir().expect("a scratch directory");
    let path = dir.path().to_path_buf();
    let config = CoresConfig {
        cpus: vec![None; cores],
        pool_threads: 2,
        idle_poll: Duration::from_micros(20),
        seed: 1,
        data_dirs: vec![path.clone()],
    };
    let running = Cores::start(&config, move |rt: B| main(rt, path.clone())).expect("cores start");
    running.join().into_iter().map(|outcome| outcome.expect("a core ended well")).collect()
}

pub(crate) fn a_file_keeps_what_was_written_and_refuses_odd_positions<B: Backend>() {
    run(1, |rt: B, dir| async move {
        let path = dir.join("file");
        let file = rt.open(&path, Open::Create).await.expect("create");
        let mut buf = file.buf(5000);
        buf.put(b"hello");
        buf.pad_to_block();
        assert_eq!(buf.len(), 4096);
        file.write_at(4096, buf).await.expect("write");
        file.sync().await.expect("sync");
        assert_eq!(file.len().await.expect("len"), 8192);
        let read = file.read_at(0, 16384).await.expect("read");
        assert_eq!(read.len(), 8192, "a read ends with the file");
        assert!(read[..4096].iter().all(|b| *b == 0) && read[4096..].starts_with(b"hello\0"));
        let mut synced = file.buf(4096);
        synced.put(&[7; 4096]);
        file.write_synced_at(8192, synced).await.expect("write and sync");
        assert!(file.read_at(8192, 4096).await.expect("read").iter().all(|b| *b == 7));
        let mut odd = file.buf(100);
        odd.put(&[1; 100]);
        assert!(matches!(file.write_at(0, odd).await, Err(IoError::Unaligned { .. })));
        assert!(matches!(file.read_at(100, 4096).await.map(|_| ()), Err(IoError::Unaligned { .. })));
        file.close().await.expect("close");
        rt.rename(&path, &dir.join("renamed")).await.expect("rename");
        rt.sync_dir(&dir).await.expect("sync the directory");
        assert_eq!(rt.links(&dir.join("renamed")).await.expect("links"), 1);
        assert!(rt.links(&path).await.expect_err("it was renamed").is_not_found());
        assert_eq!(rt.list(&dir).await.expect("list"), [".probe", "renamed"]);
        let missing = rt.open(&path, Open::Read).await.map(|_| ()).expect_err("it was renamed");
        assert!(missing.is_not_found(), "{missing}");
        assert!(rt.space(&dir).await.expect("space").free > 0);
    });
}

pub(crate) fn what_takes_several_operations_is_written_whole<B: Backend>() {
    run(1, |rt: B, dir| async move {
        let file = rt.open(&dir.join("large"), Open::Create).await.expect("create");
        let bytes: Vec<u8> = (0..(5_u32 << 17)).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut buf = file.buf(bytes.len() + 4096);
        buf.put(&bytes);
        buf.put_zeros(4096);
        buf.truncate(bytes.len());
        file.write_synced_at(4096, buf).await.expect("write");
        assert_eq!(file.len().await.expect("len"), 4096 + bytes.len() as u64, "what was taken back is not written");
        assert!(file.read_at(4096, bytes.len()).await.expect("read")[..] == bytes[..]);
    });
}

pub(crate) fn a_panic_in_a_job_is_an_error_and_the_pool_goes_on<B: Backend>() {
    run(1, |rt: B, _| async move {
        let panicked = rt.offload("panics", || panic!("on purpose")).await.expect_err("it panicked");
        assert!(matches!(&panicked, IoError::JobPanicked { message, .. } if message == "on purpose"), "{panicked}");
        for n in 0..500 {
            assert_eq!(rt.offload("adds", move || n + 1).await.expect("a job"), n + 1);
        }
    });
}

pub(crate) fn both_directions_of_a_connection_carry_megabytes_at_once<B: Backend>() {
    const BYTES: usize = 32 * 1024 * 1024;
    run(1, |rt: B, _| async move {
        let listener = rt.listen("127.0.0.1:0".parse().expect("an address")).await.expect("listen");
        let at = listener.local();
        let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
        for side in 0..2 {
            let conn = if side == 0 { rt.dial(at).await.expect("dial") } else { listener.accept().await.expect("accept") };
            let (mut reader, mut writer) = conn.split();
            let done = done.clone();
            rt.spawn("writer", Share::Serve, async move {
                let piece = Bytes::from((0..1_000_003_u32).map(|n| n as u8).collect::<Vec<_>>());
                let mut left = BYTES;
                while left > 0 {
                    let n = left.min(piece.len());
                    writer.send(&[piece.slice(..n / 3), Bytes::new(), piece.slice(n / 3..n)]).await.expect("send");
                    left -= n;
                }
            });
            rt.spawn("reader", Share::Serve, async move {
                let (mut got, mut buf) = (0_usize, BytesMut::with_capacity(65536));
                while got < BYTES {
                    assert!(reader.recv(&mut buf).await.expect("receive") > 0, "the stream ended after {got} bytes");
                    for b in &buf {
                        assert_eq!(*b, (got % 1_000_003) as u8, "byte {got}");
                        got += 1;
                    }
                    buf.clear();
                }
                done.send(()).expect("the test waits");
            });
        }
        finished.recv().await;
        finished.recv().await;
    });
}

/// Threads that keep all CPUs busy until dropped.
struct Spinners(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Spinners {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = || {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let count = 1 + 2 * thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let all = (0..count).map(|_| spin()).collect();
        Self(stop, all)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.drain(..).for_each(|s| s.join().expect("a spinner ended well"));
    }
}

/// An executor that loses its CPU at the wrong moment parks with tasks in its queues; it must come back by itself. A hang
/// is the failure.
pub(crate) fn a_core_with_nothing_but_timers_goes_on_under_contention<B: Backend>() {
    let _spinners = Spinners::start();
    run(1, |rt: B, _| async move {
        // Computing for up to more than a preemption, so that it often loses its CPU; and sleeping, so that it often parks.
        for n in 0..2_000_u64 {
            let began = std::time::Instant::now();
            while began.elapsed() < std::time::Duration::from_micros(n * 7919 % 1_500) {
                std::hint::spin_loop();
            }
            rt.yield_now().await;
            if n % 5 == 0 {
                rt.sleep(std::time::Duration::from_micros(50)).await;
            }
        }
    });
}

/// glommio loses wake-ups of tasks in latency queues when the CPUs are contended; ours must not hang. The wait is
/// bounded by the work, and the test runner's patience shows a hang.
pub(crate) fn foreign_wake_ups_arrive_under_contention<B: Backend>() {
    let rounds: u64 = std::env::var("SOAK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let _spinners = Spinners::start();
    let (ask, asked) = mailbox::<(u64, tokio::sync::oneshot::Sender<u64>)>(4);
    let asked = Arc::new(std::sync::Mutex::new(Some(asked)));
    let foreign = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a tokio runtime");
        runtime.block_on(async move {
            for n in 0..rounds {
                let (answer, answered) = tokio::sync::oneshot::channel();
                assert!(ask.send((n, answer)).await.is_ok(), "the core lives");
                assert_eq!(answered.await.expect("an answer"), n * 2);
            }
        });
    });
    run(1, move |_: B, _| {
        let asked = Arc::clone(&asked);
        async move {
            let mut asked = asked.lock().expect("not poisoned").take().expect("one core");
            while let Some((n, answer)) = asked.recv().await {
                answer.send(n * 2).expect("the asker waits");
            }
        }
    });
    foreign.join().expect("the foreign thread ended well");
}

pub(crate) fn busy_time_counts_from_the_start_however_often_it_is_asked_for<B: Backend>() {
    run(1, |rt: B, _| async move {
        let (mut spun, mut last) = (0, 0);
        for _ in 0..50 {
            let round = rt.mono();
            while rt.mono() - round < 2_000_000 {
                std::hint::spin_loop();
            }
            spun += rt.mono() - round;
            rt.yield_now().await;
            // The loop adds up when it comes around, which sleeping makes it do.
            rt.sleep(Duration::from_micros(100)).await;
            assert!(rt.busy() >= last, "{} after {last}", rt.busy());
            last = rt.busy();
        }
        assert!(last > spun / 2, "{last} ns of {spun} ns spent computing");
    });
}

/// More operations than any ring has room for.
pub(crate) fn thousands_of_reads_at_once_all_come_back<B: Backend>() {
    const BLOCKS: u64 = 64;
    run(1, |rt: B, dir| async move {
        let path = dir.join("file");
        let file = rt.open(&path, Open::Create).await.expect("create");
        for n in 0..BLOCKS {
            let mut buf = file.buf(4096);
            buf.put(&[n as u8; 4096]);
            file.write_at(n * 4096, buf).await.expect("write");
        }
        let file = std::rc::Rc::new(file);
        let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..6_000_u64 {
            let (file, done) = (std::rc::Rc::clone(&file), done.clone());
            rt.spawn("read", if n % 2 == 0 { Share::Serve } else { Share::Background }, async move {
                let read = file.read_at(n % BLOCKS * 4096, 4096).await.expect("read");
                assert!(read.len() == 4096 && read.iter().all(|b| u64::from(*b) == n % BLOCKS), "block {}", n % BLOCKS);
                done.send(()).expect("the test waits");
            });
        }
        drop(done);
        let mut count = 0;
        while finished.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 6_000);
    });
}

/// What a future that is dropped has given to the kernel must stay until the kernel is done with it.
pub(crate) fn writes_that_are_given_up_leave_everything_else_alone<B: Backend>() {
    run(1, |rt: B, dir| async move {
        let file = rt.open(&dir.join("file"), Open::Create).await.expect("create");
        for round in 0..500_u64 {
            let mut given_up = file.buf(65536);
            given_up.put(&[0xAA; 65536]);
            {
                let mut write = std::pin::pin!(file.write_at(round % 8 * 65536, given_up));
                let _ = futures_lite::future::poll_once(&mut write).await;
            }
            // Memory of the same size, which must not be what the kernel still reads from.
            let mut buf = file.buf(65536);
            buf.put(&[round as u8; 65536]);
            file.write_at(1 << 20, buf).await.expect("write");
            let read = file.read_at(1 << 20, 65536).await.expect("read");
            assert!(read.iter().all(|b| *b == round as u8), "round {round}");
        }
        file.sync().await.expect("sync");
        let old = file.read_at(0, 8 * 65536).await.expect("read");
        assert!(old.iter().all(|b| *b == 0xAA || *b == 0), "only what was given up is there");
        file.close().await.expect("close");
    });
}

/// A peer hears of it, also while the other half still waits.
pub(crate) fn dropped_connections_end_at_their_peers<B: Backend>() {
    run(1, |rt: B, _| async move {
        let listener = rt.listen("127.0.0.1:0".parse().expect("an address")).await.expect("listen");
        for round in 0..500 {
            let (mut ours, writer) = rt.dial(listener.local()).await.expect("dial").split();
            let theirs = listener.accept().await.expect("accept");
            let mut buf = BytesMut::with_capacity(64);
            if round % 2 == 0 {
                drop(theirs);
            } else {
                let (mut reader, mut other) = theirs.split();
                let (ended, has_ended) = tokio::sync::oneshot::channel();
                rt.spawn("waits", Share::Serve, async move {
                    let mut buf = BytesMut::with_capacity(64);
                    let _ = ended.send(reader.recv(&mut buf).await.is_ok_and(|n| n == 0));
                });
                rt.yield_now().await;
                other.shutdown();
                assert!(has_ended.await.expect("it ends"), "the waiting half hears of the shutdown");
            }
            assert_eq!(ours.recv(&mut buf).await.expect("receive"), 0, "round {round}");
            drop(writer);
        }
    });
}

/// Tasks that can wait get a part of a core that always has something to serve, and not the larger one. Not asked of glommio, whose shares go by
/// time that a core has lost to others, too.
pub(crate) fn background_gets_its_part_of_a_busy_core<B: Backend>() {
    run(1, |rt: B, _| async move {
        let began = rt.mono();
        let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
        for share in [Share::Serve, Share::Serve, Share::Background] {
            let (task, done) = (rt.clone(), done.clone());
            rt.spawn("busy", share, async move {
                // Rounds, since the time of one depends on who else wants the CPU.
                let mut rounds = 0;
                while task.mono() - began < 500_000_000 {
                    let round = task.mono();
                    while task.mono() - round < 50_000 {
                        std::hint::spin_loop();
                    }
                    rounds += 1;
                    task.yield_now().await;
                }
                done.send((share, rounds)).expect("the test waits");
            });
        }
        drop(done);
        let (mut serve, mut background) = (0, 0);
        while let Some((share, rounds)) = finished.recv().await {
            *(if share == Share::Serve { &mut serve } else { &mut background }) += rounds;
        }
        assert!(background > 0 && background < serve / 2, "{background} rounds in the background, {serve} serving");
    });
}

/// The order among tasks that are ready. Not asked of glommio, which knows no such order.
pub(crate) fn who_comes_first_goes_before_those_who_wait_and_yields_to_them<B: Backend>() {
    run(1, |rt: B, _| async move {
        let (done, mut ran) = tokio::sync::mpsc::unbounded_channel();
        for (name, share) in [("one", Share::Serve), ("two", Share::Serve), ("first", Share::First)] {
            let (task, done) = (rt.clone(), done.clone());
            rt.spawn(name, share, async move {
                done.send(name).expect("the test waits");
                if share == Share::First {
                    task.yield_now().await;
                    done.send("first again").expect("the test waits");
                }
            });
        }
        drop(done);
        let mut order = Vec::new();
        while let Some(name) = ran.recv().await {
            order.push(name);
        }
        assert_eq!(order, ["first", "one", "two", "first again"]);
    });
}

/// Makes each of the tests above one of `$backend`.
macro_rules! tests_of {
    ($backend:ty) => {
        crate::backend_tests::tests_of! { $backend:
            a_file_keeps_what_was_written_and_refuses_odd_positions
            a_panic_in_a_job_is_an_error_and_the_pool_goes_on
            both_directions_of_a_connection_carry_megabytes_at_once
            a_core_with_nothing_but_timers_goes_on_under_contention
            foreign_wake_ups_arrive_under_contention
            busy_time_counts_from_the_start_however_often_it_is_asked_for
            thousands_of_reads_at_once_all_come_back
            what_takes_several_operations_is_written_whole
            writes_that_are_given_up_leave_everything_else_alone
            dropped_connections_end_at_their_peers
        }
    };
    ($backend:ty: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            crate::backend_tests::$name::<$backend>();
        })*
    };
}
pub(crate) use tests_of;
