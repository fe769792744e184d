//! The simulated disk of one node: a model without time, which `file` drives through the executor.
//!
//! Every file is an inode with two images. `visible` is what the running node reads; `stable` is what a power cut
//! surely leaves; `dirty` lists the changes between them in the order in which they completed, so that always
//! `visible` = `stable` + `dirty`. A sync moves into `stable` what had completed before it was called.
//! Directories likewise: entries are `visible` and `stable`, and `names` lists the entry changes between them.
//!
//! A power cut ([`crash`]) decides each 512-byte piece of each dirty or unfinished write on its own (kept, dropped,
//! torn), each change of length, and each change of an entry. Entries are POSIX's, stricter than ext4's journal: a file
//! whose directory was never synced may be gone though its bytes were synced, a directory made by
//! `create_dir_all` lasts only once its *parent* was synced, and a renamed file may bear the old name, the new one or both.
//! It bears neither only if the old one was not synced. A name that was replaced by a rename is never left empty.
//!
//! A sync of a directory that fails takes one of two courses, those of ext4, XFS and Btrfs (Rebello et al., Can Applications
//! Recover from fsync Failures?, ATC 2020): the changes stay and a later sync covers them, or the journal of the file system is
//! given up. Then nothing can be changed any more, and whoever starts again finds it mounted anew, as after a power cut.

mod crash;
pub(super) mod image;
mod names;

use super::{
    dice::Dice,
    faults::{DiskFault, DiskOp},
};
use crate::limits::BLOCK_BYTES;
use bytes::Bytes;
use image::Image;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The number of an inode. Never reused.
pub(super) type Ino = u64;

/// What a real disk writes as a whole or, torn, in part.
pub(super) const SECTOR: u64 = 512;

/// What `space` reports in all when there is no quota.
const UNLIMITED: u64 = 1 << 40;

/// The root directory.
const ROOT: Ino = 1;

/// One node's disk. Cloning is cheap: pages are shared until written.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    next_ino: Ino,
    /// Changes of entries that no `sync_dir` has covered, in order.
    names: Vec<NameChange>,
    /// Orders dirty changes and name changes: a sync covers what is numbered below its beginning.
    next_seq: u64,
    /// Writes submitted and not yet completed.
    unfinished: BTreeMap<u64, Unfinished>,
    /// Sectors that answer EIO until they are written.
    bad: BTreeSet<(Ino, u64)>,
    /// Faults that the test asked for, with a piece of the path they are meant for.
    wanted: Vec<(String, DiskFault)>,
    quota: Option<u64>,
    /// The file system has given its journal up: it can be read, and not changed until it is mounted anew.
    read_only: bool,
    /// Multiplies every latency.
    pub(super) slowness: u64,
    /// Bytes that reads have answered with.
    pub(super) read_bytes: u64,
}

#[derive(Clone, Debug)]
enum Inode {
    Dir(Dir),
    File(FileNode),
}

#[derive(Clone, Debug, Default)]
struct Dir {
    visible: BTreeMap<String, Ino>,
    stable: BTreeMap<String, Ino>,
}

#[derive(Clone, Debug, Default)]
struct FileNode {
    visible: Image,
    stable: Image,
    dirty: Vec<Dirty>,
    handles: u32,
}

#[derive(Clone, Debug)]
struct Dirty {
    seq: u64,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Write { position: u64, data: Bytes },
    Truncate { len: u64 },
}

#[derive(Clone, Debug)]
struct Unfinished {
    ino: Ino,
    position: u64,
    data: Bytes,
}

/// An entry that now leads to `to`, or to nothing.
#[derive(Clone, Debug)]
struct NameChange {
    seq: u64,
    dir: Ino,
    name: String,
    to: Option<Ino>,
    /// The second half of a rename: happens only if the change of this number (the new name) does.
    only_after: Option<u64>,
    /// Given up ([`DiskFault::NamesGivenUp`]): no later sync covers it.
    dropped: bool,
}

impl Change {
    fn apply(&self, image: &mut Image) {
        match self {
            Self::Write { position, data } => image.write(*position, data),
            Self::Truncate { len } => image.truncate(*len),
        }
    }
}

impl FileNode {
    /// Makes `visible` what it should be after `stable` or `dirty` changed.
    fn rebuild_visible(&mut self) {
        self.visible = self.stable.clone();
        for dirty in &self.dirty {
            dirty.change.apply(&mut self.visible);
        }
    }

    fn stabilise(&mut self, before: u64) {
        let (stable, dirty) = (&mut self.stable, &mut self.dirty);
        dirty.retain(|one| {
            let covered = one.seq < before;
            if covered {
                one.change.apply(stable);
            }
            !covered
        });
    }
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            inodes: BTreeMap::from([(ROOT, Inode::Dir(Dir::default()))]),
            next_ino: ROOT + 1,
            names: Vec::new(),
            next_seq: 0,
            unfinished: BTreeMap::new(),
            bad: BTreeSet::new(),
            wanted: Vec::new(),
            quota: None,
            read_only: false,
            slowness: 1,
            read_bytes: 0,
        }
    }

    /// The number that separates what is complete now from what completes later.
    pub(super) fn mark(&self) -> u64 {
        self.next_seq
    }

    fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    fn file(&self, ino: Ino) -> io::Result<&FileNode> {
        match self.inodes.get(&ino) {
            Some(Inode::File(file)) => Ok(file),
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match self.inodes.get_mut(&ino) {
            Some(Inode::File(file)) => Ok(file),
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn len(&self, ino: Ino) -> io::Result<u64> {
        self.file(ino).map(|file| file.visible.len())
    }

    /// What a read answers that completes now.
    pub(super) fn read(&mut self, path: &Path, ino: Ino, position: u64, len: usize, dice: &mut Dice) -> io::Result<Vec<u8>> {
        let mut out = self.file(ino)?.visible.read(position, len);
        self.read_bytes += out.len() as u64;
        if out.is_empty() {
            return Ok(out);
        }
        let wanted = self.take_wanted(path, DiskOp::Read, |fault| matches!(fault, DiskFault::ReadError)).is_some();
        if wanted || dice.chance(dice.plan.read_error) {
            dice.count("read_error");
            let sector = position / SECTOR + dice.below((out.len() as u64).div_ceil(SECTOR));
            self.bad.insert((ino, sector));
        }
        let end = (position + out.len() as u64).div_ceil(SECTOR);
        if self.bad.range((ino, position / SECTOR)..(ino, end)).next().is_some() {
            dice.count("read_of_bad_sector");
            return Err(eio());
        }
        // A write under way shows in any mixture.
        for write in self.unfinished.values().filter(|write| write.ino == ino) {
            overlay_some(&mut out, position, write, dice);
        }
        Ok(out)
    }

    /// A write is on its way: from now on a crash may leave pieces of it.
    pub(super) fn begin_write(&mut self, ino: Ino, position: u64, data: Bytes) -> u64 {
        let id = self.seq();
        self.unfinished.insert(id, Unfinished { ino, position, data });
        id
    }

    /// The caller of a write is gone: it may or may not happen.
    pub(super) fn cancel_write(&mut self, id: u64) {
        self.unfinished.remove(&id);
    }

    /// The write ends, well or not.
    pub(super) fn finish_write(&mut self, path: &Path, id: u64, dice: &mut Dice) -> io::Result<()> {
        let Some(Unfinished { ino, mut position, data }) = self.unfinished.remove(&id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.refuse_if_read_only()?;
        let wanted = self.take_wanted(path, DiskOp::Write, |fault| !matches!(fault, DiskFault::Stall(_)));
        let needed = self.file(ino)?.visible.would_allocate(position, data.len());
        if wanted == Some(DiskFault::NoSpace) || needed > self.free() {
            dice.count("no_space");
            self.write_what_fits(ino, position, &data, dice)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if wanted == Some(DiskFault::WriteError) || dice.chance(dice.plan.write_error) {
            dice.count("write_error");
            for (at, piece) in pieces(position, &data) {
                if dice.coin() {
                    self.write(ino, at, piece)?;
                }
            }
            return Err(eio());
        }
        let blocks = match wanted {
            Some(DiskFault::Misdirected { blocks }) => blocks,
            _ if dice.chance(dice.plan.misdirected_write) => 4 - dice.below(8) as i64,
            _ => 0,
        };
        let target = position.saturating_add_signed(blocks * BLOCK_BYTES as i64);
        if target != position {
            dice.count("misdirected_write");
            position = target;
        }
        self.write(ino, position, data)
    }

    /// A full disk may take the first blocks of a write before it refuses.
    fn write_what_fits(&mut self, ino: Ino, position: u64, data: &Bytes, dice: &mut Dice) -> io::Result<()> {
        let (visible, free) = (&self.file(ino)?.visible, self.free());
        let fits = |blocks: &u64| visible.would_allocate(position, *blocks as usize * BLOCK_BYTES) <= free;
        let most = (0..data.len().div_ceil(BLOCK_BYTES) as u64).take_while(fits).last().unwrap_or(0);
        let len = dice.within(0..=most) as usize * BLOCK_BYTES;
        if len > 0 { self.write(ino, position, data.slice(..len)) } else { Ok(()) }
    }

    fn write(&mut self, ino: Ino, position: u64, data: Bytes) -> io::Result<()> {
        let seq = self.seq();
        let sectors = position / SECTOR..(position + data.len() as u64).div_ceil(SECTOR);
        if !self.bad.is_empty() {
            self.bad.retain(|(of, sector)| *of != ino || !sectors.contains(sector));
        }
        let file = self.file_mut(ino)?;
        file.visible.write(position, &data);
        file.dirty.push(Dirty { seq, change: Change::Write { position, data } });
        Ok(())
    }

    /// Cuts or extends what the node sees.
    pub(super) fn truncate(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        self.refuse_if_read_only()?;
        let seq = self.seq();
        let file = self.file_mut(ino)?;
        file.visible.truncate(len);
        file.dirty.push(Dirty { seq, change: Change::Truncate { len } });
        Ok(())
    }

    /// Ends a sync that began at `mark`.
    pub(super) fn sync(&mut self, path: &Path, ino: Ino, mark: u64, dice: &mut Dice) -> io::Result<()> {
        self.refuse_if_read_only()?;
        let wanted = self.take_wanted(path, DiskOp::Sync, |fault| matches!(fault, DiskFault::SyncError)).is_some();
        if wanted || dice.chance(dice.plan.sync_error) {
            dice.count("sync_error");
            self.drop_dirty(ino, mark, dice)?;
            return Err(eio());
        }
        self.file_mut(ino)?.stabilise(mark);
        Ok(())
    }

    fn refuse_if_read_only(&self) -> io::Result<()> {
        if self.read_only { Err(io::Error::from_raw_os_error(libc::EROFS)) } else { Ok(()) }
    }

    /// How much longer than usual an operation takes, if the test or the plan wants that.
    pub(super) fn stall(&mut self, path: &Path, op: DiskOp, dice: &mut Dice) -> Duration {
        if let Some(DiskFault::Stall(by)) = self.take_wanted(path, op, |fault| matches!(fault, DiskFault::Stall(_))) {
            dice.count("disk_stall");
            return by;
        }
        if dice.fault("disk_stall", dice.plan.disk_stall) {
            return Duration::from_micros(dice.skewed(1_000..=10_000_000));
        }
        Duration::ZERO
    }

    /// Has the next fitting operation on a path that contains `piece` meet `fault`.
    pub(super) fn want(&mut self, piece: &str, fault: DiskFault) {
        self.wanted.push((piece.to_owned(), fault));
    }

    pub(super) fn calm(&mut self) {
        self.wanted.clear();
        self.slowness = 1;
    }

    fn take_wanted(&mut self, path: &Path, op: DiskOp, kind: impl Fn(&DiskFault) -> bool) -> Option<DiskFault> {
        if self.wanted.is_empty() {
            return None;
        }
        let path = path.to_string_lossy();
        let found = self.wanted.iter().position(|(piece, fault)| path.contains(piece) && fault.fits(op) && kind(fault))?;
        Some(self.wanted.remove(found).1)
    }

    pub(super) fn set_quota(&mut self, bytes: Option<u64>) {
        self.quota = bytes;
    }

    pub(super) fn total(&self) -> u64 {
        self.quota.unwrap_or(UNLIMITED)
    }

    /// Bytes that can still be written to new places. Removed files count until their last handle closes.
    pub(super) fn free(&self) -> u64 {
        let Some(quota) = self.quota else { return UNLIMITED / 2 };
        let linked = self.linked();
        let used = self.inodes.iter().filter_map(|(ino, inode)| match inode {
            Inode::File(file) if file.handles > 0 || linked.contains(ino) => Some(file.visible.allocated()),
            _ => None,
        });
        quota.saturating_sub(used.sum())
    }

    /// Inodes that a visible name leads to.
    fn linked(&self) -> BTreeSet<Ino> {
        let dirs = self.inodes.values().filter_map(|inode| if let Inode::Dir(dir) = inode { Some(dir) } else { None });
        dirs.flat_map(|dir| dir.visible.values().copied()).collect()
    }

    pub(super) fn opened(&mut self, ino: Ino) -> io::Result<()> {
        self.file_mut(ino)?.handles += 1;
        Ok(())
    }

    pub(super) fn closed(&mut self, ino: Ino) {
        if let Ok(file) = self.file_mut(ino) {
            assert!(file.handles > 0, "inode {ino} was closed more often than opened");
            file.handles -= 1;
        }
    }

    /// What a power cut surely leaves of a file, found by its visible name.
    pub(super) fn stable_image(&self, path: &Path) -> io::Result<&Image> {
        let ino = self.resolve(path)?;
        self.file(ino).map(|file| &file.stable)
    }

    /// What the node sees of a file.
    pub(super) fn visible_image(&self, path: &Path) -> io::Result<&Image> {
        let ino = self.resolve(path)?;
        self.file(ino).map(|file| &file.visible)
    }

    /// Changes a stable and visible byte of a file behind everybody's back.
    pub(super) fn flip(&mut self, path: &Path, position: u64, mask: u8) -> io::Result<()> {
        let ino = self.resolve(path)?;
        self.flip_inode(ino, position, mask)
    }

    fn flip_inode(&mut self, ino: Ino, position: u64, mask: u8) -> io::Result<()> {
        let file = self.file_mut(ino)?;
        let byte = file.stable.read(position, 1);
        let Some(byte) = byte.first() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        file.stable.write(position, &Bytes::copy_from_slice(&[byte ^ mask]));
        file.rebuild_visible();
        Ok(())
    }

    /// Makes the sector at `position` answer EIO until it is written.
    pub(super) fn spoil(&mut self, path: &Path, position: u64) -> io::Result<()> {
        let ino = self.resolve(path)?;
        self.bad.insert((ino, position / SECTOR));
        Ok(())
    }

    /// Whether everything visible would survive a power cut.
    pub(super) fn is_clean(&self) -> bool {
        let clean = |inode: &Inode| matches!(inode, Inode::Dir(_)) || matches!(inode, Inode::File(file) if file.dirty.is_empty());
        self.names.is_empty() && self.unfinished.is_empty() && self.inodes.values().all(clean)
    }

    /// Every visible file with its length, sorted by path.
    pub(super) fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        self.walk(ROOT, Path::new("/"), &mut |path, ino| {
            if let Ok(file) = self.file(ino) {
                found.push((path.to_owned(), file.visible.len()));
            }
        });
        found.sort();
        found
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// The 512-byte pieces of a write, each with its position.
fn pieces(position: u64, data: &Bytes) -> impl Iterator<Item = (u64, Bytes)> {
    let sector = SECTOR as usize;
    (0..data.len()).step_by(sector).map(move |at| (position + at as u64, data.slice(at..data.len().min(at + sector))))
}

/// Copies any of the sectors of an unfinished write into what a read answers.
fn overlay_some(out: &mut [u8], position: u64, write: &Unfinished, dice: &mut Dice) {
    let out_end = position + out.len() as u64;
    // Nothing, all or each by a coin.
    let p = [0.0, 1.0, 0.5][dice.index(3)];
    for (at, piece) in pieces(write.position, &write.data) {
        if at >= position && at + piece.len() as u64 <= out_end && dice.chance(p) {
            let from = (at - position) as usize;
            out[from..from + piece.len()].copy_from_slice(&piece);
        }
    }
}
