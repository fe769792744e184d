//! What the chaos test says at its end.

use super::{faults::Kind, replicas::Compared};
use crate::{
    crash::ledger::{Ledger, Sums},
    units::{show_bytes, show_count, show_ns},
};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{collections::BTreeMap, io::Write, time::Duration};

/// Everything counted.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    seed: u64,
    pub(super) rounds: usize,
    /// Load with faults, without what was checked in between.
    pub(super) load_ms: u64,
    faults: BTreeMap<Kind, u64>,
    pub(super) killed_all: u64,
    pub(super) stopped_all: u64,
    /// From the end of all faults until the cluster was whole.
    #[serde(skip)]
    pub(super) whole: Vec<Duration>,
    whole_p50_s: f64,
    whole_max_s: f64,
    #[serde(flatten)]
    sums: Sums,
    replicas_compared: u64,
    batches_compared: u64,
    bytes_compared: u64,
    /// Why records were not delivered that need not be.
    undelivered_why: BTreeMap<String, u64>,
    notes: Vec<String>,
    pub(super) seconds: f64,
}

impl Summary {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn count(&mut self, kind: Kind) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// What people should know about this run; said once.
    pub(super) fn note(&mut self, what: &str) {
        if !self.notes.iter().any(|note| note == what) {
            self.notes.push(what.to_owned());
        }
    }

    /// Adds what a comparison of replicas has covered.
    pub(super) fn compared(&mut self, more: &Compared) {
        self.replicas_compared += more.replicas;
        self.batches_compared += more.batches;
        self.bytes_compared += more.bytes;
    }

    /// Adds what the rounds on one directory have counted.
    pub(super) fn add(&mut self, more: &Ledger) {
        self.sums.add(more.sums);
        more.excuses.iter().for_each(|(why, count)| *self.undelivered_why.entry(why.clone()).or_default() += count);
    }

    /// How far it is.
    pub(super) fn so_far(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        format!("round {}, {:.0} s of load: {}", self.rounds, self.load_ms as f64 / 1e3, faults.join(", "))
    }

    /// To standard output.
    pub(super) fn print(mut self, json: bool) -> Result<()> {
        self.whole.sort_unstable();
        let at =
            |share: f64| self.whole.get((self.whole.len().saturating_sub(1) as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64);
        (self.whole_p50_s, self.whole_max_s) = (at(0.5), at(1.0));
        let text = if json { serde_json::to_string(&self).context("writing results as JSON")? } else { self.text() };
        match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
            _ => Ok(()),
        }
    }

    fn why(&self) -> String {
        self.undelivered_why.iter().map(|(why, count)| format!("; {count}: {why}")).collect()
    }

    fn text(&self) -> String {
        let count = |n: u64| show_count(n as f64);
        let sums = &self.sums;
        let mut rows: Vec<(&str, String)> = self.faults.iter().map(|(kind, n)| (kind.name(), count(*n))).collect();
        rows.extend([
            ("all nodes", format!("{} killed at once, {} stopped", self.killed_all, self.stopped_all)),
            ("records", format!("{} sent, {} acknowledged, {} read and compared", count(sums.sent), count(sums.acked), count(sums.read))),
            ("not delivered", format!("{} to topics that come and go{}", count(sums.undelivered), self.why())),
            ("positions", format!("{} committed", count(sums.commits))),
            ("topics", format!("{} created, {} deleted, {} trims", sums.topics_created, sums.topics_deleted, count(sums.trims))),
            (
                "replicas",
                format!(
                    "{} compared, {} batches, {} each",
                    count(self.replicas_compared),
                    count(self.batches_compared),
                    show_bytes(self.bytes_compared)
                ),
            ),
            ("whole again", format!("p50 {}, max {}", show_ns(self.whole_p50_s * 1e9), show_ns(self.whole_max_s * 1e9))),
            (
                "time",
                format!(
                    "{:.0} s of load in {} rounds, {:.0} s in all, seed {}",
                    self.load_ms as f64 / 1e3,
                    self.rounds,
                    self.seconds,
                    self.seed
                ),
            ),
        ]);
        let mut out: String = rows.iter().map(|(name, value)| format!("{name:<16} {value}\n")).collect();
        self.notes.iter().for_each(|note| out += &format!("Note: {note}.\n"));
        out += "Nothing acknowledged was lost, repeated, reordered or changed, and all replicas held the same.\n";
        out
    }
}
