//! What people watch while much is moved: a bar on stderr, if stderr is a terminal, and a summary at the end.

use super::{out::Out, units::Size};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

/// Counts records and bytes.
pub(super) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Progress {
    /// `total` in the unit that [`Self::at`] is told; `None` if the end is not known.
    pub(super) fn new(out: &Out, total: Option<u64>) -> Self {
        let show = !out.quiet && !out.json && stderr().is_terminal();
        let target = if show { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{bar:30} {percent:>3} %  {msg}  ETA {eta}",
            None => "{spinner}  {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, begun: Instant::now(), records: 0, bytes: 0 }
    }

    /// Counts what was moved.
    pub(super) fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }

    /// Shows how far it is.
    pub(super) fn at(&self, position: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_position(position);
            self.bar.set_message(self.rates());
        }
    }

    /// Takes the bar away, to write something else.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn records_per_s(&self) -> f64 {
        self.records as f64 / self.elapsed().as_secs_f64().max(1e-9)
    }

    pub(super) fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.elapsed().as_secs_f64().max(1e-9)
    }

    /// `1,000 records, 2.0 MiB, in 1.2 s: 833 records/s, 1.7 MiB/s`
    pub(super) fn summary(&self) -> String {
        let seconds = self.elapsed().as_secs_f64();
        format!("{} in {seconds:.1} s: {}", self.moved(), self.speed())
    }

    fn rates(&self) -> String {
        format!("{}, {}", self.moved(), self.speed())
    }

    fn moved(&self) -> String {
        format!("{} records, {}", thousands(self.records), Size(self.bytes))
    }

    fn speed(&self) -> String {
        format!("{} records/s, {}/s", thousands(self.records_per_s() as u64), Size(self.bytes_per_s() as u64))
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
