//! Receiving a snapshot: files into a directory that does not count yet.

use super::{Manifest, install::Ready};
use crate::{
    error::{LogError, Result},
    home::Home,
    log::Log,
    segment::{GroupSegments, SegmentName, group::Mark},
    store::Claim,
};
use millpond_runtime::{File, GroupId, IoBuf, IoError, Open, Rt, limits::BLOCK_BYTES};
use std::{path::PathBuf, rc::Rc};

/// A snapshot on its way here. Whoever gives it up calls [`Receiving::abandon`]; what a crash leaves goes at the next start.
pub struct Receiving<R: Rt> {
    home: Rc<Home<R>>,
    group: GroupId,
    manifest: Manifest,
    dir: PathBuf,
    installs: u32,
    /// The next file, and the next byte of it.
    file: usize,
    position: u64,
    open: Option<R::File>,
    claim: Claim<R>,
}

/// A snapshot that is here, on stable media and checked; nothing counts of it yet.
pub struct Received<R: Rt> {
    pub(super) home: Rc<Home<R>>,
    pub(super) group: GroupId,
    pub(super) manifest: Manifest,
    pub(super) installs: u32,
    pub(super) segments: Rc<GroupSegments<R>>,
    _claim: Claim<R>,
}

impl<R: Rt> Log<R> {
    /// Makes ready to receive a snapshot of a replica that lives here, one at a time.
    ///
    /// # Errors
    /// [`LogError::Full`] if another one is being received, [`LogError::DiskFull`] if it would leave less than the reserve.
    pub async fn receive(&self, group: GroupId, manifest: Manifest) -> Result<Receiving<R>> {
        let home = Rc::clone(&self.home);
        let claim = home.store.claim_receipt(group).ok_or(LogError::Full { what: "receipt of snapshots", used: 1, bound: 1 })?;
        let installs = {
            let groups = home.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            let replica = g.replica.as_ref().ok_or_else(|| LogError::Replica { group, what: "a snapshot: the group is alone".into() })?;
            replica.installs + 1
        };
        home.refuse_if_short(manifest.bytes(), home.config().disk_reserve_bytes).await?;
        let dir = home.store.dir_of(group, installs);
        // What an earlier receipt has left, which came to nothing.
        GroupSegments::new(home.store.handles().clone(), dir.clone(), group).remove_all().await?;
        home.rt.create_dir_all(&dir).await?;
        Ok(Receiving { home, group, manifest, dir, installs, file: 0, position: 0, open: None, claim })
    }
}

impl<R: Rt> Receiving<R> {
    /// What is wanted next: the file, counted from 0, the byte of it, and how many bytes are left of it. `None` once all is here.
    #[must_use]
    pub fn wanted(&self) -> Option<(usize, u64, u64)> {
        let file = self.manifest.files.get(self.file)?;
        Some((self.file, self.position, file.bytes - self.position))
    }

    /// Writes what was wanted: whole blocks of 4096 bytes, no more than are left of the file.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (Some((_, position, left)), Some(file)) = (self.wanted(), self.manifest.files.get(self.file)) else {
            return Err(self.wrong("more bytes than it has".into()));
        };
        let len = bytes.len() as u64;
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK_BYTES) || len > left {
            return Err(self.wrong(format!("{len} bytes where {left} are left of {}", file.name)));
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.home.rt.open(&self.dir.join(file.name.to_string()), Open::Create).await?,
        };
        let mut buf = open.buf(bytes.len());
        buf.put(bytes);
        open.write_at(position, buf).await?;
        self.position += len;
        if len < left {
            self.open = Some(open);
            return Ok(());
        }
        self.lasts(open.sync().await);
        open.close().await?;
        (self.file, self.position) = (self.file + 1, 0);
        Ok(())
    }

    /// Makes what came last, and checks it from end to end, as far as it can be checked without unpacking it.
    pub async fn finish(self) -> Result<Received<R>> {
        if self.wanted().is_some() {
            return Err(self.wrong("not all of it is here".into()));
        }
        let rt = &self.home.rt;
        for dir in [Some(self.dir.as_path()), self.dir.parent()].into_iter().flatten() {
            self.lasts(rt.sync_dir(dir).await);
        }
        let m = &self.manifest;
        let mark = m.files.last().map(|last| Mark {
            name: SegmentName { base_offset: last.name.base_offset, generation: last.name.generation },
            position: last.bytes,
            next_offset: m.next_offset,
        });
        // As a start would find it.
        let handles = self.home.store.handles().clone();
        let segments = GroupSegments::open(handles, self.dir.clone(), self.group, mark, m.index, m.start_offset).await?;
        segments.verify().await?;
        let Self { home, group, manifest, installs, claim, .. } = self;
        Ok(Received { home, group, manifest, installs, segments: Rc::new(segments), _claim: claim })
    }

    /// Removes what has come.
    pub async fn abandon(self) -> Result<()> {
        drop(self.open);
        GroupSegments::new(self.home.store.handles().clone(), self.dir.clone(), self.group).remove_all().await
    }

    /// After a sync that failed nobody knows what lasts.
    fn lasts(&self, synced: Result<(), IoError>) {
        if let Err(error) = synced {
            self.home.fail(&format!("receiving a snapshot of group {}: {error}", self.group));
        }
    }

    fn wrong(&self, what: String) -> LogError {
        LogError::Corrupt { file: self.dir.clone(), position: self.position, len: 0, what: format!("a snapshot on its way: {what}") }
    }
}

impl<R: Rt> Received<R> {
    /// What it consists of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Waits until nobody appends to the replica's segments or removes any: it is to be installed at once, or the replica settles nothing.
    pub async fn ready(self) -> Ready<R> {
        let claim = self.home.store.claim_soon(self.group).await;
        Ready::new(self, claim)
    }

    /// Removes it.
    pub async fn abandon(self) -> Result<()> {
        self.segments.remove_all().await
    }
}
