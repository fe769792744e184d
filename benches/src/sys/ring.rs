//! A small io_uring for the limit run: one file, registered, and buffers of our own that the kernel reads and writes while an
//! operation is under way.
//!
//! The safe face: a [`Ring`] owns both the file and the memory, hands out the memory only while nothing is in flight
//! ([`Ring::memory`]), and waits for all operations before it goes.

use io_uring::{IoUring, opcode, squeue, types};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    fs::File,
    io,
    os::fd::AsRawFd,
    ptr::NonNull,
};

/// Alignment of memory, positions and lengths: what O_DIRECT asks for on every disk that we know.
pub const ALIGN: usize = 4096;

/// Aligned, zeroed memory.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn new(len: usize) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "the buffers of a ring must have a length");
        let layout = Layout::from_size_align(len.next_multiple_of(ALIGN), ALIGN).map_err(|_| bad())?;
        if layout.size() == 0 {
            return Err(bad());
        }
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        Ok(Self { start, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody holds a reference: the ring has waited for its operations.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// A ring over one file.
pub struct Ring {
    ring: IoUring,
    memory: Memory,
    in_flight: usize,
    // Last: the kernel has its own reference, but this one names the file.
    _file: File,
}

/// What an operation returned.
#[derive(Clone, Copy, Debug)]
pub struct Completed {
    /// The number that it was given.
    pub tag: u64,
    /// Bytes moved; 0 for a sync.
    pub bytes: usize,
}

impl Ring {
    /// A ring with room for `depth` operations, and `memory_bytes` of memory for them, zeroed.
    pub fn new(file: File, depth: usize, memory_bytes: usize) -> io::Result<Self> {
        let depth = u32::try_from(depth.next_power_of_two()).map_err(|_| io::Error::other("a ring so deep cannot be"))?;
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(depth)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(Self { ring, memory: Memory::new(memory_bytes)?, in_flight: 0, _file: file })
    }

    /// The memory, to fill or to look at.
    ///
    /// # Panics
    /// If operations are under way: a mistake of the caller.
    pub fn memory(&mut self) -> &mut [u8] {
        assert_eq!(self.in_flight, 0, "the kernel still uses the memory");
        // SAFETY: the memory is ours, initialised, as long as this, and no operation is under way.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr(), self.memory.layout.size()) }
    }

    fn at(&self, from: usize, len: usize) -> io::Result<*mut u8> {
        let end = from.checked_add(len).filter(|end| *end <= self.memory.layout.size());
        end.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "beyond the memory of the ring"))?;
        // SAFETY: just checked to lie inside the allocation.
        Ok(unsafe { self.memory.start.as_ptr().add(from) })
    }

    /// Queues a write of `len` bytes of the memory from `from` on, to `position` of the file.
    pub fn write(&mut self, tag: u64, from: usize, len: usize, position: u64) -> io::Result<()> {
        let at = self.at(from, len)?;
        self.push(opcode::Write::new(types::Fixed(0), at, len as u32).offset(position).build().user_data(tag))
    }

    /// Queues a read of `len` bytes from `position` of the file into the memory at `from`.
    pub fn read(&mut self, tag: u64, from: usize, len: usize, position: u64) -> io::Result<()> {
        let at = self.at(from, len)?;
        self.push(opcode::Read::new(types::Fixed(0), at, len as u32).offset(position).build().user_data(tag))
    }

    /// Queues an fdatasync. It does not wait for what was queued before.
    pub fn sync(&mut self, tag: u64) -> io::Result<()> {
        self.push(opcode::Fsync::new(types::Fixed(0)).flags(types::FsyncFlags::DATASYNC).build().user_data(tag))
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: the memory that the entry names is owned by this ring and neither moved, freed nor handed out before the
        // operation has completed (`in_flight`); the registered file stays open as long as the ring.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::Error::other("the ring is full"))?;
        self.in_flight += 1;
        Ok(())
    }

    /// Hands queued operations to the kernel and waits until at least `wanted` have completed; calls `each` for all that have.
    /// An operation that failed is an error here.
    pub fn wait(&mut self, wanted: usize, mut each: impl FnMut(Completed)) -> io::Result<()> {
        self.ring.submit_and_wait(wanted.min(self.in_flight))?;
        let mut failed = None;
        let mut done = 0;
        for entry in self.ring.completion() {
            done += 1;
            match usize::try_from(entry.result()) {
                Ok(bytes) => each(Completed { tag: entry.user_data(), bytes }),
                Err(_) => failed = Some(io::Error::from_raw_os_error(-entry.result())),
            }
        }
        self.in_flight -= done;
        failed.map_or(Ok(()), Err)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            let before = self.in_flight;
            // A failed operation has ended too. If the ring itself is broken there is nothing to wait for, and the memory must
            // not be given back: it is better leaked.
            if self.wait(1, |_| ()).is_err() && self.in_flight == before {
                let leaked = Memory::new(ALIGN).map(|small| std::mem::replace(&mut self.memory, small));
                std::mem::forget(leaked);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
