//! What the disk gives without a server: the same writes with the raw io-uring crate.
//!
//! One file, opened with O_DIRECT, filled once and then written over and over, as the journal's recycled files are:
//! so no write has to record new extents, and an fdatasync is as cheap as it can be. Four measurements:
//!
//! * *one by one*: a write, an fdatasync, the next. Its median is the least that a synced ack can take.
//! * *gathered*: the writes of all writers as one large write, then one fdatasync: group commit as the server does it.
//! * *side by side*: the same writes at once, one by one in the queue, then one fdatasync.
//! * *read*: the file from its beginning, several large reads in flight.

use crate::{
    args::LimitArgs,
    machine::device::{Counters, Device},
    measure::{Latency, latencies, record},
    sys::{self, ring::Ring},
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// Reads in flight.
const READ_DEPTH: usize = 8;

/// What to measure.
#[derive(Clone, Debug)]
pub struct LimitSpec {
    /// Directory on the disk in question.
    pub dir: PathBuf,
    /// Bytes of one write; a multiple of 4 KiB.
    pub write_bytes: usize,
    /// Writes that share a sync.
    pub writers: usize,
    /// Size of the file.
    pub file_bytes: u64,
    /// How long each measurement takes.
    pub duration: Duration,
    /// CPU to run on.
    pub cpu: Option<usize>,
    /// Measure the three kinds of writes; else only reads.
    pub writes: bool,
    /// Measure reads; else only writes.
    pub reads: bool,
}

/// One measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Writes (or reads) per second.
    pub ops_per_s: f64,
    /// Of a commit (writes and their sync), or of a read.
    pub latency: Latency,
    /// What the device counted meanwhile.
    pub device: Option<Counters>,
}

/// All four.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Limit {
    /// Bytes of one write.
    pub write_bytes: usize,
    /// Writes that share a sync in the grouped measurements.
    pub writers: usize,
    /// A write, an fdatasync, the next.
    pub one_by_one: Figure,
    /// All writers' bytes in one write, one fdatasync.
    pub gathered: Figure,
    /// All writers' writes at once, one fdatasync.
    pub side_by_side: Figure,
    /// Reading in order.
    pub read: Figure,
}

impl LimitSpec {
    /// From the command line.
    ///
    /// # Errors
    /// If the sizes do not fit each other.
    pub fn of(args: &LimitArgs) -> Result<Self> {
        let spec = Self {
            dir: args.dir.clone(),
            write_bytes: usize::try_from(args.write_bytes).context("--write-bytes is too large")?,
            writers: args.writers,
            file_bytes: args.file_bytes.next_multiple_of(READ_BYTES as u64),
            duration: args.duration,
            cpu: args.cpu,
            writes: true,
            reads: true,
        };
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<()> {
        ensure!(self.write_bytes > 0 && self.write_bytes.is_multiple_of(sys::ring::ALIGN), "a write must be a multiple of 4 KiB");
        ensure!(self.writers <= 1024, "more than 1,024 writers in one sync are not measured");
        let group = (self.write_bytes * self.writers) as u64;
        ensure!(group <= 1 << 30, "one sync for {group} bytes: that is more than 1 GiB");
        ensure!(self.file_bytes >= 2 * group, "the file must hold two groups of writes, {} bytes", 2 * group);
        Ok(())
    }
}

/// A file that goes when this goes.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may be gone already; there is nothing to do about anything else.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs all four, on a thread of its own; says on `progress` what it does.
///
/// # Errors
/// If the disk refuses, or the thread cannot be had.
pub fn run(spec: &LimitSpec, progress: impl Fn(&str) + Sync) -> Result<Limit> {
    spec.check()?;
    std::fs::create_dir_all(&spec.dir).with_context(|| format!("making {}", spec.dir.display()))?;
    let device = Device::under(&spec.dir).ok().flatten();
    std::thread::scope(|scope| {
        let all = || {
            if let Some(cpu) = spec.cpu {
                sys::pin_thread(&[cpu]).with_context(|| format!("binding the limit run to CPU {cpu}"))?;
            }
            measure_all(spec, device.as_ref(), &progress)
        };
        scope.spawn(all).join().unwrap_or_else(|_| anyhow::bail!("the thread of the limit run panicked"))
    })
}

fn measure_all(spec: &LimitSpec, device: Option<&Device>, progress: &impl Fn(&str)) -> Result<Limit> {
    let scratch = Scratch(spec.dir.join(format!("millpond-limit-{}.tmp", std::process::id())));
    let group = spec.write_bytes * spec.writers;
    let mut bench = Bench { ring: open(&scratch.0, spec)?, spec, device, position: 0 };
    // Not zeros: some devices store nothing for those.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for word in bench.ring.memory().chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    progress("limit: filling the file");
    bench.fill()?;
    let mut limit = Limit { write_bytes: spec.write_bytes, writers: spec.writers, ..Limit::default() };
    if spec.writes {
        progress("limit: one write, one sync");
        limit.one_by_one = bench.commits(1, spec.write_bytes)?;
        progress("limit: gathered writes, one sync");
        limit.gathered = bench.commits(1, group)?;
        progress("limit: writes side by side, one sync");
        limit.side_by_side = bench.commits(spec.writers, spec.write_bytes)?;
    }
    if spec.reads {
        progress("limit: reading");
        limit.read = bench.read()?;
    }
    Ok(limit)
}

fn open(path: &Path, spec: &LimitSpec) -> Result<Ring> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT);
    let file: File = options.open(path).with_context(|| format!("making {} for direct I/O", path.display()))?;
    let memory = (spec.write_bytes * spec.writers).max(READ_BYTES * READ_DEPTH);
    let depth = (spec.writers + 1).max(READ_DEPTH);
    Ring::new(file, depth, memory).context("setting up io_uring (is it allowed here?)")
}

struct Bench<'a> {
    ring: Ring,
    spec: &'a LimitSpec,
    device: Option<&'a Device>,
    position: u64,
}

impl Bench<'_> {
    /// Waits for exactly `n` operations, each of which must have moved `bytes` in all or be a sync.
    fn wait_all(&mut self, n: usize, bytes: usize) -> Result<()> {
        let (mut done, mut short) = (0, false);
        while done < n {
            self.ring.wait(n - done, |completed| {
                done += 1;
                short |= completed.bytes != bytes && completed.bytes != 0;
            })?;
        }
        ensure!(!short, "the disk moved less than asked");
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        let mut at = 0;
        while at < self.spec.file_bytes {
            let count = ((self.spec.file_bytes - at) / READ_BYTES as u64).min(READ_DEPTH as u64) as usize;
            for i in 0..count {
                self.ring.write(i as u64, i * READ_BYTES, READ_BYTES, at + (i * READ_BYTES) as u64)?;
            }
            self.wait_all(count, READ_BYTES)?;
            at += (count * READ_BYTES) as u64;
        }
        self.ring.sync(0)?;
        self.wait_all(1, 0)
    }

    /// `count` writes of `bytes` each, then one sync, again and again.
    fn commits(&mut self, count: usize, bytes: usize) -> Result<Figure> {
        let mut histogram = latencies();
        let warm_until = Instant::now() + self.spec.duration / 10;
        while Instant::now() < warm_until {
            self.commit(count, bytes)?;
        }
        let before = self.device.and_then(Device::counters);
        let start = Instant::now();
        let mut commits = 0_u64;
        let mut last = start;
        while last - start < self.spec.duration {
            self.commit(count, bytes)?;
            let now = Instant::now();
            record(&mut histogram, now - last);
            last = now;
            commits += 1;
        }
        let seconds = (last - start).as_secs_f64();
        let ops = (commits * count as u64) as f64;
        Ok(self.figure(ops * bytes as f64 / seconds, ops / seconds, &histogram, before))
    }

    fn commit(&mut self, count: usize, bytes: usize) -> Result<()> {
        let group = (count * bytes) as u64;
        if self.position + group > self.spec.file_bytes {
            self.position = 0;
        }
        for i in 0..count {
            self.ring.write(i as u64, i * bytes, bytes, self.position + (i * bytes) as u64)?;
        }
        self.wait_all(count, bytes)?;
        self.ring.sync(0)?;
        self.wait_all(1, 0)?;
        self.position += group;
        Ok(())
    }

    fn read(&mut self) -> Result<Figure> {
        let before = self.device.and_then(Device::counters);
        let mut histogram = latencies();
        let mut began = [Instant::now(); READ_DEPTH];
        let start = Instant::now();
        let blocks = self.spec.file_bytes / READ_BYTES as u64;
        let (mut next, mut done, mut in_flight, mut short) = (0_u64, 0_u64, 0, false);
        let mut free: Vec<usize> = (0..READ_DEPTH).collect();
        loop {
            let now = Instant::now();
            let over = now - start >= self.spec.duration;
            while let Some(slot) = free.pop_if(|_| !over) {
                began[slot] = now;
                self.ring.read(slot as u64, slot * READ_BYTES, READ_BYTES, (next % blocks) * READ_BYTES as u64)?;
                next += 1;
                in_flight += 1;
            }
            if in_flight == 0 {
                break;
            }
            self.ring.wait(1, |completed| {
                let slot = completed.tag as usize;
                record(&mut histogram, began[slot].elapsed());
                free.push(slot);
                done += 1;
                in_flight -= 1;
                short |= completed.bytes != READ_BYTES;
            })?;
        }
        ensure!(!short, "the disk read less than asked");
        let seconds = start.elapsed().as_secs_f64();
        Ok(self.figure((done * READ_BYTES as u64) as f64 / seconds, done as f64 / seconds, &histogram, before))
    }

    fn figure(&self, bytes_per_s: f64, ops_per_s: f64, histogram: &hdrhistogram::Histogram<u64>, before: Option<Counters>) -> Figure {
        let device = before.and_then(|before| Some(self.device?.counters()?.since(before)));
        Figure { bytes_per_s, ops_per_s, latency: Latency::of(histogram), device }
    }
}

#[cfg(test)]
mod tests;
