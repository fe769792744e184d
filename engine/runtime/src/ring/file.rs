//! Files under O_DIRECT on the core's ring.

use super::{
    executor::{Local, handle},
    memory::Memory,
};
use crate::{File, IoBuf, IoError, Result, limits::BLOCK_BYTES, pool::Pool, rt::check_aligned};
use std::{
    any::Any,
    io,
    os::fd::RawFd,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Bytes that one operation writes at most: what another file writes meanwhile waits for no more.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Larger ones go in pieces of this: nobody waits for one soon, and whatever else the disk has to do waits for a piece at most.
const PIECE_BYTES: usize = 256 << 10;

/// A file of the core that opened it.
pub struct RingFile {
    pub(super) file: Option<Rc<std::fs::File>>,
    pub(super) path: PathBuf,
    pub(super) local: Rc<Local>,
    pub(super) pool: Pool,
}

/// Aligned memory to write from.
pub struct RingBuf(Memory);

/// What was read.
pub struct RingBytes(Memory);

impl std::ops::Deref for RingBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl IoBuf for RingBuf {
    fn len(&self) -> usize {
        IoBuf::len(&self.0)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.put(bytes);
    }

    fn put_zeros(&mut self, n: usize) {
        self.0.put_zeros(n);
    }

    fn filled(&mut self) -> &mut [u8] {
        self.0.filled()
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

pub(super) fn disk_error(doing: &'static str, path: &Path, source: io::Error) -> IoError {
    IoError::Disk { doing, path: path.to_path_buf(), source }
}

/// Whether the kernel only wants to be asked again.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

impl RingFile {
    fn file(&self) -> &Rc<std::fs::File> {
        self.file.as_ref().expect("only `close` and `drop` take it, and nobody has the file after them")
    }

    fn handle(&self) -> (RawFd, Rc<dyn Any>) {
        handle(self.file())
    }

    /// Writes all of `buf`; if `synced`, it is on stable media afterwards.
    async fn write(&self, position: u64, buf: RingBuf, synced: bool) -> Result<()> {
        let (mut memory, mut done) = (buf.0, 0);
        let len = IoBuf::len(&memory);
        check_aligned("write", &self.path, position, len)?;
        // A short write is legal and rare: a signal, or a disk that is about to be full. What is written again is whole blocks, from the
        // last one that was written whole.
        while done < len {
            let piece = done..len.min(done + if len <= WRITE_BYTES_MAX { len } else { PIECE_BYTES });
            let (wrote, back) = self.local.write(self.handle(), position + done as u64, memory, piece, synced).await;
            memory = back.expect("a write gives its memory back");
            match wrote {
                Ok(n) if n >= BLOCK_BYTES => done += n / BLOCK_BYTES * BLOCK_BYTES,
                Ok(_) => {
                    let full = io::Error::new(io::ErrorKind::StorageFull, format!("only {done} of {len} bytes could be written"));
                    return Err(disk_error("write", &self.path, full));
                }
                Err(e) if passes(&e) => {}
                Err(e) => return Err(disk_error("write", &self.path, e)),
            }
        }
        Ok(())
    }
}

impl File for RingFile {
    type Buf = RingBuf;
    type Read = RingBytes;

    fn path(&self) -> &Path {
        &self.path
    }

    async fn len(&self) -> Result<u64> {
        self.file().metadata().map(|m| m.len()).map_err(|e| disk_error("size", &self.path, e))
    }

    fn buf(&self, capacity: usize) -> RingBuf {
        RingBuf(Memory::new(capacity))
    }

    async fn read_at(&self, position: u64, len: usize) -> Result<RingBytes> {
        check_aligned("read", &self.path, position, len)?;
        let (mut memory, mut done) = (Memory::new(len), 0);
        // Fewer bytes than asked for are mostly the end of the file, which is sure once there are none, or not a whole block.
        while done < len {
            let (read, back) = self.local.read(self.handle(), position + done as u64, memory, done, len - done).await;
            memory = back.expect("a read gives its memory back");
            match read {
                Ok(n) => {
                    done += n;
                    if n == 0 || !done.is_multiple_of(BLOCK_BYTES) {
                        break;
                    }
                }
                Err(e) if passes(&e) => {}
                Err(e) => return Err(disk_error("read", &self.path, e)),
            }
        }
        memory.written(done);
        Ok(RingBytes(memory))
    }

    async fn write_at(&self, position: u64, buf: RingBuf) -> Result<()> {
        self.write(position, buf, false).await
    }

    /// One operation of the kernel instead of two, where one can write it all: it syncs when the write has ended, and the core is woken once.
    async fn write_synced_at(&self, position: u64, buf: RingBuf) -> Result<()> {
        if IoBuf::len(&buf) <= WRITE_BYTES_MAX {
            return self.write(position, buf, true).await;
        }
        self.write(position, buf, false).await?;
        self.sync().await
    }

    async fn sync(&self) -> Result<()> {
        self.local.sync(self.handle()).await.0.map(drop).map_err(|e| disk_error("sync", &self.path, e))
    }

    async fn truncate(&self, len: u64) -> Result<()> {
        let file = self.file().try_clone().map_err(|e| disk_error("truncate", &self.path, e))?;
        self.pool.call("truncate", move || file.set_len(len)).await?.map_err(|e| disk_error("truncate", &self.path, e))
    }

    async fn close(mut self) -> Result<()> {
        match self.file.take().and_then(Rc::into_inner) {
            Some(file) => {
                self.pool.call("close", move || crate::sys::close(file.into())).await?.map_err(|e| disk_error("close", &self.path, e))
            }
            // An operation that was given up still needs it: it closes when that has ended.
            None => Ok(()),
        }
    }
}

impl Drop for RingFile {
    fn drop(&mut self) {
        // The last handle of a removed file frees its blocks, which can take long.
        if let Some(file) = self.file.take().and_then(Rc::into_inner) {
            self.pool.call_later(move || drop(file));
        }
    }
}
