//! Directories: looking up, changing and syncing entries.

use super::{Dir, Disk, FileNode, Ino, Inode, NameChange, ROOT, eio};
use crate::{
    limits::BLOCK_BYTES,
    sim::{
        dice::Dice,
        faults::{DiskFault, DiskOp},
    },
};
use std::{
    collections::BTreeSet,
    io,
    path::{Component, Path},
};

impl Disk {
    /// The inode that a path leads to.
    pub(in crate::sim) fn resolve(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for part in parts(path)? {
            at = *self.dir(at)?.visible.get(part).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The directory that holds a path, and the name in it.
    fn entry<'a>(&self, path: &'a Path) -> io::Result<(Ino, &'a str)> {
        let mut parts = parts(path)?;
        let name = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for part in parts {
            at = *self.dir(at)?.visible.get(part).ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    fn dir(&self, ino: Ino) -> io::Result<&Dir> {
        match self.inodes.get(&ino) {
            Some(Inode::Dir(dir)) => Ok(dir),
            Some(Inode::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> io::Result<&mut Dir> {
        match self.inodes.get_mut(&ino) {
            Some(Inode::Dir(dir)) => Ok(dir),
            Some(Inode::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Changes an entry; nothing but a sync of its directory makes that last.
    fn change(&mut self, dir: Ino, name: &str, to: Option<Ino>, only_after: Option<u64>) -> io::Result<u64> {
        self.refuse_if_read_only()?;
        let seq = self.seq();
        let entries = &mut self.dir_mut(dir)?.visible;
        match to {
            Some(ino) => drop(entries.insert(name.to_owned(), ino)),
            None => drop(entries.remove(name)),
        }
        self.names.push(NameChange { seq, dir, name: name.to_owned(), to, only_after, dropped: false });
        Ok(seq)
    }

    fn new_inode(&mut self, inode: Inode) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.inodes.insert(ino, inode);
        ino
    }

    /// A new empty file, or the existing one emptied.
    pub(in crate::sim) fn create(&mut self, path: &Path, dice: &mut Dice) -> io::Result<Ino> {
        let (dir, name) = self.entry(path)?;
        if let Some(ino) = self.dir(dir)?.visible.get(name).copied() {
            self.truncate(ino, 0)?;
            return Ok(ino);
        }
        self.refuse_if_read_only()?;
        self.room_for_a_name(dice)?;
        let ino = self.new_inode(Inode::File(FileNode::default()));
        self.change(dir, name, Some(ino), None)?;
        Ok(ino)
    }

    fn room_for_a_name(&self, dice: &mut Dice) -> io::Result<()> {
        if self.free() >= BLOCK_BYTES as u64 {
            return Ok(());
        }
        dice.count("no_space");
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Renames a file over whatever file bears the new name. As POSIX has it, two names of one file stay both.
    pub(in crate::sim) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.entry(from)?;
        let (to_dir, to_name) = self.entry(to)?;
        let ino = *self.dir(from_dir)?.visible.get(from_name).ok_or(io::ErrorKind::NotFound)?;
        self.file(ino)?;
        if let Some(replaced) = self.dir(to_dir)?.visible.get(to_name).copied() {
            self.file(replaced)?;
            if replaced == ino {
                return Ok(());
            }
        }
        let link = self.change(to_dir, to_name, Some(ino), None)?;
        self.change(from_dir, from_name, None, Some(link))?;
        Ok(())
    }

    pub(in crate::sim) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.entry(path)?;
        let ino = *self.dir(dir)?.visible.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.file(ino)?;
        self.change(dir, name, None, None).map(drop)
    }

    /// Under how many names a file is seen.
    pub(in crate::sim) fn links(&self, path: &Path) -> io::Result<u64> {
        let (dir, name) = self.entry(path)?;
        let ino = *self.dir(dir)?.visible.get(name).ok_or(io::ErrorKind::NotFound)?;
        let dirs = self.inodes.values().filter_map(|inode| if let Inode::Dir(dir) = inode { Some(dir) } else { None });
        Ok(dirs.map(|dir| dir.visible.values().filter(|named| **named == ino).count() as u64).sum())
    }

    pub(in crate::sim) fn create_dir_all(&mut self, path: &Path, dice: &mut Dice) -> io::Result<()> {
        let mut at = ROOT;
        for part in parts(path)? {
            at = match self.dir(at)?.visible.get(part).copied() {
                Some(next) => next,
                None => {
                    self.refuse_if_read_only()?;
                    self.room_for_a_name(dice)?;
                    let next = self.new_inode(Inode::Dir(Dir::default()));
                    self.change(at, part, Some(next), None)?;
                    next
                }
            };
        }
        self.dir(at).map(drop)
    }

    pub(in crate::sim) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.entry(path)?;
        let ino = *self.dir(dir)?.visible.get(name).ok_or(io::ErrorKind::NotFound)?;
        if !self.dir(ino)?.visible.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(dir, name, None, None).map(drop)
    }

    pub(in crate::sim) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let ino = self.resolve(path)?;
        Ok(self.dir(ino)?.visible.keys().cloned().collect())
    }

    /// Ends a sync of a directory that began at `mark`.
    pub(in crate::sim) fn sync_dir(&mut self, path: &Path, mark: u64, dice: &mut Dice) -> io::Result<()> {
        let ino = self.resolve(path)?;
        self.dir(ino)?;
        self.refuse_if_read_only()?;
        if self.take_wanted(path, DiskOp::Sync, |fault| matches!(fault, DiskFault::NamesGivenUp)).is_some() {
            dice.count("sync_error");
            let lost = self.names.iter_mut().filter(|change| change.dir == ino && change.seq < mark);
            lost.for_each(|change| change.dropped = true);
            return Err(eio());
        }
        let wanted = self.take_wanted(path, DiskOp::Sync, |fault| matches!(fault, DiskFault::SyncError)).is_some();
        if wanted || dice.chance(dice.plan.sync_error) {
            dice.count("sync_error");
            if dice.coin() {
                dice.count("file_system_read_only");
                self.read_only = true;
            }
            return Err(eio());
        }
        self.stabilise_names(|change| change.dir == ino && change.seq < mark);
        Ok(())
    }

    /// Makes the chosen changes last, and with the removal of an old name the new one. What was given up
    /// is not covered, but goes once a later change of the same name lasts.
    fn stabilise_names(&mut self, chosen: impl Fn(&NameChange) -> bool) {
        let chosen: Vec<bool> = self.names.iter().map(|change| chosen(change) && !change.dropped).collect();
        let links: Vec<u64> = self.names.iter().zip(&chosen).filter(|(_, yes)| **yes).filter_map(|(change, _)| change.only_after).collect();
        let mut last: Vec<NameChange> = Vec::new();
        for (change, yes) in self.names.iter().zip(chosen) {
            if yes || links.contains(&change.seq) {
                last.push(change.clone());
            }
        }
        for change in last {
            self.apply_stable(&change);
            self.names.retain(|older| older.seq > change.seq || older.dir != change.dir || older.name != change.name);
        }
        self.forget_removed();
    }

    /// Drops files that neither a name, a change of a name nor a handle leads to.
    fn forget_removed(&mut self) {
        let mut named: BTreeSet<Ino> = self.names.iter().filter_map(|change| change.to).collect();
        named.extend(self.unfinished.values().map(|write| write.ino));
        for inode in self.inodes.values() {
            if let Inode::Dir(dir) = inode {
                named.extend(dir.visible.values().chain(dir.stable.values()));
            }
        }
        self.inodes.retain(|ino, inode| match inode {
            Inode::Dir(_) => true,
            Inode::File(file) => file.handles > 0 || named.contains(ino),
        });
    }

    /// Writes one change of an entry into what a crash leaves.
    pub(super) fn apply_stable(&mut self, change: &NameChange) {
        // The directory itself may be gone: removed, and its own change lost or kept before.
        if let Ok(dir) = self.dir_mut(change.dir) {
            match change.to {
                Some(ino) => drop(dir.stable.insert(change.name.clone(), ino)),
                None => drop(dir.stable.remove(&change.name)),
            }
        }
    }

    /// Calls `found` for everything below a directory, by visible names.
    pub(super) fn walk(&self, from: Ino, path: &Path, found: &mut impl FnMut(&Path, Ino)) {
        let Ok(dir) = self.dir(from) else { return };
        for (name, ino) in &dir.visible {
            let path = path.join(name);
            found(&path, *ino);
            self.walk(*ino, &path, found);
        }
    }
}

/// The names of a path. Paths of the simulator need not begin with a slash; they never go up.
fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(parts)
}
