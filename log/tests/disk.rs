//! The same log on a real disk: io_uring, O_DIRECT.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use bytes::BytesMut;
use millpond_batch::{Builder, Compression};
use millpond_log::{Appended, GroupConfig, Log, LogConfig, LogStats, ReadLimits};
use millpond_runtime::{Cores, CoresConfig, GroupId, Offset, Rt, Share, ring::RingRt};
use std::{
    cell::Cell,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

const GROUPS: u64 = 4;

fn env(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(or)
}

fn batch(n: u64, len: usize) -> BytesMut {
    let mut builder = Builder::new(Compression::None, len + 200);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    let mut value = n.to_le_bytes().to_vec();
    let mut x = n + 1;
    value.extend((8..len).map(|_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    }));
    builder.append(1_700_000_000_000 + n as i64, None, Some(&value), &headers);
    builder.build(None).unwrap()
}

fn config() -> LogConfig {
    LogConfig { disk_reserve_bytes: 1 << 20, ..LogConfig::default() }
}

/// Appends from `conns` tasks, each waiting for its sync before the next; the statistics and how long it took.
async fn fill(rt: RingRt, dir: PathBuf, conns: u64, each: u64, len: usize) -> (LogStats, f64) {
    let (log, recovered) = Log::open(rt.clone(), dir, config()).await.unwrap();
    assert!(recovered.fresh);
    for group in 1..=GROUPS {
        let lsn = log.create_group(GroupId(group), GroupConfig::default()).unwrap();
        log.synced(lsn).await.unwrap();
    }
    let left = Rc::new(Cell::new(conns));
    let began = rt.mono();
    for conn in 0..conns {
        let (log, left) = (log.clone(), left.clone());
        let ready = batch(conn, len);
        rt.spawn("appender", Share::Serve, async move {
            let header = millpond_batch::check(&ready).unwrap();
            for _ in 0..each {
                log.wait_room().await;
                let appended = log.append(GroupId(1 + conn % GROUPS), ready.clone(), &header, 0).unwrap();
                let Appended::New { lsn, .. } = appended else { unreachable!("no producer, no duplicate") };
                log.synced(lsn).await.unwrap();
            }
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        rt.sleep(Duration::from_millis(1)).await;
    }
    let took = (rt.mono() - began) as f64 / 1e9;
    let stats = log.stats();
    log.close().await;
    (stats, took)
}

/// Opens again and reads everything; records and bytes.
async fn read_back(rt: RingRt, dir: PathBuf) -> (u64, u64) {
    let (log, recovered) = Log::open(rt, dir, config()).await.unwrap();
    assert!(recovered.torn.is_none(), "{recovered:?}");
    let (mut records, mut bytes) = (0, 0);
    for group in log.groups() {
        let end = log.state(group).unwrap().high_watermark;
        let mut from = Offset(0);
        while from < end {
            let out = log.read(group, from, ReadLimits { bytes_max: 1 << 20, end }).await.unwrap();
            for batch in &out.batches {
                let header = millpond_batch::check(batch).unwrap();
                assert_eq!(header.base_offset, from.0, "dense offsets");
                from = Offset(header.next_offset());
                records += u64::from(header.count);
                bytes += batch.len() as u64;
            }
            assert_eq!(from, out.next);
        }
    }
    log.close().await;
    (records, bytes)
}

fn on_one_core<T: Send + 'static, F: Future<Output = T> + 'static>(dir: &Path, run: impl Fn(RingRt) -> F + Clone + Send + 'static) -> T {
    let config = CoresConfig { cpus: vec![None], pool_threads: 1, idle_poll: Duration::ZERO, seed: 1, data_dirs: vec![dir.to_path_buf()] };
    Cores::start(&config, run).unwrap().join().remove(0).unwrap()
}

#[test]
fn what_is_appended_on_a_real_disk_is_read_back_after_a_start() {
    let (conns, each, len) = (env("CONNS", 16), env("EACH", 50), env("LEN", 16 << 10) as usize);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = dir.path().join("core-00");
    let at = home.clone();
    let (stats, took) = on_one_core(dir.path(), move |rt| fill(rt, at.clone(), conns, each, len));
    let mb = stats.bytes_appended as f64 / 1e6;
    println!(
        "{conns} x {each} x {len} B: {:.0} acks/s, {:.0} MB/s, {:.3} flushes per ack; {stats:?}",
        (conns * each) as f64 / took,
        mb / took,
        stats.syncs as f64 / stats.entries_synced as f64
    );
    let (records, bytes) = on_one_core(dir.path(), move |rt| read_back(rt, home.clone()));
    assert_eq!((records, bytes), (conns * each, stats.bytes_appended));
    assert!(stats.syncs < conns * each, "appends beside each other share syncs");
}
