//! Files under O_DIRECT on glommio's ring.

use super::disk_error;
use crate::{File, IoBuf, Result, limits::BLOCK_BYTES, rt::check_aligned};
use glommio::io::{DmaBuffer, DmaFile, ReadResult};
use std::{
    io,
    path::{Path, PathBuf},
};

/// A file on the ring of the core that opened it.
pub struct GloFile {
    pub(super) file: DmaFile,
    pub(super) path: PathBuf,
}

/// Aligned memory of the core, registered with its ring where the pool had room. `filled` bounds what leaves it: the
/// memory behind is uninitialised and is never read.
pub struct GloBuf {
    memory: DmaBuffer,
    filled: usize,
}

impl IoBuf for GloBuf {
    fn len(&self) -> usize {
        self.filled
    }

    fn capacity(&self) -> usize {
        self.memory.len()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.memory.as_bytes_mut()[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    fn put_zeros(&mut self, n: usize) {
        self.memory.as_bytes_mut()[self.filled..self.filled + n].fill(0);
        self.filled += n;
    }

    fn filled(&mut self) -> &mut [u8] {
        &mut self.memory.as_bytes_mut()[..self.filled]
    }

    fn truncate(&mut self, len: usize) {
        assert!(len <= self.filled, "{len} bytes of {}", self.filled);
        self.filled = len;
    }
}

impl File for GloFile {
    type Buf = GloBuf;
    type Read = ReadResult;

    fn path(&self) -> &Path {
        &self.path
    }

    async fn len(&self) -> Result<u64> {
        self.file.file_size().await.map_err(|e| disk_error("size", &self.path, e))
    }

    fn buf(&self, capacity: usize) -> GloBuf {
        let bytes = capacity.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES);
        GloBuf { memory: self.file.alloc_dma_buffer(bytes), filled: 0 }
    }

    async fn read_at(&self, position: u64, len: usize) -> Result<ReadResult> {
        check_aligned("read", &self.path, position, len)?;
        self.file.read_at_aligned(position, len).await.map_err(|e| disk_error("read", &self.path, e))
    }

    async fn write_at(&self, position: u64, mut buf: GloBuf) -> Result<()> {
        let len = buf.filled;
        check_aligned("write", &self.path, position, len)?;
        if len == 0 {
            return Ok(());
        }
        if len < buf.memory.len() {
            buf.memory.trim_to_size(len);
        }
        let memory = std::rc::Rc::new(buf.memory);
        let wrote = self.file.write_rc_at(std::rc::Rc::clone(&memory), position).await.map_err(|e| disk_error("write", &self.path, e))?;
        if wrote == len {
            return Ok(());
        }
        self.write_rest(position, &memory.as_bytes()[..len], wrote).await
    }

    async fn sync(&self) -> Result<()> {
        self.file.fdatasync().await.map_err(|e| disk_error("sync", &self.path, e))
    }

    async fn truncate(&self, len: u64) -> Result<()> {
        self.file.truncate(len).await.map_err(|e| disk_error("truncate", &self.path, e))
    }

    async fn close(self) -> Result<()> {
        let Self { file, path } = self;
        file.close().await.map_err(|e| disk_error("close", &path, e))
    }
}

impl GloFile {
    /// Goes on after a short write, which is legal and rare: a signal, or a disk that is about to be full. What is
    /// written again is whole blocks, from the last one that was written whole.
    async fn write_rest(&self, position: u64, bytes: &[u8], mut done: usize) -> Result<()> {
        while done < bytes.len() {
            let from = done - done % BLOCK_BYTES;
            let mut rest = self.buf(bytes.len() - from);
            rest.put(&bytes[from..]);
            let wrote = self.file.write_at(rest.memory, position + from as u64).await.map_err(|e| disk_error("write", &self.path, e))?;
            if from + wrote <= done {
                let full = io::Error::new(io::ErrorKind::StorageFull, format!("only {done} of {} bytes could be written", bytes.len()));
                return Err(crate::IoError::Disk { doing: "write", path: self.path.clone(), source: full });
            }
            done = from + wrote;
        }
        Ok(())
    }
}
