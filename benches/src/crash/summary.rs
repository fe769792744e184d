//! What the crash test says at its end.

use super::ledger::Sums;
use crate::units::{show_count, show_ns};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{io::Write, time::Duration};

/// Everything counted.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) seed: u64,
    pub(super) rounds: usize,
    /// All, those during recovery too.
    pub(super) kills: usize,
    pub(super) kills_in_recovery: usize,
    /// From each start until the server served.
    #[serde(skip)]
    pub(super) recoveries: Vec<Duration>,
    recovery_p50_s: f64,
    recovery_max_s: f64,
    #[serde(flatten)]
    sums: Sums,
    pub(super) seconds: f64,
}

impl Summary {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds what the rounds on one directory have counted.
    pub(super) fn add(&mut self, more: Sums) {
        self.sums.add(more);
    }

    /// To standard output.
    pub(super) fn print(mut self, json: bool) -> Result<()> {
        self.recoveries.sort_unstable();
        let at = |share: f64| self.recoveries.get(((self.recoveries.len() - 1) as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64);
        if !self.recoveries.is_empty() {
            (self.recovery_p50_s, self.recovery_max_s) = (at(0.5), at(1.0));
        }
        let text = if json { serde_json::to_string(&self).context("writing results as JSON")? } else { self.text() };
        match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        let count = |n: u64| show_count(n as f64);
        let sums = &self.sums;
        let rows = [
            ("kills", format!("{} in {} rounds, {} of them during recovery", self.kills, self.rounds, self.kills_in_recovery)),
            ("records", format!("{} sent, {} acknowledged, {} read and compared", count(sums.sent), count(sums.acked), count(sums.read))),
            ("positions", format!("{} committed", count(sums.commits))),
            ("topics", format!("{} created, {} deleted, {} trims", sums.topics_created, sums.topics_deleted, count(sums.trims))),
            ("recovery", format!("p50 {}, max {}", show_ns(self.recovery_p50_s * 1e9), show_ns(self.recovery_max_s * 1e9))),
            ("time", format!("{:.0} s, seed {}", self.seconds, self.seed)),
        ];
        let mut out: String = rows.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
        out += "Nothing acknowledged was lost, repeated, reordered or changed.\n";
        out
    }
}
