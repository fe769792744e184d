//! What a result must say about where it comes from.

use super::device::Device;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// The machine and the build.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The harness and its version.
    pub version: String,
    /// The commit that it was built from, where whoever built it said so in `MILLPOND_COMMIT`.
    pub commit: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory in RAM, in bytes.
    pub memory_bytes: u64,
    /// Whether a hypervisor is below the kernel.
    pub virtual_machine: bool,
    /// The disk under the data.
    pub disk: Option<String>,
    /// The file system on it.
    pub file_system: Option<String>,
    /// The command line.
    pub command: String,
    /// When the run began, milliseconds since 1970.
    pub started_ms: u64,
}

fn first_of(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that a path lies on: that of the longest mount point above it.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let rows = mounts.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    rows.filter(|(at, _)| path.starts_with(at)).max_by_key(|(at, _)| at.components().count()).map(|(_, kind)| kind.to_owned())
}

impl Facts {
    /// Reads them; what cannot be read stays empty. `data` is a directory on the disk in question.
    #[must_use]
    pub fn read(data: &Path, started_ms: u64) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let memory_kib = first_of(&text("/proc/meminfo"), "MemTotal").and_then(|t| t.split(' ').next()?.parse::<u64>().ok());
        let flags = first_of(&cpuinfo, "flags").unwrap_or_default();
        Self {
            version: concat!("millpond ", env!("CARGO_PKG_VERSION")).into(),
            commit: option_env!("MILLPOND_COMMIT").map(str::to_owned).filter(|commit| !commit.is_empty()),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: first_of(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: crate::sys::cpus_allowed().map_or(0, |cpus| cpus.len()),
            memory_bytes: memory_kib.unwrap_or(0) * 1024,
            virtual_machine: flags.split(' ').any(|flag| flag == "hypervisor"),
            disk: Device::under(data).ok().flatten().map(|device| device.describe()),
            file_system: file_system(&text("/proc/mounts"), data),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started_ms,
        }
    }
}

#[cfg(test)]
mod tests;
