//! The traits of the door. All futures are `!Send`: a task lives and dies on the core that spawned it.
//!
//! Backends differ in nothing that a caller may rely on: both refuse unaligned disk access by the same check
//! ([`check_aligned`]), neither promises that a write lasts before [`File::sync`] has returned, and neither
//! promises that a created, renamed or removed name lasts before [`Rt::sync_dir`] has.

use crate::{CoreId, IoError, Result, limits::BLOCK_BYTES};
use bytes::{Bytes, BytesMut};
use std::{
    future::Future,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// Nanoseconds of a clock that never goes back, from an arbitrary start.
pub type Nanos = u64;

/// Which of a core's task queues a task runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// As [`Share::Serve`], but before all of it: what all others wait for, and what is short. The journal's writer.
    First,
    /// Requests, Raft: what somebody is waiting for. 1000 shares.
    Serve,
    /// Settling, compaction, retention: what can wait. 100 shares.
    Background,
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// A new empty file, to read and write; an existing one of the name is emptied.
    Create,
}

/// What a file system has left, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for us.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// One core's door to the world. Cheap to clone.
pub trait Rt: Clone + 'static {
    /// A file opened by [`Rt::open`].
    type File: File;
    /// A connection, dialled or accepted.
    type Conn: Conn;
    /// A listening socket.
    type Listener: Listener<Conn = Self::Conn>;

    /// The core that this handle belongs to.
    fn core(&self) -> CoreId;
    /// Monotonic time: leases, timeouts, rates.
    fn mono(&self) -> Nanos;
    /// Milliseconds since 1970. May jump in either direction: labels and retention only.
    fn wall_ms(&self) -> i64;
    /// 64 seeded random bits. Not for secrets.
    fn rand(&self) -> u64;
    /// Whether others have wanted this core's CPU lately: what can be left undone without harm, such as compression, is better left then. False where that is
    /// not known.
    fn is_crowded(&self) -> bool;

    /// Waits at least `d`.
    fn sleep(&self, d: Duration) -> impl Future<Output = ()> + 'static;
    /// Lets others run, always.
    fn yield_now(&self) -> impl Future<Output = ()> + 'static;
    /// Lets others run if this task has had its turn; to be called at least every 200 µs of computing.
    fn yield_if_needed(&self) -> impl Future<Output = ()> + 'static;

    /// Starts a detached task on this core. A panic in it halts the node: tasks share state with their
    /// neighbours, and half an update is worse than a restart.
    fn spawn(&self, name: &'static str, share: Share, task: impl Future<Output = ()> + 'static);
    /// Runs `job` on a thread of the pool beside the cores: compression and whatever else would hold a core for
    /// more than about 200 µs. The pool's queue is bounded; callers wait for room.
    fn offload<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>> + 'static;
    /// Stops the node at once, without another write: a failed sync, a broken invariant. Exit code 70 (EX_SOFTWARE).
    fn halt(&self, why: &str) -> !;

    /// Opens a file for O_DIRECT access.
    fn open(&self, path: &Path, how: Open) -> impl Future<Output = Result<Self::File>>;
    /// Renames a file, replacing what bore the name.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = Result<()>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> impl Future<Output = Result<()>>;
    /// How many names a file has: more than one after a crash, if a file system may bring back the old name of a file that was renamed.
    fn links(&self, path: &Path) -> impl Future<Output = Result<u64>>;
    /// Creates a directory and its parents; existing ones are fine.
    fn create_dir_all(&self, dir: &Path) -> impl Future<Output = Result<()>>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> impl Future<Output = Result<()>>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> impl Future<Output = Result<Vec<String>>>;
    /// Makes the names in a directory last.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = Result<()>>;
    /// What the file system of `dir` has left.
    fn space(&self, dir: &Path) -> impl Future<Output = Result<Space>>;

    /// Connects. `TCP_NODELAY` is on.
    fn dial(&self, to: SocketAddr) -> impl Future<Output = Result<Self::Conn>>;
    /// Listens with `SO_REUSEPORT`, so that several cores may share an address. Port 0 picks one.
    fn listen(&self, at: SocketAddr) -> impl Future<Output = Result<Self::Listener>>;
    /// The same, where nobody else listens: an address that anybody shares is refused, and from then on nobody can share this one. Backends that serve no clients of
    /// the real world may share it all the same.
    fn listen_alone(&self, at: SocketAddr) -> impl Future<Output = Result<Self::Listener>> {
        self.listen(at)
    }
}

/// A file under O_DIRECT. Positions and lengths are whole blocks ([`BLOCK_BYTES`]).
#[expect(clippy::len_without_is_empty, reason = "the length is asked of the system, asynchronously; emptiness is no question of its own")]
pub trait File: 'static {
    /// Memory to write from.
    type Buf: IoBuf;
    /// Bytes that were read.
    type Read: Deref<Target = [u8]> + 'static;

    /// The path it was opened by.
    fn path(&self) -> &Path;
    /// Its length in bytes.
    fn len(&self) -> impl Future<Output = Result<u64>>;
    /// An empty buffer for at most `capacity` bytes (rounded up to whole blocks).
    fn buf(&self, capacity: usize) -> Self::Buf;
    /// Up to `len` bytes from `position`; fewer only at the end of the file.
    fn read_at(&self, position: u64, len: usize) -> impl Future<Output = Result<Self::Read>>;
    /// Writes all of `buf` or fails; what a failed write left is not known. A dropped future may still have written. Large ones may be
    /// written piece by piece, so that other writes get between.
    fn write_at(&self, position: u64, buf: Self::Buf) -> impl Future<Output = Result<()>>;
    /// Returns once everything whose `write_at` returned before this call is on stable media (fdatasync).
    /// After an error nothing may be assumed of unsynced writes, and a later success does not cover them.
    fn sync(&self) -> impl Future<Output = Result<()>>;
    /// Writes all of `buf` and returns once that is on stable media. What was written before is not covered. After an error nothing may be
    /// assumed of it.
    fn write_synced_at(&self, position: u64, buf: Self::Buf) -> impl Future<Output = Result<()>> {
        async move {
            self.write_at(position, buf).await?;
            self.sync().await
        }
    }
    /// Cuts or extends (with zeros) the file.
    fn truncate(&self, len: u64) -> impl Future<Output = Result<()>>;
    /// Closes it, with the error that dropping would hide.
    fn close(self) -> impl Future<Output = Result<()>>;
}

/// Aligned memory that is written front to back, so that no byte that nobody wrote ever reaches a disk.
pub trait IoBuf: 'static {
    /// Bytes written so far: what `write_at` writes. Must be whole blocks then.
    fn len(&self) -> usize;
    /// Whether nothing has been written.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes that fit in all.
    fn capacity(&self) -> usize;
    /// Appends. Panics past the capacity: the caller sized the buffer.
    fn put(&mut self, bytes: &[u8]);
    /// Appends `n` zeros.
    fn put_zeros(&mut self, n: usize);
    /// What has been written, to patch a header into.
    fn filled(&mut self) -> &mut [u8];
    /// Takes back what lies behind the first `len` bytes. Panics if there are fewer.
    fn truncate(&mut self, len: usize);
    /// Appends zeros up to the next whole block.
    fn pad_to_block(&mut self) {
        let padded = self.len().next_multiple_of(BLOCK_BYTES);
        self.put_zeros(padded - self.len());
    }
}

/// Plain memory, for what no disk writes from: it grows past its capacity.
impl IoBuf for Vec<u8> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn capacity(&self) -> usize {
        Self::capacity(self)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_zeros(&mut self, n: usize) {
        self.resize(Self::len(self) + n, 0);
    }

    fn filled(&mut self) -> &mut [u8] {
        self
    }

    fn truncate(&mut self, len: usize) {
        assert!(len <= Self::len(self), "{len} bytes of {}", Self::len(self));
        Self::truncate(self, len);
    }
}

/// A byte stream to a peer.
pub trait Conn: 'static {
    /// The half that receives.
    type Read: ConnRead;
    /// The half that sends.
    type Write: ConnWrite;
    /// The other end.
    fn peer(&self) -> SocketAddr;
    /// This end.
    fn local(&self) -> SocketAddr;
    /// Two halves for two tasks. The socket closes when both are dropped.
    fn split(self) -> (Self::Read, Self::Write);
    /// Does what an accepted connection begins with before its first byte: nothing, or a TLS handshake, for which it waits as long as the
    /// other end takes. One that was dialled is open.
    fn open(self) -> impl Future<Output = Result<Self>>
    where
        Self: Sized,
    {
        std::future::ready(Ok(self))
    }
    /// What an open connection has shown of itself.
    fn shown(&self) -> Shown {
        Shown::Plain
    }
    /// The distinguished name of the client that it belongs to, if it has shown a certificate that says so.
    fn name(&self) -> Option<Rc<str>> {
        None
    }
}

/// What a connection has shown of itself before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing: it is in the clear.
    Plain,
    /// Nobody reads along; who the other end is is not known.
    Encrypted,
    /// And the other end is a node of this cluster.
    Node,
}

/// The half of a connection that receives. Dropping a pending `recv` loses nothing.
pub trait ConnRead: 'static {
    /// Appends at most the spare capacity of `into` (which must not be zero); `Ok(0)` is the end of the stream.
    fn recv(&mut self, into: &mut BytesMut) -> impl Future<Output = Result<usize>>;
}

/// The half of a connection that sends.
pub trait ConnWrite: 'static {
    /// Sends all pieces in order, gathered into as few system calls as the backend can.
    fn send(&mut self, pieces: &[Bytes]) -> impl Future<Output = Result<()>>;
    /// Ends our direction and wakes the reading half of this end too.
    fn shutdown(&mut self);
}

/// A listening socket.
pub trait Listener: 'static {
    /// What it accepts.
    type Conn;
    /// Where it listens, with the port that was picked.
    fn local(&self) -> SocketAddr;
    /// The next connection.
    fn accept(&self) -> impl Future<Output = Result<Self::Conn>>;
}

/// The one check of disk access that both backends make.
pub fn check_aligned(doing: &'static str, path: &Path, position: u64, len: usize) -> Result<()> {
    if position.is_multiple_of(BLOCK_BYTES as u64) && len.is_multiple_of(BLOCK_BYTES) {
        return Ok(());
    }
    Err(IoError::Unaligned { doing, path: PathBuf::from(path), position, len, block: BLOCK_BYTES })
}

/// Where sending stands after `sent` more bytes.
pub(crate) fn advance(pieces: &[Bytes], mut piece: usize, mut within: usize, mut sent: usize) -> (usize, usize) {
    while sent > 0 {
        let left = pieces[piece].len() - within;
        if sent < left {
            return (piece, within + sent);
        }
        sent -= left;
        (piece, within) = (piece + 1, 0);
    }
    (piece, within)
}

/// Time until the clock next stands at a whole multiple of `every`, or the one after if that is next to nothing. Tasks that look at
/// something now and then and sleep for this do so together, on all cores of a node, and an idle node sleeps undisturbed in between.
pub fn to_next<R: Rt>(rt: &R, every: Duration) -> Duration {
    let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
    let left = every - rt.mono() % every;
    Duration::from_nanos(if left < every / 16 { left.saturating_add(every) } else { left })
}

/// `future` did not finish in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not done within {0:?}")]
pub struct Deadline(pub Duration);

/// Runs `future` for at most `d`; it is dropped when time is up.
pub async fn timeout<R: Rt, T>(rt: &R, d: Duration, future: impl Future<Output = T>) -> Result<T, Deadline> {
    futures_lite::future::or(async { Ok(future.await) }, async {
        rt.sleep(d).await;
        Err(Deadline(d))
    })
    .await
}
