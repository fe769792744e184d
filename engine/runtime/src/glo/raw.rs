//! The few calls that need `unsafe`, each with a safe face.
#![expect(unsafe_code, reason = "uninitialised spare capacity and sendmsg have no safe face in our dependencies")]

use bytes::{BufMut, Bytes, BytesMut};
use std::{
    io,
    mem::MaybeUninit,
    net::Shutdown,
    os::fd::RawFd,
    task::{Poll, ready},
};

/// Lets `read` fill the spare capacity of `into`, and counts what it filled as part of it.
pub(super) fn fill(into: &mut BytesMut, read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    let spare = into.spare_capacity_mut();
    let capacity = spare.len();
    // SAFETY: the slice covers exactly the spare capacity, for the length of this call. `read` is recv(2) by way of
    // glommio, which only writes into it; u8 has no invalid values to be observed.
    let slice = unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast::<u8>(), capacity) };
    let n = ready!(read(slice))?;
    assert!(n <= capacity, "recv returned {n} bytes for a buffer of {capacity}");
    // SAFETY: `n` bytes within the spare capacity were written by the call above.
    unsafe { into.advance_mut(n) };
    Poll::Ready(Ok(n))
}

/// One sendmsg(2) of all `pieces`, the first from byte `within` on, without waiting.
pub(super) fn send_gathered(fd: RawFd, pieces: &[Bytes], within: usize) -> io::Result<usize> {
    let mut vectors: Vec<libc::iovec> = Vec::with_capacity(pieces.len());
    for (n, piece) in pieces.iter().enumerate() {
        let bytes = if n == 0 { &piece[within..] } else { &piece[..] };
        vectors.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
    }
    // SAFETY: an all-zero msghdr is valid: no name, no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    // SAFETY: the vectors point into `pieces`, which outlive the call; sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Ends one or both directions of a socket.
pub(super) fn shutdown(fd: RawFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes no pointers; a bad descriptor is an error.
    if unsafe { libc::shutdown(fd, how) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
