//! Files that go: out of their place at once, and off the disk bit by bit.
//!
//! What a file system frees at once it may tell the disk at once (`discard`), and whatever else is to be synced waits meanwhile: 64 MiB that are deleted hold up
//! all acks of the node for 13 to 19 ms, 256 MiB for 26 to 67, where 4 MiB every 20 ms hold up none for longer than 1.5 (ext4 with `discard`, a virtual disk). So a file that is
//! to go is renamed into the directory `trash`, and shortened there step by step, each of them synced, until nothing is left of it. While the disk is nearly full nothing
//! waits between the steps.
//!
//! A file that somebody still reads stays as it is until he has done: [`Trash::user`]. Nothing is shortened before its old name is gone for good. A crash may leave files
//! in the trash, and a start goes on with them; where it brought back the old name beside the new one, the new one alone goes. Where the process alone had ended, nobody
//! may have synced yet that the old names are gone: a start syncs all directories that files come from before it shortens any.

use crate::{error::Result, home::Home};
use millpond_runtime::{File, Open, Rt, Space, limits::BLOCK_BYTES};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    rc::{Rc, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// Between two steps.
const PAUSE: Duration = Duration::from_millis(20);
/// The disk is nearly full when less than one in so many bytes is free...
const FREE_ONE_IN: u64 = 10;
/// ...or less than so many times the reserve.
const FREE_RESERVES: u64 = 4;

/// See the module. One for each journal home.
pub struct Trash<R: Rt> {
    rt: R,
    dir: PathBuf,
    /// How much of a file goes at a time, in bytes.
    step: u64,
    /// Names that were given so far.
    names: Cell<u64>,
    waiting: RefCell<VecDeque<Taken>>,
    users: Rc<Users>,
}

/// A file that has left its place.
#[derive(Debug)]
pub struct Taken {
    path: PathBuf,
    user: Weak<User>,
    /// It was there at the start: a crash may have brought back its old name, too.
    is_found: bool,
}

#[derive(Debug, Default)]
struct Users {
    by_path: RefCell<BTreeMap<PathBuf, Weak<User>>>,
    /// A file has come, or one is used no longer.
    news: Notify,
}

/// Somebody who has a file open, or is about to: it stays whole for as long as this lives.
#[derive(Debug)]
pub struct User {
    path: PathBuf,
    of: Rc<Users>,
}

impl Drop for User {
    fn drop(&mut self) {
        let mut by_path = self.of.by_path.borrow_mut();
        // Another file may bear the name by now, and have users of its own.
        if by_path.get(&self.path).is_some_and(|user| user.strong_count() == 0) {
            by_path.remove(&self.path);
        }
        drop(by_path);
        self.of.news.notify_one();
    }
}

impl<R: Rt> Trash<R> {
    /// Nothing is in `dir`, which need not be there. Files go `step` bytes at a time, whole blocks.
    pub fn new(rt: &R, dir: PathBuf, step: u64) -> Self {
        Self { rt: rt.clone(), dir, step, names: Cell::new(0), waiting: RefCell::default(), users: Rc::default() }
    }

    /// The same, where what is in `dir` is to go.
    pub async fn open(rt: &R, dir: PathBuf, step: u64) -> Result<Self> {
        let names = match rt.list(&dir).await {
            Ok(names) => names,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let trash = Self::new(rt, dir, step);
        for name in names {
            let path = trash.dir.join(&name);
            let Ok(number) = name.parse::<u64>() else {
                tracing::warn!(file = %path.display(), "not a file of ours: left alone");
                continue;
            };
            trash.names.set(trash.names.get().max(number.saturating_add(1)));
            trash.waiting.borrow_mut().push_back(Taken { path, user: Weak::new(), is_found: true });
        }
        Ok(trash)
    }

    /// The file of this path is about to be opened: it stays whole until whoever has this has let it go.
    pub fn user(&self, path: &Path) -> Rc<User> {
        let mut by_path = self.users.by_path.borrow_mut();
        if let Some(user) = by_path.get(path).and_then(Weak::upgrade) {
            return user;
        }
        let user = Rc::new(User { path: path.to_path_buf(), of: Rc::clone(&self.users) });
        by_path.insert(path.to_path_buf(), Rc::downgrade(&user));
        user
    }

    /// Takes a file from its place. Once that lasts, for which its directory is synced, [`Trash::forget`] has it shortened; a start does it else.
    pub async fn take(&self, path: &Path) -> Result<Option<Taken>> {
        let number = self.names.get();
        self.names.set(number + 1);
        let to = self.dir.join(number.to_string());
        match self.rename(path, &to).await {
            Ok(()) => {}
            // A name more may need a block more.
            Err(error) if error.is_disk_full() => return Ok(self.rt.remove(path).await.map(|()| None)?),
            Err(error) => return Err(error.into()),
        }
        let user = self.users.by_path.borrow_mut().remove(path).unwrap_or_default();
        Ok(Some(Taken { path: to, user, is_found: false }))
    }

    async fn rename(&self, path: &Path, to: &Path) -> millpond_runtime::Result<()> {
        match self.rt.rename(path, to).await {
            // Nothing was thrown away so far; or it is the file that is missing.
            Err(error) if error.is_not_found() => {
                self.rt.create_dir_all(&self.dir).await?;
                if let Some(parent) = self.dir.parent() {
                    self.rt.sync_dir(parent).await?;
                }
                self.rt.rename(path, to).await
            }
            renamed => renamed,
        }
    }

    /// What was taken, and will not come back, is to go.
    pub fn forget(&self, taken: impl IntoIterator<Item = Taken>) {
        self.waiting.borrow_mut().extend(taken);
        self.users.news.notify_one();
    }

    /// Takes files from a directory and forgets them.
    pub async fn take_all(&self, dir: &Path, names: impl IntoIterator<Item = String>) -> Result<()> {
        let mut taken = Vec::new();
        for name in names {
            taken.push(self.take(&dir.join(name)).await?);
        }
        if !taken.is_empty() {
            self.rt.sync_dir(dir).await?;
        }
        self.forget(taken.into_iter().flatten());
        Ok(())
    }

    /// Files that are to go, as yet.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// The next file that nobody uses.
    fn next(&self) -> Option<Taken> {
        let mut waiting = self.waiting.borrow_mut();
        let at = waiting.iter().position(|taken| taken.user.strong_count() == 0)?;
        waiting.remove(at)
    }
}

/// Brings to an end what is in the trash until the log stops; what is left then is gone on with after the next start.
pub(crate) async fn run<R: Rt>(home: Rc<Home<R>>) {
    let trash = home.store.handles().trash();
    if trash.len() > 0
        && let Err(error) = trash.sync_origins(&home).await
    {
        // What is not known to be gone must stay whole.
        tracing::warn!(%error, "files that are to go stay until the next start");
        trash.waiting.borrow_mut().retain(|taken| !taken.is_found);
    }
    while !home.stopping() {
        let (news, closing) = (trash.users.news.notified(), home.closing.notified());
        match trash.next() {
            Some(taken) => {
                if let Err(error) = trash.cut(&home, &taken).await {
                    tracing::warn!(file = %taken.path.display(), %error, "a file that is to go stays until the next start");
                }
            }
            None if home.stopping() => return,
            None => futures_lite::future::or(news, closing).await,
        }
    }
}

impl<R: Rt> Trash<R> {
    /// Syncs all directories that files were taken from.
    async fn sync_origins(&self, home: &Home<R>) -> Result<()> {
        let groups = home.dir.join("groups");
        let mut dirs = vec![home.dir.join("journal"), groups.clone()];
        match self.rt.list(&groups).await {
            Ok(names) => dirs.extend(names.into_iter().map(|name| groups.join(name))),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        for dir in dirs {
            // Nothing is shortened any more then, and a node with thousands of groups need not wait for them.
            if home.stopping() {
                break;
            }
            match self.rt.sync_dir(&dir).await {
                // One that has gone brings nothing back.
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Shortens a file step by step until nothing is left of it.
    async fn cut(&self, home: &Home<R>, taken: &Taken) -> Result<()> {
        let path = &taken.path;
        if taken.is_found && self.rt.links(path).await? > 1 {
            // The other name may be in use again.
            return Ok(self.rt.remove(path).await?);
        }
        let file = self.rt.open(path, Open::ReadWrite).await?;
        let mut left = file.len().await?;
        while left > self.step && !home.stopping() {
            left = (left - self.step).next_multiple_of(BLOCK_BYTES as u64);
            file.truncate(left).await?;
            file.sync().await?;
            self.rest(home, self.step).await;
        }
        file.close().await?;
        if left <= self.step {
            self.rt.remove(path).await?;
            self.rest(home, left).await;
        }
        Ok(())
    }

    /// Waits as long as the disk may need for others after so many bytes were given back.
    async fn rest(&self, home: &Home<R>, bytes: u64) {
        let enough =
            |space: Space| space.free >= (space.total / FREE_ONE_IN).max(home.config().disk_reserve_bytes.saturating_mul(FREE_RESERVES));
        if self.rt.space(&self.dir).await.is_ok_and(enough) {
            home.nap(PAUSE.mul_f64(bytes as f64 / self.step as f64)).await;
        }
    }
}

#[cfg(test)]
mod tests;
