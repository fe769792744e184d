//! What the test of moves says at its end.

use super::load::Measured;
use crate::{
    args::MovesArgs,
    chaos::replicas::Compared,
    crash::ledger::{Ledger, Sums},
    units::{show_bytes, show_count, show_ns, three},
};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::{io::Write, time::Duration};

/// What is promised: no partition stands still for longer while a node is restarted that was drained...
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// ...and while replicas move the 99th percentile is less than so many times what it is else.
const P99_RATIO_MAX: f64 = 3.0;

/// What is promised of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wanted {
    /// It is there to be compared with, or bounded elsewhere.
    Nothing,
    /// No pause above [`PAUSE_MAX`].
    NoPause,
    /// A 99th percentile below [`P99_RATIO_MAX`] times that of the quiet row.
    Even,
}

/// One thing that was done.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    name: String,
    wanted: Wanted,
    records: u64,
    failed: u64,
    read: u64,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    /// Against the quiet row.
    p99_ratio: f64,
    pause_ns: u64,
    paused_partition: usize,
    /// Until the cluster was whole and leads had stayed for a while, that while included.
    took_s: f64,
    /// Of all nodes together.
    cpus: f64,
    is_met: bool,
}

impl Row {
    pub(super) fn of(name: &str, wanted: Wanted, took: Duration, cpu_s: f64, measured: &Measured) -> Self {
        let at = |share| measured.latency.value_at_quantile(share);
        Self {
            name: name.to_owned(),
            wanted,
            records: measured.latency.len(),
            failed: measured.failed,
            read: measured.read,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            max_ns: measured.latency.max(),
            p99_ratio: 1.0,
            pause_ns: measured.pause.as_nanos().try_into().unwrap_or(u64::MAX),
            paused_partition: measured.paused,
            took_s: took.as_secs_f64(),
            cpus: cpu_s / took.as_secs_f64().max(1e-9),
            is_met: true,
        }
    }

    /// On one line, as the table has it.
    pub(super) fn line(&self) -> String {
        let ns = |ns: u64| show_ns(ns as f64);
        let verdict = match self.wanted {
            Wanted::Nothing => String::new(),
            Wanted::NoPause => format!("no pause above {PAUSE_MAX:?}: {}", met(self.is_met)),
            Wanted::Even => format!("p99 below {P99_RATIO_MAX} times: {}", met(self.is_met)),
        };
        format!(
            "{:<18} {:>8} {:>6} {:>9} {:>9} {:>9} {:>6} {:>9} {:>7} {:>5}  {verdict}",
            self.name,
            show_count(self.records as f64),
            self.failed,
            ns(self.p50_ns),
            ns(self.p99_ns),
            ns(self.max_ns),
            three(self.p99_ratio),
            ns(self.pause_ns),
            format!("{:.1} s", self.took_s),
            three(self.cpus),
        )
        .trim_end()
        .to_owned()
    }

    fn judge(&mut self, quiet_p99_ns: u64) {
        self.p99_ratio = self.p99_ns as f64 / quiet_p99_ns.max(1) as f64;
        let is_even = match self.wanted {
            Wanted::Nothing => true,
            Wanted::NoPause => self.pause_ns <= PAUSE_MAX.as_nanos() as u64,
            Wanted::Even => self.p99_ratio < P99_RATIO_MAX,
        };
        self.is_met = is_even && self.failed == 0;
    }
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    partitions: usize,
    rate: usize,
    load_bytes: u64,
    rows: Vec<Row>,
    #[serde(flatten)]
    sums: Sums,
    replicas_compared: u64,
    bytes_compared: u64,
    /// Differences between what was acknowledged and what is there.
    differences: u64,
    differ: Vec<String>,
}

impl Summary {
    pub(super) fn new(args: &MovesArgs) -> Self {
        Self {
            partitions: args.partitions,
            rate: args.rate,
            load_bytes: args.load_bytes,
            rows: Vec::new(),
            sums: Sums::default(),
            replicas_compared: 0,
            bytes_compared: 0,
            differences: 0,
            differ: Vec::new(),
        }
    }

    /// Takes a row in, and gives it back held against the first one, which is the quiet one.
    pub(super) fn add(&mut self, mut row: Row) -> &Row {
        let quiet = self.rows.first().map_or(row.p99_ns, |quiet| quiet.p99_ns);
        row.judge(quiet);
        let at = self.rows.len();
        self.rows.push(row);
        &self.rows[at]
    }

    pub(super) fn checked(&mut self, ledger: &Ledger, compared: &Compared) {
        self.sums.add(ledger.sums);
        (self.replicas_compared, self.bytes_compared) = (compared.replicas, compared.bytes);
        (self.differences, self.differ) = (ledger.wrong.count, ledger.wrong.listed.clone());
    }

    /// Requests that failed, and differences.
    pub(super) fn wrong(&self) -> u64 {
        self.differences + self.rows.iter().map(|row| row.failed).sum::<u64>()
    }

    /// An error if something was lost, or a request failed.
    pub(super) fn verdict(&self) -> Result<()> {
        if self.wrong() == 0 {
            return Ok(());
        }
        bail!("{} requests failed, {} differences:\n  {}", self.wrong() - self.differences, self.differences, self.differ.join("\n  "))
    }

    /// To standard output.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        let text = if json { serde_json::to_string(self).context("writing results as JSON")? } else { self.text() };
        match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        let count = |n: u64| show_count(n as f64);
        let mut out = format!("{} records/s to {} partitions with {} in them\n", self.rate, self.partitions, show_bytes(self.load_bytes));
        out += "                    records failed       p50       p99       max  ratio     pause    took  CPUs\n";
        self.rows.iter().for_each(|row| out += &format!("{}\n", row.line()));
        let sums = &self.sums;
        out += &format!(
            "{} records acknowledged, {} read and compared; {} replicas compared, {} each time: {}\n",
            count(sums.acked),
            count(sums.read),
            count(self.replicas_compared),
            show_bytes(self.bytes_compared),
            if self.differences == 0 { "nothing lost, repeated, reordered or changed" } else { "something is wrong" }
        );
        out
    }
}

#[cfg(test)]
mod tests;
