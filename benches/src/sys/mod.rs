//! The few calls of the kernel that std does not offer, each with a safe face. All `unsafe` of this crate is in this folder.
//!
//! CPU affinity, a timer of microseconds, signals to a child, room for a file; [`ring`] is io_uring over aligned memory for the limit run.

#![expect(unsafe_code, reason = "affinity, timerfd, signals and io_uring have no safe face in std")]

pub mod ring;

use std::{
    fs::File,
    io::{self, Read},
    mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};
use tokio::io::{Interest, unix::AsyncFd};

/// CPUs that this thread may run on, in order.
pub fn cpus_allowed() -> io::Result<Vec<usize>> {
    // SAFETY: `cpu_set_t` is a plain array of bits, for which all zeros is a value; the call writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        set
    };
    // SAFETY: the index stays below the size of the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Binds this thread, and those that it starts later, to these CPUs.
pub fn pin_thread(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: as above; indexes beyond the set are left out.
    let done = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets all other threads of the same CPU go first (nice 19), this thread only.
pub fn give_way() -> io::Result<()> {
    // SAFETY: no memory is involved; 0 is the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks a child of ours to stop (SIGTERM). It must not have been waited for: until then nobody else has its pid.
pub fn ask_to_stop(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGTERM)
}

/// Gives a file room on its disk, so many bytes from `at` on.
pub fn allocate(file: &mut File, at: u64, bytes: u64) -> io::Result<()> {
    let offset = |n: u64| libc::off_t::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    // SAFETY: no memory is involved, and the descriptor is open as long as the file is.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, offset(at)?, offset(bytes)?) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the disk take all that was written to the file system on which this file lies. Blocks.
pub fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: no memory is involved, and the descriptor is open as long as the file is.
    let done = unsafe { libc::syncfs(file.as_raw_fd()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Stops a child of ours where it is (SIGSTOP). It must not have been waited for.
pub fn pause(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGSTOP)
}

/// Lets a child of ours go on (SIGCONT). It must not have been waited for.
pub fn resume(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGCONT)
}

fn signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: no memory is involved. A positive pid means one process.
    let done = unsafe { libc::kill(pid, signal) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A timer that is exact to some microseconds, where tokio's is to a millisecond: intended send times need it.
#[derive(Debug)]
pub struct Timer {
    fd: AsyncFd<File>,
}

impl Timer {
    /// A timer that is not running. Must be made inside a tokio runtime.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved; a descriptor that the call returns is ours alone.
        let fd = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: the file is moved into the `AsyncFd`, stays open until that goes, and always names the same descriptor.
        let fd = unsafe { AsyncFd::register_with_interest(File::from(fd), Interest::READABLE)? };
        Ok(Self { fd })
    }

    /// Returns at `at`, or at once if that has passed. Dropping the future is harmless.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        self.arm(left)?;
        loop {
            let mut ready = self.fd.readable().await?;
            let fired = ready.try_io(|fd| {
                let mut count = [0; 8];
                fd.get_ref().read_exact(&mut count)
            });
            match fired {
                Ok(done) => return done,
                Err(_not_yet) => {}
            }
        }
    }

    fn arm(&self, left: Duration) -> io::Result<()> {
        let value = libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: libc::c_long::from(left.subsec_nanos() as i32) };
        let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: `spec` lives across the call, and no old value is asked for.
        let done = unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &spec, std::ptr::null_mut()) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests;
