//! Which figures a turn yields, and what is wanted of each.

use super::driver::{Measured, Times};
use crate::results::compared::{Figure, Row, Side, Unit};

/// A system that takes so much less than the rate, or more because it was late before, does not keep up with it.
const OFF_RATE: f64 = 0.05;

/// How far ahead of a rival we want to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    /// In throughput.
    pub(super) throughput: Option<f64>,
    /// In the 99th percentile of latencies at a rate.
    pub(super) p99: Option<f64>,
    /// In CPU per record, the time of a start, and memory.
    pub(super) cpu: Option<f64>,
    pub(super) start: Option<f64>,
    pub(super) memory: Option<f64>,
}

/// A figure of a turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) value: f64,
    /// How far ahead of which rival.
    pub(super) bound: Kind,
}

/// Which of [`Bounds`] a figure is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Throughput,
    P99,
    Cpu,
    Start,
    Memory,
    /// It is there to be looked at.
    None,
}

impl Bounds {
    fn of(&self, kind: Kind) -> Option<f64> {
        match kind {
            Kind::Throughput => self.throughput,
            Kind::P99 => self.p99,
            Kind::Cpu => self.cpu,
            Kind::Start => self.start,
            Kind::Memory => self.memory,
            Kind::None => None,
        }
    }
}

impl Value {
    pub(super) fn new(name: impl Into<String>, unit: Unit, value: f64, bound: Kind) -> Self {
        Self { name: name.into(), unit, value, bound }
    }
}

/// Of a load as fast as it goes.
pub(super) fn flood(client: &str, record_bytes: usize, measured: &Measured) -> Vec<Value> {
    let said = &measured.said;
    let millions = said.records as f64 / 1e6;
    let mut out = vec![
        Value::new(
            format!("{client}: throughput"),
            Unit::BytesPerS,
            (said.records * record_bytes as u64) as f64 / said.seconds,
            Kind::Throughput,
        ),
        Value::new(format!("{client}: server CPU per million records"), Unit::S, measured.system_cpu.total_s() / millions, Kind::Cpu),
        Value::new(format!("{client}: client CPU per million records"), Unit::S, measured.driver_cpu.total_s() / millions, Kind::None),
    ];
    out.extend(times(&format!("{client}: ack at full load"), &said.ack, Kind::None));
    out.push(Value::new(format!("{client}: memory at full load"), Unit::Bytes, measured.rss_bytes as f64, Kind::None));
    out
}

/// Of a load at a rate.
pub(super) fn pace(client: &str, measured: &Measured) -> Vec<Value> {
    let said = &measured.said;
    let reached = said.records as f64 / said.seconds;
    let mut out = vec![Value::new(format!("{client}: reached at the rate"), Unit::RecordsPerS, reached, Kind::None)];
    out.extend(times(&format!("{client}: ack at the rate"), &said.ack, Kind::P99));
    let way = said.end_to_end.iter().flat_map(|way| times(&format!("{client}: end to end at the rate"), way, Kind::P99));
    out.extend(way);
    out
}

fn times(name: &str, times: &Times, p99: Kind) -> [Value; 3] {
    let value = |part, ns: u64, bound| Value::new(format!("{name}, {part}"), Unit::Ns, ns as f64, bound);
    [value("p50", times.p50_ns, Kind::None), value("p99", times.p99_ns, p99), value("p99.9", times.p999_ns, Kind::None)]
}

/// Rows out of turns: `rounds[round][system]` has the values of a turn, which are the same ones in the same order everywhere. `bounds` has
/// one element per system; that of ours is of no account.
pub(super) fn rows(rounds: &[Vec<Vec<Value>>], bounds: &[Bounds]) -> Vec<Row> {
    let Some(first) = rounds.first().and_then(|round| round.first()) else { return Vec::new() };
    let row = |(n, of): (usize, &Value)| {
        let figure = |(system, bounds): (usize, &Bounds)| {
            let turns = rounds.iter().filter_map(|round| round.get(system)?.get(n)).map(|value| value.value).collect();
            Figure { turns, wanted: if system > 0 { bounds.of(of.bound) } else { None } }
        };
        Row { name: of.name.clone(), unit: of.unit, figures: bounds.iter().enumerate().map(figure).collect() }
    };
    first.iter().enumerate().map(row).collect()
}

/// Says of each system whether it did not take the rate that was asked for: what it was late with then makes its latencies.
pub(super) fn remarks(rows: &[Row], systems: &[Side], rate: usize) -> Vec<String> {
    let mut out = Vec::new();
    for row in rows.iter().filter(|row| row.unit == Unit::RecordsPerS) {
        for (n, side) in systems.iter().enumerate() {
            let Some(reached) = row.figure(n).filter(|reached| (reached.median / rate as f64 - 1.0).abs() > OFF_RATE) else { continue };
            let took = row.unit.show(reached.median);
            out.push(format!("{} took {took} where {rate} were sent ({}): its latencies are those of a queue", side.name, row.name));
        }
    }
    out
}

#[cfg(test)]
mod tests;
