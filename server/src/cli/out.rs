//! Standard output: tables for people, JSON for programs, and never a panic when the reader goes away.

use super::fail::{Fail, Result};
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Where results go.
pub(super) struct Out {
    /// Whether `--json` was given.
    pub(super) json: bool,
    /// Whether `--quiet` was given: no progress, no summaries.
    pub(super) quiet: bool,
    to: BufWriter<StdoutLock<'static>>,
}

impl Out {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, to: BufWriter::with_capacity(256 * 1024, io::stdout().lock()) }
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.to.write_all(bytes).map_err(lost)
    }

    /// Writes a line of text.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> Result {
        self.bytes(text.as_ref().as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes one JSON value on a line of its own.
    pub(super) fn value(&mut self, value: &impl Serialize) -> Result {
        serde_json::to_writer(&mut self.to, value).map_err(|e| lost(e.into()))?;
        self.bytes(b"\n")
    }

    /// Writes `value` with `--json`, else `text`.
    pub(super) fn either(&mut self, value: &impl Serialize, text: impl AsRef<str>) -> Result {
        if self.json { self.value(value) } else { self.line(text) }
    }

    /// Writes rows under a heading, in columns as wide as they must be. Numbers go to the right.
    pub(super) fn table(&mut self, heading: &[&str], rows: &[Vec<String>]) -> Result {
        let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || "-.,".contains(c));
        let mut widths: Vec<usize> = heading.iter().map(|h| h.chars().count()).collect();
        let mut right: Vec<bool> = vec![!rows.is_empty(); heading.len()];
        for row in rows {
            for (i, cell) in row.iter().enumerate() {
                widths[i] = widths[i].max(cell.chars().count());
                right[i] &= number(cell);
            }
        }
        let heading: Vec<String> = heading.iter().map(|h| (*h).to_owned()).collect();
        for row in std::iter::once(&heading).chain(rows) {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i] - cell.chars().count());
                line += if i > 0 { "  " } else { "" };
                line += &if right[i] { pad + cell } else { cell.clone() + &pad };
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Hands everything written so far to the reader.
    pub(super) fn flush(&mut self) -> Result {
        self.to.flush().map_err(lost)
    }

    /// Says something on the side, for people only: not with `--quiet`.
    pub(super) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            // Losing a note is no reason to fail.
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }
}

fn lost(e: io::Error) -> Fail {
    Fail::io("write to standard output", &e)
}
