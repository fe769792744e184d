//! Systems side by side: each figure of ours against that of every rival, and whether what is wanted is met.
//!
//! A *ratio* says how many times better we are, whichever way is better: above 1 we are ahead. It is taken within a round, whose
//! turns were run one after the other; what is shown is the median of the rounds, with the lowest and the highest.

use crate::{
    measure::median,
    units::{show_bytes, show_count, show_ns, show_rate, three},
};
use serde::{Deserialize, Serialize};

/// The whole comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// What was on for all of them.
    pub on: Vec<(String, String)>,
    /// The systems, ours first.
    pub systems: Vec<Side>,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What must be known to read it.
    pub remarks: Vec<String>,
}

/// A system of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its name.
    pub name: String,
    /// What was on for it alone.
    pub on: Vec<(String, String)>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes per second.
    BytesPerS,
    /// Records per second.
    RecordsPerS,
    /// Nanoseconds.
    Ns,
    /// Seconds.
    S,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// For people.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::BytesPerS => show_rate(value),
            Self::RecordsPerS => format!("{}/s", show_count(value)),
            Self::Ns => show_ns(value),
            Self::S => show_ns(value * 1e9),
            Self::Bytes => show_bytes(value as u64),
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::BytesPerS | Self::RecordsPerS)
    }
}

/// One figure of all systems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is of.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// One per system, in their order.
    pub figures: Vec<Figure>,
}

/// One figure of one system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Round by round.
    pub turns: Vec<f64>,
    /// So many times better than this we want to be; `None` where nothing is promised, and for ourselves.
    pub wanted: Option<f64>,
}

/// The median of some values, the lowest and the highest of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of these; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let low = values.iter().copied().min_by(f64::total_cmp)?;
        let high = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { median: median(values), low, high })
    }

    /// For people: the median, and the others where they differ.
    #[must_use]
    pub fn show(&self, show: impl Fn(f64) -> String) -> String {
        let [median, low, high] = [self.median, self.low, self.high].map(show);
        if low == high { median } else { format!("{median} ({low} to {high})") }
    }
}

impl Row {
    /// Ours, or that of a rival.
    #[must_use]
    pub fn figure(&self, system: usize) -> Option<Spread> {
        Spread::of(&self.figures.get(system)?.turns)
    }

    /// How many times better we are than this rival.
    #[must_use]
    pub fn ratio(&self, system: usize) -> Option<Spread> {
        let (ours, theirs) = (&self.figures.first()?.turns, &self.figures.get(system)?.turns);
        let better = |(ours, theirs): (&f64, &f64)| {
            let (above, below) = if self.unit.more_is_better() { (ours, theirs) } else { (theirs, ours) };
            above / below.max(f64::MIN_POSITIVE)
        };
        Spread::of(&ours.iter().zip(theirs).map(better).collect::<Vec<_>>())
    }

    /// Whether we are as far ahead of this rival as we want to be; `None` where nothing is promised.
    #[must_use]
    pub fn is_met(&self, system: usize) -> Option<bool> {
        let wanted = self.figures.get(system)?.wanted?;
        let ratio = self.ratio(system)?.median;
        // Ahead is ahead: as good as the other is not.
        Some(if wanted > 1.0 { ratio >= wanted } else { ratio > wanted })
    }

    /// What is wanted against this rival, and whether it is met; empty where nothing is promised.
    #[must_use]
    pub fn verdict(&self, system: usize) -> String {
        let Some((wanted, is_met)) = self.figures.get(system).and_then(|figure| figure.wanted).zip(self.is_met(system)) else {
            return String::new();
        };
        let bound = if wanted > 1.0 { format!("≥ {}", three(wanted)) } else { format!("> {}", three(wanted)) };
        format!("{bound}: {}", if is_met { "met" } else { "missed" })
    }
}

impl Compared {
    /// The heads and the rows of the table.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let mut heads = vec!["figure".to_owned()];
        for (n, side) in self.systems.iter().enumerate() {
            heads.push(side.name.clone());
            if n > 0 {
                heads.extend(["ratio", "wanted"].map(str::to_owned));
            }
        }
        let cells = |row: &Row| {
            let mut out = vec![row.name.clone()];
            for system in 0..self.systems.len() {
                out.push(row.figure(system).map_or_else(String::new, |figure| figure.show(|v| row.unit.show(v))));
                if system > 0 {
                    out.push(row.ratio(system).map_or_else(String::new, |ratio| ratio.show(three)));
                    out.push(row.verdict(system));
                }
            }
            out
        };
        [heads].into_iter().chain(self.rows.iter().map(cells)).collect()
    }

    /// Bounds that are met, and bounds in all.
    #[must_use]
    pub fn met(&self) -> (usize, usize) {
        let verdicts = self.rows.iter().flat_map(|row| (1..self.systems.len()).filter_map(|system| row.is_met(system)));
        verdicts.fold((0, 0), |(met, all), is_met| (met + usize::from(is_met), all + 1))
    }
}

#[cfg(test)]
mod tests;
