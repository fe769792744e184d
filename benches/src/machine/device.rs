//! The block device under a directory: its name, and its counters (Documentation/block/stat.rst of the kernel).
//!
//! Flushes per ack tell what durability was really bought: an ack that no flush went before is not on the disk. The
//! counters are the device's, so that others who use it count too.

use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A disk.
#[derive(Clone, Debug)]
pub struct Device {
    sys: PathBuf,
}

/// Its counters at one moment, or the difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Reads that reached the device.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes that reached the device.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flushes of its write cache.
    pub flushes: u64,
}

impl Counters {
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let at = |n: usize| fields.get(n).copied();
        // Sectors in these files are of 512 bytes, whatever the device has.
        Some(Self { reads: at(0)?, read_bytes: at(2)? * 512, writes: at(4)?, written_bytes: at(6)? * 512, flushes: at(15)? })
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(before.reads),
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            writes: self.writes.saturating_sub(before.writes),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            flushes: self.flushes.saturating_sub(before.flushes),
        }
    }
}

impl Device {
    /// The device that a directory lies on; `None` where the kernel shows none (tmpfs, overlays, network file systems).
    pub fn under(path: &Path) -> io::Result<Option<Self>> {
        let dev = fs::metadata(path)?.dev();
        let sys = PathBuf::from(format!("/sys/dev/block/{}:{}", libc::major(dev), libc::minor(dev)));
        let Ok(sys) = fs::canonicalize(sys) else { return Ok(None) };
        // Flushes are counted for the whole disk.
        let whole = if sys.join("partition").exists() { sys.parent().map(Path::to_owned) } else { None };
        let device = Self { sys: whole.unwrap_or(sys) };
        Ok(device.counters().is_some().then_some(device))
    }

    /// Its counters now; `None` where the kernel does not count flushes (before 5.5).
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        Counters::parse(&fs::read_to_string(self.sys.join("stat")).ok()?)
    }

    /// What is under the directory, for people: name, model, scheduler, write cache.
    #[must_use]
    pub fn describe(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.sys.join(name)).ok().map(|text| text.trim().to_owned());
        let name = self.sys.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let scheduler = read("queue/scheduler").map(|all| match (all.find('['), all.find(']')) {
            (Some(from), Some(to)) if from < to => all[from + 1..to].to_owned(),
            _ => all,
        });
        let facts = [
            Some(name),
            read("device/model").filter(|model| !model.is_empty()),
            read("queue/rotational").map(|is| if is == "0" { "not rotating".into() } else { "rotating".into() }),
            read("queue/write_cache").map(|cache| format!("cache {cache}")),
            scheduler.map(|scheduler| format!("scheduler {scheduler}")),
        ];
        facts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
