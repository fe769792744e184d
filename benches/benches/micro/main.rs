//! The parts of the hot path by themselves: `cargo bench -p millpond-bench`, or one with `-- crc`.
//!
//! What touches the disk runs on a real core (io_uring, O_DIRECT) in the target directory, so its figures are those of the disk
//! under it; compare them with `millpond bench limit`.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop anywhere, with the line that says where")]

mod batch;
mod log;
mod mesh;

criterion::criterion_group!(benches, batch::benches, log::benches, mesh::benches);
criterion::criterion_main!(benches);
