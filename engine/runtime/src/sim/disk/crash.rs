//! What is left of a disk when the power goes, when the process goes, and when a sync fails.

use super::{Change, Dirty, Disk, FileNode, Ino, Inode, NameChange, ROOT, SECTOR, pieces};
use crate::sim::dice::Dice;
use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    path::{Path, PathBuf},
};

/// How one un-synced write fares. Mostly whole or not at all: independent coins alone would hardly ever
/// keep all thirty pieces of a write.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    Dropped,
    /// The pieces before this one are kept.
    Prefix(u64),
    /// Each piece for itself is kept with this probability, dropped or, one in sixteen, torn.
    Mixed(f64),
}

impl Fate {
    fn draw(pieces: u64, dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 | 1 => Self::Kept,
            2 | 3 => Self::Dropped,
            4 => Self::Prefix(dice.below(pieces.max(1))),
            5 => Self::Mixed(0.1),
            6 => Self::Mixed(0.5),
            _ => Self::Mixed(0.9),
        }
    }
}

impl Disk {
    /// The power goes: un-synced changes are kept, lost or torn, piece by piece; then the plan's rot.
    pub(in crate::sim) fn crash(&mut self, dice: &mut Dice) {
        self.mount_anew(dice);
        self.rot(dice);
    }

    /// What is left is what a power cut leaves, and it can be written again.
    fn mount_anew(&mut self, dice: &mut Dice) {
        self.read_only = false;
        for write in mem::take(&mut self.unfinished).into_values() {
            let change = Change::Write { position: write.position, data: write.data };
            let seq = self.seq();
            if let Ok(file) = self.file_mut(write.ino) {
                file.dirty.push(Dirty { seq, change });
            }
        }
        for inode in self.inodes.values_mut() {
            if let Inode::File(file) = inode {
                let dirty = mem::take(&mut file.dirty);
                settle(file, dirty, dice);
                file.visible = file.stable.clone();
                file.handles = 0;
            }
        }
        self.settle_names(dice);
        self.forget_unreachable();
    }

    /// The process goes and the machine stays: what was written is there, and still not synced. A file system that
    /// takes no changes any more is mounted anew.
    pub(in crate::sim) fn exit(&mut self, dice: &mut Dice) {
        if self.read_only {
            return self.mount_anew(dice);
        }
        for write in mem::take(&mut self.unfinished).into_values() {
            let kept: Vec<_> = match dice.below(3) {
                0 => Vec::new(),
                1 => vec![(write.position, write.data)],
                _ => pieces(write.position, &write.data).filter(|_| dice.coin()).collect(),
            };
            for (at, piece) in kept {
                self.write(write.ino, at, piece).expect("a file with a write under way exists");
            }
        }
        for inode in self.inodes.values_mut() {
            if let Inode::File(file) = inode {
                file.handles = 0;
            }
        }
    }

    /// A failed sync: what it should have covered is half of the time lost, else as after a power cut.
    pub(super) fn drop_dirty(&mut self, ino: Ino, mark: u64, dice: &mut Dice) -> io::Result<()> {
        let file = self.file_mut(ino)?;
        let (doomed, later) = mem::take(&mut file.dirty).into_iter().partition(|dirty| dirty.seq < mark);
        if dice.coin() {
            settle(file, doomed, dice);
        }
        file.dirty = later;
        file.rebuild_visible();
        Ok(())
    }

    fn settle_names(&mut self, dice: &mut Dice) {
        let mut kept: BTreeSet<u64> = BTreeSet::new();
        let changes = mem::take(&mut self.names);
        for change in &changes {
            let possible = change.only_after.is_none_or(|link| kept.contains(&link) || !pending(&changes, link));
            if possible && dice.coin() {
                kept.insert(change.seq);
                self.apply_stable(change);
            } else {
                dice.count(if change.only_after.is_some() && possible { "both_names_kept" } else { "name_change_lost" });
            }
        }
        for inode in self.inodes.values_mut() {
            if let Inode::Dir(dir) = inode {
                dir.visible = dir.stable.clone();
            }
        }
    }

    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::from([ROOT]);
        self.walk(ROOT, Path::new("/"), &mut |_, ino| {
            reachable.insert(ino);
        });
        self.inodes.retain(|ino, _| reachable.contains(ino));
        self.bad.retain(|(ino, _)| reachable.contains(ino));
    }

    fn rot(&mut self, dice: &mut Dice) {
        let (bit_rot, lost_name) = (dice.plan.bit_rot, dice.plan.lost_name);
        let files: Vec<(Ino, u64)> = self
            .inodes
            .iter()
            .filter_map(|(ino, inode)| match inode {
                Inode::File(file) if file.stable.len() > 0 => Some((*ino, file.stable.len())),
                _ => None,
            })
            .collect();
        if !files.is_empty() && dice.fault("bit_rot", bit_rot) {
            let (ino, len) = files[dice.index(files.len())];
            let position = dice.below(len);
            let mask = 1 << dice.below(8);
            self.flip_inode(ino, position, mask).expect("a byte of a file that was just found");
        }
        if dice.chance(lost_name) {
            let names = self.files();
            if !names.is_empty() {
                let (path, _) = &names[dice.index(names.len())];
                self.lose_name(path, dice).expect("a name that was just found");
            }
        }
    }

    /// A synced name vanishes, as after a repair of the file system.
    pub(in crate::sim) fn lose_name(&mut self, path: &Path, dice: &mut Dice) -> io::Result<()> {
        self.remove(path)?;
        let change = self.names.pop().expect("remove has pushed one");
        self.apply_stable(&change);
        self.names.retain(|older| older.dir != change.dir || older.name != change.name);
        dice.count("lost_name");
        Ok(())
    }

    /// Puts other contents in the place of all files, synced: a wiped or an exchanged disk, or an old image.
    pub(in crate::sim) fn restore(&mut self, files: &BTreeMap<PathBuf, super::image::Image>, dice: &mut Dice) {
        let (quota, slowness) = (self.quota, self.slowness);
        *self = Self { quota: None, slowness, ..Self::new() };
        for (path, image) in files {
            if let Some(dir) = path.parent() {
                self.create_dir_all(dir, dice).expect("paths of a snapshot are files below directories");
            }
            let ino = self.create(path, dice).expect("without a quota there is room");
            let file = self.file_mut(ino).expect("a file that was just created");
            file.stable = image.clone();
            file.visible = image.clone();
            file.dirty.clear();
        }
        for change in mem::take(&mut self.names) {
            self.apply_stable(&change);
        }
        self.quota = quota;
    }
}

/// Whether the change is still un-synced; otherwise it lasts already.
fn pending(changes: &[NameChange], seq: u64) -> bool {
    changes.iter().any(|change| change.seq == seq)
}

/// Decides over un-synced changes of a file and leaves the outcome in its stable image.
fn settle(file: &mut FileNode, mut dirty: Vec<Dirty>, dice: &mut Dice) {
    dice.shuffle(&mut dirty);
    for one in dirty {
        match one.change {
            Change::Write { position, data } => settle_write(file, position, &data, dice),
            Change::Truncate { len } if dice.coin() => file.stable.truncate(len),
            Change::Truncate { .. } => dice.count("length_lost"),
        }
    }
    file.stable.clip();
}

fn settle_write(file: &mut FileNode, position: u64, data: &bytes::Bytes, dice: &mut Dice) {
    let end = position + data.len() as u64;
    let fate = Fate::draw(data.len() as u64 / SECTOR, dice);
    let grows = match fate {
        Fate::Kept => true,
        _ => dice.coin(),
    };
    match fate {
        Fate::Kept => {
            dice.count("unsynced_write_kept");
            file.stable.put(position, data);
        }
        Fate::Dropped => dice.count("unsynced_write_lost"),
        Fate::Prefix(n) => {
            dice.count("unsynced_write_cut");
            file.stable.put(position, &data.slice(..(n * SECTOR) as usize));
        }
        Fate::Mixed(p) => {
            dice.count("unsynced_write_mixed");
            for (at, piece) in pieces(position, data) {
                if dice.below(16) == 0 {
                    dice.count("sector_torn");
                    let whole = dice.index(piece.len());
                    file.stable.put(at, &piece.slice(..whole));
                } else if dice.chance(p) {
                    file.stable.put(at, &piece);
                }
            }
        }
    }
    if end > file.stable.len() {
        if grows {
            file.stable.set_len(end);
        } else {
            dice.count("length_lost");
        }
    }
}
