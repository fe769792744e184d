//! What the benches of clusters that change, and of many groups, take on the command line.

use super::{AcksArg, Codec, Distribution, Payload, WorkArgs};
use crate::units;
use clap::{Args, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// A scenario of `millpond bench moves`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Move {
    /// Each node in turn is drained, stopped and started again.
    Drain,
    /// Two nodes join, and the load is spread.
    Grow,
    /// A node is killed and its disk lost; a new one takes its place.
    Replace,
    /// A node is taken out.
    Decommission,
}

/// The test of moves.
#[derive(Args, Clone, Debug)]
pub struct MovesArgs {
    /// Scenarios to run, in this order: drain, grow, replace, decommission; all without it
    #[arg(long, value_delimiter = ',', value_enum, hide_possible_values = true, value_name = "NAME")]
    pub only: Vec<Move>,
    /// Partitions, each with a writer of its own
    #[arg(long, default_value = "24", value_parser = units::positive, value_name = "N")]
    pub partitions: usize,
    /// Producers that share the partitions, each with connections of its own
    #[arg(long, default_value = "4", value_parser = units::positive, value_name = "N")]
    pub producers: usize,
    /// Records per second, all partitions together
    #[arg(long, default_value = "1200", value_parser = units::positive, value_name = "N")]
    pub rate: usize,
    /// What the partitions hold when it begins
    #[arg(long, default_value = "256MiB", value_parser = units::bytes, value_name = "SIZE")]
    pub load_bytes: u64,
    /// How long the load goes on before anything happens: what all else is compared with
    #[arg(long, default_value = "20s", value_parser = units::duration, value_name = "TIME")]
    pub quiet_for: Duration,
    /// Something is over once nothing has changed for so long: leads go back to where they should be within three seconds
    #[arg(long, default_value = "4s", value_parser = units::duration, value_name = "TIME")]
    pub calm: Duration,
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

/// A part of `millpond bench groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Many {
    /// The same load on many partitions and on few, in turns.
    Active,
    /// A node of a cluster with many groups at rest is killed and started again.
    Storm,
}

/// The test of many groups.
#[derive(Args, Clone, Debug)]
pub struct GroupsArgs {
    /// Parts to run: active, storm; both without it
    #[arg(long, value_delimiter = ',', value_enum, hide_possible_values = true, value_name = "NAME")]
    pub only: Vec<Many>,
    /// Partitions that take the load...
    #[arg(long, default_value = "1000", value_parser = units::positive, value_name = "N")]
    pub active: usize,
    /// ...beside so few
    #[arg(long, default_value = "10", value_parser = units::positive, value_name = "N")]
    pub few: usize,
    /// Partitions that rest while a node is killed; each has a replica on each of three nodes
    #[arg(long, default_value = "3000", value_parser = units::positive, value_name = "N")]
    pub groups: usize,
    /// Turns of each load, and kills
    #[arg(long, default_value = "3", value_parser = units::positive, value_name = "N")]
    pub turns: usize,
    /// How long each turn is measured, and how long nothing happens before a kill
    #[arg(long, default_value = "5s", value_parser = units::duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long each turn goes on before it is measured
    #[arg(long, default_value = "2s", value_parser = units::duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// A storm is over once nothing has changed for so long: leads go back to where they should be within three seconds
    #[arg(long, default_value = "5s", value_parser = units::duration, value_name = "TIME")]
    pub calm: Duration,
    /// Connections, all of them busy, whatever the number of partitions
    #[arg(long, default_value = "64", value_parser = units::positive, value_name = "N")]
    pub connections: usize,
    /// Requests in flight per connection
    #[arg(long, default_value = "4", value_parser = units::positive, value_name = "N")]
    pub in_flight: usize,
    /// Bytes of a batch, which is a request
    #[arg(long, default_value = "4KiB", value_parser = units::bytes, value_name = "SIZE")]
    pub batch_bytes: u64,
    /// Bytes of a record's value
    #[arg(long, default_value = "1000", value_parser = units::bytes, value_name = "SIZE")]
    pub message_size: u64,
    /// Cores of each server, as `millpond serve --cores` takes them
    #[arg(long, default_value = "1", value_name = "N|CPUS")]
    pub server_cores: String,
    /// Where the servers keep their data; must be empty or missing [default: a new directory under the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

impl GroupsArgs {
    /// The load, on partitions that are named elsewhere.
    #[must_use]
    pub fn work(&self) -> WorkArgs {
        WorkArgs {
            connections: self.connections,
            partitions: 1,
            topics: 1,
            message_size: self.message_size,
            batch_records: None,
            batch_bytes: self.batch_bytes,
            keys: 0.0,
            key_distribution: Distribution::Sequential,
            in_flight: self.in_flight,
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
}
