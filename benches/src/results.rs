//! What a run leaves behind: as JSON, and for the table and the report.

pub mod compared;

use crate::{
    limit::Limit,
    machine::{device::Counters, facts::Facts},
    measure::{Latency, Slot, Totals},
    server::{Placement, Used},
};
use serde::{Deserialize, Serialize};

/// Everything of one call of the harness.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Where it was measured.
    pub facts: Facts,
    /// The system that was measured, and its version.
    pub system: String,
    /// Which CPUs were whose; `None` where the server is not ours.
    pub placement: Option<Placement>,
    /// The rows of the suite.
    pub rows: Vec<Row>,
    /// All runs, in order.
    pub runs: Vec<Run>,
    /// All limits, in order.
    pub limits: Vec<Limit>,
    /// Another system beside ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<compared::Compared>,
}

/// One run of load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// What it was.
    pub name: String,
    /// The row of the suite that it belongs to; empty outside it.
    pub row: String,
    /// Everything that was on: acks, syncs, replicas, sizes, connections.
    pub on: Vec<(String, String)>,
    /// The rate that was offered, in requests per second; `None` in a closed loop.
    pub offered_per_s: Option<f64>,
    /// Measured time, in seconds.
    pub seconds: f64,
    /// What was counted in it.
    pub totals: Totals,
    /// From the intended send time to the answer.
    pub latency: Latency,
    /// From the intended send time to a reader's hands, where somebody followed.
    pub end_to_end: Option<Latency>,
    /// How late the generator itself was, in an open loop.
    pub late: Option<Latency>,
    /// Requests that the system had no room for.
    pub refused: u64,
    /// What happened over time.
    pub series: Vec<Slot>,
    /// What the server used; `None` where it is not ours.
    pub server: Option<Used>,
    /// CPU time of the load generator, in seconds.
    pub client_cpu_s: f64,
    /// What the disk did meanwhile, for whomever.
    pub device: Option<Counters>,
}

impl Run {
    /// Requests per second.
    #[must_use]
    pub fn requests_per_s(&self) -> f64 {
        self.totals.requests as f64 / self.seconds.max(1e-9)
    }

    /// Records per second.
    #[must_use]
    pub fn records_per_s(&self) -> f64 {
        self.totals.records as f64 / self.seconds.max(1e-9)
    }

    /// Bytes of batches per second.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.totals.bytes as f64 / self.seconds.max(1e-9)
    }

    /// Flushes of the device, and syncs of the journal, per request.
    #[must_use]
    pub fn flushes_per_request(&self) -> Option<(f64, f64)> {
        let requests = (self.totals.requests > 0).then_some(self.totals.requests as f64)?;
        Some((self.device?.flushes as f64 / requests, self.server.as_ref()?.syncs / requests))
    }
}

/// A value in its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "unit", content = "value")]
pub enum Value {
    /// Bytes per second.
    BytesPerS(f64),
    /// Acks per second.
    AcksPerS(f64),
    /// Nanoseconds.
    Ns(f64),
    /// Of nothing.
    Plain(f64),
}

impl Value {
    /// The bare number.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::BytesPerS(v) | Self::AcksPerS(v) | Self::Ns(v) | Self::Plain(v) => v,
        }
    }

    /// The same unit, another number.
    #[must_use]
    pub fn with(self, number: f64) -> Self {
        match self {
            Self::BytesPerS(_) => Self::BytesPerS(number),
            Self::AcksPerS(_) => Self::AcksPerS(number),
            Self::Ns(_) => Self::Ns(number),
            Self::Plain(_) => Self::Plain(number),
        }
    }

    /// For people.
    #[must_use]
    pub fn show(self) -> String {
        use crate::units::{show_count, show_ns, show_rate, three};
        match self {
            Self::BytesPerS(v) => show_rate(v),
            Self::AcksPerS(v) => format!("{} acks/s", show_count(v)),
            Self::Ns(v) => show_ns(v),
            Self::Plain(v) => three(v),
        }
    }
}

/// What a row should reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The result is at least this.
    AtLeast(f64),
    /// The result is at most this.
    AtMost(f64),
}

impl Wanted {
    /// Whether it does.
    #[must_use]
    pub fn is_met(self, result: f64) -> bool {
        match self {
            Self::AtLeast(bound) => result >= bound,
            Self::AtMost(bound) => result <= bound,
        }
    }
}

/// One turn of a row: both sides, measured one right after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The server's figure.
    pub ours: Value,
    /// What it is compared with.
    pub other: Value,
    /// What is judged: mostly ours / other.
    pub result: f64,
}

/// A row of the suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name, for `--only`.
    pub name: String,
    /// What is measured.
    pub what: String,
    /// What it is compared with.
    pub against: String,
    /// How the result comes about.
    pub how: String,
    /// What it should be.
    pub wanted: Wanted,
    /// All turns.
    pub turns: Vec<Turn>,
    /// How full the server's CPUs were in the turns, 0 to 1.
    pub core: f64,
    /// A saturated core is as good as the bound.
    pub core_counts: bool,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// A core is saturated from here on: the kernel's accounting by ticks does not show more for sure.
const SATURATED: f64 = 0.95;

impl Row {
    /// The median result of all turns.
    #[must_use]
    pub fn result(&self) -> f64 {
        crate::measure::median(&self.turns.iter().map(|turn| turn.result).collect::<Vec<_>>())
    }

    /// The median of one side.
    #[must_use]
    pub fn side(&self, side: impl Fn(&Turn) -> Value) -> Option<Value> {
        let values: Vec<f64> = self.turns.iter().map(|turn| side(turn).number()).collect();
        self.turns.first().map(|turn| side(turn).with(crate::measure::median(&values)))
    }

    /// Whether the bound is met, by the result itself.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.wanted.is_met(self.result())
    }

    /// Whether a core is saturated, where that counts.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.core_counts && self.core >= SATURATED
    }

    /// `yes`, `core full` or `no`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.is_met(), self.is_saturated()) {
            (true, _) => "yes",
            (false, true) => "core full",
            (false, false) => "no",
        }
    }
}
