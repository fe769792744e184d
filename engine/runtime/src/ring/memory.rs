//! Aligned memory that the kernel reads and writes directly.
//!
//! Freed memory is kept by the thread that freed it, for the next who asks: the allocator would cut and merge blocks of these
//! sizes all day. Sizes are powers of two from one block to [`KEPT_BYTES_MAX`]; larger ones come and go.
#![expect(unsafe_code, reason = "the kernel wants addresses, aligned as no Vec is")]

use crate::{IoBuf, limits::BLOCK_BYTES};
use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::RefCell,
    ops::Deref,
    ptr::NonNull,
    slice,
};

/// Memory larger than this is not kept, in bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// A thread keeps so many bytes at most.
const KEPT_BYTES_ALL: usize = 8 << 20;
/// Sizes that are kept.
const SIZES: usize = (KEPT_BYTES_MAX / BLOCK_BYTES).trailing_zeros() as usize + 1;

#[derive(Default)]
struct Kept {
    free: [Vec<NonNull<u8>>; SIZES],
    bytes: usize,
}

impl Drop for Kept {
    fn drop(&mut self) {
        for (size, free) in self.free.iter_mut().enumerate() {
            for at in free.drain(..) {
                release(at, BLOCK_BYTES << size);
            }
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Which size of those that are kept, if it is one.
fn class(capacity: usize) -> Option<usize> {
    (capacity <= KEPT_BYTES_MAX).then(|| (capacity / BLOCK_BYTES).trailing_zeros() as usize)
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK_BYTES).expect("a capacity is at most a few MiB, and a block is a power of two")
}

fn release(at: NonNull<u8>, capacity: usize) {
    // SAFETY: allocated by `Memory::new` with this layout, and its owner is gone.
    unsafe { dealloc(at.as_ptr(), layout(capacity)) }
}

/// Memory for whole blocks, aligned to a block, of which the first `filled` bytes have been written.
pub(super) struct Memory {
    at: NonNull<u8>,
    capacity: usize,
    filled: usize,
}

impl Memory {
    /// Room for at least `bytes`, nothing of it written.
    pub(super) fn new(bytes: usize) -> Self {
        let blocks = bytes.div_ceil(BLOCK_BYTES).max(1);
        let capacity = if blocks * BLOCK_BYTES <= KEPT_BYTES_MAX { blocks.next_power_of_two() } else { blocks } * BLOCK_BYTES;
        let kept = class(capacity).and_then(|class| {
            let take = |kept: &RefCell<Kept>| {
                let mut kept = kept.borrow_mut();
                let at = kept.free[class].pop()?;
                kept.bytes -= capacity;
                Some(at)
            };
            KEPT.try_with(take).ok().flatten()
        });
        // SAFETY: the layout's size is not zero.
        let at = kept
            .unwrap_or_else(|| NonNull::new(unsafe { alloc(layout(capacity)) }).unwrap_or_else(|| handle_alloc_error(layout(capacity))));
        Self { at, capacity, filled: 0 }
    }

    /// Where byte `from` lies, with as many bytes behind it as `len`, for the kernel to write to or to read from.
    ///
    /// # Panics
    /// If that is not inside.
    pub(super) fn place(&self, from: usize, len: usize) -> *mut u8 {
        assert!(from.checked_add(len).is_some_and(|end| end <= self.capacity), "{len} bytes from {from} of {} bytes", self.capacity);
        // SAFETY: just checked to lie inside the allocation.
        unsafe { self.at.as_ptr().add(from) }
    }

    /// The kernel has written the first `len` bytes.
    pub(super) fn written(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} bytes written to {} bytes", self.capacity);
        self.filled = len;
    }

    fn grow(&mut self, by: usize) -> *mut u8 {
        let at = self.place(self.filled, by);
        self.filled += by;
        at
    }
}

impl IoBuf for Memory {
    fn len(&self) -> usize {
        self.filled
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn put(&mut self, bytes: &[u8]) {
        let to = self.grow(bytes.len());
        // SAFETY: `grow` has made sure that there is room; what is borrowed from elsewhere does not overlap with memory of ours.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    fn put_zeros(&mut self, n: usize) {
        let to = self.grow(n);
        // SAFETY: `grow` has made sure that there is room.
        unsafe { to.write_bytes(0, n) }
    }

    fn filled(&mut self) -> &mut [u8] {
        // SAFETY: the first `filled` bytes are ours alone and have been written.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.filled) }
    }

    fn truncate(&mut self, len: usize) {
        assert!(len <= self.filled, "{len} bytes of {}", self.filled);
        self.filled = len;
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the first `filled` bytes are ours and have been written.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.filled) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let keep = |kept: &RefCell<Kept>| {
            let mut kept = kept.borrow_mut();
            let class = class(self.capacity).filter(|_| kept.bytes + self.capacity <= KEPT_BYTES_ALL)?;
            kept.bytes += self.capacity;
            kept.free[class].push(self.at);
            Some(())
        };
        if KEPT.try_with(keep).ok().flatten().is_none() {
            release(self.at, self.capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_used_again() {
        let mut sizes = Vec::new();
        for bytes in [0, 1, 4096, 4097, 100_000, KEPT_BYTES_MAX, KEPT_BYTES_MAX + 1] {
            let mut memory = Memory::new(bytes);
            assert!(memory.at.as_ptr().addr().is_multiple_of(BLOCK_BYTES) && memory.capacity >= bytes.max(1));
            memory.put(&vec![7; bytes]);
            memory.pad_to_block();
            assert_eq!(memory.len(), bytes.next_multiple_of(BLOCK_BYTES));
            assert!(memory[..bytes].iter().all(|b| *b == 7) && memory[bytes..].iter().all(|b| *b == 0));
            sizes.push(memory.capacity);
        }
        assert_eq!(sizes, [4096, 4096, 4096, 8192, 131_072, KEPT_BYTES_MAX, KEPT_BYTES_MAX + 4096]);
        let first = Memory::new(5000).at;
        assert_eq!(Memory::new(8000).at, first, "what was freed is what is given next");
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound() {
        drop((0..10).map(|_| Memory::new(KEPT_BYTES_MAX)).collect::<Vec<_>>());
        KEPT.with_borrow(|kept| {
            assert_eq!(kept.bytes, KEPT_BYTES_ALL);
            assert_eq!(kept.free.iter().map(Vec::len).sum::<usize>(), KEPT_BYTES_ALL / KEPT_BYTES_MAX);
        });
    }

    #[test]
    fn what_is_taken_back_is_written_over() {
        let mut memory = Memory::new(4096);
        memory.put(b"stays goes");
        IoBuf::truncate(&mut memory, 6);
        memory.put(b"is new");
        assert_eq!(&memory[..], b"stays is new");
    }

    #[test]
    #[should_panic(expected = "bytes from")]
    fn nothing_is_put_past_the_end() {
        Memory::new(4096).put(&[0; 4097]);
    }
}
