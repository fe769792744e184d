//! Files as the node sees them: the model of `disk`, with time.
//!
//! An operation begins when its future is first polled and has its effect when its time is over. A write whose future
//! was dropped in between happens or not, by the seed; so does one that a crash interrupts.

use super::{
    disk::{Disk, Ino},
    faults::DiskOp,
    rt::SimRt,
    world::{Later, Slot},
};
use crate::{File, IoBuf, IoError, Result, limits::BLOCK_BYTES, rt::check_aligned};
use bytes::Bytes;
use std::{
    future::pending,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

/// A file of a simulated node.
pub struct SimFile {
    rt: SimRt,
    ino: Ino,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    /// A handle that the disk has counted already.
    pub(super) fn opened(rt: SimRt, ino: Ino, path: PathBuf, writable: bool) -> Self {
        Self { rt, ino, path, writable }
    }

    fn refuse_if_read_only(&self, doing: &'static str) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(disk_error(doing, &self.path)(io::Error::from_raw_os_error(libc::EBADF)))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let ino = self.ino;
        self.rt.with_disk(|disk, _| disk.closed(ino));
    }
}

/// Latencies of an idle disk, in nanoseconds; the seed draws small ones far more often.
const READ_NS: std::ops::RangeInclusive<u64> = 20_000..=500_000;
const WRITE_NS: std::ops::RangeInclusive<u64> = 10_000..=1_000_000;
const SYNC_NS: std::ops::RangeInclusive<u64> = 30_000..=5_000_000;
const NAME_NS: std::ops::RangeInclusive<u64> = 5_000..=500_000;

impl SimRt {
    /// Runs `op` on this node's disk, unless this life is over.
    pub(super) fn with_disk<T>(&self, op: impl FnOnce(&mut Disk, &mut super::dice::Dice) -> T) -> Option<T> {
        if !self.world.alive(self.node, self.life) {
            return None;
        }
        let mut nodes = self.world.nodes.borrow_mut();
        let node = nodes.get_mut(&self.node)?;
        Some(op(&mut node.disk, &mut self.world.dice.borrow_mut()))
    }

    /// Begins an operation with `begin` and ends it, some time later, with `end`, whose answer it gives.
    /// `end` is told whether somebody still waits for the answer. Of a dead life: waits for ever.
    pub(super) async fn disk_op<B: 'static, T: 'static>(
        &self,
        op: DiskOp,
        path: &Path,
        begin: impl FnOnce(&mut Disk) -> B,
        end: impl FnOnce(&mut Disk, &mut super::dice::Dice, B, bool) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        let Some((begun, delay)) = self.with_disk(|disk, dice| {
            let range = match op {
                DiskOp::Read => READ_NS,
                DiskOp::Write => WRITE_NS,
                DiskOp::Sync => SYNC_NS,
                DiskOp::Name => NAME_NS,
            };
            let stall = disk.stall(path, op, dice).as_nanos() as u64;
            (begin(disk), dice.skewed(range) * disk.slowness + stall)
        }) else {
            return pending().await;
        };
        let later = Later::new();
        let slot = later.0.clone();
        let rt = self.clone();
        self.world.call_after(delay, move |world| {
            // One holder is this event; the other is the future that waits.
            let waited_for = Rc::strong_count(&slot) > 1;
            let ended = rt.with_disk(|disk, dice| end(disk, dice, begun, waited_for));
            if let Some(answer) = ended {
                world.trace(b'd', [op as u64, rt.node.0, u64::from(answer.is_ok())]);
                Slot::fill(&slot, answer);
            }
        });
        later.await
    }

    /// An operation on names, which has its effect at its end.
    pub(super) async fn name_op<T: 'static>(
        &self,
        doing: &'static str,
        path: &Path,
        change: impl FnOnce(&mut Disk, &mut super::dice::Dice) -> io::Result<T> + 'static,
    ) -> Result<T> {
        self.disk_op(DiskOp::Name, path, |_| (), move |disk, dice, (), _| change(disk, dice)).await.map_err(disk_error(doing, path))
    }
}

/// Says what we were doing to which file.
pub(super) fn disk_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IoError + use<> {
    let path = path.to_owned();
    move |source| IoError::Disk { doing, path, source }
}

impl File for SimFile {
    type Buf = SimBuf;
    type Read = Vec<u8>;

    fn path(&self) -> &Path {
        &self.path
    }

    async fn len(&self) -> Result<u64> {
        let ino = self.ino;
        self.rt.name_op("stat", &self.path, move |disk, _| disk.len(ino)).await
    }

    fn buf(&self, capacity: usize) -> SimBuf {
        SimBuf::new(capacity)
    }

    async fn read_at(&self, position: u64, len: usize) -> Result<Vec<u8>> {
        check_aligned("read", &self.path, position, len)?;
        let (ino, path) = (self.ino, self.path.clone());
        let read = move |disk: &mut Disk, dice: &mut super::dice::Dice, (), _| disk.read(&path, ino, position, len, dice);
        self.rt.disk_op(DiskOp::Read, &self.path, |_| (), read).await.map_err(disk_error("read", &self.path))
    }

    async fn write_at(&self, position: u64, buf: SimBuf) -> Result<()> {
        check_aligned("write", &self.path, position, buf.len())?;
        self.refuse_if_read_only("write")?;
        let (ino, path) = (self.ino, self.path.clone());
        let data = Bytes::from(buf.bytes);
        self.rt.world.trace(b'w', [ino, position, u64::from(crc32fast::hash(&data))]);
        let begin = |disk: &mut Disk| disk.begin_write(ino, position, data);
        let end = move |disk: &mut Disk, dice: &mut super::dice::Dice, id, waited_for: bool| {
            if !waited_for && dice.coin() {
                disk.cancel_write(id);
                return Ok(());
            }
            disk.finish_write(&path, id, dice)
        };
        self.rt.disk_op(DiskOp::Write, &self.path, begin, end).await.map_err(disk_error("write", &self.path))
    }

    async fn sync(&self) -> Result<()> {
        let (ino, path) = (self.ino, self.path.clone());
        let end = move |disk: &mut Disk, dice: &mut super::dice::Dice, mark, _| disk.sync(&path, ino, mark, dice);
        self.rt.disk_op(DiskOp::Sync, &self.path, |disk| disk.mark(), end).await.map_err(disk_error("sync", &self.path))
    }

    async fn truncate(&self, len: u64) -> Result<()> {
        check_aligned("truncate", &self.path, len, 0)?;
        self.refuse_if_read_only("truncate")?;
        let ino = self.ino;
        self.rt.name_op("truncate", &self.path, move |disk, _| disk.truncate(ino, len)).await
    }

    async fn close(self) -> Result<()> {
        self.rt.name_op("close", &self.path, |_, _| Ok(())).await
    }
}

/// Memory to write from. As in production, no byte reaches the disk that nobody wrote.
#[derive(Debug)]
pub struct SimBuf {
    bytes: Vec<u8>,
    capacity: usize,
}

impl SimBuf {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK_BYTES);
        Self { bytes: Vec::with_capacity(capacity), capacity }
    }

    fn check_room(&self, more: usize) {
        let (len, capacity) = (self.bytes.len(), self.capacity);
        assert!(more <= capacity - len, "{more} bytes do not fit behind {len} in a buffer of {capacity}");
    }
}

impl IoBuf for SimBuf {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn put(&mut self, bytes: &[u8]) {
        self.check_room(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn put_zeros(&mut self, n: usize) {
        self.check_room(n);
        self.bytes.resize(self.bytes.len() + n, 0);
    }

    fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn truncate(&mut self, len: usize) {
        IoBuf::truncate(&mut self.bytes, len);
    }
}
