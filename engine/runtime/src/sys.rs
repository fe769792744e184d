//! Questions and orders to the system that have no safe face in our dependencies: limits of the process, where a thread
//! runs and where its memory comes from, whether the clock is kept.
#![expect(unsafe_code, reason = "these system calls have no safe face in our dependencies")]

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{FromRawFd, IntoRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};

/// Most CPUs that an affinity mask is read for.
const CPUS_MAX: usize = 8192;
/// Most NUMA nodes that a thread can be bound to: the kernel's own bound.
const NODES_MAX: usize = 1024;
const WORD_BITS: usize = u64::BITS as usize;

/// A soft limit and the hard one above it, in the unit of the limit; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What holds now.
    pub soft: u64,
    /// How far this process may raise it.
    pub hard: u64,
}

/// How much memory may be locked, in bytes.
#[must_use]
pub fn memlock() -> Limit {
    limit(libc::RLIMIT_MEMLOCK)
}

/// How many files and sockets may be open.
#[must_use]
pub fn open_files() -> Limit {
    limit(libc::RLIMIT_NOFILE)
}

/// Raises the limit of open files as far as this process may, and returns what holds then. A connection is a file, so
/// the usual 1024 would be a bound on clients.
pub fn raise_open_files() -> io::Result<u64> {
    let Limit { soft, hard } = open_files();
    if soft >= hard {
        return Ok(soft);
    }
    let wanted = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: `wanted` is a whole rlimit that the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(open_files().soft)
}

fn limit(resource: libc::__rlimit_resource_t) -> Limit {
    let mut found = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `found` has room for the answer; both resources exist on every Linux, so that the call cannot fail.
    unsafe { libc::getrlimit(resource, &raw mut found) };
    Limit { soft: found.rlim_cur, hard: found.rlim_max }
}

/// The CPUs that the calling thread may run on, ascending: what a cgroup, `taskset` or a container left of the machine's.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut mask = [0_u64; CPUS_MAX / WORD_BITS];
    // SAFETY: the mask has room for as many bytes as are announced, and any bits are a valid mask.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast()) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..CPUS_MAX).filter(|cpu| mask[cpu / WORD_BITS] & (1 << (cpu % WORD_BITS)) != 0).collect())
}

/// Lets the calling thread run on `cpus` only.
pub fn run_on(cpus: &[usize]) -> io::Result<()> {
    let mut mask = [0_u64; CPUS_MAX / WORD_BITS];
    for cpu in cpus {
        let Some(word) = mask.get_mut(cpu / WORD_BITS) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("CPU {cpu} is beyond the {CPUS_MAX} that are supported")));
        };
        *word |= 1 << (cpu % WORD_BITS);
    }
    // SAFETY: the mask is as long as announced, and the call only reads it.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the calling thread batch work (`SCHED_BATCH`): when it becomes ready it waits for its turn, and interrupts nobody.
pub fn be_batch() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the call only reads the parameter.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the allocator keep what is freed for the next who asks, instead of giving it back to the system and fetching it anew,
/// page by page: buffers of a server come and go all the time, and its budgets bound them already. False if the allocator takes
/// no such advice.
pub fn keep_freed_memory() -> bool {
    #[cfg(target_env = "gnu")]
    {
        /// Blocks from this size on, the largest that it takes, are still mapped one by one, in bytes.
        const MAPPED_FROM: libc::c_int = 32 << 20;
        /// An arena grows by so much address space at a time, in bytes: a heap of a thread. With less, glibc gives heaps back
        /// that have become empty.
        const GROW_BY: libc::c_int = 64 << 20;
        let advice = [(libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_TOP_PAD, GROW_BY)];
        // SAFETY: takes two numbers, and locks the allocator itself.
        advice.iter().filter(|(what, bytes)| unsafe { libc::mallopt(*what, *bytes) } == 1).count() == advice.len()
    }
    #[cfg(not(target_env = "gnu"))]
    {
        false
    }
}

/// Memory that the calling thread touches first comes from NUMA node `node`, or from another once that one is full.
pub fn prefer_node(node: usize) -> io::Result<()> {
    // The kernel reads words of its own size: 64 bits, on all that we run on.
    const _: () = assert!(libc::c_ulong::BITS == u64::BITS);
    let mut mask = [0_u64; NODES_MAX / WORD_BITS];
    let Some(word) = mask.get_mut(node / WORD_BITS) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("NUMA node {node} is beyond the {NODES_MAX} that are supported")));
    };
    *word |= 1 << (node % WORD_BITS);
    // SAFETY: the mask is as long as announced (the kernel reads one bit less than it is told), and the call only reads it.
    let failed = unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_PREFERRED, mask.as_ptr(), NODES_MAX + 1) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Free and total bytes of the file system of `path`.
pub fn space(path: &Path) -> io::Result<crate::Space> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is a C string and `stat` has room for the answer.
    if unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statvfs succeeded and filled it.
    let stat = unsafe { stat.assume_init() };
    Ok(crate::Space { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
}

/// A counter that a thread can wait for and others can add to.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers; what it returns is a new descriptor, or -1.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes a file, with the error that dropping would hide.
pub fn close(file: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor was the file's alone, which has given it up.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel says of how the wall clock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Whether a daemon keeps it in step with others.
    pub synchronised: bool,
    /// The largest error that daemon admits, in µs.
    pub error_us_max: u64,
}

/// Asks the kernel how the wall clock is kept.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: an all-zero timex is valid, and asks without changing.
    let mut timex: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `timex` has room for the answer.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let synchronised = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    Ok(ClockState { synchronised, error_us_max: u64::try_from(timex.maxerror).unwrap_or(u64::MAX) })
}

#[cfg(test)]
mod tests;

/// A thread that can be had out of the system call that it sleeps in.
#[derive(Clone, Copy, Debug)]
pub struct Sleeper(libc::pid_t);

impl Sleeper {
    /// The calling thread. From now on SIGURG interrupts system calls of this process, and does nothing else.
    pub fn here() -> io::Result<Self> {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: all zeros are a valid sigaction: no flags, so that calls are not begun anew, and no signals blocked.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler touches nothing, so it may run at any moment; the old action is not asked for.
        if unsafe { libc::sigaction(libc::SIGURG, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call cannot fail.
        Ok(Self(unsafe { libc::gettid() }))
    }

    /// Interrupts it: what it sleeps in fails with EINTR.
    pub fn interrupt(self) {
        // SAFETY: a signal to a thread of this process, whose handler does nothing; a thread that has ended is an error, no harm.
        let _ = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, libc::SIGURG) };
    }
}
