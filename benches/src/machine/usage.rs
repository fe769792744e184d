//! CPU time and memory of processes, from /proc.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io};

/// Clock ticks per second in /proc; fixed in the kernel's interface on every architecture that Rust's std runs on.
const TICKS_PER_S: f64 = 100.0;

/// CPU time, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// In our code.
    pub user_s: f64,
    /// In the kernel on our behalf.
    pub system_s: f64,
}

impl Cpu {
    /// Both together.
    #[must_use]
    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }

    /// What was used since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { user_s: (self.user_s - before.user_s).max(0.0), system_s: (self.system_s - before.system_s).max(0.0) }
    }
}

/// One look at a process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// All threads.
    pub cpu: Cpu,
    /// Threads by name; those of one name together.
    pub threads: BTreeMap<String, Cpu>,
    /// Memory in RAM, in bytes.
    pub rss_bytes: u64,
    /// The most that it ever was, in bytes.
    pub rss_peak_bytes: u64,
}

/// The name and CPU time in a line of `stat`. The name is in parentheses and may hold some itself.
fn stat(line: &str) -> Option<(String, Cpu)> {
    let (head, tail) = line.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let mut fields = tail.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok().map(|ticks| ticks / TICKS_PER_S);
    Some((name.to_owned(), Cpu { user_s: ticks()?, system_s: ticks()? }))
}

fn status_bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Process {
    /// Looks at a process now.
    pub fn look(pid: u32) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat does not read as it should"));
        let (_, cpu) = stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?).ok_or_else(bad)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mut threads: BTreeMap<String, Cpu> = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // A thread may have ended since the directory was read.
            let Some((name, cpu)) = fs::read_to_string(task.path().join("stat")).ok().as_deref().and_then(stat) else { continue };
            // Names of the kernel's helpers end in the pid of whom they help.
            let name = name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
            let sum = threads.entry(name).or_default();
            sum.user_s += cpu.user_s;
            sum.system_s += cpu.system_s;
        }
        Ok(Self { cpu, threads, rss_bytes: status_bytes(&status, "VmRSS"), rss_peak_bytes: status_bytes(&status, "VmHWM") })
    }
}

/// Time that all CPUs have been busy, in seconds together, with whatever it was; waiting for disks and stolen time do not count.
pub fn all_busy_s() -> io::Result<f64> {
    busy_of(|_| true)
}

/// The same of these CPUs.
pub fn busy_s(cpus: &[usize]) -> io::Result<f64> {
    busy_of(|cpu| cpus.contains(&cpu))
}

fn busy_of(counts: impl Fn(usize) -> bool) -> io::Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let busy = |line: &str| -> Option<f64> {
        let (name, ticks) = line.strip_prefix("cpu")?.split_once(' ')?;
        let ticks: Vec<f64> = ticks.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        // user, nice, system, (idle, iowait), irq, softirq
        let busy = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum::<f64>();
        counts(name.parse().ok()?).then_some(busy / TICKS_PER_S)
    };
    Ok(text.lines().filter_map(busy).sum())
}

#[cfg(test)]
mod tests;
