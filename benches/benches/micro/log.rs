//! The log on a real disk: appends and their sync, reads from memory and from segments.

use super::batch::{batch, shape};
use bytes::BytesMut;
use criterion::{Criterion, Throughput};
use millpond_batch::{Compression, Header, check};
use millpond_log::{Appended, GroupConfig, Log, LogConfig, Lsn, ReadLimits};
use millpond_runtime::{Cores, CoresConfig, GroupId, Offset, Rt, ring::RingRt};
use std::{path::Path, time::Duration};

const GROUP: GroupId = GroupId(1);
/// What is loaded for reads.
const LOAD_BYTES: usize = 64 << 20;
/// One read.
const READ_BYTES: usize = 1 << 20;

fn on_one_core<T: Send + 'static, F: Future<Output = T> + 'static>(dir: &Path, run: impl Fn(RingRt) -> F + Clone + Send + 'static) -> T {
    let config = CoresConfig { cpus: vec![None], pool_threads: 1, idle_poll: Duration::ZERO, seed: 1, data_dirs: vec![dir.to_path_buf()] };
    Cores::start(&config, run).unwrap().join().remove(0).unwrap()
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

async fn open(rt: &RingRt, dir: &Path, tail_bytes_max: usize) -> Log<RingRt> {
    let config = LogConfig { disk_reserve_bytes: 1 << 20, tail_bytes_max, ..LogConfig::default() };
    let (log, recovered) = Log::open(rt.clone(), dir.join("core-00"), config).await.unwrap();
    if recovered.fresh {
        let lsn = log.create_group(GROUP, GroupConfig::default()).unwrap();
        log.synced(lsn).await.unwrap();
    }
    log
}

async fn append(log: &Log<RingRt>, ready: &BytesMut, header: &Header) -> Lsn {
    log.wait_room().await;
    match log.append(GROUP, ready.clone(), header, 0).unwrap() {
        Appended::New { lsn, .. } => lsn,
        Appended::Duplicate { .. } => unreachable!("no producer, no duplicate"),
    }
}

/// `times` times: so many appends, then their sync. How long it took.
async fn commits(rt: RingRt, dir: &Path, times: u64, count: usize, ready: BytesMut) -> Duration {
    let log = open(&rt, dir, 256 << 20).await;
    let header = check(&ready).unwrap();
    let began = rt.mono();
    for _ in 0..times {
        let mut last = None;
        for _ in 0..count {
            last = Some(append(&log, &ready, &header).await);
        }
        log.synced(last.unwrap()).await.unwrap();
    }
    let took = rt.mono() - began;
    log.close().await;
    Duration::from_nanos(took)
}

/// Fills a log and lets all of it be settled.
async fn fill(rt: RingRt, dir: &Path, ready: BytesMut) {
    let log = open(&rt, dir, 16 << 20).await;
    let header = check(&ready).unwrap();
    let mut last = None;
    for _ in 0..LOAD_BYTES / ready.len() {
        last = Some(append(&log, &ready, &header).await);
    }
    log.synced(last.unwrap()).await.unwrap();
    log.close().await;
}

/// `times` reads of 1 MiB, over and over. How long they took, and how many were answered from memory. With `warm` they are of what
/// was just appended, else of the older half of the log, which a log that was just opened has in segments only.
async fn reads(rt: RingRt, dir: &Path, times: u64, warm: bool) -> (Duration, u64) {
    let log = open(&rt, dir, 256 << 20).await;
    let old = Offset(log.state(GROUP).unwrap().high_watermark.0 / 2);
    let (start, end) = if warm {
        let ready = batch(&shape(16, 1000), Compression::None);
        let (header, mut last) = (check(&ready).unwrap(), None);
        for _ in 0..LOAD_BYTES / 4 / ready.len() {
            last = Some(append(&log, &ready, &header).await);
        }
        log.synced(last.unwrap()).await.unwrap();
        let end = log.state(GROUP).unwrap().high_watermark;
        (Offset(end.0 - (LOAD_BYTES / 4 / ready.len()) as u64 * header.record_span()), end)
    } else {
        (Offset(0), old)
    };
    // The first read opens files and rebuilds the index of the segment that still grows.
    log.read(GROUP, start, ReadLimits { bytes_max: READ_BYTES, end }).await.unwrap();
    let before = log.stats().reads_tail;
    let mut from = start;
    let began = rt.mono();
    for _ in 0..times {
        let out = log.read(GROUP, from, ReadLimits { bytes_max: READ_BYTES, end }).await.unwrap();
        from = if out.next >= end { start } else { out.next };
    }
    let took = rt.mono() - began;
    let from_memory = log.stats().reads_tail - before;
    log.close().await;
    (Duration::from_nanos(took), from_memory)
}

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    for (count, ready) in [(1, batch(&shape(1, 1000), Compression::None)), (64, batch(&shape(16, 1000), Compression::None))] {
        let dir = scratch();
        group.throughput(Throughput::Bytes((count * ready.len()) as u64));
        group.bench_function(format!("append {count} × {} B, one sync", ready.len()), |b| {
            b.iter_custom(|times| {
                let (ready, at) = (ready.clone(), dir.path().to_owned());
                on_one_core(dir.path(), move |rt| {
                    let (ready, at) = (ready.clone(), at.clone());
                    async move { commits(rt, &at, times, count, ready).await }
                })
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("read");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).throughput(Throughput::Bytes(READ_BYTES as u64));
    let dir = scratch();
    let ready = batch(&shape(16, 1000), Compression::None);
    let at = dir.path().to_owned();
    on_one_core(dir.path(), move |rt| {
        let (ready, at) = (ready.clone(), at.clone());
        async move { fill(rt, &at, ready).await }
    });
    for (name, warm) in [("segment, 1 MiB of JSON events in zstd blocks", false), ("tail, 1 MiB", true)] {
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let at = dir.path().to_owned();
                let (took, from_memory) = on_one_core(dir.path(), move |rt| {
                    let at = at.clone();
                    async move { reads(rt, &at, times, warm).await }
                });
                assert_eq!(from_memory > 0, warm, "{from_memory} of {times} reads came from memory");
                took
            });
        });
    }
    group.finish();
}
