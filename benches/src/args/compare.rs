//! What the comparison with another system takes on the command line.

use super::OutArgs;
use crate::units;
use clap::{Args, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// A system that Millpond is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// Apache Kafka: with a sync before each ack, and at its defaults.
    Kafka,
    /// NATS with JetStream: the same two, each system under a client of its own.
    Nats,
}

/// A client that puts load on the systems, the same on each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// The system's own, in Java.
    Java,
    /// librdkafka, below Confluent's client for Python.
    Librdkafka,
}

impl Client {
    /// As the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Librdkafka => "librdkafka",
        }
    }
}

/// The comparison.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Needs a JDK (17 or newer), Maven and, for librdkafka, Python with venv, for NATS Go. What they fetch is kept for the next time.
`millpond bench --compare kafka` says the same. Exits with 1 if something failed; a bound that is missed is said.")]
pub struct CompareArgs {
    /// With what: kafka or nats, each as it syncs before each ack, and at its defaults
    #[arg(value_enum, hide_possible_values = true)]
    pub rival: Rival,
    /// Rounds, in each of which every system has its turn, on a directory that is empty
    #[arg(long, default_value = "3", value_parser = units::positive, value_name = "N")]
    pub rounds: usize,
    /// Clients, one after the other: java (the system's own), librdkafka [default: all that the systems have]
    #[arg(long, value_enum, hide_possible_values = true, value_delimiter = ',', value_name = "CLIENT")]
    pub clients: Vec<Client>,
    /// How long each load is measured
    #[arg(long, default_value = "10s", value_parser = units::duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long each load goes on before it is measured
    #[arg(long, default_value = "10s", value_parser = units::duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// Bytes of a record's value
    #[arg(long, default_value = "1KiB", value_parser = units::bytes, value_name = "SIZE")]
    pub record_size: u64,
    /// Partitions; records go to one after the other
    #[arg(long, default_value = "100", value_parser = units::positive, value_name = "N")]
    pub partitions: usize,
    /// Records per second where latency is measured, for all systems: one that every one of them can take
    #[arg(long, default_value = "500", value_parser = units::positive, value_name = "N")]
    pub rate: usize,
    /// How long clients wait for more records at that rate; at full load they do as they do by default
    #[arg(long, default_value = "0ms", value_parser = units::duration, value_name = "TIME")]
    pub linger: Duration,
    /// CPUs of the servers, such as 0 or 0,2-3 [default: all, and Millpond as it is without settings]
    #[arg(long, value_name = "CPUS")]
    pub server_cpus: Option<String>,
    /// CPUs of the clients [default: all]
    #[arg(long, value_name = "CPUS")]
    pub client_cpus: Option<String>,
    /// Memory for Millpond, as `millpond serve --memory` takes it [default: what it takes without settings]
    #[arg(long, value_name = "SIZE")]
    pub server_memory: Option<String>,
    /// Where the systems keep their data, one after the other; must be empty or missing, stays if something fails [default: a new
    /// directory under the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where what is fetched is kept [default: millpond in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The version of Apache Kafka, broker and client
    #[arg(long, default_value = "4.1.1", value_name = "VERSION")]
    pub kafka_version: String,
    /// The version of the server of NATS
    #[arg(long, default_value = "2.15.2", value_name = "VERSION")]
    pub nats_version: String,
    /// The version of the client of NATS
    #[arg(long, default_value = "2.20.6", value_name = "VERSION")]
    pub nats_client_version: String,
    /// The `millpond` program to start [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Where the results go.
    #[command(flatten)]
    pub out: OutArgs,
}
