//! Batches: checking, decoding, building.

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput};
use millpond_batch::{Builder, Compression, DecompressLimits, builder::NO_HEADERS, check, header::seal, records};
use millpond_bench::batches::{Record, Shape};
use std::hint::black_box;

/// A batch of JSON events: `records` of `value_bytes` each.
pub(crate) fn shape(records: usize, value_bytes: usize) -> Shape {
    Shape { records, ..Shape::single(value_bytes) }
}

fn build(events: &[Record], compression: Compression) -> BytesMut {
    let mut builder = Builder::new(compression, 128 + events.iter().map(|event| event.value.len() + 40).sum::<usize>());
    for event in events {
        builder.append(1_700_000_000_000, event.key.as_deref(), Some(&event.value), NO_HEADERS);
    }
    builder.build(None).unwrap()
}

/// The batch of a shape.
pub(crate) fn batch(shape: &Shape, compression: Compression) -> BytesMut {
    build(&shape.batch(1), compression)
}

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc");
    for bytes in [1 << 10, 16 << 10, 256 << 10] {
        let mut whole = batch(&shape(1, bytes), Compression::None);
        group.throughput(Throughput::Bytes(whole.len() as u64));
        group.bench_function(format!("seal, {} KiB", bytes >> 10), |b| b.iter(|| seal(black_box(&mut whole))));
        group.bench_function(format!("check, {} KiB", bytes >> 10), |b| b.iter(|| check(black_box(&whole)).unwrap()));
    }
    group.finish();

    let mut group = c.benchmark_group("batch");
    let shape = shape(16, 1000);
    let events = shape.batch(1);
    group.throughput(Throughput::Elements(16));
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let whole: Bytes = build(&events, compression).freeze();
        group.bench_function(format!("decode 16 × 1,000 B, {compression}"), |b| {
            b.iter(|| {
                let all = records(black_box(&whole), DecompressLimits::default()).unwrap();
                all.map(|record| record.unwrap().value.map_or(0, |value| value.len())).sum::<usize>()
            });
        });
        group.bench_function(format!("build 16 × 1,000 B, {compression}"), |b| {
            b.iter_batched(|| (), |()| build(black_box(&events), compression), BatchSize::SmallInput);
        });
    }
    group.finish();
}
