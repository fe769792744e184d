//! What the test of many groups says at its end.

use crate::{
    args::GroupsArgs,
    measure::median,
    units::{show_count, show_ns, show_rate, three},
};
use anyhow::{Context, Result};
use serde::Serialize;
use std::io::Write;

/// What is promised: many partitions keep at least this share of the throughput of few...
const SHARE_MIN: f64 = 0.7;
/// ...and after a node has started again leads stay where they are within so many seconds.
const STORM_MAX_S: f64 = 5.0;

/// What one turn of a load measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Turn {
    pub(super) nodes: usize,
    pub(super) partitions: usize,
    pub(super) bytes_per_s: f64,
    pub(super) batches_per_s: f64,
    pub(super) ack_p50_ns: u64,
    pub(super) ack_p99_ns: u64,
}

/// What one kill and one start came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Storm {
    /// Of each node, while nothing happens.
    pub(super) idle_cpus: f64,
    /// What the node led that was killed.
    pub(super) led: usize,
    pub(super) led_again_s: f64,
    pub(super) killed_settled_s: f64,
    /// CPU time of those that are left, until leads had stayed for a while.
    pub(super) killed_cpu_s: f64,
    /// From its start until it serves.
    pub(super) serves_s: f64,
    pub(super) back_led_s: f64,
    pub(super) back_settled_s: f64,
    /// CPU time of all.
    pub(super) back_cpu_s: f64,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    few: usize,
    active: usize,
    groups: usize,
    pub(super) turns: Vec<Turn>,
    pub(super) storms: Vec<Storm>,
}

impl Summary {
    pub(super) fn new(args: &GroupsArgs) -> Self {
        Self { few: args.few, active: args.active, groups: args.groups, turns: Vec::new(), storms: Vec::new() }
    }

    /// To standard output.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        let text = if json { self.json()? } else { self.text() };
        match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
            _ => Ok(()),
        }
    }

    fn json(&self) -> Result<String> {
        let mut value = serde_json::to_value(self).context("writing results as JSON")?;
        let shares: Vec<serde_json::Value> = self
            .shares()
            .into_iter()
            .map(|(nodes, share)| serde_json::json!({ "nodes": nodes, "share": share, "is_met": share >= SHARE_MIN }))
            .collect();
        value["shares"] = shares.into();
        value["storm_is_met"] = self.storm_is_met().into();
        Ok(value.to_string())
    }

    /// For each number of nodes: the throughput of many partitions against that of few, the median of the turns.
    fn shares(&self) -> Vec<(usize, f64)> {
        let mut sides: Vec<usize> = self.turns.iter().map(|turn| turn.nodes).collect();
        sides.dedup();
        let of = |nodes, partitions| {
            let all: Vec<f64> =
                self.turns.iter().filter(|t| (t.nodes, t.partitions) == (nodes, partitions)).map(|t| t.bytes_per_s).collect();
            median(&all)
        };
        sides.into_iter().map(|nodes| (nodes, of(nodes, self.active) / of(nodes, self.few).max(f64::MIN_POSITIVE))).collect()
    }

    fn storm_is_met(&self) -> bool {
        self.storms.iter().all(|storm| storm.back_settled_s < STORM_MAX_S)
    }

    fn text(&self) -> String {
        let met = |is_met| if is_met { "met" } else { "missed" };
        let mut out = String::new();
        if !self.turns.is_empty() {
            out += "nodes  partitions    throughput   batches/s     ack p50     ack p99\n";
        }
        for turn in &self.turns {
            out += &format!(
                "{:<5} {:>11} {:>13} {:>11} {:>11} {:>11}\n",
                turn.nodes,
                show_count(turn.partitions as f64),
                show_rate(turn.bytes_per_s),
                show_count(turn.batches_per_s),
                show_ns(turn.ack_p50_ns as f64),
                show_ns(turn.ack_p99_ns as f64)
            );
        }
        for (nodes, share) in self.shares() {
            let of = format!("{} partitions have {} of the throughput of {}", show_count(self.active as f64), three(share), self.few);
            out += &format!(
                "{nodes} {}: {of}; wanted {SHARE_MIN} at least: {}\n",
                if nodes == 1 { "node" } else { "nodes" },
                met(share >= SHARE_MIN)
            );
        }
        if self.storms.is_empty() {
            return out;
        }
        out += &format!(
            "{} groups on 3 nodes, each with a replica on each; times from the kill, and from the start of the process\n",
            show_count(self.groups as f64)
        );
        out += "idle CPU   it led   killed: all led  settled  CPU   started: serves  all led  settled  CPU\n";
        for s in &self.storms {
            out += &format!(
                "{:>7.1} % {:>8} {:>13.2} s {:>6.2} s {:>4.1} s {:>11.2} s {:>6.2} s {:>6.2} s {:>4.1} s\n",
                s.idle_cpus * 100.0,
                show_count(s.led as f64),
                s.led_again_s,
                s.killed_settled_s,
                s.killed_cpu_s,
                s.serves_s,
                s.back_led_s,
                s.back_settled_s,
                s.back_cpu_s
            );
        }
        out += &format!("leads stay where they are within {STORM_MAX_S:.0} s of a start: {}\n", met(self.storm_is_met()));
        out
    }
}

#[cfg(test)]
mod tests;
