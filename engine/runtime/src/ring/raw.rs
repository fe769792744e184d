//! The one call of receiving that needs `unsafe`, with a safe face.
#![expect(unsafe_code, reason = "spare capacity that the kernel has filled has no safe face in our dependencies")]

use bytes::{BufMut, BytesMut};
use std::{io, mem::MaybeUninit};

/// Lets `read` fill the spare capacity of `into`, and counts what it filled as part of it. `read` is recv(2): it returns how many bytes it has
/// written, from the first on.
pub(super) fn fill(into: &mut BytesMut, read: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<usize>) -> io::Result<usize> {
    let spare = into.spare_capacity_mut();
    let capacity = spare.len();
    let n = read(spare)?;
    assert!(n <= capacity, "recv returned {n} bytes for a buffer of {capacity}");
    // SAFETY: `n` bytes within the spare capacity were written by the call above.
    unsafe { into.advance_mut(n) };
    Ok(n)
}
