//! What `millpond bench` and `millpond demo` take on the command line.
//!
//! What every command of `millpond` takes (`--server`, `--json`, `--quiet`) is not repeated here: the command hands it on as
//! [`Common`].

mod compare;
mod moves;

pub use compare::{Client, CompareArgs, Rival};
pub use moves::{GroupsArgs, Many, Move, MovesArgs};

use crate::units;
use clap::{Args, Subcommand, ValueEnum};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// What the `millpond` command knows before it comes here.
#[derive(Clone, Debug)]
pub struct Common {
    /// Servers as `host:port`; the first is used where none is started by ourselves.
    pub servers: Vec<String>,
    /// Results as JSON on standard output instead of a table.
    pub json: bool,
    /// No progress on stderr.
    pub quiet: bool,
}

/// Measure a server, or the disk under it
#[derive(Args, Clone, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  millpond bench produce --spawn                         64 connections, 16 KiB batches, each synced before its ack
  millpond bench produce --spawn --rate 10k,20k,40k      open loop: latency from the intended send time, per step
  millpond bench limit --dir ./data                      what the disk gives to the same writes without a server
  millpond bench suite --report bench.html               the table of the README, the limit and the server in turns"
)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The scenarios.
#[derive(Subcommand, Clone, Debug)]
pub enum Scenario {
    /// Produce as fast as acks come back, or at given rates
    Produce(LoadArgs),
    /// Produce, then read what is still in memory
    Consume(LoadArgs),
    /// Produce and read at the same time; latency from the intended send time to the reader's hands
    EndToEnd(LoadArgs),
    /// Produce, restart the server if it is ours, then read everything from disk at full speed
    Replay(LoadArgs),
    /// Produce at a rate with and without a full-speed replay of another topic beside it, in turns
    Mixed(LoadArgs),
    /// The same writes and reads with raw io_uring on the same disk, without a server
    Limit(LimitArgs),
    /// The named set behind the table of the README: the limit and the server in turns
    Suite(SuiteArgs),
    /// Kill a server under load again and again, and check after each kill that nothing acknowledged is lost
    Crash(CrashArgs),
    /// Break a cluster under load (kills, pauses, cut and slow links), and check that nothing acknowledged is lost
    Chaos(ChaosArgs),
    /// Kill the leader of a cluster under load, again and again: how long until the next write is acknowledged
    Failover(FailoverArgs),
    /// Restart, add, replace and take out nodes of a cluster under load: what its clients notice
    Moves(MovesArgs),
    /// The same load on many partitions and on few, and a node that is killed where there are thousands
    Groups(GroupsArgs),
    /// The same load on one node and on a cluster, in turns: what replication costs
    Replication(ReplicationArgs),
    /// Millpond and another system in turns on the same disk, under load of the same clients
    #[command(long_flag = "compare")]
    Compare(CompareArgs),
}

/// A scenario that puts load on a server.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Which load.
    #[command(flatten)]
    pub work: WorkArgs,
    /// How fast and how long.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// Where the results go.
    #[command(flatten)]
    pub out: OutArgs,
}

/// Which server is measured, and on which CPUs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Start a server for the measurement and stop it afterwards
    #[arg(long)]
    pub spawn: bool,
    /// Where the started server keeps its data; made, and removed afterwards if it was not there [default: a new
    /// directory under the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// CPUs of the started server, as `millpond serve --cores` takes them; by default one, with the client on the others
    #[arg(long, value_name = "CPUS")]
    pub server_cpus: Option<String>,
    /// CPUs of the load generator, such as 1 or 1,3; one thread each
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub client_cpus: Vec<usize>,
    /// Memory for the started server
    #[arg(long, value_name = "SIZE")]
    pub server_memory: Option<String>,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// The load itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub struct WorkArgs {
    /// Connections, all of them busy
    #[arg(long, default_value = "64", value_parser = units::positive, value_name = "N")]
    pub connections: usize,
    /// Partitions per topic
    #[arg(long, default_value = "16", value_parser = units::positive, value_name = "N")]
    pub partitions: usize,
    /// Topics
    #[arg(long, default_value = "1", value_parser = units::positive, value_name = "N")]
    pub topics: usize,
    /// Bytes of a record's value
    #[arg(long, default_value = "1000", value_parser = units::bytes, value_name = "SIZE")]
    pub message_size: u64,
    /// Records in a batch
    #[arg(long, value_parser = units::positive, value_name = "N", conflicts_with = "batch_bytes")]
    pub batch_records: Option<usize>,
    /// Bytes of a batch: as many records as fit, at least one
    #[arg(long, default_value = "16KiB", value_parser = units::bytes, value_name = "SIZE")]
    pub batch_bytes: u64,
    /// Different keys; 0 for records without keys
    #[arg(long, default_value = "0", value_parser = units::count, value_name = "N")]
    pub keys: f64,
    /// How often which key comes
    #[arg(long, default_value = "uniform", value_enum, value_name = "HOW")]
    pub key_distribution: Distribution,
    /// Requests in flight per connection
    #[arg(long, default_value = "1", value_parser = units::positive, value_name = "N")]
    pub in_flight: usize,
    /// What an ack means
    #[arg(long, default_value = "all", value_enum, value_name = "WHO")]
    pub acks: AcksArg,
    /// Compression of batches by the producer
    #[arg(long, default_value = "none", value_enum, value_name = "CODEC")]
    pub compression: Codec,
    /// What the values look like
    #[arg(long, default_value = "realistic", value_enum, value_name = "KIND")]
    pub payload: Payload,
    /// Give batches a producer id and sequences
    #[arg(long)]
    pub idempotent: bool,
    /// Bytes per fetch
    #[arg(long, default_value = "4MiB", value_parser = units::bytes, value_name = "SIZE")]
    pub fetch_bytes: u64,
    /// Bytes to load before reading them
    #[arg(long, default_value = "2GiB", value_parser = units::bytes, value_name = "SIZE")]
    pub load_bytes: u64,
    /// Check the CRC of every batch read
    #[arg(long)]
    pub verify: bool,
    /// For reproducible payloads and keys
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Leave the topics in place afterwards
    #[arg(long)]
    pub keep: bool,
}

/// How fast and how long.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pace")]
pub struct PaceArgs {
    /// Open loop at these batches per second in all, one step after the other; `70%` is of what a closed loop reaches
    /// first. Without it: closed loop
    #[arg(long, value_delimiter = ',', value_name = "RATE")]
    pub rate: Vec<Rate>,
    /// Spacing of the intended send times
    #[arg(long, default_value = "even", value_enum, value_name = "HOW")]
    pub arrivals: Arrivals,
    /// How long each step is measured
    #[arg(long, default_value = "10s", value_parser = units::duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long each step runs before it is measured
    #[arg(long, default_value = "2s", value_parser = units::duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// Closed loop: add the samples that a stalled connection could not take, one per this interval
    #[arg(long, value_parser = units::duration, value_name = "TIME")]
    pub correct_omission: Option<Duration>,
}

/// Where the results go.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Results")]
pub struct OutArgs {
    /// Write a page with tables and plots, complete in itself
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write all results as JSON
    #[arg(long, value_name = "FILE.json")]
    pub results: Option<PathBuf>,
}

/// The raw disk.
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// Directory on the disk in question; a file is made there and removed
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Bytes of one write
    #[arg(long, default_value = "16KiB", value_parser = units::bytes, value_name = "SIZE")]
    pub write_bytes: u64,
    /// Writers whose writes share one sync
    #[arg(long, default_value = "64", value_parser = units::positive, value_name = "N")]
    pub writers: usize,
    /// Size of the file that is written over and over
    #[arg(long, default_value = "1GiB", value_parser = units::bytes, value_name = "SIZE")]
    pub file_bytes: u64,
    /// How long each measurement takes
    #[arg(long, default_value = "3s", value_parser = units::duration, value_name = "TIME")]
    pub duration: Duration,
    /// CPU to run on
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<usize>,
    /// Where the results go.
    #[command(flatten)]
    pub out: OutArgs,
}

/// The named set.
#[derive(Args, Clone, Debug)]
pub struct SuiteArgs {
    /// Which server. The suite always starts its own.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Rows to run, by name; all without it
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    pub only: Vec<String>,
    /// Turns of limit and server per row
    #[arg(long, default_value = "3", value_parser = units::positive, value_name = "N")]
    pub turns: usize,
    /// How long each run is measured
    #[arg(long, default_value = "5s", value_parser = units::duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long each run goes on before it is measured
    #[arg(long, default_value = "1s", value_parser = units::duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// Bytes to load for the rows that read
    #[arg(long, default_value = "2GiB", value_parser = units::bytes, value_name = "SIZE")]
    pub load_bytes: u64,
    /// Where the results go.
    #[command(flatten)]
    pub out: OutArgs,
}

/// The crash driver.
#[derive(Args, Clone, Debug)]
pub struct CrashArgs {
    /// Rounds, each with at least one kill
    #[arg(long, short = 'n', visible_alias = "kills", default_value = "20", value_parser = units::positive, value_name = "N")]
    pub rounds: usize,
    /// Replays the choices of a run; its moments in time can differ [default: from the clock]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Partitions of the topic that a consumer group reads
    #[arg(long, default_value = "6", value_parser = units::positive, value_name = "N")]
    pub partitions: usize,
    /// Idempotent producers, each with a connection of its own, besides those of other kinds
    #[arg(long, default_value = "4", value_parser = units::positive, value_name = "N")]
    pub producers: usize,
    /// Cores of the server, as `millpond serve --cores` takes them [default: all]
    #[arg(long, value_name = "N|CPUS")]
    pub server_cpus: Option<String>,
    /// Where the server keeps its data; must be empty or missing, stays if a check fails [default: a new directory under the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the data in place even if all is well
    #[arg(long)]
    pub keep: bool,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// The chaos test.
#[derive(Args, Clone, Debug)]
pub struct ChaosArgs {
    /// How long faults happen, in all; checks in between take time of their own
    #[arg(long, default_value = "60s", value_parser = units::duration, value_name = "TIME")]
    pub duration: Duration,
    /// Replays the choices of a run; what they meet can differ [default: from the clock]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Nodes, each a process of its own
    #[arg(long, default_value = "3", value_parser = units::positive, value_name = "N")]
    pub nodes: usize,
    /// On loopback, without network namespaces: needs no root, and links are neither cut nor slow
    #[arg(long)]
    pub no_netns: bool,
    /// Nodes live on small disks of their own, which fill up now and then; needs root
    #[arg(long)]
    pub full_disks: bool,
    /// Delete no old records meanwhile: then no replica ever lacks what others have deleted
    #[arg(long)]
    pub no_trims: bool,
    /// Partitions of the topic that a consumer group reads
    #[arg(long, default_value = "6", value_parser = units::positive, value_name = "N")]
    pub partitions: usize,
    /// Idempotent producers, each with a connection of its own, besides those of other kinds
    #[arg(long, default_value = "4", value_parser = units::positive, value_name = "N")]
    pub producers: usize,
    /// Cores of each server, as `millpond serve --cores` takes them [default: all, not bound to CPUs]
    #[arg(long, value_name = "N|CPUS")]
    pub server_cpus: Option<String>,
    /// Where the servers keep their data; must be empty or missing, stays if a check fails [default: a new directory under the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the data in place even if all is well
    #[arg(long)]
    pub keep: bool,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// The failover test.
#[derive(Args, Clone, Debug)]
pub struct FailoverArgs {
    /// Kills of a leader
    #[arg(long, short = 'n', default_value = "50", value_parser = units::positive, value_name = "N")]
    pub rounds: usize,
    /// Nodes, each a process of its own, on loopback
    #[arg(long, default_value = "3", value_parser = units::positive, value_name = "N")]
    pub nodes: usize,
    /// Partitions, each with a writer of its own
    #[arg(long, default_value = "6", value_parser = units::positive, value_name = "N")]
    pub partitions: usize,
    /// From one record of a writer to the next
    #[arg(long, default_value = "10ms", value_parser = units::duration, value_name = "TIME")]
    pub every: Duration,
    /// Writers wait at most so long between tries [default: the client's]
    #[arg(long, value_parser = units::duration, value_name = "TIME")]
    pub backoff_max: Option<Duration>,
    /// Cores of each server, as `millpond serve --cores` takes them [default: all, not bound to CPUs]
    #[arg(long, value_name = "N|CPUS")]
    pub server_cpus: Option<String>,
    /// Where the servers keep their data; must be empty or missing, stays if something fails [default: a new directory under the current
    /// one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// The cost of replication.
#[derive(Args, Clone, Debug)]
pub struct ReplicationArgs {
    /// Nodes of the cluster, each a process of its own, on loopback
    #[arg(long, default_value = "3", value_parser = units::positive, value_name = "N")]
    pub nodes: usize,
    /// Turns of both
    #[arg(long, default_value = "3", value_parser = units::positive, value_name = "N")]
    pub turns: usize,
    /// How long each turn is measured
    #[arg(long, default_value = "5s", value_parser = units::duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long each turn goes on before it is measured
    #[arg(long, default_value = "1s", value_parser = units::duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// Cores of each server, as `millpond serve --cores` takes them
    #[arg(long, default_value = "1", value_name = "N|CPUS")]
    pub server_cores: String,
    /// Bind cores to CPUs
    #[arg(long)]
    pub pin: bool,
    /// CPUs of the load generator, such as 1 or 1,3; one thread each [default: one thread anywhere]
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub client_cpus: Vec<usize>,
    /// Where the servers keep their data; must be empty or missing [default: a new directory under the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Which load.
    #[command(flatten)]
    pub work: WorkArgs,
}

/// Load real data, kill the server in the middle, restart it, finish, replay, and check that nothing is lost
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without --flights they are looked for as flights.ndjson.zst in ../shared/data; if they are not there, a sample that is part of \
this program is used.")]
pub struct DemoArgs {
    /// Flights as ndjson, plain or zstd-compressed: objects with `ts` and `key`
    #[arg(long, visible_alias = "data", value_name = "FILE")]
    pub flights: Option<PathBuf>,
    /// Load at most so many records
    #[arg(long, value_parser = units::positive, value_name = "N")]
    pub records: Option<usize>,
    /// Partitions of the topic
    #[arg(long, default_value = "4", value_parser = units::positive, value_name = "N")]
    pub partitions: usize,
    /// Servers: with several, the one that is killed leads, and the others go on
    #[arg(long, default_value = "1", value_parser = units::positive, value_name = "N")]
    pub nodes: usize,
    /// Where the server keeps its data; must be empty or missing [default: a new directory under the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the server's data in place afterwards
    #[arg(long)]
    pub keep: bool,
    /// Cores of each server, as `millpond serve --cores` takes them [default: all, one of each in a cluster]
    #[arg(long, value_name = "N|CPUS")]
    pub server_cpus: Option<String>,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// A rate in batches per second, or a share of what a closed loop reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Batches per second, all connections together.
    PerSecond(f64),
    /// Of the closed loop's rate, 0 to 1.
    OfMax(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no rate; try 20k, 500 or 70%");
        let (rate, ok) = match text.strip_suffix('%') {
            Some(percent) => {
                let share = percent.parse::<f64>().map_err(|_| bad())? / 100.0;
                (Self::OfMax(share), share > 0.0 && share <= 2.0)
            }
            None => {
                let rate = units::count(text).map_err(|_| bad())?;
                (Self::PerSecond(rate), rate > 0.0)
            }
        };
        if ok { Ok(rate) } else { Err(bad()) }
    }
}

/// How often which key comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Each as often as any other.
    Uniform,
    /// The first far more often than the last (Zipf, exponent 1).
    Zipf,
    /// One after the other.
    Sequential,
}

/// What an ack means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcksArg {
    /// Synced.
    All,
    /// In the server's memory.
    Leader,
}

/// Compression of batches by the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What the values look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// JSON events with names, numbers and times: zstd makes about a third of them.
    Realistic,
    /// Random bytes.
    Incompressible,
    /// One line again and again.
    Compressible,
}

/// Spacing of intended send times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// Evenly.
    Even,
    /// At random, as from many independent senders.
    Poisson,
}

#[cfg(test)]
mod tests;
