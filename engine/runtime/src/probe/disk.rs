//! The disk of the data directory: the file system, direct I/O, room, and what a sync costs.

use super::{Check, Root, bytes_text};
use crate::{Space, limits::BLOCK_BYTES, sys};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Blocks that are written and synced one by one.
const SYNCS: usize = 64;
/// A disk so slow that it cannot do them in this time is known well enough.
const SYNCS_WITHIN: Duration = Duration::from_secs(5);
/// A node starts with less, and stops taking records soon: journals alone may take 1 GiB per core.
const FREE_MIN: u64 = 256 * 1024 * 1024;
/// Room for the journals of some cores and for records beside them.
const FREE_GOOD: u64 = 8 * 1024 * 1024 * 1024;
/// A sync that takes longer, half of the time, is felt by every client that waits for it.
const SYNC_GOOD: Duration = Duration::from_millis(5);
/// One in a hundred may take this long.
const STALL_GOOD: Duration = Duration::from_millis(50);

pub(super) fn checks(root: &Root, dir: &Path) -> Vec<Check> {
    let there = existing(dir);
    let mount = root.read("/proc/self/mountinfo").and_then(|text| Mount::of(&text, &there));
    let mut checks = vec![file_system(mount.as_ref(), dir)];
    checks.extend(mount.and_then(|mount| device(root, &mount.device)).map(|device| blocks(&device)));
    checks.push(room(sys::space(&there)));
    checks.extend(syncs(measure(&there), &there));
    checks
}

/// `dir`, or of its parents the nearest that exists.
fn existing(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    absolute.ancestors().find_map(|dir| fs::canonicalize(dir).ok()).unwrap_or(absolute)
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) kind: String,
    /// Of the device, `major:minor`.
    pub(super) device: String,
    /// Of the mount and of the file system.
    pub(super) options: Vec<String>,
}

impl Mount {
    /// Where `path` lies, by the text of /proc/self/mountinfo.
    ///
    /// ```text
    /// 36 35 98:0 /root/of/it /where/it/is rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue
    /// ```
    pub(super) fn of(text: &str, path: &Path) -> Option<Self> {
        let parse = |line: &str| {
            let (mount, kind) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(2);
            let (device, point, of_mount) = (mount.next()?, mount.nth(1)?, mount.next()?);
            let mut kind = kind.split(' ');
            let (kind, of_kind) = (kind.next()?, kind.nth(1).unwrap_or_default());
            let options = of_mount.split(',').chain(of_kind.split(',')).map(str::to_owned).collect();
            Some(Self { point: unescape(point).into(), kind: kind.to_owned(), device: device.to_owned(), options })
        };
        // Of mounts on the same point the last is seen.
        text.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count())
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }
}

/// Spaces and the like are written in octal: `\040`.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let octal = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        plain.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

pub(super) fn file_system(mount: Option<&Mount>, dir: &Path) -> Check {
    const NAME: &str = "file system";
    let whose = if dir.exists() { String::new() } else { format!(" ({} does not exist yet)", dir.display()) };
    let Some(mount) = mount else {
        return Check::warn(NAME, format!("unknown{whose}"), "mount /proc, or make sure that it is ext4 or XFS on a local disk");
    };
    let found = format!("{} on {}{whose}", mount.kind, mount.point.display());
    if mount.has("ro") {
        return Check::fail(NAME, format!("{found}, read-only"), "mount it for writing, or choose another directory with --data");
    }
    if mount.has("nobarrier") || mount.has("barrier=0") {
        return Check::fail(
            NAME,
            format!("{found}, without barriers"),
            "remount it without nobarrier: a sync that does not reach the disk loses acknowledged records when the power fails",
        );
    }
    match mount.kind.as_str() {
        "ext4" | "xfs" => Check::ok(NAME, found),
        "btrfs" | "zfs" | "bcachefs" | "f2fs" => Check::warn(
            NAME,
            found,
            "ext4 or XFS: this one writes elsewhere each time, so that journal files that are written again gain nothing",
        ),
        "overlay" | "aufs" => {
            Check::warn(NAME, found, "keep the data on a volume: what is in the container's own layer goes with the container, and is slow")
        }
        "tmpfs" | "ramfs" => {
            Check::warn(NAME, found, "choose a directory on a disk with --data: memory is empty after a restart of the machine")
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "virtiofs" | "ceph" | "glusterfs" => Check::warn(
            NAME,
            found,
            "use a local disk or a block volume: what a sync means here is up to a server, and so is whether a lock holds",
        ),
        kind if kind.starts_with("fuse") => {
            Check::warn(NAME, found, "use ext4 or XFS on a local disk: what a sync means here is up to a program")
        }
        _ => Check::hint(NAME, found, "Millpond is tested on ext4 and XFS"),
    }
}

/// What the kernel tells of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) rotates: bool,
    /// "write back" or "write through".
    pub(super) cache: String,
}

/// The disk with a number, `major:minor`; `None` for what is no block device.
pub(super) fn device(root: &Root, number: &str) -> Option<Device> {
    let node = fs::canonicalize(root.path(&format!("/sys/dev/block/{number}"))).ok()?;
    // A partition has its disk above it.
    let disk = [node.as_path(), node.parent()?].into_iter().find(|dir| dir.join("queue").is_dir())?;
    let text = |name: &str| fs::read_to_string(disk.join("queue").join(name)).map(|text| text.trim().to_owned()).ok();
    Some(Device {
        name: node.file_name()?.to_string_lossy().into_owned(),
        logical: text("logical_block_size")?.parse().ok()?,
        physical: text("physical_block_size")?.parse().ok()?,
        rotates: text("rotational").is_some_and(|text| text == "1"),
        cache: text("write_cache").unwrap_or_default(),
    })
}

pub(super) fn blocks(device: &Device) -> Check {
    const NAME: &str = "disk";
    let Device { name, logical, physical, rotates, cache } = device;
    // Virtual disks are taken for rotating ones too, unless the host says otherwise.
    let turns = if *rotates { ", rotating or virtual" } else { "" };
    let cache = if cache.is_empty() { String::new() } else { format!(", {cache} cache") };
    let found = format!("{name}: blocks of {logical} B, {physical} B physical{turns}{cache}");
    if *logical > BLOCK_BYTES as u64 {
        Check::fail(
            NAME,
            found,
            format!("choose a disk with logical blocks of at most {BLOCK_BYTES} B: files are written in units of that"),
        )
    } else if *physical > BLOCK_BYTES as u64 {
        Check::warn(NAME, found, "a write of 4 KiB makes this disk read and write a larger block; a power cut may then hurt its neighbours")
    } else {
        Check::ok(NAME, found)
    }
}

pub(super) fn room(space: io::Result<Space>) -> Check {
    const NAME: &str = "free space";
    match space {
        Err(error) => Check::warn(NAME, format!("cannot be read: {error}"), "look with `df`"),
        Ok(Space { free, total }) => {
            let found = format!("{} of {}", bytes_text(free), bytes_text(total));
            if free < FREE_MIN {
                Check::fail(NAME, found, "free some: a node needs 256 MiB to start, and up to 1 GiB per core for its journal")
            } else if free < FREE_GOOD {
                Check::warn(
                    NAME,
                    found,
                    "make room, or set retention by bytes: the journal takes up to 1 GiB per core, and appends are refused when the disk is full",
                )
            } else {
                Check::ok(NAME, found)
            }
        }
    }
}

/// Removes the file that was measured on.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // It may never have come to be.
        let _ = fs::remove_file(&self.0);
    }
}

/// What went wrong, and at which step.
pub(super) struct Refused {
    pub(super) doing: &'static str,
    pub(super) error: io::Error,
}

/// Writes and syncs single blocks of a file that has all its blocks, under O_DIRECT, as a journal does; what each took.
fn measure(dir: &Path) -> Result<Vec<Duration>, Refused> {
    let step = |doing| move |error| Refused { doing, error };
    let path = Remove(dir.join(format!(".millpond-doctor-{}", std::process::id())));
    let mut zeros = File::create(&path.0).map_err(step("create a file"))?;
    io::Write::write_all(&mut zeros, &vec![0; SYNCS * BLOCK_BYTES]).map_err(step("write"))?;
    zeros.sync_all().map_err(step("sync"))?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path.0).map_err(step("open for direct I/O"))?;
    let memory = vec![0xA5_u8; 2 * BLOCK_BYTES];
    let start = memory.as_ptr().align_offset(BLOCK_BYTES);
    let block = &memory[start..start + BLOCK_BYTES];
    let begun = Instant::now();
    let mut took = Vec::with_capacity(SYNCS);
    for n in 0..SYNCS {
        let one = Instant::now();
        file.write_all_at(block, (n * BLOCK_BYTES) as u64).map_err(step("write with direct I/O"))?;
        file.sync_data().map_err(step("sync"))?;
        took.push(one.elapsed());
        if begun.elapsed() > SYNCS_WITHIN {
            break;
        }
    }
    Ok(took)
}

/// The checks of direct I/O and of syncs, from what [`measure`] found.
pub(super) fn syncs(measured: Result<Vec<Duration>, Refused>, dir: &Path) -> Vec<Check> {
    const DIRECT: &str = "direct I/O";
    match measured {
        Ok(took) => vec![Check::ok(DIRECT, format!("works, in units of {BLOCK_BYTES} B")), latency(took)],
        Err(Refused { doing, error }) => {
            let found = format!("cannot {doing} in {}: {error}", dir.display());
            let advice = match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => {
                    "give the user of the server the right to write there, or choose another directory with --data"
                }
                Some(libc::EROFS) => "mount it for writing, or choose another directory with --data",
                Some(libc::ENOSPC | libc::EDQUOT) => "free some space",
                Some(libc::EINVAL | libc::EOPNOTSUPP) if doing.ends_with("direct I/O") => {
                    "choose a directory on ext4 or XFS with --data: this file system does not do O_DIRECT in blocks of 4 KiB"
                }
                Some(libc::EIO) => "look at the kernel log (`dmesg`) and at the disk (`smartctl -a`): it may be failing",
                _ => "see that the directory can be written, or choose another with --data",
            };
            vec![Check::fail(DIRECT, found, advice)]
        }
    }
}

pub(super) fn latency(mut took: Vec<Duration>) -> Check {
    const NAME: &str = "sync latency";
    took.sort_unstable();
    let at = |per_cent: usize| took.get((took.len() * per_cent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default();
    let (median, p99) = (at(50), at(99));
    let ms = |d: Duration| format!("{:.2} ms", d.as_secs_f64() * 1000.0);
    let found = format!("4 KiB written and synced: median {}, p99 {} of {}", ms(median), ms(p99), took.len());
    if median > SYNC_GOOD {
        let advice = "every acknowledgement waits for a sync: use an NVMe disk, best with power-loss protection; many clients or deep pipelines hide some of it";
        Check::warn(NAME, found, advice)
    } else if p99 > STALL_GOOD {
        Check::warn(NAME, found, "the disk stalls now and then: see what else writes to it (`iostat -x 1`), and its health (`smartctl -a`)")
    } else {
        Check::ok(NAME, found)
    }
}
