//! What the tasks of one journal home share.

use crate::{
    config::LogConfig,
    error::{LogError, Result},
    groups::Groups,
    journal::{
        Journal,
        format::{FrameHead, FrameKind, Settled},
        gather::Then,
        layout::Class,
    },
    log::{Advance, Synced, checkpoint},
    lsn::Lsn,
    store::Store,
};
use bytes::BufMut;
use millpond_runtime::{GroupId, Offset, Rt, Share};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};
use tokio::sync::Notify;

type OnAdvance = Rc<dyn Fn(&[Advance])>;

/// See the module.
pub(crate) struct Home<R: Rt> {
    pub(crate) rt: R,
    pub(crate) dir: PathBuf,
    pub(crate) journal: Journal<R>,
    pub(crate) groups: RefCell<Groups>,
    pub(crate) store: Rc<Store<R>>,
    /// Something may be worth settling.
    pub(crate) settle: Notify,
    room: Notify,
    callbacks: RefCell<Vec<OnAdvance>>,
    tasks: Cell<usize>,
    task_ended: Notify,
    /// Tasks that sleep wake early for this.
    pub(crate) closing: Notify,
}

impl<R: Rt> Home<R> {
    pub(crate) fn new(rt: R, dir: PathBuf, journal: Journal<R>, groups: Groups, store: Rc<Store<R>>) -> Self {
        Self {
            rt,
            dir,
            journal,
            groups: RefCell::new(groups),
            store,
            settle: Notify::new(),
            room: Notify::new(),
            callbacks: RefCell::default(),
            tasks: Cell::new(0),
            task_ended: Notify::new(),
            closing: Notify::new(),
        }
    }

    pub(crate) fn config(&self) -> &LogConfig {
        &self.journal.config
    }

    /// Starts a task that [`Home::join`] waits for.
    pub(crate) fn start(self: &Rc<Self>, name: &'static str, share: Share, task: impl Future<Output = ()> + 'static) {
        let home = self.clone();
        self.tasks.set(self.tasks.get() + 1);
        self.rt.spawn(name, share, async move {
            task.await;
            home.tasks.set(home.tasks.get() - 1);
            home.task_ended.notify_waiters();
        });
    }

    /// Waits until at most `left` tasks run.
    pub(crate) async fn join(&self, left: usize) {
        loop {
            let ended = self.task_ended.notified();
            if self.tasks.get() <= left {
                return;
            }
            ended.await;
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        let state = self.journal.state.borrow();
        state.closing || state.stopped.is_some()
    }

    /// Something broke that must not be worked around.
    pub(crate) fn fail(&self, why: &str) -> ! {
        self.journal.stop(why);
        self.rt.halt(why)
    }

    pub(crate) fn on_advance(&self, callback: OnAdvance) {
        self.callbacks.borrow_mut().push(callback);
    }

    pub(crate) fn advanced(&self, advances: &[Advance]) {
        let callbacks = self.callbacks.borrow().clone();
        for callback in callbacks {
            callback(advances);
        }
    }

    /// A flush is synced; `notes` if it said something about settled, trimmed or dropped entries.
    pub(crate) fn after_flush(&self, notes: bool) {
        if notes || self.pressure().is_any() || self.groups.borrow().has_ready() {
            self.settle.notify_one();
        }
        if notes {
            self.journal.files.notify_one();
        }
        self.room_changed();
    }

    /// Whether something must be settled though no group has much.
    pub(crate) fn pressure(&self) -> Pressure {
        let config = self.config();
        Pressure {
            memory: self.groups.borrow().unsettled_bytes() > config.tail_bytes_max / 2,
            files: self.journal.state.borrow().live.len() > config.journal_files_max / 2,
        }
    }

    /// Whether another batch of the largest size would be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_behind(0, 0)
    }

    /// Whether one would be taken behind so many more entries, of `bytes` in all.
    pub(crate) fn has_room_behind(&self, entries: usize, bytes: usize) -> bool {
        let config = self.config();
        let spare = config.entry_bytes_max().min(config.tail_bytes_max / 4);
        self.journal.room_behind(entries, bytes) && self.groups.borrow().unsettled_bytes() + bytes + spare <= config.tail_bytes_max
    }

    pub(crate) fn room_changed(&self) {
        if self.has_room() || self.stopping() {
            self.room.notify_waiters();
        }
    }

    pub(crate) async fn wait_room(&self) {
        loop {
            let changed = self.room.notified();
            if self.has_room() || self.stopping() {
                return;
            }
            changed.await;
        }
    }

    /// Puts a note into the journal.
    pub(crate) fn note(&self, class: Class, kind: FrameKind, group: GroupId, payload: &[u8], then: Option<Then>) -> Result<Lsn> {
        self.note_with(class, FrameHead::note(kind, group), payload, then)
    }

    /// The same, with this head.
    pub(crate) fn note_with(&self, class: Class, head: FrameHead, payload: &[u8], then: Option<Then>) -> Result<Lsn> {
        if self.journal.state.borrow().closing {
            return Err(LogError::Stopped { why: "closing".into() });
        }
        self.journal.make_room(payload.len(), class, || checkpoint(self))?;
        Ok(self.journal.put(&head, payload, then))
    }

    /// See [`crate::Log::trim`].
    pub(crate) fn trim(&self, group: GroupId, before: Offset, class: Class) -> Result<Lsn> {
        let (before, settled) = {
            let groups = self.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            let before = before.min(g.lasting_offset());
            match g.trimmed(before) {
                Some(settled) => (before, settled),
                None => return Ok(self.journal.state.borrow().last_lsn),
            }
        };
        let mut payload = Vec::with_capacity(64);
        payload.put_u64_le(before.0);
        settled.encode(&mut payload);
        let lsn = self.note(class, FrameKind::Trim, group, &payload, Some(Then::Trimmed(group, before)))?;
        if let Some(g) = self.groups.borrow_mut().get_mut(group) {
            g.apply_trim(before, settled).expect("both offsets were taken from the group just now");
        }
        self.store.trimmed(group, before, lsn);
        Ok(lsn)
    }

    /// Puts the note that entries are in synced segments. False if the group is gone, or a trim has overtaken it.
    pub(crate) fn note_settled(&self, group: GroupId, settled: Settled) -> Result<bool> {
        if self.groups.borrow().get(group).is_none_or(|g| settled.index <= g.settled.index) {
            return Ok(false);
        }
        let mut payload = Vec::with_capacity(64);
        settled.encode(&mut payload);
        let segment = settled.segment.map_or(settled.next_offset, |s| s.base_offset);
        self.note(Class::Relief, FrameKind::Settled, group, &payload, Some(Then::Settled(group, settled.index, segment)))?;
        if let Some(g) = self.groups.borrow_mut().get_mut(group) {
            g.apply_settled(settled).expect("the settled entries were taken from the group's own tail");
        }
        Ok(true)
    }

    /// Waits until everything up to `lsn` is synced.
    pub(crate) async fn synced(&self, lsn: Lsn) -> Result<()> {
        Synced::new(self, lsn).await
    }

    /// See [`crate::Log::close`].
    pub(crate) async fn close(&self) {
        self.journal.state.borrow_mut().closing = true;
        self.journal.work.notify_one();
        self.journal.files.notify_one();
        self.journal.quiet.notify_one();
        self.settle.notify_one();
        self.closing.notify_waiters();
        self.room.notify_waiters();
        self.join(0).await;
    }

    /// Sleeps, but not past the close.
    pub(crate) async fn nap(&self, how_long: Duration) {
        let closing = self.closing.notified();
        if !self.stopping() {
            futures_lite::future::or(self.rt.sleep(how_long), closing).await;
        }
    }

    /// Looks at the free space of the disk: appends are refused while it is below the reserve.
    pub(crate) async fn note_space(&self) {
        let reserve = self.config().disk_reserve_bytes;
        let Ok(space) = self.rt.space(&self.dir).await else { return };
        let low = space.free < reserve;
        let was_low = {
            let mut state = self.journal.state.borrow_mut();
            state.stats.disk_full = low;
            std::mem::replace(&mut state.disk_low, low.then_some(space.free)).is_some()
        };
        if low && !was_low {
            tracing::warn!(dir = %self.dir.display(), free = space.free, reserve, "the disk is full: appends are refused");
        }
        if was_low && !low {
            tracing::info!(dir = %self.dir.display(), free = space.free, "the disk has room again");
            self.journal.files.notify_one();
            self.settle.notify_one();
            self.room_changed();
        }
    }

    /// Refuses to use `bytes` more of the disk if less than `reserve` would be left.
    pub(crate) async fn refuse_if_short(&self, bytes: u64, reserve: u64) -> Result<()> {
        let space = self.rt.space(&self.dir).await?;
        if space.free < bytes + reserve {
            return Err(LogError::DiskFull { dir: self.dir.clone(), free: space.free, reserve });
        }
        Ok(())
    }
}

/// Why entries are settled early, if they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// The tail takes too much memory.
    pub(crate) memory: bool,
    /// The oldest journal file is wanted back.
    pub(crate) files: bool,
}

impl Pressure {
    pub(crate) const fn is_any(self) -> bool {
        self.memory || self.files
    }
}

impl LogError {
    /// Whether space on the disk is all that is missing.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Io(error) => error.is_disk_full(),
            _ => false,
        }
    }
}
