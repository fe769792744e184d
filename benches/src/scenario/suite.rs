//! The named set behind the table of the README. Each row measures both of its sides in turns on the same machine, one right
//! after the other, with a server started for the row; what is judged is a ratio of the two.

use super::{
    bench::Bench,
    load::{beside_replay, consumers, load, produce_run, reading_on, replay_run},
};
use crate::{
    args::{AcksArg, Arrivals, Codec, Common, Distribution, Payload, SuiteArgs, WorkArgs},
    limit::{self, Limit, LimitSpec},
    load::produce::Pace,
    measure::median,
    results::{Results, Row, Run, Turn, Value, Wanted},
    system::Reading,
};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use std::time::Duration;

/// Size of the file of a limit run.
const LIMIT_FILE_BYTES: u64 = 1 << 30;
/// How long each of its measurements takes, at most.
const LIMIT_DURATION: Duration = Duration::from_secs(3);
/// Memory of the server, unless the command line says otherwise: what it keeps of the newest data is a part of it.
const MEMORY: &str = "1GiB";
/// Recent data is so much: it stays in that part.
const RECENT_BYTES: u64 = 256 << 20;
/// A server that has just started makes its journal files and grows into its memory; so much is sent before a row is measured,
/// so that it uses both again.
const PRIME_BYTES: u64 = 768 << 20;
/// Between two steps of a row, for background work of the step before to come to rest.
const REST: Duration = Duration::from_millis(300);

type Runner = fn(&mut Suite<'_>) -> Result<Row>;

/// All rows.
const ROWS: [(&str, Runner); 10] = [
    ("produce", produce),
    ("ack", ack),
    ("partitions", partitions),
    ("tail", tail),
    ("small", small),
    ("alone", alone),
    ("recent", recent),
    ("replay", replay),
    ("replay-json", replay_json),
    ("mixed", mixed),
];

struct Suite<'a> {
    args: &'a SuiteArgs,
    bench: Bench,
    name: &'static str,
    runs: Vec<Run>,
    limits: Vec<Limit>,
}

/// Runs the rows that are asked for.
pub(super) fn run(args: &SuiteArgs, common: &Common, progress: &ProgressBar) -> Result<Results> {
    for name in &args.only {
        let known: Vec<&str> = ROWS.iter().map(|row| row.0).collect();
        ensure!(known.contains(&name.as_str()), "the suite has no row `{name}`, only {}", known.join(", "));
    }
    let mut server = args.server.clone();
    server.server_memory.get_or_insert_with(|| MEMORY.to_owned());
    let bench = Bench::spawn(&server, progress)?;
    let mut suite = Suite { args, bench, name: "", runs: Vec::new(), limits: Vec::new() };
    let (mut rows, mut first) = (Vec::new(), true);
    for (name, runner) in ROWS {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        if !std::mem::take(&mut first) {
            suite.bench.restart(true)?;
        }
        suite.name = name;
        suite.prime()?;
        let row = runner(&mut suite).with_context(|| format!("in row {name}"))?;
        if !common.quiet {
            progress.println(crate::report::table::row_line(&row));
        }
        rows.push(row);
    }
    let Suite { mut bench, runs, limits, .. } = suite;
    (bench.results.rows, bench.results.runs, bench.results.limits) = (rows, runs, limits);
    bench.finish()
}

/// The load of a row before it says what differs: 16 KiB batches, 64 connections, 16 partitions.
fn work() -> WorkArgs {
    WorkArgs {
        connections: 64,
        partitions: 16,
        topics: 1,
        message_size: 1000,
        batch_records: None,
        batch_bytes: 16 << 10,
        keys: 0.0,
        key_distribution: Distribution::Uniform,
        in_flight: 1,
        acks: AcksArg::All,
        compression: Codec::None,
        payload: Payload::Realistic,
        idempotent: false,
        fetch_bytes: 1 << 20,
        load_bytes: 0,
        verify: false,
        seed: 1,
        keep: false,
    }
}

/// One record of 1 KiB in each batch.
fn single(connections: usize, partitions: usize) -> WorkArgs {
    WorkArgs { connections, partitions, message_size: 1024, batch_records: Some(1), ..work() }
}

const CLOSED: Pace = Pace::Closed { in_flight: 1 };

impl Suite<'_> {
    /// See [`PRIME_BYTES`].
    fn prime(&mut self) -> Result<()> {
        let topics = self.bench.topics(1, 16)?;
        let work = WorkArgs { batch_bytes: 64 << 10, ..work() };
        load(&self.bench, &work, &topics, PRIME_BYTES.min(self.args.load_bytes))?;
        self.bench.drop_topics(&topics)
    }

    /// Produces for the time of a run, to topics of its own.
    fn produce(&mut self, name: &str, work: &WorkArgs, pace: Pace) -> Result<Run> {
        let topics = self.bench.topics(work.topics, work.partitions)?;
        std::thread::sleep(REST);
        let plan = self.bench.plan(self.args.warm_up, self.args.duration);
        let run = produce_run(&self.bench, &format!("{}: {name}", self.name), work, &topics, pace, &plan)?;
        self.bench.drop_topics(&topics)?;
        ensure!(run.totals.requests > 0, "nothing was acknowledged");
        Ok(self.keep(run))
    }

    fn keep(&mut self, mut run: Run) -> Run {
        run.row = self.name.to_owned();
        self.runs.push(run.clone());
        run
    }

    /// The limit of the disk, on the server's CPU, while the server rests.
    fn limit(&mut self, write_bytes: usize, writers: usize, reads: bool) -> Result<Limit> {
        std::thread::sleep(REST);
        let spec = LimitSpec {
            dir: self.bench.dir().context("the suite has a server of its own")?.to_owned(),
            write_bytes,
            writers,
            file_bytes: LIMIT_FILE_BYTES,
            duration: self.args.duration.min(LIMIT_DURATION),
            cpu: self.bench.placement.as_ref().and_then(|placement| placement.server.first().copied()),
            writes: !reads,
            reads,
        };
        let limit = limit::run(&spec, |what| self.bench.says(format!("{}: {what}", self.name)))?;
        self.limits.push(limit.clone());
        Ok(limit)
    }

    fn row(&self, what: &str, against: &str, how: &str, wanted: Wanted) -> Row {
        Row {
            name: self.name.to_owned(),
            what: what.into(),
            against: against.into(),
            how: how.into(),
            wanted,
            turns: Vec::new(),
            core: 0.0,
            core_counts: false,
            notes: Vec::new(),
        }
    }
}

/// How full the server's CPUs were, over the runs of a row.
fn core(runs: &[&Run]) -> f64 {
    let shares: Vec<f64> = runs.iter().filter_map(|run| Some(run.server.as_ref()?.fullness())).collect();
    median(&shares)
}

fn ratio(ours: Value, other: Value) -> Turn {
    Turn { ours, other, result: ours.number() / other.number().max(1e-9) }
}

fn produce(suite: &mut Suite<'_>) -> Result<Row> {
    let against = "raw io_uring: the same 64 writes, then one fdatasync (the faster of one gathered write and 64 side by side)";
    let mut row = suite.row("produce, 16 KiB × 64 connections, synced before each ack", against, "ours / limit", Wanted::AtLeast(0.8));
    row.core_counts = true;
    let mut runs = Vec::new();
    for _ in 0..suite.args.turns {
        let limit = suite.limit(16 << 10, 64, false)?;
        let run = suite.produce("64 connections", &work(), CLOSED)?;
        let limit = limit.gathered.bytes_per_s.max(limit.side_by_side.bytes_per_s);
        row.turns.push(ratio(Value::BytesPerS(run.bytes_per_s()), Value::BytesPerS(limit)));
        runs.push(run);
    }
    // The same bytes with more under way per connection: what the network's round trips cost.
    let deep = suite.produce("64 connections, 8 in flight", &work(), Pace::Closed { in_flight: 8 })?;
    row.notes.push(format!("with 8 requests in flight per connection: {}", Value::BytesPerS(deep.bytes_per_s()).show()));
    row.core = core(&runs.iter().collect::<Vec<_>>());
    Ok(row)
}

fn ack(suite: &mut Suite<'_>) -> Result<Row> {
    let against = "raw io_uring: one 16 KiB write and its fdatasync, median";
    let how = "ours - limit, in µs";
    let mut row = suite.row("ack of a 16 KiB batch, 1 connection, median", against, how, Wanted::AtMost(90.0));
    let one = WorkArgs { connections: 1, partitions: 1, ..work() };
    for _ in 0..suite.args.turns {
        let limit = suite.limit(16 << 10, 1, false)?;
        let run = suite.produce("1 connection", &one, CLOSED)?;
        let (ours, raw) = (run.latency.p50_ns as f64, limit.one_by_one.latency.p50_ns as f64);
        row.turns.push(Turn { ours: Value::Ns(ours), other: Value::Ns(raw), result: (ours - raw) / 1e3 });
        row.core = row.core.max(core(&[&run]));
    }
    Ok(row)
}

fn partitions(suite: &mut Suite<'_>) -> Result<Row> {
    let mut row =
        suite.row("1 KiB batches over 1,000 partitions, 64 connections", "the same to 1 partition", "ours / other", Wanted::AtLeast(0.7));
    let mut runs = Vec::new();
    for _ in 0..suite.args.turns {
        let one = suite.produce("1 partition", &single(64, 1), CLOSED)?;
        let many = suite.produce("1,000 partitions", &single(64, 1000), CLOSED)?;
        row.turns.push(ratio(Value::AcksPerS(many.requests_per_s()), Value::AcksPerS(one.requests_per_s())));
        runs.push(many);
    }
    row.core = core(&runs.iter().collect::<Vec<_>>());
    Ok(row)
}

fn tail(suite: &mut Suite<'_>) -> Result<Row> {
    let what = "p99.9 of acks, 16 KiB × 64 connections, open loop at 70 % of the closed loop's rate";
    let mut row = suite.row(what, "p50 of the same run", "p99.9 / p50", Wanted::AtMost(10.0));
    let mut runs = Vec::new();
    for _ in 0..suite.args.turns {
        let closed = suite.produce("closed loop", &work(), CLOSED)?;
        let pace = Pace::Open { per_s: 0.7 * closed.requests_per_s(), arrivals: Arrivals::Even };
        let run = suite.produce("70 %", &work(), pace)?;
        row.turns.push(ratio(Value::Ns(run.latency.p999_ns as f64), Value::Ns(run.latency.p50_ns as f64)));
        if let Some(late) = &run.late {
            row.notes.push(format!("the generator itself was late by {} at p99.9", Value::Ns(late.p999_ns as f64).show()));
        }
        runs.push(run);
    }
    row.core = core(&runs.iter().collect::<Vec<_>>());
    Ok(row)
}

fn small(suite: &mut Suite<'_>) -> Result<Row> {
    let what = "records of 1 KiB one by one, 16 connections, synced before each ack";
    let mut row = suite.row(what, "device flushes per ack, at most 0.15", "acks per second", Wanted::AtLeast(31_000.0));
    let mut runs = Vec::new();
    for _ in 0..suite.args.turns {
        let run = suite.produce("16 connections", &single(16, 1), CLOSED)?;
        let acks = run.requests_per_s();
        let (device, journal) = run.flushes_per_request().unwrap_or((f64::NAN, f64::NAN));
        row.turns.push(Turn { ours: Value::AcksPerS(acks), other: Value::Plain(device), result: acks });
        row.notes.push(format!("flushes per ack: {device:.3} counted by the device, {journal:.3} syncs of the journal"));
        runs.push(run);
    }
    row.core = core(&runs.iter().collect::<Vec<_>>());
    Ok(row)
}

fn alone(suite: &mut Suite<'_>) -> Result<Row> {
    let against = "raw io_uring: one 4 KiB write and its fdatasync, per second";
    let mut row = suite.row(
        "records of 1 KiB one by one, 1 connection, synced before each ack",
        against,
        "acks per second",
        Wanted::AtLeast(4_550.0),
    );
    for _ in 0..suite.args.turns {
        let limit = suite.limit(4 << 10, 1, false)?;
        let run = suite.produce("1 connection", &single(1, 1), CLOSED)?;
        let acks = run.requests_per_s();
        row.turns.push(Turn { ours: Value::AcksPerS(acks), other: Value::AcksPerS(limit.one_by_one.ops_per_s), result: acks });
        row.core = row.core.max(core(&[&run]));
    }
    Ok(row)
}

fn recent(suite: &mut Suite<'_>) -> Result<Row> {
    let what = "bulk reads of recent data, 4 connections, fetches of 1 MiB";
    let mut row = suite.row(what, "one core", "GB/s per core", Wanted::AtLeast(1.8));
    row.core_counts = true;
    let load_work = WorkArgs { batch_bytes: 64 << 10, payload: Payload::Realistic, ..work() };
    let topics = suite.bench.topics(1, load_work.partitions)?;
    let bytes = RECENT_BYTES.min(suite.args.load_bytes);
    let loaded = load(&suite.bench, &load_work, &topics, bytes)?;
    suite.keep(loaded);
    let cores = suite.bench.placement.as_ref().map_or(1, |placement| placement.server.len()) as f64;
    let mut runs = Vec::new();
    for _ in 0..suite.args.turns {
        std::thread::sleep(REST);
        let mut consume = consumers(&suite.bench, &load_work, &topics, Reading::Again { background: false });
        consume.connections = 4;
        let mut run = suite.bench.measure("recent: bulk read", &consume, &suite.bench.plan(suite.args.warm_up, suite.args.duration))?;
        run.on = reading_on(&load_work, 4, "from memory, from the start to the end, again and again");
        let run = suite.keep(run);
        let rate = run.bytes_per_s();
        row.turns.push(Turn { ours: Value::BytesPerS(rate), other: Value::Plain(cores), result: rate / 1e9 / cores });
        let (memory, disk) = run.server.as_ref().map_or((0.0, 0.0), |used| used.reads);
        row.notes.push(format!("{memory:.0} reads from memory, {disk:.0} from segments"));
        runs.push(run);
    }
    suite.bench.drop_topics(&topics)?;
    row.core = core(&runs.iter().collect::<Vec<_>>());
    Ok(row)
}

fn replay(suite: &mut Suite<'_>) -> Result<Row> {
    cold(suite, "random bytes", Payload::Incompressible)
}

fn replay_json(suite: &mut Suite<'_>) -> Result<Row> {
    cold(suite, "JSON events, which segments hold compressed", Payload::Realistic)
}

fn cold(suite: &mut Suite<'_>, of: &str, payload: Payload) -> Result<Row> {
    let against = "raw io_uring: reading a file in order, 8 × 1 MiB in flight";
    let mut row = suite.row(&format!("cold replay from disk, {of}"), against, "ours / limit", Wanted::AtLeast(0.7));
    row.core_counts = true;
    let load_work = WorkArgs { batch_bytes: 64 << 10, payload, connections: 4, ..work() };
    let topics = suite.bench.topics(1, load_work.partitions)?;
    let loaded = load(&suite.bench, &load_work, &topics, suite.args.load_bytes)?;
    let loaded = suite.keep(loaded);
    let mut runs = Vec::new();
    for _ in 0..suite.args.turns {
        // Nothing of it is in memory after a restart but what is not settled yet, and files are read past the page cache.
        suite.bench.restart(false)?;
        let limit = suite.limit(16 << 10, 1, true)?;
        let (run, _) = replay_run(&suite.bench, &load_work, &topics, &format!("{}: everything once", suite.name))?;
        let run = suite.keep(run);
        let (came, went) = (run.totals.records, loaded.totals.records);
        ensure!(came == went, "{went} records were loaded, {came} came back");
        row.turns.push(ratio(Value::BytesPerS(run.bytes_per_s()), Value::BytesPerS(limit.read.bytes_per_s)));
        if let Some(device) = run.device {
            row.notes.push(format!("{} read from the device", crate::units::show_bytes(device.read_bytes)));
        }
        runs.push(run);
    }
    suite.bench.drop_topics(&topics)?;
    row.core = core(&runs.iter().collect::<Vec<_>>());
    Ok(row)
}

fn mixed(suite: &mut Suite<'_>) -> Result<Row> {
    let what = "p99 of acks with a full-speed replay of another topic beside it, 16 KiB × 16 connections, open loop at 30 %";
    let mut row = suite.row(what, "the same without the replay", "with / without", Wanted::AtMost(2.0));
    let live_work = WorkArgs { connections: 16, ..work() };
    let old_work = WorkArgs { batch_bytes: 64 << 10, ..work() };
    let old = suite.bench.topics(1, old_work.partitions)?;
    let loaded = load(&suite.bench, &old_work, &old, suite.args.load_bytes)?;
    suite.keep(loaded);
    suite.bench.restart(false)?;
    let max = suite.produce("closed loop", &live_work, CLOSED)?.requests_per_s();
    let pace = Pace::Open { per_s: 0.3 * max, arrivals: Arrivals::Even };
    for _ in 0..suite.args.turns {
        let without = suite.produce("without a replay", &live_work, pace)?;
        let live = suite.bench.topics(1, live_work.partitions)?;
        std::thread::sleep(REST);
        let plan = suite.bench.plan(suite.args.warm_up, suite.args.duration);
        let (mut with, mut beside) = beside_replay(&suite.bench, &live_work, (&live, &old), pace, &plan)?;
        suite.bench.drop_topics(&live)?;
        (with.name, beside.name) = ("mixed: with a replay".into(), "mixed: the replay".into());
        row.turns.push(ratio(Value::Ns(with.latency.p99_ns as f64), Value::Ns(without.latency.p99_ns as f64)));
        row.notes.push(format!("the replay ran at {}", Value::BytesPerS(beside.bytes_per_s()).show()));
        row.core = row.core.max(core(&[&with]));
        suite.keep(with);
        suite.keep(beside);
    }
    suite.bench.drop_topics(&old)?;
    Ok(row)
}

/// The names of all rows.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.0).collect()
}
