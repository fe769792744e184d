//! The kernel: whether it is new enough, and whether it lets us use io_uring.

use super::{Check, Root};
use std::io;

/// The oldest kernel that can watch a socket for its whole life.
const NEEDED: (u32, u32) = (5, 13);
/// Since then completions are worked on when we ask for them, instead of interrupting us.
const GOOD: (u32, u32) = (6, 1);

pub(super) fn checks(root: &Root) -> Vec<Check> {
    let status = root.read("/proc/self/status").unwrap_or_default();
    let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).is_some_and(|mode| mode.trim() == "2");
    let disabled = root.read("/proc/sys/kernel/io_uring_disabled");
    vec![version(root.read("/proc/sys/kernel/osrelease").as_deref()), ring(try_ring(), disabled.as_deref(), seccomp)]
}

pub(super) fn version(release: Option<&str>) -> Check {
    const NAME: &str = "kernel";
    let Some(release) = release else {
        return Check::warn(NAME, "its version cannot be read", "mount /proc, and make sure that it is Linux 5.13 or newer");
    };
    let found = format!("Linux {release}");
    let Some(version) = parse(release) else {
        return Check::warn(NAME, found, "make sure that it is Linux 5.13 or newer");
    };
    if version < NEEDED {
        Check::fail(NAME, found, "install Linux 5.13 or newer, best 6.1 or newer: older ones lack calls of io_uring that we need")
    } else if version < GOOD {
        Check::hint(NAME, found, "Linux 6.1 or newer interrupts the cores less")
    } else {
        Check::ok(NAME, found)
    }
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Sets up a ring and asks what it can do, which is what every core does first.
fn try_ring() -> io::Result<()> {
    let ring = io_uring::IoUring::new(8)?;
    ring.submitter().register_probe(&mut io_uring::Probe::new())
}

/// `disabled` is what the sysctl of the name says, `seccomp` whether system calls of this process are filtered.
pub(super) fn ring(tried: io::Result<()>, disabled: Option<&str>, seccomp: bool) -> Check {
    const NAME: &str = "io_uring";
    const FILTER: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile of the container \
        (Docker: --security-opt seccomp=PROFILE; Kubernetes: a Localhost seccompProfile)";
    let Err(error) = tried else {
        return Check::ok(NAME, "rings can be set up");
    };
    let found = format!("no ring can be set up: {error}");
    let advice = match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some("2")) => "run `sysctl -w kernel.io_uring_disabled=0` on the host: it is switched off for everybody",
        (Some(libc::EPERM), Some("1")) => {
            "run `sysctl -w kernel.io_uring_disabled=0` on the host, or make the user a member of the group in kernel.io_uring_group"
        }
        (Some(libc::EPERM | libc::EACCES), _) if !seccomp => "look for what forbids it: a security module such as SELinux or AppArmor",
        (Some(libc::EPERM | libc::EACCES), _) => FILTER,
        (Some(libc::ENOSYS), _) if seccomp => FILTER,
        (Some(libc::ENOSYS), _) => "use a kernel that was built with CONFIG_IO_URING; gVisor and WSL 1 have none",
        (Some(libc::ENOMEM), _) => "raise the limit of locked memory: `ulimit -l 65536`, or LimitMEMLOCK=64M in the unit",
        (Some(libc::EMFILE | libc::ENFILE), _) => "raise the limit of open files: `ulimit -n 65536`, or LimitNOFILE=65536 in the unit",
        _ => "see what the kernel log says (`dmesg`)",
    };
    Check::fail(NAME, found, advice)
}
