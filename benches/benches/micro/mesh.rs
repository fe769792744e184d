//! A hop over the mesh: a message through a mailbox to another core, and back.

use criterion::{Criterion, Throughput};
use millpond_runtime::{
    Cores, CoresConfig, Rt,
    mailbox::{Receiver, Sender, mailbox},
    ring::RingRt,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Messages in a mailbox at most.
const CAPACITY: usize = 1024;

/// What a core gets to talk with.
type Ends = Arc<Mutex<Vec<Option<(Sender<u64>, Receiver<u64>)>>>>;

/// Core 0 keeps `window` messages under way, `times` in all; core 1 sends each back. How long it took.
async fn side(rt: RingRt, ends: Ends, times: u64, window: u64) -> Duration {
    let (to, mut from) = ends.lock().unwrap()[usize::from(rt.core().0)].take().unwrap();
    if rt.core().0 == 1 {
        let mut all = Vec::new();
        while from.recv_many(&mut all, CAPACITY).await > 0 {
            for message in all.drain(..) {
                to.send(message).await.unwrap();
            }
        }
        return Duration::ZERO;
    }
    let began = rt.mono();
    let (mut sent, mut back, mut all) = (0, 0, Vec::new());
    while back < times {
        while sent < times && sent - back < window {
            to.send(sent).await.unwrap();
            sent += 1;
        }
        back += from.recv_many(&mut all, CAPACITY).await as u64;
        all.clear();
    }
    Duration::from_nanos(rt.mono() - began)
}

fn round_trips(times: u64, window: u64) -> Duration {
    let ((to_1, at_1), (to_0, at_0)) = (mailbox(CAPACITY), mailbox(CAPACITY));
    let ends: Ends = Arc::new(Mutex::new(vec![Some((to_1, at_0)), Some((to_0, at_1))]));
    let config = CoresConfig { cpus: vec![None, None], pool_threads: 1, idle_poll: Duration::ZERO, seed: 1, data_dirs: vec![] };
    let cores = Cores::start(&config, move |rt| side(rt, Arc::clone(&ends), times, window)).unwrap();
    cores.join().remove(0).unwrap()
}

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).throughput(Throughput::Elements(1));
    group.bench_function("there and back, parked", |b| b.iter_custom(|times| round_trips(times, 1)));
    group.bench_function("there and back, 64 under way", |b| b.iter_custom(|times| round_trips(times, 64)));
    let (to, mut from) = mailbox::<u64>(CAPACITY);
    group.bench_function("through a mailbox of the same core", |b| {
        b.iter(|| {
            to.try_send(7).unwrap();
            from.try_recv().unwrap()
        });
    });
    group.finish();
}
