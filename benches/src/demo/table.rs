//! What the demonstration says at its end.

use super::{Loaded, check::Differences, load::Way, replay::Read};
use crate::{
    flights::{Flight, Source},
    report::table::columns,
    units::{show_count, show_ns, show_rate},
};
use serde::Serialize;
use std::time::Duration;

/// Everything that it measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    input: String,
    records: usize,
    /// Of keys and values.
    bytes: u64,
    /// From the first record handed over to the last ack, the crash included.
    load_s: f64,
    /// The same without the time in which there was no server.
    records_per_s: f64,
    bytes_per_s: f64,
    /// From handing over to the ack, of records that saw nothing of the crash.
    ack_p50_ns: u64,
    ack_p99_ns: u64,
    /// Records handed over and not acknowledged when the server was killed.
    in_flight_at_kill: usize,
    /// The longest that a record had to wait for its ack.
    ack_max_ns: u64,
    /// From the start of the second server until it served.
    recovery_s: f64,
    replays: Vec<ReplayRow>,
    pub(super) differences: u64,
    listed: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ReplayRow {
    what: String,
    records: usize,
    bytes: u64,
    seconds: f64,
    records_per_s: f64,
    bytes_per_s: f64,
    differences: u64,
}

fn per(amount: u64, time: Duration) -> f64 {
    amount as f64 / time.as_secs_f64().max(1e-9)
}

fn percentile(sorted: &[Duration], share: f64) -> u64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).map_or(0, |wait| wait.as_nanos() as u64)
}

impl Report {
    pub(super) fn new(source: &Source, flights: &[Flight], loaded: &Loaded, reads: &[(String, Read, Differences)]) -> Self {
        let crash = &loaded.crash;
        let down = crash.down;
        let bytes = flights.iter().map(Flight::bytes).sum();
        let wait = |way: &Way| way.acked - way.handed;
        let untouched = |way: &&Way| way.acked < crash.killed || way.handed > crash.ready;
        let mut waits: Vec<Duration> = loaded.ways.iter().filter(untouched).map(wait).collect();
        waits.sort_unstable();
        let serving = loaded.took.saturating_sub(down);
        let row = |(what, read, wrong): &(String, Read, Differences)| ReplayRow {
            what: what.clone(),
            records: read.len(),
            bytes: read.bytes,
            seconds: read.took.as_secs_f64(),
            records_per_s: per(read.len() as u64, read.took),
            bytes_per_s: per(read.bytes, read.took),
            differences: wrong.count,
        };
        let listed = reads.iter().flat_map(|(what, _, wrong)| wrong.listed.iter().map(move |line| format!("replay of {what}: {line}")));
        Self {
            input: source.to_string(),
            records: flights.len(),
            bytes,
            load_s: loaded.took.as_secs_f64(),
            records_per_s: per(flights.len() as u64, serving),
            bytes_per_s: per(bytes, serving),
            ack_p50_ns: percentile(&waits, 0.5),
            ack_p99_ns: percentile(&waits, 0.99),
            in_flight_at_kill: crash.in_flight,
            ack_max_ns: loaded.ways.iter().map(wait).max().unwrap_or_default().as_nanos() as u64,
            recovery_s: crash.recovery.as_secs_f64(),
            replays: reads.iter().map(row).collect(),
            differences: reads.iter().map(|(_, _, wrong)| wrong.count).sum(),
            listed: listed.collect(),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let row = |name: &str, value: String, more: &str| format!("{name:<16} {value:>14}  {more}\n").trim_end().to_owned() + "\n";
        let mut out = row("records", show_count(self.records as f64), "acknowledged, each synced to disk before");
        out += &row("size", format!("{:.1} MB", self.bytes as f64 / 1e6), "keys and values");
        out += &row("load", show_rate(self.bytes_per_s), &format!("{} records/s while there was a server", show_count(self.records_per_s)));
        out += &row("ack p50", show_ns(self.ack_p50_ns as f64), "from handing a record over, at full speed");
        out += &row("ack p99", show_ns(self.ack_p99_ns as f64), "");
        out += &row("killed", show_count(self.in_flight_at_kill as f64), "records were in flight");
        out += &row("recovery", show_ns(self.recovery_s * 1e9), "from the second start until it served");
        out += &row("longest ack", show_ns(self.ack_max_ns as f64), "of a record in flight at the crash");
        out.push('\n');
        let mut table = vec![["replay", "records", "records/s", "bytes/s", "check"].map(str::to_owned).to_vec()];
        for replay in &self.replays {
            let check = if replay.differences == 0 { "passed".into() } else { format!("{} differences", replay.differences) };
            let (records, rate) = (show_count(replay.records as f64), show_count(replay.records_per_s));
            table.push(vec![replay.what.clone(), records, rate, show_rate(replay.bytes_per_s), check]);
        }
        out += &columns(&table);
        out.push('\n');
        if self.differences == 0 {
            out += "Every acknowledged record is there once, in order, with its bytes, and nothing else.\n";
        }
        for line in &self.listed {
            out += &format!("WRONG {line}\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_samples() {
        let waits: Vec<Duration> = (1..=200).map(Duration::from_nanos).collect();
        assert_eq!((percentile(&waits, 0.5), percentile(&waits, 0.99), percentile(&[], 0.5)), (100, 198, 0));
    }
}
